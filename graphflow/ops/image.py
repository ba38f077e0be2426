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
from graphflow.base.shapes import format_dims
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


def _rank(image: Tensor) -> int:
    if image.dims is None:
        raise GraphError(f"the rank of {image!r} must be known: use set_shape")
    if len(image.dims) not in (3, 4):
        raise ShapeError(f"images have rank 3 or 4, not shape {format_dims(image.dims)}")
    return len(image.dims)


def _sizes(image: Tensor) -> tuple[Any, Any]:
    """Height and width: numbers where known, else tensors."""
    dims = image.dims or ()
    shape = ops.shape(image)
    height, width = (
        n if n is not None else shape[i] for i, n in enumerate(dims) if i in _axes(image)
    )
    return height, width


def _axes(image: Tensor) -> tuple[int, int]:
    """The axes of height and width."""
    rank = _rank(image)
    return rank - 3, rank - 2


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
        single = _rank(x) == 3
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
    height, width = [ops.cast(as_tensor(n), dtypes.float32) for n in _sizes(x)]
    limits = ops.cast(wanted, dtypes.float32)
    scale = ops.minimum(limits[0] / height, limits[1] / width)
    sizes = ops.stack([ops.round(scale * height), ops.round(scale * width)])
    return ops.cast(sizes, dtypes.int32)


# ---- flips and turns


def _flip(image: Any, axis: int, name: str) -> Tensor:
    with composite(None, name, image):
        x = as_tensor(image)
        return ops.reverse(x, [_axes(x)[axis]])


def flip_left_right(image: Any) -> Tensor:
    """The image, or images, mirrored along the width."""
    return _flip(image, 1, "flip_left_right")


def flip_up_down(image: Any) -> Tensor:
    """The image, or images, mirrored along the height."""
    return _flip(image, 0, "flip_up_down")


def _random_flip(image: Any, axis: int, seed: int | None, name: str) -> Tensor:
    with composite(None, name, image):
        x = as_tensor(image)
        turned = ops.reverse(x, [_axes(x)[axis]])
        if _rank(x) == 3:
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
    return ops.transpose(x, [1, 0, 2] if _rank(x) == 3 else [0, 2, 1, 3])


def rot90(image: Any, k: int = 1, name: str | None = None) -> Tensor:
    """The image, or images, turned counter-clockwise by k quarters; k is a Python number."""
    with composite(name, "rot90", image):
        x = as_tensor(image)
        height, width = _axes(x)
        turns = int(k) % 4
        if turns == 1:
            return transpose_image(ops.reverse(x, [width]))
        if turns == 2:
            return ops.reverse(x, [height, width])
        if turns == 3:
            return ops.reverse(transpose_image(x), [width])
        return ops.identity(x)


# ---- crops


def _checked_box(condition: Any, what: str) -> None:
    if condition is True:
        raise ShapeError(what)


def crop_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Tensor:
    """The part of an image, or of each of a batch, from a corner on.

    Raises:
      ValueError, InvalidArgumentError: it leaves the image.
    """
    with composite(None, "crop_to_bounding_box", image):
        x = as_tensor(image)
        begin, size = [offset_height, offset_width, 0], [target_height, target_width, -1]
        if _rank(x) == 4:
            begin, size = [0, *begin], [-1, *size]
        return ops.slice(x, _packed(begin), _packed(size))


def _packed(parts: list[Any]) -> Tensor:
    return as_tensor(parts, dtypes.int32)


def pad_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Tensor:
    """The image, or images, in a larger one of zeros, from a corner on.

    Raises:
      ValueError, InvalidArgumentError: it does not fit.
    """
    with composite(None, "pad_to_bounding_box", image):
        x = as_tensor(image)
        height, width = _sizes(x)
        after = [target_height - offset_height - height, target_width - offset_width - width]
        for n in (offset_height, offset_width, *after):
            _checked_box(isinstance(n, int) and n < 0, "the image does not fit into the target")
        edges = [[offset_height, after[0]], [offset_width, after[1]], [0, 0]]
        if _rank(x) == 4:
            edges = [[0, 0], *edges]
        return ops.pad(x, as_tensor(edges, dtypes.int32))


def central_crop(image: Any, central_fraction: float) -> Tensor:
    """The middle of an image, or of each of a batch: a fraction of height and width.

    Raises:
      ValueError: the fraction is not in (0, 1].
    """
    if not 0 < central_fraction <= 1:
        raise GraphError(f"central_fraction must be in (0, 1], not {central_fraction}")
    with composite(None, "central_crop", image):
        x = as_tensor(image)
        if central_fraction == 1:
            return x
        starts, sizes = [], []
        for n in _sizes(x):
            if isinstance(n, int):
                start: Any = int((n - n * central_fraction) / 2)
            else:
                exact = ops.cast(n, dtypes.float64)
                start = ops.cast((exact - exact * central_fraction) / 2, dtypes.int32)
            starts.append(start)
            sizes.append(n - start * 2)
        return crop_to_bounding_box(x, *starts, *sizes)


def resize_image_with_crop_or_pad(image: Any, target_height: Any, target_width: Any) -> Tensor:
    """The image, or images, cropped or padded with zeros around the middle to a size."""
    with composite(None, "resize_image_with_crop_or_pad", image):
        x = as_tensor(image)
        halves = []
        for n, target in zip(_sizes(x), (target_height, target_width), strict=True):
            off = target - n
            halves.append((_positive(_half(-off)), _positive(_half(off)), _least(target, n)))
        (crop_y, pad_y, height), (crop_x, pad_x, width) = halves
        x = crop_to_bounding_box(x, crop_y, crop_x, height, width)
        return pad_to_bounding_box(x, pad_y, pad_x, target_height, target_width)


