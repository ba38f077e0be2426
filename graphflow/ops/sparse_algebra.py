"""Arithmetic and rearrangement of sparse tensors.  Results are in row-major order."""

from __future__ import annotations

from typing import Any

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError, ShapeError
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.known import static_ints
from graphflow.ops.public import composite, renamed
from graphflow.ops.rules import axis_in, output_count
from graphflow.ops.scans import cumprod
from graphflow.ops.sparse import (
    SparseTensor,
    sparse_reorder,
    sparse_tensor_to_dense,
)


def _flat(x: SparseTensor) -> Tensor:
    """The number of each stored element among all."""
    steps = cumprod(x.dense_shape, exclusive=True, reverse=True)
    flat: Tensor = ops.reduce_sum(x.indices * steps, axis=1)
    return flat


def _rank(x: SparseTensor) -> int:
    rank = x.dense_shape.dims[0] if x.dense_shape.dims else None
    if rank is None:
        raise ShapeError("the rank of the sparse tensor must be known")
    return rank


def sparse_add(a: Any, b: Any, threshold: Any = None, thresh: Any = None) -> Any:
    """The sum of two tensors of one shape, of which at least one is sparse.

    Args:
      threshold: sums of two sparse tensors whose magnitude is below it are left out; `thresh` is
        its old name.

    Returns:
      A `SparseTensor` where both are, else a tensor.

    Raises:
      TypeError: none is a `SparseTensor`.
    """
    least = renamed(threshold, thresh, "threshold", "thresh", 0)
    sparse = [isinstance(t, SparseTensor) for t in (a, b)]
    if not any(sparse):
        raise TypeError(f"sparse_add needs a SparseTensor, not {a!r} and {b!r}")
    if not all(sparse):
        table, other = (a, b) if sparse[0] else (b, a)
        with composite(None, "SparseAdd", table.values):
            return ops.add(as_tensor(other, table.dtype), sparse_tensor_to_dense(table))
    with composite(None, "SparseAdd", a.values, b.values):
        shape = ops.identity(a.dense_shape)
        places = ops.concat([a.indices, b.indices], 0)
        both = SparseTensor(places, ops.concat([a.values, b.values], 0), shape)
        numbers, positions = ops.unique(_flat(both))
        count = ops.shape(numbers)[0]
        sums = ops.unsorted_segment_sum(both.values, positions, count)
        indices = ops.cast(ops.transpose(ops.unravel_index(numbers, shape)), dtypes.int64)
        kept = sparse_reorder(SparseTensor(indices, sums, shape))
        if isinstance(least, (int, float)) and not least:
            return kept
        large = ops.greater_equal(
            ops.abs(kept.values), ops.cast(as_tensor(least), kept.values.dtype.real_dtype)
        )
        return sparse_retain(kept, large)


def sparse_retain(sp_input: SparseTensor, to_retain: Any) -> SparseTensor:
    """The elements for which `to_retain`, bool [n], is true."""
    sp_input = SparseTensor.from_value(sp_input)
    with composite(None, "SparseRetain", sp_input.values):
        chosen = ops.reshape(ops.where(as_tensor(to_retain)), [-1])
        return SparseTensor(
            ops.gather(sp_input.indices, chosen),
            ops.gather(sp_input.values, chosen),
            ops.identity(sp_input.dense_shape),
        )


def sparse_slice(
    sp_input: SparseTensor, start: Any, size: Any, name: str | None = None
) -> SparseTensor:
    """The part that begins at `start` and has at most `size`; both int64 [rank]."""
    sp_input = SparseTensor.from_value(sp_input)
    with composite(name, "SparseSlice", sp_input.values):
        first, extent = [ops.cast(as_tensor(v), dtypes.int64) for v in (start, size)]
        last = ops.minimum(first + extent, sp_input.dense_shape)
        inside = ops.logical_and(
            ops.greater_equal(sp_input.indices, first), ops.less(sp_input.indices, last)
        )
        part = sparse_retain(sp_input, ops.reduce_all(inside, 1))
        left = ops.maximum(last - first, ops.zeros_like(first))
        return SparseTensor(part.indices - first, part.values, left)


