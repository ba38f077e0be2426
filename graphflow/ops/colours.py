"""Colours of images: conversions between spaces and dtypes, and adjustments.

All are built of other ops, and so differentiable where they are continuous.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.public import composite

LUMINANCE = (0.2989, 0.5870, 0.1140)  # of red, green and blue


def convert_image_dtype(
    image: Any, dtype: Any, saturate: bool = False, name: str | None = None
) -> Tensor:
    """The image in another dtype: floating values are in [0, 1], integers up to their maximum.

    Args:
      saturate: clip to the range of the dtype before casting.
    """
    x, kind = as_tensor(image), as_dtype(dtype)
    with composite(name, "convert_image", x) as scope:
        for t in (x.dtype, kind):
            if not (t.is_floating or t.is_integer):
                raise DTypeError(f"images are floating or integer, not {t.name}")
        cast = ops.saturate_cast if saturate else ops.cast
        if x.dtype is kind:
            return ops.identity(x, name=scope)
        if x.dtype.is_floating:
            if kind.is_floating:
                return ops.cast(x, kind, name=scope)
            return cast(x * (kind.max + 0.5), kind, name=scope)
        if kind.is_floating:
            return ops.multiply(ops.cast(x, kind), 1.0 / x.dtype.max, name=scope)
        wide, narrow = x.dtype.max, kind.max
        if wide > narrow:
            factor = (wide + 1) // (narrow + 1)
            return cast(ops.floordiv(x, np.asarray(factor, x.dtype.np)), kind, name=scope)
        factor = (narrow + 1) // (wide + 1)
        return ops.multiply(cast(x, kind), np.asarray(factor, kind.np), name=scope)


def _floating(image: Any) -> tuple[Tensor, Any]:
    """The image in float16 or float32, and its own dtype."""
    x = as_tensor(image)
    if x.dtype in (dtypes.float16, dtypes.float32):
        return x, x.dtype
    return convert_image_dtype(x, dtypes.float32), x.dtype


def _check_channels(x: Tensor, count: int) -> None:
    if x.dims is not None and (not x.dims or x.dims[-1] not in (None, count)):
        raise ShapeError(f"the last axis must be {count} channels, not {format_dims(x.dims)}")


# ---- spaces


def rgb_to_grayscale(images: Any, name: str | None = None) -> Tensor:
    """The luminance of colours: [..., 1] of [..., 3], in the same dtype."""
    with composite(name, "rgb_to_grayscale", images) as scope:
        x, kind = _floating(images)
        _check_channels(x, 3)
        weights = np.array(LUMINANCE, x.dtype.np)
        grey = ops.expand_dims(ops.reduce_sum(x * weights, axis=-1), -1)
        return convert_image_dtype(grey, kind, name=scope)


def grayscale_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """The one channel three times: [..., 3] of [..., 1]."""
    with composite(name, "grayscale_to_rgb", images) as scope:
        x = as_tensor(images)
        _check_channels(x, 1)
        return ops.identity(ops.concat([x, x, x], -1), name=scope)


def rgb_to_hsv(images: Any, name: str | None = None) -> Tensor:
    """Hue, saturation and value, in [0, 1], of red, green and blue in [0, 1]: floating [..., 3]."""
    with composite(name, "RGBToHSV", images) as scope:
        x = as_tensor(images)
        _check_channels(x, 3)
        r, g, b = [x[..., i] for i in range(3)]
        value = ops.maximum(ops.maximum(r, g), b)
        spread = value - ops.minimum(ops.minimum(r, g), b)
        saturation = ops.div_no_nan(spread, value)
        unit = ops.div_no_nan(ops.ones_like(spread), 6 * spread)
        of_red, of_green = unit * (g - b), unit * (b - r) + 2.0 / 6
        of_blue = unit * (r - g) + 4.0 / 6
        green_or_blue = ops.where(ops.equal(g, value), of_green, of_blue)
        hue = ops.where(ops.equal(r, value), of_red, green_or_blue)
        hue = ops.where(ops.greater(spread, 0), hue, ops.zeros_like(hue))
        hue = ops.where(ops.less(hue, 0), hue + 1, hue)
        return ops.stack([hue, saturation, value], axis=-1, name=scope)


def hsv_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """Red, green and blue in [0, 1] of hue, saturation and value in [0, 1]: floating [..., 3]."""
    with composite(name, "HSVToRGB", images) as scope:
        x = as_tensor(images)
        _check_channels(x, 3)
        sixth, saturation, value = x[..., 0] * 6, x[..., 1], x[..., 2]
        shares = (ops.abs(sixth - 3) - 1, 2 - ops.abs(sixth - 2), 2 - ops.abs(sixth - 4))
        least = 1 - saturation
        parts = [
            (least + saturation * ops.minimum(ops.maximum(share, 0), 1)) * value for share in shares
        ]
        return ops.stack(parts, axis=-1, name=scope)


# ---- adjustments


def adjust_brightness(image: Any, delta: Any) -> Tensor:
    """The image plus `delta`, a number in (-1, 1), where images are in [0, 1]."""
    with composite(None, "adjust_brightness", image):
        x, kind = _floating(image)
        return convert_image_dtype(x + ops.cast(as_tensor(delta), x.dtype), kind, saturate=True)


def adjust_contrast(images: Any, contrast_factor: Any) -> Tensor:
    """Each channel's distance from its mean times a factor."""
    with composite(None, "adjust_contrast", images):
        x, kind = _floating(images)
        mean = ops.reduce_mean(x, axis=[-3, -2], keepdims=True)
        factor = ops.cast(as_tensor(contrast_factor), x.dtype)
        return convert_image_dtype((x - mean) * factor + mean, kind, saturate=True)


