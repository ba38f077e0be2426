"""Sums and means of the rows of a table, for sets of ids."""

from __future__ import annotations

from typing import Any

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build.tensor import Tensor
from graphflow.nn.embedding import embedding_lookup
from graphflow.ops.public import composite
from graphflow.ops.sparse import SparseTensor


def embedding_lookup_sparse(
    params: Any,
    sp_ids: SparseTensor,
    sp_weights: SparseTensor | None,
    partition_strategy: str = "mod",
    name: str | None = None,
    combiner: str | None = None,
    max_norm: float | None = None,
) -> Tensor:
    """The combined rows of a table for each row of ids; its gradient is sparse.

    Args:
      params: the table [rows, ...], or a list of parts of it.
      sp_ids: a `SparseTensor` [n, m] of ids, every row with at least one.
      sp_weights: the same of floating weights, or None: each id counts once.
      partition_strategy: as of `embedding_lookup`.
      combiner: "sum", "mean" (divided by the sum of weights, default) or "sqrtn" (by the root of
        the sum of their squares).
      max_norm: rows with a larger Euclidean norm are scaled down to it first.

    Returns:
      [n, ...]; rows without ids at the end are missing, others are zeros.

    Raises:
      ValueError: there is no such combiner.
    """
    how = combiner or "mean"
    if how not in ("sum", "mean", "sqrtn"):
        raise GraphError(f'combiner must be "sum", "mean" or "sqrtn", not {combiner!r}')
    sp_ids = SparseTensor.from_value(sp_ids)
    if sp_weights is not None:
        sp_weights = SparseTensor.from_value(sp_weights)
    with composite(name, "embedding_lookup_sparse", sp_ids.values) as scope:
        segments = ops.cast(sp_ids.indices[:, 0], dtypes.int32)
        rows = embedding_lookup(params, sp_ids.values, partition_strategy, max_norm=max_norm)
        if sp_weights is None:
            weights = ops.ones_like(sp_ids.values, dtype=rows.dtype)
        else:
            weights = ops.cast(sp_weights.values, rows.dtype)
            rows = rows * _column(weights, rows)
        total = ops.segment_sum(rows, segments)
        if how == "sum":
            return ops.identity(total, name=scope)
        counted = weights if how == "mean" else ops.square(weights)
        count = ops.segment_sum(counted, segments)
        count = ops.sqrt(count) if how == "sqrtn" else count
        return ops.div_no_nan(total, _column(count, total), name=scope)


def _column(x: Tensor, like: Tensor) -> Tensor:
    """A vector with axes of size 1 up to the rank of another tensor."""
    if like.dims is None:
        raise GraphError("embedding_lookup_sparse needs a table of known rank")
    return ops.reshape(x, [-1] + [1] * (len(like.dims) - 1))


def safe_embedding_lookup_sparse(
    embedding_weights: Any,
    sparse_ids: SparseTensor,
    sparse_weights: SparseTensor | None = None,
    combiner: str | None = "mean",
    default_id: int | None = None,
    name: str | None = None,
    partition_strategy: str = "div",
    max_norm: float | None = None,
) -> Tensor:
    """`embedding_lookup_sparse` that takes rows without ids, and leaves out negative ids.

    Args:
      embedding_weights: the table, or a list of parts of it.
      sparse_ids: a `SparseTensor` [n, m] of ids.
      sparse_weights: the same of weights; ids whose weight is not positive are left out, unless
        the combiner is "sum".
      default_id: the id of rows that have none; None: such rows are zeros.
      others: as of `embedding_lookup_sparse`.
    """
    sparse_ids = SparseTensor.from_value(sparse_ids)
    if sparse_weights is not None:
        sparse_weights = SparseTensor.from_value(sparse_weights)
    with composite(name, "embedding_lookup", sparse_ids.values):
        kept = ops.greater_equal(sparse_ids.values, 0)
        if sparse_weights is not None and combiner != "sum":
            kept = ops.logical_and(kept, ops.greater(sparse_weights.values, 0))
        ids, empty = ops.sparse_fill_empty_rows(
            ops.sparse_retain(sparse_ids, kept), default_id or 0
        )
        weights = None
        if sparse_weights is not None:
            weights, _ = ops.sparse_fill_empty_rows(ops.sparse_retain(sparse_weights, kept), 1.0)
        rows = embedding_lookup_sparse(
            embedding_weights, ids, weights, partition_strategy, None, combiner, max_norm
        )
        if default_id is not None:
            return rows
        return ops.where_v2(_column(empty, rows), ops.zeros_like(rows), rows)
