"""Shapes as tensors, and ops that change nothing but the shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims, is_known, size_of
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Each, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler, unary
from graphflow.ops.known import constant_value, shape_from, static_ints
from graphflow.ops.rules import axis_in
from graphflow.ops.sources import constant


def no_cost(*_: Any, **__: Any) -> float:
    """Of an op that computes nothing."""
    return 0.0


def _shape_spec(x: Tensor, *, out_type: DType) -> Specs:
    return [((None if x.dims is None else len(x.dims),), out_type)]


@op("Shape", infer=_shape_spec, grad=None, cost=no_cost, cases=unary())
def _shape(xp: Any, x: Each, *, out_type: Any = dtypes.int32) -> Array:
    """The sizes of x, as a vector of int32 or int64."""
    return xp.array(x.shape, dtype=out_type.np)


def _shapes_spec(*inputs: Tensor, out_type: DType) -> Specs:
    return [_shape_spec(x, out_type=out_type)[0] for x in inputs]


@op(
    "ShapeN",
    infer=_shapes_spec,
    grad=None,
    cost=no_cost,
    cases=lambda s: [Case((s.uniform(2, 3), s.uniform())), Case((s.uniform(0),))],
)
def _shape_n(xp: Any, *inputs: Each, out_type: Any = dtypes.int32) -> tuple[Array, ...]:
    """The sizes of each input, as vectors of int32 or int64."""
    return tuple([xp.array(x.shape, dtype=out_type.np) for x in inputs])


def _size_spec(x: Tensor, *, out_type: DType) -> Specs:
    return [((), out_type)]


@op("Size", infer=_size_spec, grad=None, cost=no_cost, cases=unary())
def _size(xp: Any, x: Each, *, out_type: Any = dtypes.int32) -> Array:
    """The number of elements of x, a scalar."""
    return xp.array(x.size, dtype=out_type.np)


@op("Rank", infer=lambda x: [((), dtypes.int32)], grad=None, cost=no_cost, cases=unary())
def _rank(xp: Any, x: Each) -> Array:
    """The number of dimensions of x, an int32 scalar."""
    return xp.array(x.ndim, dtype=np.int32)


# ---- reshape


def _reshape_spec(x: Tensor, shape: Tensor) -> Specs:
    if shape.dims is not None and len(shape.dims) != 1:
        raise ShapeError(f"the shape must be a vector, not of shape {format_dims(shape.dims)}")
    wanted = shape_from(shape)
    total = size_of(x.dims)
    if wanted is None:
        return [(None, x.dtype)]
    if None in wanted:
        _check_sizes(shape)
    rest = size_of(tuple([1 if n is None else n for n in wanted])) or 0
    unknown = wanted.count(None)
    if total is not None and (
        (unknown == 0 and total != rest) or (unknown and rest and total % rest)
    ):
        raise ShapeError(
            f"{total} elements of shape {format_dims(x.dims)} do not fit into shape "
            f"{format_dims(wanted)}"
        )
    if unknown == 1 and total is not None and rest:
        return [(tuple([total // rest if n is None else n for n in wanted]), x.dtype)]
    return [(wanted, x.dtype)]


def _check_sizes(shape: Tensor) -> None:
    value = constant_value(shape)
    if value is None:
        return
    sizes = value.tolist()
    if sizes.count(-1) > 1 or any(n < -1 for n in sizes):
        raise ShapeError(f"a shape may have one -1 and no other negative size, not {sizes}")


def _reshape_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.uniform(*old), np.array(new, np.int32)))
        for old, new in [
            ((2, 3), (3, 2)),
            ((2, 3), (-1,)),
            ((), (1, 1)),
            ((1,), ()),
            ((0, 3), (3, 0)),
            ((2, 0), (-1, 2)),
            ((2, 3, 4), (4, -1)),
        ]
    ]


@op(
    "Reshape",
    infer=_reshape_spec,
    grad=lambda g, y, x, s: (reshape(g, shape(x)), None),
    host=("shape",),
    alias="x",
    cost=no_cost,
    cases=_reshape_cases,
)
def _reshape(xp: Any, x: T, shape: Index) -> Array:
    """The elements of x in row-major order in another shape; one size may be -1."""
    sizes = shape.tolist()
    try:
        if min(sizes, default=0) >= -1:
            return x.reshape(sizes)
    except ValueError:
        pass
    raise InvalidArgumentError(
        None, None, f"{x.size} elements of shape {x.shape} do not fit into shape {tuple(sizes)}"
    )


# ---- sizes of one


def _expanded_spec(x: Tensor, *, axis: int) -> Specs:
    if x.dims is None:
        return [(None, x.dtype)]
    at = axis_in(axis, len(x.dims) + 1)
    return [((*x.dims[:at], 1, *x.dims[at:]), x.dtype)]


@op(
    "ExpandDims",
    infer=_expanded_spec,
    grad=lambda g, y, x, **_: reshape(g, shape(x)),
    alias="x",
    cost=no_cost,
    cases=lambda s: [
        Case((s.uniform(2, 3),), {"axis": 1}),
        Case((s.uniform(2, 3),), {"axis": -1}),
        Case((s.uniform(0),), {"axis": 0}),
        Case((s.uniform(),), {"axis": 0}),
    ],
)
def _expand_dims(xp: Any, x: T, *, axis: Any) -> Array:
    """x with a size of 1 inserted before `axis`."""
    return xp.expand_dims(x, axis)


def _squeezed_spec(x: Tensor, *, axis: tuple[int, ...]) -> Specs:
    if x.dims is None:
        return [(None, x.dtype)]
    if not axis:
        if None in x.dims:
            return [(None, x.dtype)]
        return [(tuple([n for n in x.dims if n != 1]), x.dtype)]
    gone = {axis_in(a, len(x.dims)) for a in axis}
    for a in sorted(gone):
        if x.dims[a] not in (1, None):
            raise ShapeError(f"axis {a} of shape {format_dims(x.dims)} has not size 1")
    return [(tuple([n for i, n in enumerate(x.dims) if i not in gone]), x.dtype)]


@op(
    "Squeeze",
    infer=_squeezed_spec,
    grad=lambda g, y, x, **_: reshape(g, shape(x)),
    alias="x",
    cost=no_cost,
    cases=lambda s: [
        Case((s.uniform(1, 3, 1),)),
        Case((s.uniform(1, 3, 1),), {"axis": (-1,)}),
        Case((s.uniform(1, 0),), {"axis": (0,)}),
        Case((s.uniform(),)),
    ],
)
def _squeeze(xp: Any, x: T, *, axis: Any = ()) -> Array:
    """x without its sizes of 1, or without those at `axis`."""
    if not axis:
        return x.reshape([n for n in x.shape if n != 1])
    gone = {a % x.ndim if -x.ndim <= a < x.ndim else -1 for a in axis}
    if -1 in gone or any(x.shape[a] != 1 for a in gone):
        raise InvalidArgumentError(
            None, None, f"axes {axis} of shape {x.shape} cannot be squeezed: not of size 1"
        )
    return x.reshape([n for i, n in enumerate(x.shape) if i not in gone])


# ---- transpose


def _transposed_spec(x: Tensor, *, perm: tuple[int, ...] | None) -> Specs:
    if perm is None:
        return [(None if x.dims is None else x.dims[::-1], x.dtype)]
    if sorted(perm) != list(range(len(perm))):
        raise GraphError(f"perm {perm} is no permutation of 0..{len(perm) - 1}")
    if x.dims is None:
        return [((None,) * len(perm), x.dtype)]
    if len(perm) != len(x.dims):
        raise ShapeError(f"perm {perm} does not fit the rank of shape {format_dims(x.dims)}")
    return [(tuple([x.dims[p] for p in perm]), x.dtype)]


def _transposed_grad(g: Tensor, y: Tensor, x: Tensor, *, perm: tuple[int, ...] | None) -> Tensor:
    return _transpose(g, perm=None if perm is None else inverse(perm))


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes another one."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


@op(
    "Transpose",
    infer=_transposed_spec,
    grad=_transposed_grad,
    alias="x",
    cost=no_cost,
    cases=lambda s: [
        Case((s.uniform(2, 3),)),
        Case((s.uniform(2, 3, 4),), {"perm": (2, 0, 1)}),
        Case((s.uniform(),)),
        Case((s.uniform(2, 0, 3),), {"perm": (0, 2, 1)}),
    ],
)
def _transpose(xp: Any, x: T, *, perm: Any = None) -> Array:
    """x with its axes in the order `perm`; by default reversed."""
    if perm is not None and len(perm) != x.ndim:
        raise InvalidArgumentError(
            None, None, f"perm {perm} does not fit the rank of shape {x.shape}"
        )
    return x.transpose(perm)


# ---- TensorFlow's functions


def shape(
    input: Any, name: str | None = None, out_type: Any = dtypes.int32, optimize: bool = True
) -> Tensor:
    """The shape of a tensor as an integer vector; a constant where it is known.

    Args:
      input: a tensor.
      name: its name.
      out_type: int32 or int64.
      optimize: False: ask at run time even where the static shape is known.
    """
    x = as_tensor(input)
    out_type = as_dtype(out_type)
    if optimize and is_known(x.dims):
        return constant(np.array(x.dims, out_type.np), name=name or "Shape")
    return _shape(x, out_type=out_type, name=name)


def shape_n(input: Any, out_type: Any = dtypes.int32, name: str | None = None) -> list[Tensor]:
    """The shapes of a list of tensors."""
    found = _shape_n(*input, out_type=as_dtype(out_type), name=name)
    return [found] if isinstance(found, Tensor) else list(found)


def size(input: Any, name: str | None = None, out_type: Any = dtypes.int32) -> Tensor:
    """The number of elements of a tensor; a constant where it is known."""
    x = as_tensor(input)
    out_type = as_dtype(out_type)
    total = size_of(x.dims)
    if total is not None:
        return constant(np.array(total, out_type.np), name=name or "Size")
    return _size(x, out_type=out_type, name=name)


def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of dimensions of a tensor, an int32 scalar; a constant where it is known."""
    x = as_tensor(input)
    if x.dims is not None:
        return constant(np.array(len(x.dims), np.int32), name=name or "Rank")
    return _rank(x, name=name)


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The elements of a tensor in another shape.

    Args:
      tensor: a tensor.
      shape: sizes, of which one may be -1: it follows from the others; may hold tensors.
      name: its name.

    Raises:
      ValueError: the static shapes do not fit; InvalidArgumentError when run.
    """
    return _reshape(tensor, shape_input(shape), name=name)


def shape_tensor(value: Any) -> Tensor:
    """A shape given as ints, `TensorShape`, list with tensors or tensor, as an integer vector.

    Raises:
      ValueError: a static shape is not fully known.
    """
    return as_tensor(shape_input(value))


def shape_input(value: Any) -> Any:
    """As `shape_tensor`, but a static shape stays an array: the op that takes it makes it a
    constant of its own graph."""
    from graphflow.base.shapes import Dimension, TensorShape

    if isinstance(value, Tensor):
        return value
    if isinstance(value, TensorShape):
        if not value.is_fully_defined():
            raise ShapeError(f"shape {value} is not fully defined; use tf.shape(t)")
        value = value.as_list()
    if isinstance(value, (tuple, list)):
        value = [v.value if isinstance(v, Dimension) else v for v in value]
        if None in [None if v is None else 0 for v in value]:
            raise ShapeError(f"a size of shape {value} is unknown; use tf.shape(t)")
        if all(hasattr(v, "__index__") for v in value):
            sizes = [v.__index__() for v in value]  # an array of floats has none that works
            wide = any(not -(2**31) <= n < 2**31 for n in sizes)
            return np.array(sizes, np.int64 if wide else np.int32)
    return value if isinstance(value, np.ndarray) else as_tensor(value, _int_dtype(value))


def _int_dtype(value: Any) -> DType | None:
    """int64 where a tensor in the list has it or a number needs it: no packing of both."""
    if not isinstance(value, list):
        return None
    wide = [v for v in value if getattr(v, "dtype", None) in (dtypes.int64, np.int64)]
    return (
        dtypes.int64
        if wide and all(not isinstance(v, Tensor) or v in wide for v in value)
        else None
    )


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """Insert a size of 1 before `axis`, which counts from the end of the result if negative.

    Raises:
      ValueError: the axis is out of range or not given.
    """
    axis = either("axis", axis, "dim", dim)
    if axis is None:
        raise GraphError("expand_dims needs axis")
    return _expand_dims(input, axis=static_ints(axis, "axis"), name=name)


def squeeze(
    input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None
) -> Tensor:
    """Remove sizes of 1: those at `axis`, or all.

    Raises:
      ValueError: a size at `axis` is not 1; InvalidArgumentError when run.
    """
    axis = static_ints(either("axis", axis, "squeeze_dims", squeeze_dims), "axis")
    axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return _squeeze(input, axis=axes, name=name)


def transpose(a: Any, perm: Any = None, name: str = "transpose", conjugate: bool = False) -> Tensor:
    """The tensor with its axes in another order.

    Args:
      a: a tensor.
      perm: the axes of `a` in their new order; must be known while the graph is built. None:
        reversed.
      name: its name.
      conjugate: also conjugate complex values.

    Raises:
      ValueError: `perm` is no permutation of the axes.
    """
    result = _transpose(a, perm=static_ints(perm, "perm"), name=name)
    if conjugate and result.dtype.is_complex:
        from graphflow.build import OPS

        return OPS["Conj"](result)
    return result


def either(name: str, value: Any, old_name: str, old: Any, default: Any = None) -> Any:
    """An argument that TensorFlow 1 also takes under an older name.

    Raises:
      ValueError: both are given.
    """
    if old is None:
        return default if value is None else value
    if value is not None:
        raise ValueError(f"give {name} or {old_name}, not both")
    return old
