"""Where values come from without being computed: constants, feeds, arguments; and no-ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import (
    CLASH,
    Dims,
    as_dims,
    format_dims,
    holds,
    is_known,
    merged,
    size_of,
)
from graphflow.build import op
from graphflow.build.convert import as_array
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import Array, Specs, T, define
from graphflow.build.sites import tell_line
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.cases import Case, unary
from graphflow.ops.rules import nothing, same


def _const_spec(*, value: Any) -> Specs:
    return [(value.shape, dtypes.as_dtype(value.dtype))]


@op(
    "Const",
    infer=_const_spec,
    grad=None,
    cost=lambda **_: 0.0,
    cases=lambda s: [Case((), {"value": v}) for v in (s.normal(2, 3), s.integers(9))],
)
def const(xp: Any, *, value: Any) -> Array:
    """A constant array."""
    return value if value.dtype == object else xp.asarray(value)


def _declared(*, dims: Dims, dtype: DType) -> Specs:
    return [(dims, dtype)]


def _source(*, dims: Any = None, dtype: Any) -> None:
    """A value that is handed in when the graph runs."""


# The value of a placeholder is fed; that of an argument comes from the owner of the body.
feedable = define("Placeholder", None, like=_source, infer=_declared, grad=None)
argument = define("Argument", None, like=_source, infer=_declared, grad=None)


@op("NoOp", infer=nothing, grad=None, cost=lambda **_: 0.0, cases=lambda s: [Case(())])
def noop(xp: Any) -> tuple[()]:
    """Does nothing; control dependencies give it meaning."""
    return ()


@op("Barrier", infer=nothing, grad=None, cost=lambda **_: 0.0, cases=lambda s: [Case(())])
def barrier(xp: Any) -> tuple[()]:
    """Does nothing; compilers move no operation across it."""
    return ()


@op("Identity", infer=same, grad=lambda g, y, x: g, alias="x", cost=lambda x: 0.0, cases=unary())
def identity(xp: Any, x: T) -> Array:
    """x itself; a node to hang names and control dependencies on."""
    return x


@op("StopGradient", infer=same, grad=None, alias="x", cost=lambda x: 0.0, cases=unary())
def stop_gradient(xp: Any, x: T) -> Array:
    """x, through which no gradient flows."""
    return x


@op("PreventGradient", infer=same, grad=None, alias="x", cost=lambda x, **_: 0.0)
def prevent_gradient(xp: Any, x: T, *, message: str = "") -> Array:
    """x; differentiating through it is an error that shows `message`."""
    return x


def _default_spec(x: Tensor, *, dims: Dims) -> Specs:
    if merged(x.dims, dims) is CLASH:
        raise ShapeError(
            f"the default has shape {format_dims(x.dims)}, the placeholder {format_dims(dims)}"
        )
    return [(dims, x.dtype)]


@op(
    "PlaceholderWithDefault",
    infer=_default_spec,
    grad=lambda g, y, x, **_: g,
    alias="x",
    cases=lambda s: [Case((s.normal(2, 3),), {"dims": (2, 3)})],
)
def _with_default(xp: Any, x: T, *, dims: Any) -> Array:
    """x, unless a value is fed."""
    if merged(dims, x.shape) is CLASH:
        raise InvalidArgumentError(
            None, None, f"the default has shape {x.shape}, the placeholder {format_dims(dims)}"
        )
    return x


# ---- TensorFlow's functions


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor whose value is fed at each `run`.

    Args:
      dtype: its dtype.
      shape: its static shape; sizes may be None. None: any shape.
      name: its name.
    """
    return feedable(dims=as_dims(shape), dtype=dtypes.as_dtype(dtype), name=name)


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """A tensor that has the value of `input` where none is fed."""
    return _with_default(input, dims=as_dims(shape), name=name)


def constant(
    value: Any,
    dtype: Any = None,
    shape: Any = None,
    name: str = "Const",
    verify_shape: bool = False,
) -> Tensor:
    """A constant tensor.

    Args:
      value: a number, string, nested list or array.
      dtype: its dtype; by default float32 and int32 for Python numbers.
      shape: its shape; a scalar fills it, and so does the last element of a shorter list.
      verify_shape: the value must have that shape already.

    Raises:
      TypeError: the value does not convert without loss.
      ValueError: it has more elements than the shape.
    """
    try:
        array = as_array(value, None if dtype is None else dtypes.as_dtype(dtype))
        if shape is not None:
            array = _filled(array, as_dims(shape), verify_shape)
    except (TypeError, ValueError) as error:
        tell_line(error, f"constant {name!r}")
        raise
    return const(value=array, name=name)


def _filled(array: Any, dims: Dims, verify: bool) -> Any:
    if dims is None or not is_known(dims):
        raise ShapeError(f"the shape of a constant must be known, not {format_dims(dims)}")
    if array.shape == dims:
        return array
    size = size_of(dims) or 0
    if verify:
        raise DTypeError(f"a value of shape {array.shape} is not of shape {format_dims(dims)}")
    if array.size > size or (not array.size and size):
        raise ShapeError(f"a value of shape {array.shape} does not fill shape {format_dims(dims)}")
    if not holds(dims, array.itemsize):
        raise ShapeError(f"no memory holds {array.dtype}{format_dims(dims)}")
    flat = np.empty(size, array.dtype)
    flat[: array.size] = array.ravel()
    flat[array.size :] = array.flat[-1] if array.size < size else 0
    result: Any = flat.reshape([n or 0 for n in dims])
    result.flags.writeable = False
    return result


def no_op(name: str | None = None) -> Operation:
    """An operation that does nothing."""
    return noop(name=name)


def group(*inputs: Any, name: str | None = None) -> Operation:
    """An operation that finishes when all inputs have.

    Args:
      *inputs: operations, tensors, variables, or nested lists of them; None is passed over.
    """
    graph = get_default_graph()
    flat = [graph.as_graph_element(x) for x in _flatten(inputs)]
    if flat:
        graph = flat[0].graph if flat[0].graph.root is not graph.root else graph
    with graph.as_default(), graph.control_dependencies(flat):
        return noop(name=name or "group_deps")


def tuple_(
    tensors: Any, name: str | None = None, control_inputs: Any = None
) -> list[Tensor | None]:
    """The tensors, each available only when all of them and `control_inputs` are."""
    graph = get_default_graph()
    with graph.name_scope(name or "tuple"):
        gate = group(*[t for t in tensors if t is not None], *(control_inputs or ()))
        with graph.control_dependencies([gate]):
            return [None if t is None else identity(t, name="control_dependency") for t in tensors]


def _flatten(items: Any) -> list[Any]:
    flat = []
    for item in items:
        if isinstance(item, (list, tuple)):
            flat += _flatten(item)
        elif item is not None:
            flat.append(item)
    return flat
