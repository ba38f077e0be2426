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
