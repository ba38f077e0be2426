"""Joining tensors along an axis and taking them apart: concat, stack, split, tile."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, format_dims, merged
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.known import known_dims, static_ints
from graphflow.ops.rules import axis_in, output_count
from graphflow.ops.shape_ops import shape
from graphflow.ops.sources import identity

Dynamic = tuple[Tensor, ...]


def tensors_of(outputs: Any) -> list[Tensor]:
    """The outputs of an op whose number of outputs varies."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return list(outputs) if isinstance(outputs, tuple) else []


def filled(g: Any, y: Any) -> list[Tensor]:
    """Gradients of several outputs, with zeros for those that are None."""
    from graphflow.ops.filling import zeros_like

    gs = g if isinstance(g, tuple) else (g,)
    ys = y if isinstance(y, tuple) else (y,)
    return [zeros_like(b) if a is None else as_tensor(a) for a, b in zip(gs, ys, strict=True)]


# ---- concat


def _concat_spec(*values: Tensor, axis: int) -> Specs:
    if not values:
        raise GraphError("concat needs at least one tensor")
    rank = next((len(v.dims) for v in values if v.dims is not None), None)
    if rank is None:
        return [(None, values[0].dtype)]
    if rank == 0:
        raise ShapeError("scalars cannot be concatenated: use tf.stack")
    at = axis_in(axis, rank)
    total: int | None = 0
    rest: Any = (None,) * rank
    for v in values:
        if v.dims is None:
            total = None
            continue
        if len(v.dims) != rank:
            raise ShapeError(f"ranks differ: {_shapes(values)}")
        n = v.dims[at]
        total = None if n is None or total is None else total + n
        rest = merged(rest, (*v.dims[:at], None, *v.dims[at + 1 :]))
        if rest is CLASH:
            raise ShapeError(f"sizes other than those of axis {at} differ: {_shapes(values)}")
    return [((*rest[:at], total, *rest[at + 1 :]), values[0].dtype)]


def _shapes(values: Any) -> str:
    return ", ".join(format_dims(v.dims) for v in values)


def _concat_grad(g: Tensor, y: Tensor, *values: Tensor, axis: int) -> Dynamic:
    if len(values) == 1:
        return (g,)
    sizes = [_size_at(v, axis) for v in values]
    return tuple(tensors_of(_split_v(g, _packed(sizes), axis=axis, num=len(values))))


def _size_at(x: Tensor, axis: int) -> Any:
    """Size of an axis: an int where it is known, else a scalar tensor."""
    n = None if x.dims is None else x.dims[axis]
    return shape(x)[axis] if n is None else n


def _packed(sizes: list[Any]) -> Tensor:
    return as_tensor(sizes if any(isinstance(n, Tensor) for n in sizes) else np.array(sizes, "i4"))


def _concat_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.uniform(2, 3), s.uniform(1, 3)), {"axis": 0}),
        Case((s.uniform(2, 3), s.uniform(2, 0), s.uniform(2, 1)), {"axis": -1}),
        Case((s.uniform(3),), {"axis": 0}),
    ]


@op("ConcatV2", infer=_concat_spec, grad=_concat_grad, cases=_concat_cases)
def _concat(xp: Any, *values: T, axis: Any) -> Array:
    """Join tensors of one rank along an axis; their other sizes are equal."""
    try:
        return xp.concatenate(values, axis)
    except ValueError:
        shapes = ", ".join(str(v.shape) for v in values)
        raise InvalidArgumentError(
            None, None, f"cannot concatenate shapes {shapes} along axis {axis}"
        ) from None


# ---- stack and unstack


def _pack_spec(*values: Tensor, axis: int) -> Specs:
    if not values:
        raise GraphError("stack needs at least one tensor")
    dims: Any = None
    for v in values:
        dims = merged(dims, v.dims)
        if dims is CLASH:
            raise ShapeError(f"shapes to stack must be equal: {_shapes(values)}")
    if dims is None:
        return [(None, values[0].dtype)]
    at = axis_in(axis, len(dims) + 1)
    return [((*dims[:at], len(values), *dims[at:]), values[0].dtype)]


def _pack_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.uniform(2, 3), s.uniform(2, 3)), {"axis": 1}),
        Case((s.uniform(2), s.uniform(2), s.uniform(2)), {"axis": -1}),
        Case((s.uniform(),)),
        Case((s.uniform(0, 2), s.uniform(0, 2))),
    ]


