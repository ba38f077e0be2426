"""Resizing images: four kinds of interpolation, each a linear map per axis, and their transposes.

A kind is described by its taps: for each output row, which input rows it takes and how much of
each.  Coordinates are those of TensorFlow's kernels, computed in float32 as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.build import OPS
from graphflow.build.opdef import Array, Index, OpDef, Real, RealFloat, Specs, define
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.known import known_dims, shape_from
from graphflow.ops.rules import rank_is
from graphflow.ops.shape_ops import shape
from graphflow.ops.windows import elements

Taps = tuple[Any, Any]  # input rows and weights, both [taps, outputs]
KEYS = 1024  # entries of TensorFlow's table of cubic weights


def scale_of(n: int, out: int, align_corners: bool) -> Any:
    """Distance between outputs, in inputs."""
    if align_corners and out > 1:
        return np.float32(n - 1) / np.float32(out - 1)
    return np.float32(n) / np.float32(out)


def _places(n: int, out: int, align: bool, half: bool) -> Any:
    """Where the outputs lie among the inputs."""
    i = np.arange(out, dtype=np.float32)
    scale = scale_of(n, out, align)
    return (i + np.float32(0.5)) * scale - np.float32(0.5) if half else i * scale


def _bilinear(n: int, out: int, align: bool, half: bool) -> Taps:
    at = _places(n, out, align, half)
    low = np.floor(at)
    part = (at - low).astype(np.float64)
    rows = [np.maximum(low, 0), np.minimum(np.ceil(at), n - 1)]
    return np.stack(rows).astype(np.int64), np.stack([1 - part, part])


def _nearest(n: int, out: int, align: bool, half: bool) -> Taps:
    scale = scale_of(n, out, align)
    i = np.arange(out, dtype=np.float32)
    at = (i + np.float32(0.5)) * scale if half else i * scale
    rows = np.floor(at + np.float32(0.5)) if align and not half else np.floor(at)
    return np.clip(rows, 0, n - 1).astype(np.int64)[None], np.ones((1, out))


def _cubic(x: Any, a: float) -> tuple[Any, Any]:
    """Weights at the distances x and x + 1, for x in [0, 1]."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    y = x + 1
    return near, ((a * y - 5 * a) * y + 8 * a) * y - 4 * a


def _bicubic(n: int, out: int, align: bool, half: bool) -> Taps:
    at = _places(n, out, align, half)
    low = np.floor(at)
    part = np.rint((at - low) * np.float32(KEYS)).astype(np.float64) / KEYS
    a = -0.5 if half else -0.75
    (w1, w0), (w2, w3) = _cubic(part, a), _cubic(1 - part, a)
    rows, weights = low + np.arange(-1, 3)[:, None], np.stack([w0, w1, w2, w3])
    if half:  # rows beyond the edge do not count
        weights = np.where((rows >= 0) & (rows < n), weights, 0.0)
        weights = weights / weights.sum(axis=0)
    return np.clip(rows, 0, n - 1).astype(np.int64), weights


def _area(n: int, out: int, align: bool, half: bool) -> Taps:
    scale = scale_of(n, out, align)
    i = np.arange(out, dtype=np.float32)
    start, stop = i * scale, (i + 1) * scale
    first = np.floor(start)
    count = int((np.ceil(stop) - first).max(initial=1))
    rows = first + np.arange(count)[:, None]
    weights = np.minimum(rows + 1, stop) - np.maximum(rows, start)
    weights = np.maximum(weights, 0) / max(float(scale), 1e-30)
    return np.clip(rows, 0, n - 1).astype(np.int64), weights.astype(np.float64)


def _apply(xp: Any, x: Array, taps: Taps, axis: int) -> Array:
    rows, weights = taps
    shape = [-1 if a == axis else 1 for a in range(4)]
    total = None
    for row, weight in zip(rows, weights, strict=True):
        part = xp.take(x, xp.asarray(row), axis=axis)
        if not bool((weight == 1).all()):
            part = part * xp.asarray(weight.astype(x.dtype)).reshape(shape)
        total = part if total is None else total + part
    return total


def _matrix(xp: Any, taps: Taps, n: int, dtype: Any) -> Array:
    rows, weights = taps
    matrix = np.zeros((rows.shape[1], n))
    np.add.at(matrix, (np.arange(rows.shape[1]), rows), weights)
    return xp.asarray(matrix.astype(dtype))


