"""Convolution and pooling as tasks: views of images, copies of rows, products that accumulate.

Row im2col: the padded image is unfolded along its width only, so row (h, w) holds the pixels
(h, w .. w + kw - 1), which are neighbours in memory.  Kernel line dy needs the same matrix from
row dy * W on: a convolution is kh products that accumulate.  The gradient by the filters uses
the matrix transposed; that by the input is the convolution of the padded gradient with the
kernel turned by 180 degrees.  With few channels all taps are unfolded at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphflow.compile.loops.values import Join, Multiply, Value, View, row_major, whole
from graphflow.ops.bias import channels_first
from graphflow.ops.expression import Node, apply
from graphflow.ops.windows import axes, explicit, spatial

_NARROW = 32  # elements of a kernel line below which a product would starve
_TAP = np.dtype(np.uint8)  # the number of a tap
_TAPS = 16  # of a pooling window at most: one load each


class _Geometry(NamedTuple):
    """Windows over images of stride 1: sizes, kernel, padding before, results."""

    h: int
    w: int
    kh: int
    kw: int
    top: int
    left: int
    oh: int
    ow: int


def _geometry(step: Any, image: tuple[int, ...], filters: tuple[int, ...]) -> _Geometry | None:
    """None where the convolution is strided, dilated, in groups, or has channels first."""
    attrs = step.attrs
    if channels_first(attrs["data_format"]) or 0 in (*image, *filters) or image[3] != filters[2]:
        return None
    strides = spatial(attrs["strides"], 4, "strides", "NHWC")
    dilations = spatial(attrs["dilations"], 4, "dilations", "NHWC")
    padding = explicit(attrs["padding"], 4, "NHWC")
    if strides != (1, 1) or dilations != (1, 1) or not isinstance(padding, str):
        return None
    high, wide = axes(image[1:3], filters[:2], strides, dilations, padding)
    if not high.out or not wide.out:
        return None
    return _Geometry(
        high.size, wide.size, high.window, wide.window, high.before, wide.before, high.out, wide.out
    )


def _padded(s: Any, x: View, before: tuple[int, int], size: tuple[int, int], name: str) -> View:
    """x [batch, h, w, c] with zeros around it: [batch, *size, c]."""
    batch, h, w, channels = x.shape
    (top, left), (height, width) = before, size
    if (h, w) == size and x.dense:
        return x
    out = Value((batch, height, width, channels), x.dtype)
    strides = row_major(out.shape)

    def part(y: int, x_: int, rows: int, columns: int) -> View:
        return View(out, (batch, rows, columns, channels), strides,
                    y * strides[1] + x_ * strides[2])  # fmt: skip

    below, right = height - top - h, width - left - w
    borders = (part(0, 0, top, width), part(top + h, 0, below, width),
               part(top, 0, h, left), part(top, left + w, h, right))  # fmt: skip
    zero = s.constant(np.zeros((), x.dtype))
    pieces = [s.copied(x, name, part(top, left, h, w))]
    for border in borders:
        if border.size:
            source = View(zero.value, border.shape, (0,) * 4)
            pieces.append(s.copied(source, name, border))
    return s.add(Join(out, tuple(pieces), name))


class _Unfolded(NamedTuple):
    """Matrices of a padded image: term t is rows [batch, pixels, columns] from `starts[t]` on."""

    matrix: View
    starts: tuple[int, ...]
    columns: int
    pixels: int

    def term(self, index: int, transposed: bool) -> View:
        value = self.matrix.value
        batch = self.matrix.shape[0]
        each = value.size // batch
        shape, strides = (self.pixels, self.columns), (self.columns, 1)
        if transposed:
            shape, strides = shape[::-1], strides[::-1]
        return View(value, (batch, *shape), (each, *strides), self.starts[index])


def _unfold(s: Any, padded: View, g: _Geometry, name: str) -> _Unfolded:
    """Rows for each kernel line, or for all taps at once where the lines are narrow."""
    batch, height, _, channels = padded.shape
    value, at = padded.value, padded.offset
    steps = padded.strides
    line = g.kw * channels
    if line < _NARROW:
        shape = (batch, g.oh, g.ow, g.kh, line)
        strides = (steps[0], steps[1], steps[2], steps[1], 1)
        found = s.copied(View(value, shape, strides, at), name)
        return _Unfolded(whole(found), (0,), g.kh * line, g.oh * g.ow)
    shape4 = (batch, height, g.ow, line)
    found = s.copied(View(value, shape4, (steps[0], steps[1], steps[2], 1), at), name)
    starts = tuple([dy * g.ow * line for dy in range(g.kh)])
    return _Unfolded(whole(found), starts, line, g.oh * g.ow)


def _dense(s: Any, view: View, name: str) -> View:
    return view if view.is_whole else whole(s.copied(view, name))


def _windows(s: Any, x: View, g: _Geometry, name: str) -> _Unfolded:
    """The rows of an input; forward and gradient by the filters share them."""
    key = (id(x.value), x.shape, g)
    if key not in s.unfolded:
        size = (g.oh + g.kh - 1, g.ow + g.kw - 1)
        s.unfolded[key] = _unfold(s, _padded(s, x, (g.top, g.left), size, name), g, name)
    return s.unfolded[key]


def _convolved(s: Any, rows: _Unfolded, filters: View, shape: tuple[int, ...], name: str) -> View:
    """[batch, oh, ow, f]: rows times filters [kh, kw, c, f]."""
    channels = filters.shape[-1]
    batch = rows.matrix.shape[0]
    flat = Value((batch, rows.pixels, channels), filters.dtype)
    terms = []
    for t in range(len(rows.starts)):
        matrix = (batch, rows.columns, channels)
        weights = View(filters.value, matrix, (0, channels, 1), t * rows.columns * channels)
        terms.append((rows.term(t, False), weights))
    s.add(Multiply(flat, tuple(terms), name))
    return View(flat, shape, row_major(shape))


def _conv2d(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    x, filters = inputs
    g = _geometry(step, x.shape, filters.shape) if s.products and _float(specs) else None
    if g is None or min(0, *x.strides) < 0:
        return None
    x, filters = _dense(s, x, step.name), _dense(s, filters, step.name)
    rows = _windows(s, x, g, step.name)
    return [_convolved(s, rows, filters, specs[0][0], step.name)]


def _by_input(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    _, filters, grad = inputs
    image = specs[0][0]
    g = _geometry(step, image, filters.shape) if s.products and _float(specs) else None
    if g is None:
        return None
    kh, kw, channels, features = filters.shape
    back = _Geometry(g.oh, g.ow, kh, kw, kh - 1 - g.top, kw - 1 - g.left, g.h, g.w)
    if min(back.top, back.left) < 0:
        return None
    filters = _dense(s, filters, step.name)
    turned = View(
        filters.value,
        (kh, kw, features, channels),
        (-kw * channels * features, -channels * features, 1, features),
        (kh * kw - 1) * channels * features,
    )
    weights = whole(s.copied(turned, step.name))
    rows = _windows(s, _dense(s, grad, step.name), back, step.name)
    return [_convolved(s, rows, weights, specs[0][0], step.name)]


def _by_filters(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    x, _, grad = inputs
    shape, dtype = specs[0]
    g = _geometry(step, x.shape, shape) if s.products and _float(specs) else None
    if g is None:
        return None
    x, grad = _dense(s, x, step.name), _dense(s, grad, step.name)
    rows = _windows(s, x, g, step.name)
    batch, features = x.shape[0], shape[-1]
    lines, pixels = len(rows.starts), rows.pixels
    product = Value((lines, rows.columns, features), dtype)
    first = rows.term(0, True)
    step_down = rows.starts[1] if lines > 1 else 0
    left = View(first.value, (batch, lines, rows.columns, pixels),
                (first.strides[0], step_down, *first.strides[1:]))  # fmt: skip
    right = View(grad.value, (batch, lines, pixels, features),
                 (pixels * features, 0, features, 1))  # fmt: skip
    s.add(Multiply(product, ((left, right),), step.name, summed=True))
    return [View(product, shape, row_major(shape))]


def _float(specs: Any) -> bool:
    return bool(specs[0][1] == np.float32)


# ---- pooling


def _pool_parts(step: Any, x: View) -> list[View] | None:
    """The elements that each tap of the windows sees; None where windows need padding."""
    attrs = step.attrs
    if channels_first(attrs["data_format"]) or len(x.shape) != 4 or not x.size:
        return None
    window = spatial(attrs["ksize"], 4, "ksize", "NHWC")
    strides = spatial(attrs["strides"], 4, "strides", "NHWC")
    padding = explicit(attrs["padding"], 4, "NHWC")
    if math.prod(window) > _TAPS or not isinstance(padding, str):
        return None
    high, wide = axes(x.shape[1:3], window, strides, (1, 1), padding)
    if any(a.before or a.padded > a.size or not a.out for a in (high, wide)):
        return None
    shape = (x.shape[0], high.out, wide.out, x.shape[3])
    moves = (x.strides[0], x.strides[1] * strides[0], x.strides[2] * strides[1], x.strides[3])
    return [
        View(x.value, shape, moves, x.offset + i * x.strides[1] + j * x.strides[2])
        for i in range(window[0])
        for j in range(window[1])
    ]


def _leaves(views: Any) -> list[Node]:
    return [Node("arg", (), v.dtype, i) for i, v in enumerate(views)]


def _max_pool(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """The maxima, and for the gradient the first tap that holds them; NaN holds any."""
    (x,) = inputs
    parts = _pool_parts(step, x)
    if parts is None:
        return None
    top, *others = taps = _leaves(parts)
    for other in others:
        top = apply("maximum", top, other)
    y = s.map(specs[0][0], parts, top, step.name)
    if y is not None and x.dtype.kind == "f" and _is_tiled(step):
        index = Node("const", (), _TAP, len(taps) - 1)
        for t, tap in reversed(list(enumerate(taps[:-1]))):
            holds = apply("logical_or", apply("equal", tap, top), apply("not_equal", tap, tap))
            index = apply("where", holds, Node("const", (), _TAP, t), index)
        if index.args:
            s.pooled[_view_key(x), id(y.value)] = s.map(y.shape, parts, index, step.name)
    return [y]


def _is_tiled(step: Any) -> bool:
    """Is each element of the input in one window at most?"""
    ksize, strides = step.attrs["ksize"], step.attrs["strides"]
    return spatial(ksize, 4, "ksize", "NHWC") == spatial(strides, 4, "strides", "NHWC")


def _view_key(view: View) -> Any:
    return id(view.value), view.offset, view.strides


def _max_pool_grad(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """An element gets the gradient of its window if it is the first that holds the maximum."""
    x, y, grad = inputs
    parts = _pool_parts(step, x)
    if parts is None or not _is_tiled(step):
        return None
    shape, dtype = specs[0]
    if len(parts) * y.size != x.size or dtype.kind != "f":
        return None
    out = Value(shape, dtype)
    homes = _pool_parts(step, whole(out))
    index = s.pooled.get((_view_key(x), id(y.value)))
    if homes is None or index is None:
        return None
    which, g = _leaves((index, grad))
    pieces = []
    for t, home in enumerate(homes):
        body = apply("where", apply("equal", which, t), g, 0.0)
        piece = s.map(home.shape, (index, grad), body, step.name)
        piece.value.home = home
        pieces.append(piece.value)
    return [s.add(Join(out, tuple(pieces), step.name))]


IMAGES: dict[str, Callable[..., Any]] = {
    "Conv2D": _conv2d,
    "Conv2DBackpropInput": _by_input,
    "Conv2DBackpropFilter": _by_filters,
    "MaxPool": _max_pool,
    "MaxPoolGrad": _max_pool_grad,
}
