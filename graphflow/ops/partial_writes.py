"""Writes to parts of variables: slices, and elements at index vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, format_dims, merged
from graphflow.build import OpDef, as_tensor, op
from graphflow.build.opdef import Array, Each, Handle, Index, Specs, define
from graphflow.build.tensor import Tensor
from graphflow.ops.scatter import checked_rows
from graphflow.ops.slicing import numpy_index
from graphflow.ops.state import declared


def _same_dtype(handle: Tensor, value: Tensor) -> Specs:
    dims, dtype = declared(handle)
    if value.dtype is not dtype:
        raise DTypeError(f"values of {value.dtype.name} for a variable of {dtype.name}")
    return [(dims, dtype)]


def _sliced(
    handle: Tensor, begin: Tensor, end: Tensor, strides: Tensor, value: Tensor, **_: int
) -> Specs:
    return _same_dtype(handle, value)


@op(
    "StridedSliceAssign",
    infer=_sliced,
    grad=None,
    effect="state",
    writes=True,
    host=("begin", "end", "strides"),
)
def _assign_slice(
    xp: Any,
    ctx: Any,
    handle: Handle,
    begin: Index,
    end: Index,
    strides: Index,
    value: Each,
    *,
    begin_mask: Any = 0,
    end_mask: Any = 0,
    ellipsis_mask: Any = 0,
    new_axis_mask: Any = 0,
    shrink_axis_mask: Any = 0,
) -> Array:
    """The variable with a strided slice of it replaced by a value of the slice's shape."""
    index = numpy_index(
        begin.tolist(),
        end.tolist(),
        strides.tolist(),
        begin_mask=begin_mask,
        end_mask=end_mask,
        ellipsis_mask=ellipsis_mask,
        new_axis_mask=new_axis_mask,
        shrink_axis_mask=shrink_axis_mask,
    )
    new = ctx.read(handle).copy()
    try:
        wanted = new[index].shape
    except (IndexError, ValueError) as error:
        raise InvalidArgumentError(None, None, f"{error} (shape {new.shape})") from None
    if value.shape != wanted:
        raise InvalidArgumentError(
            None, None, f"a slice of shape {wanted} is assigned a value of shape {value.shape}"
        )
    new[index] = value
    return ctx.write(handle, new)


class VariableSlice(Tensor):
    """A slice of a variable: its value, and where to assign another one."""

    __slots__ = ("_handle",)

    def __init__(self, tensor: Tensor, handle: Tensor):
        super().__init__(tensor.op, tensor.index)
        self._handle = handle
        # it stands in for the plain tensor: tensors are compared by identity
        tensor.op.outputs = (self,)

    def assign(
        self, value: Any, use_locking: bool | None = None, name: str | None = None
    ) -> Tensor:
        """Give the slice a new value; returns the variable's whole new value.

        Raises:
          ValueError, InvalidArgumentError: the value has another shape than the slice.
        """
        new = as_tensor(value, self.dtype)
        if merged(new.dims, self.dims) is CLASH:
            raise ShapeError(
                f"a slice of shape {format_dims(self.dims)} is assigned a value of shape "
                f"{format_dims(new.dims)}"
            )
        bounds, attrs = self.op.inputs[1:], self.op.attrs
        assigned: Tensor = _assign_slice(
            self._handle, *bounds, new, name=name or "strided_slice/_assign", **attrs
        )
        return assigned


def variable_slice(variable: Any, part: Tensor) -> Tensor:
    """A slice of a variable's value that can be assigned to."""
    if part.op.type != "StridedSlice" or part.op.inputs[0].op.type != "ReadVariable":
        return part
    return VariableSlice(part, variable.handle)


# ---- elements at index vectors


def _scattered(handle: Tensor, indices: Tensor, updates: Tensor) -> Specs:
    specs = _same_dtype(handle, updates)
    dims = specs[0][0]
    if indices.dims is not None and not indices.dims:
        raise ShapeError("indices must have rank 1 or more: their last axis holds the vectors")
    if dims is None or indices.dims is None or (depth := indices.dims[-1]) is None:
        return specs
    if depth > len(dims):
        raise ShapeError(f"indices of length {depth} for a variable of rank {len(dims)}")
    wanted = (*indices.dims[:-1], *dims[depth:])
    if merged(wanted, updates.dims) is CLASH:
        raise ShapeError(
            f"updates must have shape {format_dims(wanted)}, not {format_dims(updates.dims)}"
        )
    return specs


def _scatter(name: str, doc: str, apply: Callable[[Any, Array, Any, Array], None]) -> OpDef:
    def kernel(xp: Any, ctx: Any, handle: Handle, indices: Index, updates: Each) -> Array:
        new = ctx.read(handle).copy()
        depth = indices.shape[-1]
        wanted = (*indices.shape[:-1], *new.shape[depth:])
        if depth > new.ndim or updates.shape != wanted:
            raise InvalidArgumentError(
                None,
                None,
                f"indices of shape {indices.shape} and updates of shape {updates.shape} for a "
                f"variable of shape {new.shape}",
            )
        parts = [checked_rows(xp, indices[..., i], new.shape[i]) for i in range(depth)]
        apply(xp, new, tuple(parts), updates)
        return ctx.write(handle, new)

    kernel.__doc__ = doc
    return define(name, kernel, infer=_scattered, grad=None, effect="state", writes=True)


def _set(xp: Any, x: Array, at: Any, updates: Array) -> None:
    x[at or ...] = updates


def _add(xp: Any, x: Array, at: Any, updates: Array) -> None:
    xp.add.at(x, at or (...,), updates)


_update_op = _scatter(
    "ScatterNdUpdate", "The variable with new values at index vectors; the last one counts.", _set
)
_add_op = _scatter("ScatterNdAdd", "The variable with updates added at index vectors.", _add)
_sub_op = _scatter(
    "ScatterNdSub",
    "The variable with updates subtracted at index vectors.",
    lambda xp, x, at, updates: _add(xp, x, at, -updates),
)


def _public(entry: OpDef, name: str, what: str) -> Callable[..., Tensor]:
    def function(
        ref: Any, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None
    ) -> Tensor:
        if not hasattr(ref, "handle"):
            raise TypeError(f"{ref!r} is no variable: use tensor_scatter_update and its kin")
        new = as_tensor(updates, ref.dtype)
        result: Tensor = entry(ref.handle, indices, new, name=name)
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{what}

    Args:
      ref: a variable.
      indices: [..., depth], vectors of indices into its first axes.
      updates: [..., *the other axes].

    Returns:
      The variable's new value.

    Raises:
      InvalidArgumentError: when run, an index is out of range.
    """
    return function


scatter_nd_update = _public(
    _update_op, "scatter_nd_update", "Give elements or slices of a variable new values."
)
scatter_nd_add = _public(_add_op, "scatter_nd_add", "Add to elements or slices of a variable.")
scatter_nd_sub = _public(
    _sub_op, "scatter_nd_sub", "Subtract from elements or slices of a variable."
)
