"""Picking by index and by condition: gather, scatter, where, masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.joining import concat
from graphflow.ops.known import shape_from, static_ints
from graphflow.ops.rules import axis_in, merge_dims
from graphflow.ops.shape_ops import reshape, shape


def check_indices(xp: Any, indices: Array, bound: int, what: str = "index") -> None:
    """Refuse indices outside 0..bound-1.  On a GPU the check would wait for the stream; there
    kernels clip instead.

    Raises:
      InvalidArgumentError: names the first offender and the bound.
    """
    if xp is not np or not indices.size:
        return
    if indices.min() >= 0 and indices.max() < bound:
        return
    wrong = indices[(indices < 0) | (indices >= bound)]
    raise InvalidArgumentError(None, None, f"{what} {wrong.flat[0]} is not in [0, {bound})")


# ---- gather


def _gather_spec(params: Tensor, indices: Tensor, *, axis: int, batch_dims: int) -> Specs:
    if params.dims is None or indices.dims is None:
        return [(None, params.dtype)]
    at = axis_in(axis, len(params.dims))
    if not 0 <= batch_dims <= min(len(indices.dims), at):
        raise GraphError(f"batch_dims {batch_dims} does not fit axis {axis} and the indices")
    batch = merge_dims(params.dims[:batch_dims], indices.dims[:batch_dims], "batch axes")
    assert batch is not None
    inner = indices.dims[batch_dims:]
    return [((*batch, *params.dims[batch_dims:at], *inner, *params.dims[at + 1 :]), params.dtype)]


def _gather_grad(
    g: Tensor, y: Tensor, params: Tensor, indices: Tensor, *, axis: int, batch_dims: int
) -> Any:
    if axis == 0 and batch_dims == 0:
        return _rows_grad(g, params, indices), None
    return _gather_back(g, indices, shape(params), axis=axis, batch_dims=batch_dims), None


def _rows_grad(g: Tensor, params: Tensor, indices: Tensor) -> Any:
    """The gradient of rows stays sparse: only those that were picked are stored."""
    from graphflow.ops.slices import IndexedSlices

    sizes, flat = shape(params), reshape(indices, [-1])
    rows = reshape(
        g, concat([shape(flat), sizes[1:]], 0)
    )  # -1 leaves open how many rows of nothing
    return IndexedSlices(rows, flat, sizes)


def _gather_cases(s: Sampler) -> list[Case]:
    def case(dims: Any, indices: Any, axis: int = 0, batch_dims: int = 0) -> Case:
        attrs = {"axis": axis, "batch_dims": batch_dims}
        return Case((s.uniform(*dims), np.array(indices, np.int32)), attrs)

    return [
        case((4, 3), [2, 0, 2]),
        case((4,), [[1, 1], [3, 0]]),
        case((4, 3), 1),
        case((4, 3), [2, 0], 1),
        case((2, 3, 2), [[1], [0]], -1),
        case((2, 3, 2), [[1, 1], [0, 2]], 1, 1),
        case((2, 2, 3), [[1], [0]], 2, 1),
        case((0, 3), np.zeros((0,))),
    ]


@op(
    "GatherV2",
    infer=_gather_spec,
    grad=_gather_grad,
    cost=lambda *_, **__: 0.0,
    cases=_gather_cases,
)
def _gather(xp: Any, params: T, indices: Index, *, axis: Any = 0, batch_dims: Any = 0) -> Array:
    """Slices of params along an axis at the indices; the first `batch_dims` axes go together."""
    check_indices(xp, indices, params.shape[axis])
    if not batch_dims:
        return xp.take(params, indices, axis)
    return params[_batch_index(xp, params.shape, indices, axis, batch_dims)]


def _batch_index(xp: Any, dims: Any, indices: Array, axis: int, batch_dims: int) -> Any:
    """A NumPy index: one grid per axis up to `axis`, which broadcast to the result's axes."""
    at = axis % len(dims)
    between = at - batch_dims
    inner = indices.ndim - batch_dims
    rank = at + inner
    grids = []
    for i, n in enumerate(dims[:at]):
        grids.append(xp.arange(n).reshape([-1 if k == i else 1 for k in range(rank)]))
    batch = indices.shape[:batch_dims]
    grids.append(indices.reshape((*batch, *[1] * between, *indices.shape[batch_dims:])))
    return tuple(grids)


