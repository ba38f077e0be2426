"""Rows to several tensors and back: dynamic_partition, dynamic_stitch; updates of a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, format_dims, merged
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Each, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case
from graphflow.ops.filling import range as range_
from graphflow.ops.filling import zeros_like
from graphflow.ops.gathering import _nd_index, gather, gather_nd, scatter_nd
from graphflow.ops.joining import filled, tensors_of
from graphflow.ops.known import constant_value
from graphflow.ops.rules import merge_dims, output_count
from graphflow.ops.shape_ops import reshape, shape, size


def _partition_spec(data: Tensor, partitions: Tensor, *, num: int) -> Specs:
    if output_count(num) < 1:
        raise GraphError(f"num_partitions must be positive, not {num}")
    if data.dims is None or partitions.dims is None:
        return [(None, data.dtype)] * num
    rank = len(partitions.dims)
    merge_dims(data.dims[:rank], partitions.dims, "partitions and the first axes of the data")
    return [((None, *data.dims[rank:]), data.dtype)] * num


def _partition_grad(g: Any, y: Any, data: Tensor, partitions: Tensor, *, num: int) -> Any:
    numbers = reshape(range_(size(partitions)), shape(partitions))
    places = tensors_of(_partition(numbers, partitions, num=num))
    rows = dynamic_stitch(places, filled(g, y))
    return reshape(rows, shape(data)), None


@op(
    "DynamicPartition",
    infer=_partition_spec,
    grad=_partition_grad,
    dynamic=True,
    cases=lambda s: [
        Case((s.uniform(4, 2), np.array([1, 0, 1, 1], np.int32)), {"num": 2}),
        Case((s.uniform(2, 2), np.array([[2, 0], [0, 0]], np.int32)), {"num": 3}),
    ],
)
def _partition(xp: Any, data: T, partitions: Index, *, num: Any) -> tuple[Array, ...]:
    """The rows of data whose partition is i, for i in 0..num-1."""
    if xp is np and partitions.size and not (partitions.min() >= 0 and partitions.max() < num):
        wrong = partitions[(partitions < 0) | (partitions >= num)]
        raise InvalidArgumentError(None, None, f"partition {wrong.flat[0]} is not in [0, {num})")
    if data.shape[: partitions.ndim] != partitions.shape:
        raise InvalidArgumentError(
            None, None, f"partitions {partitions.shape} do not fit data {data.shape}"
        )
    return tuple([data[partitions == i] for i in range(num)])


def _stitch_spec(*inputs: Tensor) -> Specs:
    half = len(inputs) // 2
    indices, data = inputs[:half], inputs[half:]
    for i in indices:
        if not i.dtype.is_integer:
            raise DTypeError(f"indices must be of an integer dtype, not {i.dtype.name}")
    for d in data:
        if d.dtype is not data[0].dtype:
            raise DTypeError(f"data must have one dtype, not {data[0].dtype.name}, {d.dtype.name}")
    rest: Any = None
    for i, d in zip(indices, data, strict=True):
        if i.dims is None or d.dims is None:
            continue
        merge_dims(d.dims[: len(i.dims)], i.dims, "indices and the first axes of the data")
        rest = merged(rest, d.dims[len(i.dims) :])
        if rest is CLASH:
            raise ShapeError(
                f"data do not fit together: {', '.join(format_dims(t.dims) for t in data)}"
            )
    values = [constant_value(i) for i in indices]
    known = [v for v in values if v is not None]
    count = None
    if len(known) == half:
        count = max((int(v.max()) + 1 for v in known if v.size), default=0)
    return [(None if rest is None else (count, *rest), data[0].dtype)]


def _stitch_grad(g: Tensor, y: Tensor, *inputs: Tensor) -> Any:
    indices = inputs[: len(inputs) // 2]
    return (*[None] * len(indices), *[gather(g, i) for i in indices])


@op(
    "DynamicStitch",
    infer=_stitch_spec,
    grad=_stitch_grad,
    dynamic=True,
    cases=lambda s: [
        Case((np.array([2, 0], np.int32), np.array(1, np.int32), s.uniform(2, 3), s.uniform(3))),
        Case((np.array([[1], [0]], np.int32), s.uniform(2, 1))),
    ],
)
def _stitch(xp: Any, *inputs: Each) -> Array:
    """Row `indices[m][i]` is `data[m][i]`; the indices come first, then the data.  Of rows that
    are named twice, the last one stays."""
    half = len(inputs) // 2
    indices, data = inputs[:half], inputs[half:]
    count = max((int(i.max()) + 1 for i in indices if i.size), default=0)
    if any(i.size and int(i.min()) < 0 for i in indices):
        raise InvalidArgumentError(None, None, "indices must not be negative")
    rest = data[0].shape[indices[0].ndim :]
    result = xp.zeros((count, *rest), data[0].dtype)
    for i, d in zip(indices, data, strict=True):
        if d.shape != i.shape + rest:
            raise InvalidArgumentError(
                None, None, f"data {d.shape} do not fit indices {i.shape} and rows {rest}"
            )
        result[i.reshape(-1)] = d.reshape((i.size, *rest))
    return result


# ---- tensors with some elements replaced


def _update_spec(x: Tensor, indices: Tensor, updates: Tensor) -> Specs:
    if x.dims is not None and indices.dims is not None and indices.dims[-1:] not in ((), (None,)):
        depth = indices.dims[-1]
        assert depth is not None
        if depth > len(x.dims):
            raise ShapeError(f"indices of length {depth} for a tensor of rank {len(x.dims)}")
        merge_dims(updates.dims, (*indices.dims[:-1], *x.dims[depth:]), "updates")
    return [(x.dims, x.dtype)]


def _update_grad(g: Tensor, y: Tensor, x: Tensor, indices: Tensor, updates: Tensor) -> Any:
    return _update(g, indices, zeros_like(updates)), None, gather_nd(g, indices)


@op(
    "TensorScatterUpdate",
    infer=_update_spec,
    grad=_update_grad,
    cases=lambda s: [
        Case((s.uniform(4), np.array([[3], [1]], np.int32), s.uniform(2))),
        Case((s.uniform(3, 2), np.array([[0]], np.int32), s.uniform(1, 2))),
    ],
)
def _update(xp: Any, x: T, indices: Index, updates: T) -> Array:
    """x with the elements at the index vectors replaced by the updates."""
    result = x.copy()
    result[_nd_index(xp, indices, x.shape)] = updates
    return result


# ---- TensorFlow's functions


def dynamic_partition(
    data: Any, partitions: Any, num_partitions: int, name: str | None = None
) -> list[Tensor]:
    """The rows of a tensor, sorted into several tensors by partition numbers.

    Raises:
      InvalidArgumentError: a number is not in [0, num_partitions).
    """
    return tensors_of(_partition(data, partitions, num=num_partitions, name=name))


def dynamic_stitch(indices: Any, data: Any, name: str | None = None) -> Tensor:
    """One tensor of many: row `indices[m][i]` is `data[m][i]`; of several the last one.

    Raises:
      ValueError: there are not as many indices as data, or shapes do not fit.
    """
    if len(indices) != len(data) or not indices:
        raise ValueError(f"{len(indices)} indices for {len(data)} data")
    return _stitch(*indices, *data, name=name)


def tensor_scatter_update(
    tensor: Any, indices: Any, updates: Any, name: str | None = None
) -> Tensor:
    """A tensor with the slices at the index vectors replaced."""
    return _update(tensor, indices, updates, name=name)


def tensor_scatter_add(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """A tensor with the updates added at the index vectors."""
    x = as_tensor(tensor)
    return x + scatter_nd(indices, updates, shape(x), name=name)


def tensor_scatter_sub(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """A tensor with the updates subtracted at the index vectors."""
    x = as_tensor(tensor)
    return x - scatter_nd(indices, updates, shape(x), name=name)
