"""The ops of variables.  The class that users hold is in `variables`."""

from __future__ import annotations

from typing import Any

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError, ShapeError
from graphflow.base.shapes import Dims, as_dims
from graphflow.base.state import StateKey
from graphflow.build import op
from graphflow.build.opdef import Array, Each, Handle, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.rules import merge_dims


def declared(handle: Tensor) -> tuple[Dims, DType]:
    """Shape and dtype of the values that a handle's variable holds."""
    operation = handle.op
    if operation.opdef is var_handle:
        return operation.attrs["dims"], operation.attrs["dtype"]
    if operation.inputs:  # an identity
        return declared(operation.inputs[0])
    outer = outer_of(handle)
    return declared(outer) if outer is not None else (None, dtypes.variant)


def outer_of(argument: Tensor) -> Tensor | None:
    """The tensor of the enclosing graph that a captured argument stands for."""
    captures = getattr(argument.op.graph, "captures", {})
    return next((outer for outer, inner in captures.items() if inner is argument), None)


def _handle(*, container: Any, shared_name: Any, dims: Any, dtype: Any) -> Specs:
    named = isinstance(container, str) and isinstance(shared_name, str)
    if not named or not isinstance(dtype, DType):
        raise DTypeError(f"{container!r}, {shared_name!r}, {dtype!r} name no variable of a dtype")
    if dims is not None and as_dims(dims) != dims:
        raise ShapeError(f"{dims!r} is no shape of a variable")
    return [((), dtypes.resource)]


@op("VarHandle", infer=_handle, grad=None, cost=lambda **_: 0.0)
def var_handle(
    xp: Any, *, container: Any = "", shared_name: Any, dims: Any, dtype: Any
) -> StateKey:
    """The name of a variable's state."""
    return StateKey(container, shared_name)


def _value(handle: Tensor) -> Specs:
    return [declared(handle)]


@op("ReadVariable", infer=_value, grad=lambda g, y, handle: g, effect="state")
def read_variable(xp: Any, ctx: Any, handle: Handle) -> Array:
    """The variable's value: from before the step, unless a write of the run comes before."""
    return ctx.read(handle)


@op(
    "IsVariableInitialized",
    infer=lambda handle: [((), dtypes.bool_)],
    grad=None,
    effect="state",
)
def is_initialized(xp: Any, ctx: Any, handle: Handle) -> Array:
    """Does the variable have a value?"""
    return xp.asarray(ctx.initialized(handle))


def _assigned(handle: Tensor, value: Tensor, **attrs: Any) -> Specs:
    dims, dtype = declared(handle)
    if value.dtype is not dtype:
        raise DTypeError(
            f"a variable of {dtype.name} cannot take a value of {value.dtype.name}: use tf.cast"
        )
    if not attrs.get("validate_shape", True):
        return [(value.dims, dtype)]
    return [(merge_dims(dims, value.dims, "shapes of the variable and the value"), dtype)]


@op("AssignVariable", infer=_assigned, grad=None, effect="state", writes=True)
def assign_variable(
    xp: Any, ctx: Any, handle: Handle, value: Each, *, validate_shape: Any = True
) -> Array:
    """Give the variable a new value; returns it."""
    return ctx.write(handle, value)


def _updated(handle: Tensor, delta: Tensor) -> Specs:
    return [(_assigned(handle, delta)[0][0], delta.dtype)]


@op("AssignAddVariable", infer=_updated, grad=None, effect="state", writes=True)
def assign_add_variable(xp: Any, ctx: Any, handle: Handle, delta: Each) -> Array:
    """Add to the variable; returns the new value."""
    return ctx.write(handle, ctx.read(handle) + delta)


@op("AssignSubVariable", infer=_updated, grad=None, effect="state", writes=True)
def assign_sub_variable(xp: Any, ctx: Any, handle: Handle, delta: Each) -> Array:
    """Subtract from the variable; returns the new value."""
    return ctx.write(handle, ctx.read(handle) - delta)
