"""Values without much behind them: fills, one-hot rows, tiles, selections, a sum of squares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.compile.loops.values import Reduce, Value, View, broadcast, reshaped, whole
from graphflow.ops.expression import Node, apply


def _arg(view: View, index: int) -> Node:
    return Node("arg", (), view.dtype, index)


def _fill(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    if s.static(inputs[0]) is None:
        return None
    return [broadcast(inputs[1], specs[0][0])]


def _one_hot(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """Each element knows its place along the new axis."""
    index, depth, on, off = inputs
    shape, _ = specs[0]
    n = s.static(depth)
    if n is None or 0 in shape:
        return None
    at = step.attrs["axis"] % len(shape)
    places = Value((int(n),), np.dtype(np.int64), "index")
    strides = tuple([int(axis == at) for axis in range(len(shape))])
    moves = (*index.strides[:at], 0, *index.strides[at:])
    views = (
        View(places, shape, strides),
        View(index.value, shape, moves, index.offset),
        on,
        off,
    )
    args = [_arg(view, i) for i, view in enumerate(views)]
    hit = apply("equal", args[0], args[1].astype(np.int64))
    body = apply("where", hit, args[2], args[3])
    return [s.map(shape, views, body, step.name)]


def _select(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """A condition vector picks rows."""
    condition, x, y = inputs
    if x.shape != y.shape or condition.shape not in ((), x.shape, x.shape[:1]):
        return None
    if len(condition.shape) == 1 and len(x.shape) > 1:
        condition = reshaped(condition, condition.shape + (1,) * (len(x.shape) - 1))
    views = (condition, x, y)
    body = apply("where", *[_arg(v, i) for i, v in enumerate(views)])
    return [s.map(x.shape, views, body, step.name)]


def _tile(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """A new axis of stride 0 in front of each."""
    x, times = inputs[0], s.static(inputs[1])
    if times is None or 0 in specs[0][0] or len(times) != len(x.shape):
        return None
    shape = tuple([int(n) for pair in zip(times, x.shape, strict=True) for n in pair])
    strides = tuple([n for stride in x.strides for n in (0, stride)])
    copied = whole(s.copied(View(x.value, shape, strides, x.offset), step.name))
    return [reshaped(copied, specs[0][0])]


def _half_square(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """L2Loss: the sum of squares, halved."""
    (x,) = inputs
    if not x.size or x.dtype.kind != "f":
        return None
    square = s.map(x.shape, [x], _arg(x, 0) * _arg(x, 0), step.name)
    total = s.add(Reduce(Value((), x.dtype), square, "add", "all", step.name))
    return [s.map((), [total], _arg(total, 0) * 0.5, step.name)]


FILLS: dict[str, Callable[..., Any]] = {
    "Fill": _fill, "OneHot": _one_hot, "Select": _select, "Tile": _tile, "L2Loss": _half_square,
}  # fmt: skip