def adjust_gamma(image: Any, gamma: Any = 1, gain: Any = 1) -> Tensor:
    """gain * image ** gamma, where images are in [0, 1].

    Raises:
      ValueError: gamma is a negative number.
    """
    if isinstance(gamma, (int, float)) and gamma < 0:
        raise GraphError(f"gamma must be >= 0, not {gamma}")
    with composite(None, "adjust_gamma", image):
        x, kind = _floating(image)
        result = ops.cast(as_tensor(gain), x.dtype) * x ** ops.cast(as_tensor(gamma), x.dtype)
        return convert_image_dtype(result, kind, saturate=True)


def adjust_hue(image: Any, delta: Any, name: str | None = None) -> Tensor:
    """The image with its hue moved by `delta`, in [-1, 1], around the circle."""
    with composite(name, "adjust_hue", image):
        x, kind = _floating(image)
        hsv = rgb_to_hsv(x)
        hue = ops.floormod(hsv[..., :1] + ops.cast(as_tensor(delta), x.dtype), 1)
        return convert_image_dtype(hsv_to_rgb(ops.concat([hue, hsv[..., 1:]], -1)), kind, True)


def adjust_saturation(image: Any, saturation_factor: Any, name: str | None = None) -> Tensor:
    """The image with its saturation times a factor, at most 1."""
    with composite(name, "adjust_saturation", image):
        x, kind = _floating(image)
        hsv = rgb_to_hsv(x)
        scaled = hsv[..., 1:2] * ops.cast(as_tensor(saturation_factor), x.dtype)
        parts = [hsv[..., :1], ops.minimum(ops.maximum(scaled, 0), 1), hsv[..., 2:]]
        return convert_image_dtype(hsv_to_rgb(ops.concat(parts, -1)), kind, True)


def _drawn(low: float, high: float, seed: int | None) -> Tensor:
    return ops.random_uniform([], low, high, seed=seed)


def _check_range(lower: float, upper: float) -> None:
    if not 0 <= lower < upper:
        raise GraphError(f"need 0 <= lower < upper, not {lower} and {upper}")


def random_brightness(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """`adjust_brightness` by a number of [-max_delta, max_delta).

    Raises:
      ValueError: max_delta is negative.
    """
    if max_delta < 0:
        raise GraphError(f"max_delta must be >= 0, not {max_delta}")
    return adjust_brightness(image, _drawn(-max_delta, max_delta, seed))


def random_contrast(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """`adjust_contrast` by a factor of [lower, upper)."""
    _check_range(lower, upper)
    return adjust_contrast(image, _drawn(lower, upper, seed))


def random_saturation(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """`adjust_saturation` by a factor of [lower, upper)."""
    _check_range(lower, upper)
    return adjust_saturation(image, _drawn(lower, upper, seed))


def random_hue(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """`adjust_hue` by a number of [-max_delta, max_delta).

    Raises:
      ValueError: max_delta is not in [0, 0.5].
    """
    if not 0 <= max_delta <= 0.5:
        raise GraphError(f"max_delta must be in [0, 0.5], not {max_delta}")
    return adjust_hue(image, _drawn(-max_delta, max_delta, seed))
