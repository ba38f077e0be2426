"""Convolution of arrays over any number of spatial axes, channels last.

Windows are copied into the rows of a matrix (im2col), some images at a time so that the copy
stays in the cache, and multiplied with the filter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from graphflow.build.opdef import Array
from graphflow.ops.windows import Axis, inner, padded, patches, taps

CHUNK_BYTES: Final = 1 << 22  # of copied windows at a time


def convolve(xp: Any, x: Array, filters: Array, geometry: tuple[Axis, ...]) -> Array:
    """[batch, *size, in] with [*window, in, out] to [batch, *out, out]."""
    weights = filters.reshape(math.prod(filters.shape[:-1]), filters.shape[-1])
    out = [a.out for a in geometry]
    result = xp.empty((x.shape[0], *out, weights.shape[1]), x.dtype)
    if not result.size:
        return result
    for images, rows in _rows(xp, x, geometry):
        result[images] = (rows @ weights).reshape(-1, *result.shape[1:])
    return result


def to_filters(xp: Any, x: Array, g: Array, geometry: tuple[Axis, ...], channels: int) -> Array:
    """Gradient by the filters: [*window, in, out]."""
    taps = math.prod([a.window for a in geometry]) * x.shape[-1]
    total = xp.zeros((taps, channels), x.dtype)
    if g.size:
        for images, rows in _rows(xp, x, geometry):
            total += rows.T @ g[images].reshape(-1, channels)
    return total.reshape(*[a.window for a in geometry], x.shape[-1], channels)


def to_input(xp: Any, g: Array, filters: Array, geometry: tuple[Axis, ...]) -> Array:
    """Gradient by the input: each tap's product is added where its elements came from."""
    batch, channels = g.shape[0], filters.shape[-2]
    result = xp.zeros((batch, *[a.padded for a in geometry], channels), g.dtype)
    step = _images(math.prod(g.shape[1:]) * g.dtype.itemsize, batch)
    if g.size:
        for first in range(0, batch, step):
            part = g[first : first + step]
            rows = part.reshape(-1, part.shape[-1])
            target = result[first : first + step]
            for position, index in taps(geometry):
                product = rows @ filters[position].T
                target[index] += product.reshape(*part.shape[:-1], channels)
    return result[inner(geometry)]


def _rows(xp: Any, x: Array, geometry: tuple[Axis, ...]) -> Iterator[tuple[slice, Array]]:
    """Windows of some images at a time, each as one row."""
    whole = padded(xp, x, geometry)
    windows = math.prod([a.out for a in geometry])
    columns = math.prod([a.window for a in geometry]) * x.shape[-1]
    step = _images(windows * columns * x.dtype.itemsize, x.shape[0])
    for first in range(0, x.shape[0], step):
        images = slice(first, first + step)
        found = patches(xp, whole[images], geometry)
        yield images, found.reshape(len(found) * windows, columns)


def _images(bytes_each: int, batch: int) -> int:
    return max(1, min(batch, CHUNK_BYTES // max(bytes_each, 1)))


# ---- each channel by itself


def convolve_depthwise(xp: Any, x: Array, filters: Array, geometry: tuple[Axis, ...]) -> Array:
    """[batch, *size, in] with [*window, in, m] to [batch, *out, in * m]."""
    whole = padded(xp, x, geometry)[..., None]
    channels, multiplier = filters.shape[-2:]
    shape = (x.shape[0], *[a.out for a in geometry], channels, multiplier)
    result = xp.zeros(shape, x.dtype)
    for position, index in taps(geometry):
        result += whole[index] * filters[position]
    return result.reshape(*shape[:-2], channels * multiplier)


def depthwise_to_filters(
    xp: Any, x: Array, g: Array, geometry: tuple[Axis, ...], multiplier: int
) -> Array:
    """Gradient by the filters: [*window, in, m]."""
    whole = padded(xp, x, geometry)[..., None]
    channels = x.shape[-1]
    grouped = g.reshape(*g.shape[:-1], channels, multiplier)
    summed = tuple(range(g.ndim - 1))
    window = [a.window for a in geometry]
    result = xp.zeros((*window, channels, multiplier), x.dtype)
    for position, index in taps(geometry):
        result[position] = xp.sum(whole[index] * grouped, axis=summed)
    return result


def depthwise_to_input(xp: Any, g: Array, filters: Array, geometry: tuple[Axis, ...]) -> Array:
    """Gradient by the input."""
    channels, multiplier = filters.shape[-2:]
    grouped = g.reshape(*g.shape[:-1], channels, multiplier)
    result = xp.zeros((g.shape[0], *[a.padded for a in geometry], channels), g.dtype)
    for position, index in taps(geometry):
        result[index] += xp.sum(grouped * filters[position], axis=-1)
    return result[inner(geometry)]