resize_with_crop_or_pad = resize_image_with_crop_or_pad


def _half(n: Any) -> Any:
    return n // 2 if isinstance(n, int) else ops.floordiv(n, 2)


def _positive(n: Any) -> Any:
    return max(n, 0) if isinstance(n, int) else ops.maximum(n, 0)


def _least(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else ops.minimum(a, b)


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
        height, width = _sizes(x)
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


def crop_and_resize(
    image: Any,
    boxes: Any,
    box_ind: Any = None,
    crop_size: Any = None,
    method: str = "bilinear",
    extrapolation_value: float = 0,
    name: str | None = None,
    box_indices: Any = None,
) -> Tensor:
    """Parts of images, resized to one size; differentiable by images and boxes.

    Args:
      image: [batch, height, width, channels].
      boxes: [n, 4], (y1, x1, y2, x2) in units of height - 1 and width - 1; y1 > y2 mirrors.
      box_ind: int32 [n], the image of each box; `box_indices` is its newer name.
      crop_size: int32 [2].
      method: "bilinear" or "nearest".
      extrapolation_value: for pixels outside of the image.

    Returns:
      float32 [n, crop_height, crop_width, channels].
    """
    if method not in ("bilinear", "nearest"):
        raise GraphError(
            f'crop_and_resize has the methods "bilinear" and "nearest", not {method!r}'
        )
    with composite(name, "crop_and_resize", image, boxes):
        x = ops.cast(as_tensor(image), dtypes.float32)
        edges = as_tensor(boxes, dtypes.float32)
        owner = as_tensor(box_indices if box_ind is None else box_ind, dtypes.int32)
        height, width = _sizes(x)
        size = as_tensor(crop_size, dtypes.int32)
        ys = _coordinates(edges[:, 0], edges[:, 2], height, size[0])
        xs = _coordinates(edges[:, 1], edges[:, 3], width, size[1])
        inside = ops.logical_and(
            ops.expand_dims(_between(ys, height), 2), ops.expand_dims(_between(xs, width), 1)
        )
        found = _sampled(x, owner, ys, xs, height, width, method)
        outside = ops.zeros_like(found) + extrapolation_value
        return ops.where_v2(ops.expand_dims(inside, 3), found, outside)


def _coordinates(low: Tensor, high: Tensor, n: Any, count: Tensor) -> Tensor:
    """[boxes, count]: where the pixels of a crop lie along an axis of n."""
    last = ops.cast(as_tensor(n), dtypes.float32) - 1
    many = ops.cast(count, dtypes.float32)
    step = (high - low) * last / ops.maximum(many - 1, 1.0)
    i = ops.cast(ops.range(count), dtypes.float32)
    spread = ops.expand_dims(low * last, 1) + ops.expand_dims(step, 1) * i
    middle = ops.expand_dims(0.5 * (low + high) * last, 1) + i * 0
    return ops.where_v2(ops.greater(count, 1), spread, middle)


def _between(at: Tensor, n: Any) -> Tensor:
    last = ops.cast(as_tensor(n), dtypes.float32) - 1
    return ops.logical_and(ops.greater_equal(at, 0.0), ops.less_equal(at, last))


def _sampled(
    x: Tensor, owner: Tensor, ys: Tensor, xs: Tensor, height: Any, width: Any, method: str
) -> Tensor:
    """The images at all pairs of coordinates: [boxes, ys, xs, channels]."""

    def row(at: Tensor, n: Any) -> Tensor:
        return ops.clip_by_value(ops.cast(at, dtypes.int32), 0, ops.subtract(n, 1))

    def pick(y: Tensor, z: Tensor) -> Tensor:
        y, z = ops.expand_dims(y, 2), ops.expand_dims(z, 1)
        which = ops.reshape(owner, [-1, 1, 1])
        parts = [which + y * 0 + z * 0, y + z * 0, z + y * 0]
        return ops.gather_nd(x, ops.stack(parts, axis=-1))

    if method == "nearest":
        return pick(row(ops.floor(ys + 0.5), height), row(ops.floor(xs + 0.5), width))
    top, left = row(ops.floor(ys), height), row(ops.floor(xs), width)
    bottom, right = row(ops.ceil(ys), height), row(ops.ceil(xs), width)
    down = ops.reshape(ys - ops.floor(ys), ops.concat([ops.shape(ys), [1, 1]], 0))
    across = ops.expand_dims(ops.expand_dims(xs - ops.floor(xs), 1), 3)
    upper = pick(top, left) * (1 - across) + pick(top, right) * across
    lower = pick(bottom, left) * (1 - across) + pick(bottom, right) * across
    return upper * (1 - down) + lower * down


# ---- statistics


def per_image_standardization(image: Any) -> Tensor:
    """The image, or each of a batch, less its mean and over its deviation, in float32.

    The deviation counts as 1 / sqrt(number of values) at least, so that even images stay finite.
    """
    with composite(None, "per_image_standardization", image):
        x = ops.cast(as_tensor(image), dtypes.float32)
        _rank(x)
        count = ops.cast(ops.reduce_prod(ops.shape(x)[-3:]), dtypes.float32)
        centre = x - ops.reduce_mean(x, axis=[-1, -2, -3], keepdims=True)
        variance = ops.reduce_mean(ops.square(centre), axis=[-1, -2, -3], keepdims=True)
        return centre / ops.maximum(ops.sqrt(variance), ops.rsqrt(count))


def total_variation(images: Any, name: str | None = None) -> Tensor:
    """The sum of the absolute differences of neighbouring pixels, per image."""
    with composite(name, "total_variation", images):
        x = as_tensor(images)
        axes = None if _rank(x) == 3 else [1, 2, 3]
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