def _output_sizes(size: Any, images: Any) -> tuple[int, int]:
    sizes = tuple(int(v) for v in np.asarray(size).reshape(-1))
    if len(sizes) != 2 or min(sizes) < 1:
        raise InvalidArgumentError(
            None, None, f"images are resized to two sizes > 0, not {list(sizes)}"
        )
    if len(images) != 4 or min(images[1:3]) < 1:
        raise InvalidArgumentError(None, None, f"images of shape {images} cannot be resized")
    return sizes


def _spec(images: Tensor, size: Tensor, **_: Any) -> Specs:
    batch, _h, _w, channels = rank_is(images, 4, "images")
    known = known_dims(size)
    if known is not None and (len(known) != 2 or any(v is not None and v < 1 for v in known)):
        raise ShapeError(f"images are resized to two sizes > 0, not {list(known)}")
    return [((batch, *(known or (None, None)), channels), images.dtype)]


def _back_spec(g: Tensor, dims: Tensor, **_: Any) -> Specs:
    rank_is(g, 4, "the gradient of images")
    return [(shape_from(dims), g.dtype)]


def _cases(s: Sampler) -> list[Case]:
    return [
        Case(
            (s.uniform(2, h, w, 2), np.array(size, np.int32)),
            {"align_corners": align, "half_pixel_centers": half},
        )
        for h, w, size in [(3, 4, (5, 3)), (2, 5, (4, 2)), (1, 1, (2, 1))]
        for align, half in [(False, False), (True, False), (False, True)]
    ] + [Case((s.uniform(0, 2, 2, 1), np.array([3, 3], np.int32)))]


def _back_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.uniform(2, 5, 3, 2), np.array([2, 3, 4, 2], np.int32)), {"align_corners": align})
        for align in (False, True)
    ]


def _family(name: str, taps: Callable[..., Taps], doc: str, rule: Any = RealFloat) -> OpDef:
    """Enter a kind of resizing and its transpose, each the gradient of the other."""

    def both(images: Any, sizes: Any, align: bool, half: bool) -> list[Taps]:
        return [taps(n, out, align, half) for n, out in zip(images[1:3], sizes, strict=True)]

    def forward(
        xp: Any,
        images: rule,
        size: Index,
        *,
        align_corners: Any = False,
        half_pixel_centers: Any = False,
    ) -> Array:
        sizes = _output_sizes(size, images.shape)
        if sizes[0] * sizes[1] > 1 << 28:  # where it cannot be, fail before the taps are made
            xp.empty((images.shape[0], *sizes, images.shape[3]), images.dtype)
        rows, columns = both(images.shape, sizes, align_corners, half_pixel_centers)
        return _apply(xp, _apply(xp, images, rows, 1), columns, 2)

    def backward(
        xp: Any,
        g: RealFloat,
        dims: Index,
        *,
        align_corners: Any = False,
        half_pixel_centers: Any = False,
    ) -> Array:
        whole = [int(n) for n in dims]
        rows, columns = both(whole, g.shape[1:3], align_corners, half_pixel_centers)
        g = xp.tensordot(g, _matrix(xp, rows, whole[1], g.dtype), axes=([1], [0]))  # b w c h
        g = xp.tensordot(g, _matrix(xp, columns, whole[2], g.dtype), axes=([1], [0]))  # b c h w
        return xp.transpose(g, (0, 2, 3, 1))

    forward.__annotations__["images"] = "Real" if rule is Real else "RealFloat"
    forward.__doc__ = doc
    backward.__doc__ = f"The transpose of {name}: the gradient by images of shape `dims`."
    back_name = f"{name}Grad"
    define(
        back_name,
        backward,
        infer=_back_spec,
        grad=lambda h, y, g, dims, **attrs: (OPS[name](h, shape(g)[1:3], **attrs), None),
        host=("dims",),
        cases=_back_cases,
        cost=lambda g, dims, **_: 4.0 * elements(g.dims),
    )
    return define(
        name,
        forward,
        infer=_spec,
        grad=lambda g, y, images, size, **attrs: (
            OPS[back_name](g, shape(images), **attrs) if images.dtype.is_differentiable else None,
            None,
        ),
        host=("size",),
        cases=_cases,
    )


bilinear = _family(
    "ResizeBilinear", _bilinear, "Images [batch, height, width, channels] of another size."
)
bicubic = _family(
    "ResizeBicubic", _bicubic, "Images of another size, by cubic weights of four pixels per axis."
)
area = _family("ResizeArea", _area, "Images of another size, by means over areas.")
nearest = _family(
    "ResizeNearestNeighbor", _nearest, "Images of another size, by the nearest pixel.", Real
)
