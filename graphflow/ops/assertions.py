"""`assert_equal` and its kin: checked at once where values are known, else when run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, as_tensor
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.checks import Assert, summary
from graphflow.ops.known import constant_value, static_ints
from graphflow.ops.public import composite
from graphflow.ops.sources import no_op


def _ensure(
    holds: Callable[..., Tensor],
    tensors: list[Tensor],
    what: str,
    data: Any,
    summarize: int | None,
    message: str | None,
) -> Operation:
    """Check now where the values are known, else when run."""
    condition = OPS["All"](holds(*tensors), axis=None)
    known = constant_value(condition)
    text = f"{message or ''} {what}".strip()
    if known is not None:
        if not known:
            values = ", ".join(f"{t.name} = {_shown(t)}" for t in tensors)
            raise InvalidArgumentError(None, None, f"{text}: {values}")
        return no_op()
    shown = [text, *[part for t in tensors for part in (f"{t.name} = ", t)]]
    return Assert(condition, shown if data is None else data, summarize)


def _shown(tensor: Tensor) -> str:
    value = constant_value(tensor)
    return "?" if value is None else summary(value, 8)


def _comparison(name: str, kind: str, sign: str) -> Callable[..., Operation]:
    def check(
        x: Any,
        y: Any,
        data: Any = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        with composite(name, public, x, y):
            a = as_tensor(x)
            b = as_tensor(y, None if isinstance(y, Tensor) else a.dtype)
            what = f"Condition x {sign} y did not hold"
            return _ensure(OPS[kind], [a, b], what, data, summarize, message)

    public = name
    check.__name__ = check.__qualname__ = name
    check.__doc__ = f"""An operation that fails unless x {sign} y holds for all elements.

    Raises:
      InvalidArgumentError: at once where the values are known, else when run.
    """
    return check


assert_equal = _comparison("assert_equal", "Equal", "==")
assert_none_equal = _comparison("assert_none_equal", "NotEqual", "!=")
assert_less = _comparison("assert_less", "Less", "<")
assert_less_equal = _comparison("assert_less_equal", "LessEqual", "<=")
assert_greater = _comparison("assert_greater", "Greater", ">")
assert_greater_equal = _comparison("assert_greater_equal", "GreaterEqual", ">=")


def _against_zero(name: str, kind: str, sign: str) -> Callable[..., Operation]:
    def check(
        x: Any,
        data: Any = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        with composite(name, public, x):
            a = as_tensor(x)
            zero = np.zeros((), a.dtype.np)
            what = f"Condition x {sign} 0 did not hold"
            return _ensure(lambda t: OPS[kind](t, zero), [a], what, data, summarize, message)

    public = name
    check.__name__ = check.__qualname__ = name
    check.__doc__ = f"""An operation that fails unless x {sign} 0 holds for all elements.

    Raises:
      InvalidArgumentError: at once where the values are known, else when run.
    """
    return check


assert_negative = _against_zero("assert_negative", "Less", "<")
assert_positive = _against_zero("assert_positive", "Greater", ">")
assert_non_negative = _against_zero("assert_non_negative", "GreaterEqual", ">=")
assert_non_positive = _against_zero("assert_non_positive", "LessEqual", "<=")


def assert_near(
    x: Any,
    y: Any,
    rtol: Any = None,
    atol: Any = None,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless |x - y| <= atol + rtol * |y| for all elements.

    Both tolerances are ten times the dtype's epsilon by default.
    """
    with composite(name, "assert_near", x, y):
        a = as_tensor(x)
        b = as_tensor(y, None if isinstance(y, Tensor) else a.dtype)
        eps = 10 * float(np.finfo(a.dtype.np).eps)
        relative, absolute = [eps if v is None else v for v in (rtol, atol)]

        def near(a: Tensor, b: Tensor) -> Tensor:
            return OPS["LessEqual"](abs(a - b), absolute + relative * abs(b))

        return _ensure(near, [a, b], "x and y are not near", data, summarize, message)


def assert_rank(
    x: Any,
    rank: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x has that rank.

    Raises:
      ValueError: at once, where the rank is known.
    """
    return _rank_check(x, (static_ints(rank, "rank"),), "==", data, summarize, message, name)


def assert_rank_at_least(
    x: Any,
    rank: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x has that rank or a higher one."""
    return _rank_check(x, (static_ints(rank, "rank"),), ">=", data, summarize, message, name)


def assert_rank_in(
    x: Any,
    ranks: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x has one of the ranks."""
    return _rank_check(x, static_ints(tuple(ranks), "ranks"), "==", data, summarize, message, name)


def _rank_check(
    x: Any, ranks: Any, sign: str, data: Any, summarize: Any, message: str | None, name: str | None
) -> Operation:
    with composite(name, "assert_rank", x):
        t = as_tensor(x)
        wanted = " or ".join(str(r) for r in ranks)
        what = f"{message or ''} {t.name} must have rank {sign} {wanted}".strip()
        if t.dims is not None:
            n = len(t.dims)
            if n in ranks or (sign == ">=" and n > ranks[0]):
                return no_op()
            raise ShapeError(f"{what}, not shape {format_dims(t.dims)}")
        kind = "GreaterEqual" if sign == ">=" else "Equal"
        fits = OPS[kind](OPS["Rank"](t), np.array(ranks, np.int32))
        shown = [what, "shape: ", OPS["Shape"](t)] if data is None else data
        return Assert(OPS["Any"](fits, axis=None), shown, summarize)


def assert_type(
    tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None
) -> Operation:
    """Check a dtype.

    Raises:
      TypeError: the tensor has another one.
    """
    t, wanted = as_tensor(tensor), as_dtype(tf_type)
    if t.dtype is not wanted:
        raise DTypeError(f"{message or ''} {t!r} must be of dtype {wanted.name}".strip())
    return no_op(name or "statically_determined_correct_type")


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> Operation:
    """Check that a dtype is an integer one.

    Raises:
      TypeError: it is not.
    """
    t = as_tensor(x)
    if not t.dtype.is_integer:
        raise DTypeError(f"{message or ''} {t!r} must be of an integer dtype".strip())
    return no_op(name or "statically_determined_was_integer")


def assert_scalar(tensor: Any, name: str | None = None, message: str | None = None) -> Tensor:
    """The tensor, if its static shape is that of a scalar.

    Raises:
      ValueError: it is not.
    """
    t = as_tensor(tensor)
    if t.dims != ():
        raise ShapeError(f"{message or ''} {t!r} must be a scalar".strip())
    return t


def assert_proper_iterable(values: Any) -> None:
    """Check that a value is a list or the like, no tensor, array or text.

    Raises:
      TypeError: it is none.
    """
    if isinstance(values, (Tensor, np.ndarray, str, bytes)) or not hasattr(values, "__iter__"):
        raise TypeError(f"expected a list or the like, got {values!r}")
