"""`tf.image`: sizes, flips, crops and colours of images.

Images are [height, width, channels] or [batch, height, width, channels].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError, ShapeError
from graphflow.build import as_tensor
from graphflow.build.opdef import OPS
from graphflow.build.tensor import Tensor
from graphflow.ops import resizing
from graphflow.ops.boxes import non_max_suppression
from graphflow.ops.codecs import (
    decode_image,
    decode_jpeg,
    decode_png,
    encode_jpeg,
    encode_png,
)
from graphflow.ops.colours import (
    adjust_brightness,
    adjust_contrast,
    adjust_gamma,
    adjust_hue,
    adjust_saturation,
    convert_image_dtype,
    grayscale_to_rgb,
    hsv_to_rgb,
    random_brightness,
    random_contrast,
    random_hue,
    random_saturation,
    rgb_to_grayscale,
    rgb_to_hsv,
)
from graphflow.ops.composites import extract_image_patches
from graphflow.ops.crops import (
    central_crop,
    crop_and_resize,
    crop_to_bounding_box,
    image_axes,
    image_rank,
    image_sizes,
    pad_to_bounding_box,
    resize_image_with_crop_or_pad,
    resize_with_crop_or_pad,
)
from graphflow.ops.edges import (
    image_gradients,
    rgb_to_yiq,
    rgb_to_yuv,
    sobel_edges,
    yiq_to_rgb,
    yuv_to_rgb,
)
from graphflow.ops.known import known_dims
from graphflow.ops.public import composite
from graphflow.ops.rules import whole

__all__ = [
    "ResizeMethod",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_gamma",
    "adjust_hue",
    "adjust_saturation",
    "central_crop",
    "convert_image_dtype",
    "crop_and_resize",
    "crop_to_bounding_box",
    "decode_image",
    "decode_jpeg",
    "decode_png",
    "encode_jpeg",
    "encode_png",
    "extract_image_patches",
    "flip_left_right",
    "flip_up_down",
    "grayscale_to_rgb",
    "hsv_to_rgb",
    "image_gradients",
    "non_max_suppression",
    "pad_to_bounding_box",
    "per_image_standardization",
    "psnr",
    "random_brightness",
    "random_contrast",
    "random_flip_left_right",
    "random_flip_up_down",
    "random_hue",
    "random_saturation",
    "resize",
    "resize_area",
    "resize_bicubic",
    "resize_bilinear",
    "resize_image_with_crop_or_pad",
    "resize_image_with_pad",
    "resize_images",
    "resize_nearest_neighbor",
    "resize_with_crop_or_pad",
    "rgb_to_grayscale",
    "rgb_to_hsv",
    "rgb_to_yiq",
    "rgb_to_yuv",
    "rot90",
    "sobel_edges",
    "total_variation",
    "transpose_image",
    "yiq_to_rgb",
    "yuv_to_rgb",
]


class ResizeMethod:
    """How `resize_images` interpolates."""

    BILINEAR = 0
    NEAREST_NEIGHBOR = 1
    BICUBIC = 2
    AREA = 3


# ---- resizing


def _resizer(entry: Any, default: str, keeps_dtype: bool) -> Callable[..., Tensor]:
    def resize(
        images: Any,
        size: Any,
        align_corners: bool = False,
        name: str | None = None,
        half_pixel_centers: bool = False,
    ) -> Tensor:
        x = as_tensor(images)
        if not keeps_dtype:
            x = ops.cast(x, dtypes.float32)
        result: Tensor = entry(
            x,
            as_tensor(size, dtypes.int32),
            align_corners=align_corners,
            half_pixel_centers=half_pixel_centers,
            name=name,
        )
        return result

    resize.__name__ = resize.__qualname__ = default
    resize.__doc__ = f"""{entry.doc}

    Args:
      images: [batch, height, width, channels].
      size: int32 [2], the new height and width.
      align_corners: the centres of the corner pixels stay in place.
      name: its name.
      half_pixel_centers: pixels are areas: their centres lie at 0.5.

    Returns:
      {"The dtype of the images." if keeps_dtype else "float32."}
    """
    return resize


resize_bilinear = _resizer(resizing.bilinear, "resize_bilinear", False)
resize_bicubic = _resizer(resizing.bicubic, "resize_bicubic", False)
resize_area = _resizer(resizing.area, "resize_area", False)
resize_nearest_neighbor = _resizer(resizing.nearest, "resize_nearest_neighbor", True)

_METHODS: dict[Any, Callable[..., Tensor]] = {
    ResizeMethod.BILINEAR: resize_bilinear,
    ResizeMethod.NEAREST_NEIGHBOR: resize_nearest_neighbor,
    ResizeMethod.BICUBIC: resize_bicubic,
    ResizeMethod.AREA: resize_area,
}
_METHODS |= {
    "bilinear": resize_bilinear,
    "nearest": resize_nearest_neighbor,
    "bicubic": resize_bicubic,
    "area": resize_area,
}


def resize_images(
    images: Any,
    size: Any,
    method: Any = ResizeMethod.BILINEAR,
    align_corners: bool = False,
    preserve_aspect_ratio: bool = False,
    name: str | None = None,
) -> Tensor:
    """Images of another size.

    Args:
      images: [height, width, channels], or a batch of them.
      size: the new height and width.
      method: one of `ResizeMethod`, or "bilinear", "nearest", "bicubic", "area".
      align_corners: the centres of the corner pixels stay in place.
      preserve_aspect_ratio: make them as large as fits into the size.
      name: name scope of the operations.

    Returns:
      float32; with the nearest neighbour, or where they have the size already, their dtype.

    Raises:
      ValueError: there is no such method, or the rank is neither 3 nor 4.
    """
    if method not in _METHODS:
        raise GraphError(f"there is no resize method {method!r}")
    with composite(name, "resize", images):
        x = as_tensor(images)
        single = image_rank(x) == 3
        x = ops.expand_dims(x, 0) if single else x
        wanted = as_tensor(size, name="size")
        wanted = ops.cast(wanted, dtypes.int32)
        if preserve_aspect_ratio:
            wanted = _fitting(x, wanted)
        known = known_dims(wanted)
        if known is None or None in known or x.dims is None or tuple(known) != x.dims[1:3]:
            x = _METHODS[method](x, wanted, align_corners)
        return ops.squeeze(x, [0]) if single else x


resize = resize_images


def _fitting(x: Tensor, wanted: Tensor) -> Tensor:
    """The largest size of the same proportions."""
    height, width = [ops.cast(as_tensor(n), dtypes.float32) for n in image_sizes(x)]
    limits = ops.cast(wanted, dtypes.float32)
    scale = ops.minimum(limits[0] / height, limits[1] / width)
    sizes = ops.stack([ops.round(scale * height), ops.round(scale * width)])
    return ops.cast(sizes, dtypes.int32)


def resize_image_with_pad(
    image: Any,
    target_height: int,
    target_width: int,
    method: Any = ResizeMethod.BILINEAR,
    align_corners: bool = False,
) -> Tensor:
    """The image, or images, resized without distortion and padded with zeros to a size."""
    with composite(None, "resize_image_with_pad", image):
        x = as_tensor(image)
        height, width = image_sizes(x)
        if not (isinstance(height, int) and isinstance(width, int)):
            raise GraphError("resize_image_with_pad needs images of known size")
        target_height, target_width = [
            whole(n, "a target size") for n in (target_height, target_width)
        ]
        if min(height, width, target_height, target_width) < 1:
            raise ShapeError(
                f"images of {height} x {width} cannot become {target_height} x {target_width}"
            )
        ratio = max(width / target_width, height / target_height)
        sizes = int(np.floor(height / ratio)), int(np.floor(width / ratio))
        x = resize_images(x, sizes, method, align_corners)
        top = max(0, int((target_height - height / ratio) // 2))
        left = max(0, int((target_width - width / ratio) // 2))
        return pad_to_bounding_box(x, top, left, target_height, target_width)


# ---- flips and turns


def _flip(image: Any, axis: int, name: str) -> Tensor:
    with composite(None, name, image):
        x = as_tensor(image)
        return ops.reverse(x, [image_axes(x)[axis]])


def flip_left_right(image: Any) -> Tensor:
    """The image, or images, mirrored along the width."""
    return _flip(image, 1, "flip_left_right")


def flip_up_down(image: Any) -> Tensor:
    """The image, or images, mirrored along the height."""
    return _flip(image, 0, "flip_up_down")


def _random_flip(image: Any, axis: int, seed: int | None, name: str) -> Tensor:
    with composite(None, name, image):
        x = as_tensor(image)
        turned = ops.reverse(x, [image_axes(x)[axis]])
        if image_rank(x) == 3:
            mirror = ops.less(ops.random_uniform([], seed=seed), 0.5)
            return ops.cond(mirror, lambda: turned, lambda: x)
        drawn = ops.round(ops.random_uniform(ops.shape(x)[:1], seed=seed))
        flags = ops.reshape(ops.cast(drawn, dtypes.bool_), [-1, 1, 1, 1])
        return ops.where_v2(flags, turned, x)


def random_flip_left_right(image: Any, seed: int | None = None) -> Tensor:
    """The image, or each of the images, mirrored along the width or not, with equal chances."""
    return _random_flip(image, 1, seed, "random_flip_left_right")


def random_flip_up_down(image: Any, seed: int | None = None) -> Tensor:
    """The image, or each of the images, mirrored along the height or not, with equal chances."""
    return _random_flip(image, 0, seed, "random_flip_up_down")


def transpose_image(image: Any) -> Tensor:
    """The image, or images, with height and width exchanged."""
    x = as_tensor(image)
    return ops.transpose(x, [1, 0, 2] if image_rank(x) == 3 else [0, 2, 1, 3])


def rot90(image: Any, k: int = 1, name: str | None = None) -> Tensor:
    """The image, or images, turned counter-clockwise by k quarters; k is a Python number."""
    with composite(name, "rot90", image):
        x = as_tensor(image)
        height, width = image_axes(x)
        turns = int(k) % 4
        if turns == 1:
            return transpose_image(ops.reverse(x, [width]))
        if turns == 2:
            return ops.reverse(x, [height, width])
        if turns == 3:
            return ops.reverse(transpose_image(x), [width])
        return ops.identity(x)


# ---- statistics


def per_image_standardization(image: Any) -> Tensor:
    """The image, or each of a batch, less its mean and over its deviation, in float32.

    The deviation counts as 1 / sqrt(number of values) at least, so that even images stay finite.
    """
    with composite(None, "per_image_standardization", image):
        x = ops.cast(as_tensor(image), dtypes.float32)
        image_rank(x)
        count = ops.cast(ops.reduce_prod(ops.shape(x)[-3:]), dtypes.float32)
        centre = x - ops.reduce_mean(x, axis=[-1, -2, -3], keepdims=True)
        variance = ops.reduce_mean(ops.square(centre), axis=[-1, -2, -3], keepdims=True)
        return centre / ops.maximum(ops.sqrt(variance), ops.rsqrt(count))


def total_variation(images: Any, name: str | None = None) -> Tensor:
    """The sum of the absolute differences of neighbouring pixels, per image."""
    with composite(name, "total_variation", images):
        x = as_tensor(images)
        axes = None if image_rank(x) == 3 else [1, 2, 3]
        down = ops.abs(x[..., 1:, :, :] - x[..., :-1, :, :])
        across = ops.abs(x[..., :, 1:, :] - x[..., :, :-1, :])
        return ops.reduce_sum(down, axis=axes) + ops.reduce_sum(across, axis=axes)


def psnr(a: Any, b: Any, max_val: Any, name: str | None = None) -> Tensor:
    """The ratio of the peak signal to the noise between images, in decibels, per image.

    Args:
      a, b: images of one shape.
      max_val: the range of the values, such as 255.
    """
    with composite(name, "PSNR", a, b):
        x, y = as_tensor(a), as_tensor(b)
        top = convert_image_dtype(ops.cast(as_tensor(max_val), x.dtype), dtypes.float32)
        x, y = [convert_image_dtype(v, dtypes.float32) for v in (x, y)]
        noise = ops.reduce_mean(OPS["SquaredDifference"](x, y), axis=[-3, -2, -1])
        scale = 10 / float(np.log(10))
        return ops.subtract(2 * scale * ops.log(top), scale * ops.log(noise), name="psnr")