@op(
    "Pack",
    infer=_pack_spec,
    grad=lambda g, y, *values, axis: tuple(unstack(g, len(values), axis)),
    cases=_pack_cases,
)
def _pack(xp: Any, *values: T, axis: Any = 0) -> Array:
    """Join tensors of one shape along a new axis."""
    try:
        return xp.stack(values, axis)
    except ValueError:
        shapes = ", ".join(str(v.shape) for v in values)
        raise InvalidArgumentError(None, None, f"shapes to stack must be equal: {shapes}") from None


def _unpack_spec(value: Tensor, *, num: int, axis: int) -> Specs:
    num = output_count(num)
    if value.dims is None:
        return [(None, value.dtype)] * num
    at = axis_in(axis, len(value.dims))
    if value.dims[at] not in (None, num):
        raise ShapeError(
            f"axis {at} of shape {format_dims(value.dims)} has not the {num} entries to unstack"
        )
    return [((*value.dims[:at], *value.dims[at + 1 :]), value.dtype)] * num


@op(
    "Unpack",
    infer=_unpack_spec,
    grad=lambda g, y, value, num, axis: stack(filled(g, y), axis),
    alias="value",
    cost=lambda *_, **__: 0.0,
    cases=lambda s: [
        Case((s.uniform(2, 3),), {"num": 2}),
        Case((s.uniform(2, 3),), {"num": 3, "axis": -1}),
        Case((s.uniform(1),), {"num": 1}),
    ],
)
def _unpack(xp: Any, value: T, *, num: Any, axis: Any = 0) -> tuple[Array, ...]:
    """The `num` slices of a tensor along an axis, without that axis."""
    if value.shape[axis] != num:
        raise InvalidArgumentError(
            None, None, f"axis {axis} of shape {value.shape} has not the {num} entries to unstack"
        )
    at = axis % value.ndim
    before = (slice(None),) * at
    return tuple(
        [
            value[(*before, i)] if value.ndim > 1 else value[i : i + 1].reshape(())
            for i in range(num)
        ]
    )


# ---- split


def _split_spec(value: Tensor, *, num: int, axis: int) -> Specs:
    if output_count(num) < 1:
        raise GraphError(f"cannot split into {num} parts")
    if value.dims is None:
        return [(None, value.dtype)] * num
    at = axis_in(axis, len(value.dims))
    n = value.dims[at]
    if n is not None and n % num:
        raise ShapeError(f"{n} entries of axis {at} do not split into {num} equal parts")
    part = None if n is None else n // num
    return [((*value.dims[:at], part, *value.dims[at + 1 :]), value.dtype)] * num


def _split_grad(g: Any, y: Any, value: Tensor, *, num: int, axis: int) -> Tensor:
    return concat(filled(g, y), axis)


