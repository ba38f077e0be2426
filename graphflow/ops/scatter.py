"""Writes to rows of variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, format_dims, merged
from graphflow.build import OpDef, as_tensor
from graphflow.build.opdef import Array, Each, Handle, Index, Specs, define
from graphflow.build.tensor import Tensor
from graphflow.ops.state import declared


def _scattered(handle: Tensor, indices: Tensor, updates: Tensor) -> Specs:
    dims, dtype = declared(handle)
    if updates.dtype is not dtype:
        raise DTypeError(f"updates of {updates.dtype.name} for a variable of {dtype.name}")
    if dims is not None and indices.dims is not None and updates.dims != ():
        wanted = (*indices.dims, *dims[1:])
        if merged(wanted, updates.dims) is CLASH:
            raise ShapeError(
                f"updates must have shape {format_dims(wanted)}, not {format_dims(updates.dims)}"
            )
    return [(dims, dtype)]


def checked_rows(xp: Any, indices: Array, rows: int) -> Array:
    """The indices, all of which must be rows of the variable.

    Raises:
      InvalidArgumentError: one is not.
    """
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= rows):
        wrong = indices[(indices < 0) | (indices >= rows)].ravel()
        raise InvalidArgumentError(None, None, f"index {int(wrong[0])} is not in [0, {rows})")
    return indices


def _scatter(name: str, doc: str, apply: Callable[[Any, Array, Array, Array], None]) -> OpDef:
    def kernel(xp: Any, ctx: Any, handle: Handle, indices: Index, updates: Each) -> Array:
        new = ctx.read(handle).copy()
        if new.ndim == 0:
            raise InvalidArgumentError(None, None, "a scalar variable has no rows")
        rows = checked_rows(xp, indices, new.shape[0])
        updates = xp.broadcast_to(updates, (*rows.shape, *new.shape[1:]))
        apply(xp, new, rows, updates)
        return ctx.write(handle, new)

    kernel.__doc__ = doc
    return define(name, kernel, infer=_scattered, grad=None, effect="state", writes=True)


def _assign(xp: Any, x: Array, rows: Array, updates: Array) -> None:
    x[rows] = updates


def _add(xp: Any, x: Array, rows: Array, updates: Array) -> None:
    xp.add.at(x, rows, updates)


def _subtract(xp: Any, x: Array, rows: Array, updates: Array) -> None:
    xp.add.at(x, rows, -updates)  # CuPy has no subtract.at for floats


def _maximise(xp: Any, x: Array, rows: Array, updates: Array) -> None:
    xp.maximum.at(x, rows, updates)


def _minimise(xp: Any, x: Array, rows: Array, updates: Array) -> None:
    xp.minimum.at(x, rows, updates)


def _each(xp: Any, x: Array, rows: Array, updates: Array, function: Any) -> None:
    """In order, so that repeated rows take all their updates: CuPy has no multiply.at."""
    flat = updates.reshape(rows.size, *x.shape[1:])
    for i, row in enumerate(rows.ravel().tolist()):
        x[row] = function(x[row], flat[i])


def _multiply(xp: Any, x: Array, rows: Array, updates: Array) -> None:
    _each(xp, x, rows, updates, xp.multiply)


def _divide(xp: Any, x: Array, rows: Array, updates: Array) -> None:
    _each(xp, x, rows, updates, xp.divide)


update_op = _scatter(
    "ScatterUpdate", "Give rows new values; of repeated rows the last counts.", _assign
)
add_op = _scatter("ScatterAdd", "Add to rows; repeated rows add up.", _add)
sub_op = _scatter("ScatterSub", "Subtract from rows; repeated rows add up.", _subtract)
max_op = _scatter("ScatterMax", "Raise rows to at least the updates.", _maximise)
min_op = _scatter("ScatterMin", "Lower rows to at most the updates.", _minimise)
mul_op = _scatter("ScatterMul", "Multiply rows, repeated ones repeatedly.", _multiply)
div_op = _scatter("ScatterDiv", "Divide rows, repeated ones repeatedly.", _divide)


# What each does to a table, by the name of its op: (xp, table, rows, updates), in place.
CHANGES: Mapping[str, Callable[[Any, Array, Array, Array], None]] = MappingProxyType(
    {
        "ScatterUpdate": _assign,
        "ScatterAdd": _add,
        "ScatterSub": _subtract,
        "ScatterMax": _maximise,
        "ScatterMin": _minimise,
        "ScatterMul": _multiply,
        "ScatterDiv": _divide,
    }
)


def _public(entry: OpDef, what: str) -> Callable[..., Tensor]:
    def function(
        ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
    ) -> Tensor:
        if not hasattr(ref, "handle"):
            raise TypeError(f"{ref!r} is no variable: use tensor_scatter_update and its kin")
        updates = as_tensor(updates, ref.dtype)
        return entry(ref.handle, indices, updates, name=name)

    function.__doc__ = f"""{what}

    Args:
      ref: a variable [n, ...].
      indices: rows of it, of any shape.
      updates: [*indices.shape, ...], or a scalar.

    Returns:
      The variable's new value.

    Raises:
      InvalidArgumentError: when run, an index is not in [0, n).
    """
    return function


scatter_update = _public(update_op, "Give rows of a variable new values.")
scatter_add = _public(add_op, "Add to rows of a variable.")
scatter_sub = _public(sub_op, "Subtract from rows of a variable.")
scatter_max = _public(max_op, "Raise rows of a variable to at least the updates.")
scatter_min = _public(min_op, "Lower rows of a variable to at most the updates.")
scatter_mul = _public(mul_op, "Multiply rows of a variable.")
scatter_div = _public(div_op, "Divide rows of a variable.")