def sparse_split(
    keyword_required: Any = None, sp_input: Any = None, num_split: Any = None, axis: Any = None,
    name: str | None = None, split_dim: Any = None,
) -> list[SparseTensor]:  # fmt: skip
    """`num_split` parts along an axis, the first ones larger where it does not divide."""
    at = static_ints(renamed(axis, split_dim, "axis", "split_dim"), "axis")
    if sp_input is None or num_split is None or at is None:
        raise GraphError("sparse_split needs sp_input, num_split and axis, by their names")
    sp_input = SparseTensor.from_value(sp_input)
    count = output_count(num_split)
    if not count:
        raise GraphError("sparse_split makes one part at least")
    with composite(name, "SparseSplit", sp_input.values):
        rank = _rank(sp_input)
        along = ops.one_hot(axis_in(at, rank), rank, dtype=dtypes.int64)
        whole = sp_input.dense_shape[at]
        least, more = whole // count, whole % count
        parts = []
        for i in range(count):
            before = least * i + ops.minimum(as_tensor(i, dtypes.int64), more)
            size = least + ops.cast(ops.less(as_tensor(i, dtypes.int64), more), dtypes.int64)
            extent = sp_input.dense_shape * (1 - along) + along * size
            parts.append(sparse_slice(sp_input, along * before, extent))
        return parts


def sparse_transpose(
    sp_input: SparseTensor, perm: Any = None, name: str | None = None
) -> SparseTensor:
    """The axes in another order, by default the reverse one."""
    sp_input = SparseTensor.from_value(sp_input)
    with composite(name, "SparseTranspose", sp_input.values):
        order = static_ints(perm, "perm")
        order = list(range(_rank(sp_input)))[::-1] if order is None else list(order)
        return sparse_reorder(
            SparseTensor(
                ops.gather(sp_input.indices, order, axis=1),
                sp_input.values,
                ops.gather(sp_input.dense_shape, order),
            )
        )


def sparse_reset_shape(sp_input: SparseTensor, new_shape: Any = None) -> SparseTensor:
    """The same elements in another shape of the rank, by default the smallest that holds them."""
    sp_input = SparseTensor.from_value(sp_input)
    with composite(None, "SparseResetShape", sp_input.values):
        if new_shape is None:
            most = ops.reduce_max(sp_input.indices, axis=0) + 1
            shape = ops.maximum(most, ops.zeros_like(sp_input.dense_shape))
        else:
            shape = ops.cast(as_tensor(new_shape), dtypes.int64)
        return SparseTensor(sp_input.indices, sp_input.values, shape)


def sparse_fill_empty_rows(
    sp_input: SparseTensor, default_value: Any, name: str | None = None
) -> tuple[SparseTensor, Tensor]:
    """A matrix whose empty rows got one element at column 0; and which rows those are, bool [n]."""
    sp_input = SparseTensor.from_value(sp_input)
    with composite(name, "SparseFillEmptyRows", sp_input.values):
        rows = sp_input.dense_shape[0]
        count = ops.unsorted_segment_sum(
            ops.ones_like(sp_input.indices[:, 0]), sp_input.indices[:, 0], rows
        )
        empty = ops.equal(count, 0)
        places = ops.where(empty)
        new = SparseTensor(
            ops.concat([places, ops.zeros_like(places)], 1),
            ops.fill(
                ops.expand_dims(ops.shape(places)[0], 0), as_tensor(default_value, sp_input.dtype)
            ),
            sp_input.dense_shape,
        )
        whole = SparseTensor(
            ops.concat([sp_input.indices, new.indices], 0),
            ops.concat([sp_input.values, new.values], 0),
            sp_input.dense_shape,
        )
        return sparse_reorder(whole), empty


def sparse_to_indicator(sp_input: SparseTensor, vocab_size: int, name: str | None = None) -> Tensor:
    """bool [..., vocab_size]: which values each row of a sparse tensor of ids has."""
    sp_input = SparseTensor.from_value(sp_input)
    with composite(name, "SparseToIndicator", sp_input.values):
        ones = ops.ones_like(sp_input.values, dtypes.int32)
        table = sparse_merge(sp_input, SparseTensor(sp_input.indices, ones, sp_input.dense_shape),
                             vocab_size)  # fmt: skip
        return ops.not_equal(sparse_tensor_to_dense(table), 0)


