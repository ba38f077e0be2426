"""Rows of tables by their ids."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from graphflow.base.errors import GraphError
from graphflow.build import as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.build.tensor import Tensor
from graphflow.ops.arithmetic import floordiv, floormod, maximum
from graphflow.ops.casting import cast
from graphflow.ops.compare import equal, less
from graphflow.ops.conditions import where
from graphflow.ops.filling import zeros_like
from graphflow.ops.gathering import gather
from graphflow.ops.joining import concat
from graphflow.ops.norms import clip_by_norm
from graphflow.ops.partitioned import PartitionedVariable
from graphflow.ops.public import composite
from graphflow.ops.shape_ops import reshape, shape
from graphflow.ops.sources import identity


def embedding_lookup(
    params: Any,
    ids: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: float | None = None,
) -> Tensor:
    """The rows of a table with the given ids; its gradient is sparse.

    Args:
      params: the table, a tensor or variable [rows, ...]; or a list of parts of it, or a
        `PartitionedVariable`, whose rows lie as "div" says.
      ids: int32 or int64, of any shape.
      partition_strategy: which part has row i of a table in n parts: "mod": part i % n; "div":
        rows that follow each other stay together, the first parts having one more.
      validate_indices: accepted; ids are always checked.
      max_norm: rows with a larger Euclidean norm are scaled down to it.

    Returns:
      [*shape of ids, ...].

    Raises:
      ValueError: no parts, or another strategy.
    """
    several = isinstance(params, (list, tuple, PartitionedVariable))
    parts = list(params) if several else [params]
    if not parts:
        raise GraphError("embedding_lookup needs at least one table")
    if partition_strategy not in ("mod", "div"):
        raise GraphError(f'partition_strategy must be "mod" or "div", not {partition_strategy!r}')
    with composite(name, "embedding_lookup", ids, *parts) as scope:
        ids = as_tensor(ids, name="ids")
        tables = [as_tensor(p) for p in parts]
        if len(tables) == 1:
            rows = _beside(tables[0], ids, None if max_norm is not None else scope)
            return rows if max_norm is None else _clipped(rows, ids, max_norm, scope)
        owner, row = _located(tables, ids, partition_strategy)
        return _clipped(_collected(tables, ids, owner, row), ids, max_norm, scope)


def _located(tables: list[Tensor], ids: Tensor, strategy: str) -> tuple[Tensor, Tensor]:
    """The number of the part that has each (flat) id, and its row there."""
    flat, count = reshape(ids, [-1]), len(tables)
    if strategy == "mod":
        return floormod(flat, count), floordiv(flat, count)
    total = _rows_of(tables[0])
    for table in tables[1:]:
        total = total + _rows_of(table)
    total = cast(as_tensor(total), ids.dtype)
    least, extras = floordiv(total, count), floormod(total, count)
    owner = maximum(floordiv(flat, least + 1), floordiv(flat - extras, maximum(least, 1)))
    within = less(owner, extras)
    row = where(within, floormod(flat, least + 1), floormod(flat - extras, maximum(least, 1)))
    return owner, row


def _rows_of(table: Tensor) -> Any:
    known = table.dims[0] if table.dims else None
    return shape(table)[0] if known is None else known


def _collected(tables: list[Tensor], ids: Tensor, owner: Tensor, row: Tensor) -> Tensor:
    """Each id's row from its part.

    Every part gives a row for each id, its first where it has not that id, and those are passed
    over: shapes do not depend on values, and the gradients stay sparse.
    """
    found: Any = None
    for i, table in enumerate(tables):
        mine = equal(owner, i)
        rows = _beside(table, where(mine, row, zeros_like(row)))
        found = rows if found is None else where(mine, rows, found)
    sizes = [shape(ids), shape(found)[1:]]
    return reshape(found, concat(sizes, 0))


def _beside(table: Tensor, ids: Tensor, name: str | None = None) -> Tensor:
    """Rows of a table, looked up on its device: rows travel, and not the table."""
    graph = get_default_graph()
    here = table.op.graph is graph  # a body's operations go where its owner does
    with graph.colocate_with(table.op) if here else nullcontext():
        return gather(table, ids, name=name)


def _clipped(rows: Tensor, ids: Tensor, max_norm: Any, scope: str) -> Tensor:
    """Each row scaled down to the norm."""
    if max_norm is None:
        return identity(rows, name=scope)
    if rows.dims is None or ids.dims is None:
        raise GraphError("max_norm needs tables and ids of known rank")
    axes = list(np.arange(len(ids.dims), len(rows.dims)).tolist())
    return identity(clip_by_norm(rows, max_norm, axes), name=scope)