def _gather_back_spec(
    g: Tensor, indices: Tensor, dims: Tensor, *, axis: int, batch_dims: int
) -> Specs:
    return [(shape_from(dims), g.dtype)]


@op(
    "GatherGrad",
    infer=_gather_back_spec,
    grad=lambda h, y, g, i, d, axis, batch_dims: (
        gather(h, i, axis=axis, batch_dims=batch_dims),
        None,
        None,
    ),
    host=("dims",),
    cases=lambda s: [
        Case(
            (s.uniform(2, 3), np.array([1, 0, 1], np.int32), np.array([2, 2], np.int32)),
            {"axis": 1},
        )
    ],
)
def _gather_back(
    xp: Any, g: T, indices: Index, dims: Index, *, axis: Any = 0, batch_dims: Any = 0
) -> Array:
    """Zeros of shape `dims` to which the slices of g are added where `GatherV2` took them."""
    sizes = dims.tolist()
    check_indices(xp, indices, sizes[axis])
    result = xp.zeros(sizes, g.dtype)
    # For 20,000 rows of 64, add.at takes 21 ms; sorting them for add.reduceat takes 27.
    xp.add.at(result, _batch_index(xp, sizes, indices, axis, batch_dims), g)
    return result


# ---- gather_nd and scatter_nd


def _gather_nd_spec(params: Tensor, indices: Tensor) -> Specs:
    if params.dims is None or indices.dims is None or (depth := _depth(indices)) is None:
        return [(None, params.dtype)]
    if depth > len(params.dims):
        raise ShapeError(f"indices of length {depth} for a tensor of rank {len(params.dims)}")
    return [((*indices.dims[:-1], *params.dims[depth:]), params.dtype)]


def _depth(indices: Tensor) -> int | None:
    """The length of the index vectors."""
    if indices.dims is None:
        return None
    if not indices.dims:
        raise ShapeError("indices must have rank 1 or more: their last axis holds the vectors")
    return indices.dims[-1]


def _nd_index(xp: Any, indices: Array, dims: Any) -> Any:
    depth = indices.shape[-1]
    if depth > len(dims):
        raise InvalidArgumentError(
            None, None, f"indices of length {depth} for a tensor of rank {len(dims)}"
        )
    for i in range(depth):
        check_indices(xp, indices[..., i], dims[i], f"index of axis {i}:")
    return tuple([indices[..., i] for i in range(depth)])


@op(
    "GatherNd",
    infer=_gather_nd_spec,
    grad=lambda g, y, params, indices: (
        scatter_nd(indices, g, shape(params, out_type=indices.dtype)),
        None,
    ),
    cost=lambda *_: 0.0,
    cases=lambda s: [
        Case((s.uniform(3, 4), np.array([[0, 1], [2, 3], [0, 1]], np.int32))),
        Case((s.uniform(3, 4), np.array([[[2]], [[0]]], np.int32))),
        Case((s.uniform(2), np.zeros((2, 0), np.int32))),
        Case((s.uniform(2, 2), np.zeros((0, 2), np.int32))),
    ],
)
def _gather_nd(xp: Any, params: T, indices: Index) -> Array:
    """The slices of params at the index vectors in the last axis of `indices`."""
    if not indices.shape[-1]:
        return xp.broadcast_to(params, (*indices.shape[:-1], *params.shape)).copy()
    return params[_nd_index(xp, indices, params.shape)]


def _scatter_nd_spec(indices: Tensor, updates: Tensor, shape: Tensor) -> Specs:
    dims = shape_from(shape)
    depth = _depth(indices)
    if dims is None or depth is None or indices.dims is None:
        return [(dims, updates.dtype)]
    if depth > len(dims):
        raise ShapeError(f"indices of length {depth} for a tensor of rank {len(dims)}")
    merge_dims(updates.dims, (*indices.dims[:-1], *dims[depth:]), "updates and what is indexed")
    return [(dims, updates.dtype)]