@op(
    "Split",
    infer=_split_spec,
    grad=_split_grad,
    alias="value",
    cost=lambda *_, **__: 0.0,
    cases=lambda s: [
        Case((s.uniform(4, 3),), {"num": 2}),
        Case((s.uniform(2, 3),), {"num": 3, "axis": -1}),
        Case((s.uniform(0, 3),), {"num": 2}),
        Case((s.uniform(2),), {"num": 1}),
    ],
)
def _split(xp: Any, value: T, *, num: Any, axis: Any = 0) -> tuple[Array, ...]:
    """A tensor in `num` equal parts along an axis."""
    n = value.shape[axis]
    if n % num:
        raise InvalidArgumentError(
            None, None, f"{n} entries of axis {axis} do not split into {num} equal parts"
        )
    return _cut(value, [n // num] * num, axis)


def _cut(value: Array, sizes: list[int], axis: int) -> tuple[Array, ...]:
    before = (slice(None),) * (axis % value.ndim)
    parts, start = [], 0
    for n in sizes:
        parts.append(value[(*before, slice(start, start + n))])
        start += n
    return tuple(parts)


def _split_v_spec(value: Tensor, sizes: Tensor, *, num: int, axis: int) -> Specs:
    known, num = known_dims(sizes), output_count(num)
    if known is not None and len(known) != num:
        raise ShapeError(f"{len(known)} sizes were given for {num} parts")
    if value.dims is None:
        return [(None, value.dtype)] * num
    at = axis_in(axis, len(value.dims))
    given: Any = list(known or [None] * num)
    n = value.dims[at]
    if n is not None and None not in given:
        given = resolved(given, n, ShapeError)
    parts = [None if k is None or k < 0 else k for k in given]
    return [((*value.dims[:at], k, *value.dims[at + 1 :]), value.dtype) for k in parts]


def resolved(sizes: list[int], total: int, error: Any) -> list[int]:
    """Sizes of parts with -1 replaced by what is left.

    Raises:
      error: they do not sum to the total.
    """
    rest = total - sum(n for n in sizes if n != -1)
    full = [rest if n == -1 else n for n in sizes]
    if sizes.count(-1) > 1 or min(full, default=0) < 0 or sum(full) != total:
        message = f"sizes {list(sizes)} do not split an axis of {total} entries"
        raise error(message) if error is ShapeError else error(None, None, message)
    return full


@op(
    "SplitV",
    infer=_split_v_spec,
    grad=lambda g, y, value, sizes, num, axis: (concat(filled(g, y), axis), None),
    host=("sizes",),
    alias="value",
    cost=lambda *_, **__: 0.0,
    cases=lambda s: [
        Case((s.uniform(4, 3), np.array([1, 3], np.int32)), {"num": 2}),
        Case((s.uniform(2, 5), np.array([2, -1, 0], np.int32)), {"num": 3, "axis": 1}),
    ],
)
def _split_v(xp: Any, value: T, sizes: Index, *, num: Any, axis: Any = 0) -> tuple[Array, ...]:
    """A tensor in parts of the given sizes along an axis; one size may be -1."""
    return _cut(value, resolved(sizes.tolist(), value.shape[axis], InvalidArgumentError), axis)


# ---- TensorFlow's functions


def concat(values: Any, axis: Any, name: str = "concat") -> Tensor:
    """Join tensors along an axis.

    Args:
      values: a tensor or a list of tensors of one dtype and rank, equal in all other sizes.
      axis: must be known while the graph is built.
      name: its name.

    Raises:
      ValueError: shapes do not fit.
    """
    axis = static_ints(axis, "axis")
    if not isinstance(values, (list, tuple)):
        values = [values]
    if len(values) == 1:
        only = as_tensor(values[0])
        if only.dims is not None:
            axis_in(axis, len(only.dims))
        return identity(only, name=name)
    return _concat(*values, axis=axis, name=name)


def stack(values: Any, axis: Any = 0, name: str = "stack") -> Tensor:
    """Join tensors of one shape along a new axis.

    Raises:
      ValueError: shapes differ, or the axis is out of range.
    """
    axis = static_ints(axis, "axis")
    if isinstance(values, (Tensor, np.ndarray)):
        values = unstack(values) if isinstance(values, Tensor) else list(values)
    if axis == 0 and not any(_symbolic(v) for v in values):
        return as_tensor(list(values), name=name)
    return _pack(*values, axis=axis, name=name)


def _symbolic(value: Any) -> bool:
    return isinstance(value, (Tensor, list, tuple)) or hasattr(value, "as_graph_tensor")


def parallel_stack(values: Any, name: str = "parallel_stack") -> Tensor:
    """`stack` along axis 0."""
    return _pack(*values, axis=0, name=name)


def unstack(
    value: Any, num: int | None = None, axis: Any = 0, name: str = "unstack"
) -> list[Tensor]:
    """The slices of a tensor along an axis, without that axis.

    Args:
      value: a tensor of rank at least 1.
      num: their number, where it is not known statically.
      axis: the axis.
      name: its name.

    Raises:
      ValueError: the number is neither given nor known.
    """
    x = as_tensor(value)
    axis = static_ints(axis, "axis")
    if num is None:
        if x.dims is not None:
            num = x.dims[axis_in(axis, len(x.dims))]
        if num is None:
            raise GraphError(f"cannot tell how many tensors to unstack from {x!r}: give num")
    return tensors_of(_unpack(x, num=int(num), axis=axis, name=name))


def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split"
) -> list[Tensor]:
    """Parts of a tensor along an axis.

    Args:
      value: a tensor.
      num_or_size_splits: the number of equal parts, or a vector of their sizes (one may be -1).
      axis: the axis.
      num: the number of sizes, where it is not known statically.
      name: its name.

    Raises:
      ValueError: the parts do not fit.
    """
    axis = static_ints(axis, "axis")
    if isinstance(num_or_size_splits, Tensor) or not hasattr(num_or_size_splits, "__index__"):
        sizes = as_tensor(num_or_size_splits)
        if sizes.dims != ():
            return _split_sizes(value, sizes, axis, num, name)
    parts = static_ints(num_or_size_splits, "the number of parts")
    return tensors_of(_split(value, num=parts, axis=axis, name=name))


def _split_sizes(value: Any, sizes: Tensor, axis: int, num: Any, name: str) -> list[Tensor]:
    if num is None:
        num = None if sizes.dims is None else sizes.dims[0]
    if num is None:
        raise GraphError(f"cannot tell into how many parts {sizes!r} splits: give num")
    return tensors_of(_split_v(value, sizes, num=num, axis=axis, name=name))
