"""Sliding windows over the spatial axes of images: what convolution and pooling share.

Arrays are [batch, *space, channels] here; `channels_last` and `restored` go to and fro.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import Dims, format_dims
from graphflow.build.opdef import Array
from graphflow.ops.bias import channels_first


class Axis(NamedTuple):
    """The windows along one spatial axis."""

    size: int  # of the input
    window: int  # taps
    stride: int
    dilation: int
    before: int  # padding
    out: int  # number of windows

    @property
    def padded(self) -> int:
        """Elements the windows reach over, from the start of the padding."""
        reach = (self.window - 1) * self.dilation + 1
        return max((self.out - 1) * self.stride + reach, self.before + self.size)


def spatial(values: Any, rank: int, what: str, data_format: Any) -> tuple[int, ...]:
    """The entries of strides, dilations or a window size that belong to the spatial axes.

    Args:
      values: a number, one per spatial axis, or one per axis.
      rank: of the images.

    Raises:
      GraphError: another length, a value below 1, or other than 1 for the batch or channels.
    """
    values = tuple(values) if isinstance(values, (tuple, list)) else (values,)
    if not all(hasattr(v, "__index__") for v in values):
        raise DTypeError(f"{what} must be integers, not {values}")
    values = tuple([int(v) for v in values])
    if len(values) == 1:
        values *= rank - 2
    if len(values) == rank:
        channel = 1 if channels_first(data_format) else rank - 1
        if values[0] != 1 or values[channel] != 1:
            raise GraphError(f"{what} {values} must be 1 along the batch and the channels")
        values = tuple([v for i, v in enumerate(values) if i not in (0, channel)])
    if len(values) != rank - 2:
        raise GraphError(f"{what} needs 1, {rank - 2} or {rank} values, not {values}")
    if any(v < 1 for v in values):
        raise GraphError(f"{what} {values} must be at least 1")
    return values


def explicit(padding: Any, rank: int, data_format: Any) -> Any:
    """ "SAME", "VALID", or pairs (before, after) for the spatial axes.

    Args:
      padding: one of the two names, or a pair per axis of the images.

    Raises:
      GraphError: it is something else.
    """
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise GraphError(f'padding must be "SAME", "VALID" or pairs, not {padding!r}')
        return padding.upper()
    pairs = tuple([tuple([int(n) for n in pair]) for pair in padding])
    if len(pairs) != rank or any(len(p) != 2 or min(p) < 0 for p in pairs):
        raise GraphError(f"padding needs {rank} pairs of numbers >= 0, not {padding!r}")
    channel = 1 if channels_first(data_format) else rank - 1
    if pairs[0] != (0, 0) or pairs[channel] != (0, 0):
        raise GraphError(f"padding {padding!r} must be 0 along the batch and the channels")
    return tuple([p for i, p in enumerate(pairs) if i not in (0, channel)])


def axes(sizes: Any, window: Any, strides: Any, dilations: Any, padding: Any) -> tuple[Axis, ...]:
    """The geometry of each spatial axis.

    Args:
      sizes: of the input's spatial axes, all known.
      window, strides, dilations: one number each per spatial axis.
      padding: "SAME", "VALID" or a pair per spatial axis.
    """
    found = []
    for i, (n, k, s, d) in enumerate(zip(sizes, window, strides, dilations, strict=True)):
        reach = (k - 1) * d + 1
        before, out = _padded(n, reach, s, padding if isinstance(padding, str) else padding[i])
        found.append(Axis(n, k, s, d, before, out))
    return tuple(found)


def _padded(n: int, reach: int, stride: int, padding: Any) -> tuple[int, int]:
    """Padding before, and number of windows; TensorFlow's "SAME" pads less before than after."""
    if padding == "SAME":
        out = -(-n // stride)
        return max((out - 1) * stride + reach - n, 0) // 2, out
    before, after = (0, 0) if padding == "VALID" else padding
    return before, max((n + before + after - reach) // stride + 1, 0)


def output_size(n: int | None, k: int | None, stride: int, dilation: int, padding: Any) -> Any:
    """Number of windows along an axis; None where it is not known.

    Raises:
      ShapeError: the window is larger than the padded axis.
    """
    if n is None or (k is None and padding != "SAME"):
        return None
    reach = ((k or 1) - 1) * dilation + 1
    out = _padded(n, reach, stride, padding)[1]
    if not out and n:
        raise ShapeError(f"a window that reaches over {reach} does not fit on an axis of size {n}")
    return out


def output_dims(
    dims: Dims, window: Any, strides: Any, dilations: Any, padding: Any, rank: int
) -> tuple[int | None, ...]:
    """Sizes of the spatial axes of the result; `dims` are the input's, channels last.

    Raises:
      ShapeError: a window does not fit.
    """
    sizes = (None,) * (rank - 2) if dims is None else dims[1:-1]
    each = zip(sizes, window, strides, dilations, strict=True)
    return tuple(
        [
            output_size(n, k, s, d, padding if isinstance(padding, str) else padding[i])
            for i, (n, k, s, d) in enumerate(each)
        ]
    )


# ---- dims and arrays, channels last


def last_dims(dims: Any, data_format: Any) -> Any:
    """Dims with the channels moved to the end."""
    if dims is None or not channels_first(data_format):
        return dims
    return (dims[0], *dims[2:], dims[1])


def format_last(dims: Any, data_format: Any) -> Any:
    """Dims with the channels moved from the end to where the format has them."""
    if dims is None or not channels_first(data_format):
        return dims
    return (dims[0], dims[-1], *dims[1:-1])


def channels_last(xp: Any, x: Array, data_format: Any) -> Array:
    """A view with the channels at the end."""
    return xp.moveaxis(x, 1, -1) if channels_first(data_format) else x


def restored(xp: Any, x: Array, data_format: Any) -> Array:
    """The array with its channels where the format has them."""
    return xp.ascontiguousarray(xp.moveaxis(x, -1, 1)) if channels_first(data_format) else x


def padded(xp: Any, x: Array, geometry: tuple[Axis, ...], value: Any = 0) -> Array:
    """x within its padding; x itself where there is none."""
    sizes = tuple([a.padded for a in geometry])
    if sizes == x.shape[1:-1]:
        return x
    result = xp.full((x.shape[0], *sizes, x.shape[-1]), value, x.dtype)
    result[inner(geometry)] = x
    return result


def inner(geometry: tuple[Axis, ...]) -> tuple[Any, ...]:
    """Where the input lies in its padding."""
    return (slice(None), *[slice(a.before, a.before + a.size) for a in geometry])


def taps(geometry: tuple[Axis, ...]) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
    """For each position in the window: the position, and the slice of the padded input that
    holds that element of all windows."""
    for position in itertools.product(*[range(a.window) for a in geometry]):
        index = [
            slice(p * a.dilation, p * a.dilation + (a.out - 1) * a.stride + 1, a.stride)
            if a.out
            else slice(0, 0)
            for p, a in zip(position, geometry, strict=True)
        ]
        yield position, (slice(None), *index)


def patches(xp: Any, x: Array, geometry: tuple[Axis, ...]) -> Array:
    """All windows of a padded input as a view: [batch, *out, *window, channels]."""
    batch, *steps, channel = x.strides
    shape = (x.shape[0], *[a.out for a in geometry], *[a.window for a in geometry], x.shape[-1])
    strides = (
        batch,
        *[step * a.stride for step, a in zip(steps, geometry, strict=True)],
        *[step * a.dilation for step, a in zip(steps, geometry, strict=True)],
        channel,
    )
    return xp.lib.stride_tricks.as_strided(x, shape, strides)


def counts(geometry: tuple[Axis, ...], dtype: Any) -> Any:
    """How many elements of each window are not padding: NumPy [*out, 1]."""
    result = np.ones((), np.int64)
    for a in geometry:
        start = np.arange(a.out) * a.stride - a.before
        inside = np.minimum(start + a.window, a.size) - np.maximum(start, 0)
        result = result[..., None] * inside
    return result[..., None].astype(dtype)


def elements(dims: Any) -> float:
    """Product of the known sizes."""
    return float(math.prod([n for n in dims or () if n is not None]))


def need_rank(dims: Dims, rank: int, what: str) -> None:
    """Raises:
    ShapeError: it is known to have another rank.
    """
    if dims is not None and len(dims) != rank:
        raise ShapeError(f"{what} must have rank {rank}, not shape {format_dims(dims)}")