@op(
    "ScatterNd",
    infer=_scatter_nd_spec,
    grad=lambda g, y, indices, updates, s: (None, gather_nd(g, indices), None),
    host=("shape",),
    cases=lambda s: [
        Case((np.array([[1], [3], [1]], np.int32), s.uniform(3), np.array([5], np.int32))),
        Case((np.array([[1]], np.int32), s.uniform(1, 2), np.array([2, 2], np.int32))),
    ],
)
def _scatter_nd(xp: Any, indices: Index, updates: T, shape: Index) -> Array:
    """Zeros of the given shape, to which each update is added at its index vector.

    Strings are put together, in the order of the updates.
    """
    dims = shape.tolist()
    if shape.ndim != 1 or any(n < 0 for n in dims):
        raise InvalidArgumentError(None, None, f"a shape has sizes >= 0, not {dims}")
    strings = updates.dtype == object
    result = np.full(dims, b"", object) if strings else xp.zeros(dims, updates.dtype)
    wanted = (*indices.shape[:-1], *dims[indices.shape[-1] :])
    if updates.shape != wanted:
        raise InvalidArgumentError(
            None, None, f"updates of shape {updates.shape} should have shape {wanted}"
        )
    if not indices.shape[-1]:  # vectors of no length name the whole
        first = xp.zeros(indices.shape[:-1], np.intp)
        xp.add.at(result[None], (first,), updates)
        return result
    xp.add.at(result, _nd_index(xp, indices, dims), updates)
    return result


# ---- TensorFlow's functions


def gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    name: str | None = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Tensor:
    """Slices of a tensor along an axis.

    Args:
      params: a tensor or variable.
      indices: integers in [0, size of the axis).
      validate_indices: ignored, they always are.
      name: its name.
      axis: by default the first one after the batch axes.
      batch_dims: how many leading axes params and indices have in common.

    Raises:
      InvalidArgumentError: an index is out of range.
    """
    at = batch_dims if axis is None else static_ints(axis, "axis")
    if batch_dims < 0:
        rank = as_tensor(indices).dims
        if rank is None:
            raise GraphError("batch_dims cannot be negative where the rank is unknown")
        batch_dims += len(rank)
    x = as_tensor(params)
    if at < 0 and x.dims is not None:
        at = axis_in(at, len(x.dims))
    return _gather(x, indices, axis=at, batch_dims=batch_dims, name=name)


def gather_nd(params: Any, indices: Any, name: str | None = None, batch_dims: int = 0) -> Tensor:
    """Slices of a tensor at index vectors, which lie in the last axis of `indices`.

    Raises:
      InvalidArgumentError: an index is out of range.
    """
    if batch_dims:
        indices = _with_batch(as_tensor(params), as_tensor(indices), batch_dims)
    return _gather_nd(params, indices, name=name)


def _with_batch(params: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    """Index vectors that name the batch axes, too."""
    from graphflow.ops.filling import range as range_
    from graphflow.ops.tiling import tile

    if indices.dims is None:
        raise GraphError("gather_nd with batch_dims needs indices of known rank")
    rank = len(indices.dims)
    sizes = shape(indices)
    columns = []
    for axis in range(batch_dims):
        one = np.ones(rank - 1, np.int32)
        grid = reshape(range_(sizes[axis]), [-1 if i == axis else 1 for i in range(rank)])
        times = concat([sizes[:axis], one[:1], sizes[axis + 1 : -1], one[:1]], 0)
        columns.append(OPS["Cast"](tile(grid, times), dtype=indices.dtype))
    return concat([*columns, indices], -1)


def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Tensor:
    """Zeros of the given shape, to which each update is added at its index vector.

    Strings are put together, in the order of the updates, to empty ones.

    Raises:
      InvalidArgumentError: an index is out of range.
    """
    return _scatter_nd(indices, updates, as_tensor(shape), name=name)
