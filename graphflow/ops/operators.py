"""Operators of tensors that are more than one op, and the divisions behind them."""

from __future__ import annotations

from typing import Any

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError
from graphflow.build import OPS, as_tensor
from graphflow.build.convert import dtype_inside, is_symbolic, to_numpy
from graphflow.build.tensor import Tensor, define_operator
from graphflow.ops import arithmetic
from graphflow.ops.arithmetic import floordiv, realdiv
from graphflow.ops.compare import (
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    invert,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
)
from graphflow.ops.matmul import matmul
from graphflow.ops.public import composite, graph_of

_SMALL = (dtypes.int8, dtypes.uint8, dtypes.int16, dtypes.uint16)


def pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Two tensors of one dtype; a Python value takes that of the tensor beside it.

    Raises:
      DTypeError: the dtypes differ.
    """
    with graph_of(x, y).as_default():
        if is_symbolic(y) and not is_symbolic(x):
            y = as_tensor(y)
            x = as_tensor(x, y.dtype)
        else:
            x = as_tensor(x)
            y = as_tensor(y) if is_symbolic(y) else as_tensor(y, x.dtype)
    if x.dtype is not y.dtype:
        raise DTypeError(
            f"x is {x.dtype.name} and y {y.dtype.name}: tensors are never converted silently, "
            "use tf.cast"
        )
    return x, y


def _dtype(x: Any, y: Any) -> DType:
    """The dtype that two operands will have; nothing is built."""
    return dtype_inside((x, y)) or as_dtype(to_numpy(x, None).dtype)


def add(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x + y, elementwise, with broadcasting; numbers of one dtype.  Strings are put together."""
    if _dtype(x, y) is dtypes.string:
        return OPS["StringJoin"](x, y, name=name or "Add")
    return arithmetic.add(x, y, name=name)


def div_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y, but 0 where y is 0, also if x is infinite or NaN; elementwise, with broadcasting.

    Integers are converted first, as `truediv` does.
    """
    if not _dtype(x, y).is_integer:
        return arithmetic.div_no_nan(x, y, name=name)
    with composite(name, "div_no_nan", x, y) as scope:
        a, b = _floats(x, y)
        return arithmetic.div_no_nan(a, b, name=scope)


def _floats(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Integers as the floating numbers that Python's division makes of them."""
    from graphflow.ops.casting import cast

    x, y = pair(x, y)
    dtype = dtypes.float32 if x.dtype in _SMALL else dtypes.float64
    return cast(x, dtype), cast(y, dtype)


def truediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as in Python 3: integers are converted first.

    int8, uint8, int16 and uint16 become float32, larger integers float64.
    """
    if not _dtype(x, y).is_integer:
        return realdiv(x, y, name=name or "truediv")
    with composite(name, "truediv", x, y) as scope:
        return realdiv(*_floats(x, y), name=scope)


def divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as in Python 3; see `truediv`."""
    return truediv(x, y, name=name)


def div(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as in Python 2: of integers, rounded down."""
    dtype = _dtype(x, y)
    function = realdiv if dtype.is_floating or dtype.is_complex else floordiv
    return function(x, y, name=name or "div")


def _logic(boolean: Any, bitwise: Any, word: str) -> Any:
    def operator(x: Any, y: Any) -> Tensor:
        return (boolean if _dtype(x, y).is_bool else bitwise)(x, y, name=word)

    return operator


def _invert(x: Any) -> Tensor:
    return logical_not(x) if x.dtype.is_bool else invert(x)


define_operator("add", lambda a, b: add(a, b, name="add"))
define_operator("truediv", truediv)
define_operator("matmul", lambda a, b: matmul(a, b, name="matmul"))
define_operator("invert", _invert)
define_operator("and", _logic(logical_and, bitwise_and, "and"))
define_operator("or", _logic(logical_or, bitwise_or, "or"))
define_operator("xor", _logic(logical_xor, bitwise_xor, "xor"))
