"""Slices as views, and what puts a slice back among zeros.

Which elements a slice takes is the reference kernel's own answer: it runs on an array of the
view's layout, and what comes back is a view of that, whose place and strides are read off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphflow.build import OPS
from graphflow.compile.loops.values import Join, Shape, Value, View, row_major, whole

_LARGEST = 1 << 31  # elements of an array that is laid out, though never touched


def _sliced(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """Slice, StridedSlice, SplitV, ReverseV2: views where the other inputs are constants."""
    x, *others = inputs
    statics = [s.static(v) for v in others]
    if any(v is None for v in statics):
        return None
    return taken(x, step.opdef.kernel, statics, step.attrs)


def taken(x: View, kernel: Any, others: list[Any], attrs: Any) -> list[View] | None:
    """The parts of x that a kernel gives, or None where it gives no views."""
    if x.value.size > _LARGEST:
        return None
    memory = np.empty(max(1, x.value.size), np.uint8)  # a byte stands for an element
    array = np.lib.stride_tricks.as_strided(memory[x.offset :], x.shape, x.strides)
    result = kernel(np, array, *others, **attrs)
    views = []
    for part in result if type(result) is tuple else (result,):
        if part.size and not np.may_share_memory(part, memory):
            return None
        at = part.ctypes.data - memory.ctypes.data if part.size else 0
        views.append(View(x.value, part.shape, part.strides, at))
    return views


def _put_back(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """SliceGrad and StridedSliceGrad: the last input in its place, zeros around it."""
    *others, g = inputs
    bounds = [s.static(v) for v in others[1:]]
    if any(v is None for v in bounds):
        return None
    out = Value(*specs[0])
    if step.opdef.name == "SliceGrad":
        (begin,) = bounds
        bounds = [begin, np.array(g.shape, begin.dtype)]
        kernel = OPS["Slice"].kernel
    else:
        kernel = OPS["StridedSlice"].kernel
    places = taken(whole(out), kernel, bounds, step.attrs)
    return None if places is None else _among(s, out, places[0], g, 0, step.name)


def _padded(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    x, paddings = inputs[0], s.static(inputs[1])
    value = s.static(inputs[2]) if step.opdef.name == "PadV2" else 0
    if paddings is None or value is None:
        return None
    out = Value(*specs[0])
    strides = row_major(out.shape)
    at = sum(int(before) * stride for (before, _), stride in zip(paddings, strides, strict=True))
    return _among(s, out, View(out, x.shape, strides, at), x, value, step.name)


def _among(s: Any, out: Value, place: View, x: View, fill: Any, name: str) -> list[View] | None:
    """x at its place in the output, the same number everywhere else."""
    if not out.size or x.shape != place.shape:
        return None
    number = s.constant(np.asarray(fill, out.dtype).reshape(()))
    box = _box(place, out.shape) if place.size else [(0, 0) for _ in out.shape]
    if box is None:
        return None
    pieces = [s.copied(x, name, place)] if x.size else []
    for border in _around(out, box):
        source = View(number.value, border.shape, (0,) * len(border.shape), number.offset)
        pieces.append(s.copied(source, name, border))
    return [s.add(Join(out, tuple(pieces), name))]


def _box(place: View, shape: Shape) -> list[tuple[int, int]] | None:
    """(begin, end) per axis of the whole that a part covers; None where it leaves gaps."""
    extents = {stride: n for n, stride in zip(place.shape, place.strides, strict=True) if n > 1}
    box = []
    starts = np.unravel_index(place.offset, shape)
    for n, stride, start in zip(shape, row_major(shape), starts, strict=True):
        extent = extents.pop(stride, 1) if n > 1 else 1
        box.append((int(start), int(start) + extent))
    return None if extents else box


def _around(out: Value, box: list[tuple[int, int]]) -> Iterator[View]:
    """Boxes that together with the given one are the whole."""
    strides = row_major(out.shape)
    for axis, (begin, end) in enumerate(box):
        for low, high in ((0, begin), (end, out.shape[axis])):
            spans = [*box[:axis], (low, high), *[(0, n) for n in out.shape[axis + 1 :]]]
            sizes = tuple([b - a for a, b in spans])
            if 0 not in sizes:
                at = sum(a * stride for (a, _), stride in zip(spans, strides, strict=True))
                yield View(out, sizes, strides, at)


SLICES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("Slice", "StridedSlice", "SplitV", "ReverseV2"), _sliced),
    **dict.fromkeys(("SliceGrad", "StridedSliceGrad"), _put_back),
    **dict.fromkeys(("Pad", "PadV2"), _padded),
}
