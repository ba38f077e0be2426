"""Gathers and scatters: rows that an index tells, read inside of loops, or added up in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.compile.loops.values import Spread, Value, View, reshaped, row_major, whole
from graphflow.ops.expression import Node


def _gather(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """GatherV2: an element of the table where the index puts it, as a scalar expression."""
    table, index = inputs
    rank = len(table.shape)
    axis = step.attrs["axis"] % rank
    if step.attrs["batch_dims"] or not specs[0][0] or 0 in specs[0][0]:
        return None
    if table.value.size < 2 or (table.value.kind == "constant" and table.value.size < table.size):
        return None  # one number everywhere would become part of the expression
    n, stride = table.shape[axis], table.strides[axis]
    fixed = (0,) * len(index.shape)
    strides = (*table.strides[:axis], *fixed, *table.strides[axis + 1 :])
    rows = View(table.value, specs[0][0], strides, table.offset)
    moves = ((0,) * axis + index.strides) + (0,) * (rank - axis - 1)
    places = View(index.value, specs[0][0], moves, index.offset)
    args = (Node("arg", (), table.dtype, 0), Node("arg", (), index.dtype, 1))
    body = Node("gather", args, table.dtype, (stride, n))
    return [s.map(specs[0][0], [rows, places], body, step.name)]


def _gather_grad(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """GatherGrad along the first axis."""
    g, index = inputs[:2]
    rank = len(specs[0][0])
    if step.attrs["batch_dims"] or not rank or step.attrs["axis"] % rank:
        return None
    view = added(s, None, index, g, specs[0], step.name, "add")
    return None if view is None else [view]


def _segments(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """UnsortedSegmentSum: rows with a negative number are left out."""
    data, index = inputs[:2]
    if not specs[0][0] or s.static(inputs[2]) is None:
        return None
    view = added(s, None, index, data, specs[0], step.name, "add", drops=True)
    return None if view is None else [view]


def added(
    s: Any,
    base: View | None,
    index: View,
    updates: View,
    spec: Any,
    name: str,
    op: str,
    drops: bool = False,
) -> View | None:
    """Rows added to, or subtracted from, those of `base` (None: zeros), in order.

    The bits are those of `numpy.add.at`: each row of the result takes its updates one by one.
    """
    shape, dtype = spec
    if dtype.name not in ("float32", "float64") or updates.dtype != dtype:
        return None
    if updates.shape != (*index.shape, *shape[1:]) or 0 in (*updates.shape, *shape):
        return None
    if not updates.dense:
        updates = whole(s.copied(updates, name))
    rows = reshaped(index, (index.size,))
    if rows is None:
        rows = reshaped(whole(s.copied(index, name)), (index.size,))
    assert rows is not None
    out = Value(shape, dtype)
    home = View(out, shape, row_major(shape))
    if base is None:
        zero = s.constant(np.zeros((), dtype))
        base = View(zero.value, shape, (0,) * len(shape))
    start = s.copied(base, name, home)
    view: View = s.add(Spread(out, start, rows, updates, op, drops, name))
    return view


GATHERS: dict[str, Callable[..., Any]] = {
    "GatherV2": _gather,
    "GatherGrad": _gather_grad,
    "UnsortedSegmentSum": _segments,
}