def sparse_merge(
    sp_ids: SparseTensor, sp_values: SparseTensor, vocab_size: Any, name: str | None = None,
    already_sorted: bool = False,
) -> SparseTensor:  # fmt: skip
    """Values at the places that ids give in a new last axis of size `vocab_size`."""
    sp_ids = SparseTensor.from_value(sp_ids)
    sp_values = SparseTensor.from_value(sp_values)
    with composite(name, "SparseMerge", sp_ids.values):
        ids = ops.cast(ops.expand_dims(sp_ids.values, 1), dtypes.int64)
        size = ops.cast(as_tensor([vocab_size]), dtypes.int64)
        whole = SparseTensor(
            ops.concat([sp_ids.indices[:, :-1], ids], 1),
            sp_values.values,
            ops.concat([sp_ids.dense_shape[:-1], size], 0),
        )
        return whole if already_sorted else sparse_reorder(whole)


def sparse_softmax(sp_input: SparseTensor, name: str | None = None) -> SparseTensor:
    """The softmax of the stored elements of each row."""
    sp_input = SparseTensor.from_value(sp_input)
    with composite(name, "SparseSoftmax", sp_input.values):
        rows = SparseTensor(sp_input.indices[:, :-1], sp_input.values, sp_input.dense_shape[:-1])
        numbers, positions = ops.unique(_flat(rows))
        count = ops.shape(numbers)[0]
        most = ops.unsorted_segment_max(sp_input.values, positions, count)
        weights = ops.exp(sp_input.values - ops.stop_gradient(ops.gather(most, positions)))
        total = ops.unsorted_segment_sum(weights, positions, count)
        values = weights / ops.gather(total, positions)
        return SparseTensor(sp_input.indices, values, ops.identity(sp_input.dense_shape))


def sparse_reduce_max(
    sp_input: SparseTensor, axis: Any = None, keepdims: Any = None, reduction_axes: Any = None,
    keep_dims: Any = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The greatest stored element over axes, as a dense tensor; 0 where nothing is stored."""
    axis = renamed(axis, reduction_axes, "axis", "reduction_axes")
    keep = renamed(keepdims, keep_dims, "keepdims", "keep_dims", False)
    sp_input = SparseTensor.from_value(sp_input)
    with composite(name, "SparseReduceMax", sp_input.values):
        axes = None if axis is None else static_ints(axis, "axis")
        lowest = sp_input.dtype.min
        dense = sparse_tensor_to_dense(sp_input, lowest)
        found = ops.reduce_max(dense, axis=axes, keepdims=keep)
        return ops.where(ops.equal(found, lowest), ops.zeros_like(found), found)


def sparse_matmul(
    a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False,
    a_is_sparse: bool = False, b_is_sparse: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The product of two dense matrices that may have many zeros."""
    product: Tensor = ops.matmul(a, b, transpose_a, transpose_b, name=name)
    return product


def from_dense(tensor: Any, name: str | None = None) -> SparseTensor:
    """The elements of a tensor that are not 0."""
    with composite(name, "dense_to_sparse", tensor):
        x = as_tensor(tensor)
        places = ops.where(ops.not_equal(x, ops.zeros_like(x)))
        return SparseTensor(places, ops.gather_nd(x, places), ops.shape(x, out_type=dtypes.int64))


def sparse_eye(
    num_rows: Any, num_columns: Any = None, dtype: Any = dtypes.float32, name: str | None = None
) -> SparseTensor:
    """An identity matrix of which only the ones are stored."""
    with composite(name, "eye"):
        rows = ops.cast(as_tensor(num_rows), dtypes.int64)
        columns = rows if num_columns is None else ops.cast(as_tensor(num_columns), dtypes.int64)
        places = ops.range(ops.minimum(rows, columns))
        return SparseTensor(
            ops.stack([places, places], axis=1),
            ops.cast(ops.ones_like(places), dtype),
            ops.stack([rows, columns]),
        )
