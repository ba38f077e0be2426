"""Crops and paddings of images: parts of them, resized too, and images within larger ones."""

from __future__ import annotations

from typing import Any

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.public import composite


def image_rank(image: Tensor) -> int:
    """3, or 4 of a batch.

    Raises:
      ValueError: it is another one, or unknown.
    """
    if image.dims is None:
        raise GraphError(f"the rank of {image!r} must be known: use set_shape")
    if len(image.dims) not in (3, 4):
        raise ShapeError(f"images have rank 3 or 4, not shape {format_dims(image.dims)}")
    return len(image.dims)


def image_sizes(image: Tensor) -> tuple[Any, Any]:
    """Height and width of an image: numbers where known, else tensors."""
    dims = image.dims or ()
    shape = ops.shape(image)
    height, width = (
        n if n is not None else shape[i] for i, n in enumerate(dims) if i in image_axes(image)
    )
    return height, width


def image_axes(image: Tensor) -> tuple[int, int]:
    """The axes of an image's height and width."""
    rank = image_rank(image)
    return rank - 3, rank - 2


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
        if image_rank(x) == 4:
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
        height, width = image_sizes(x)
        after = [target_height - offset_height - height, target_width - offset_width - width]
        for n in (offset_height, offset_width, *after):
            _checked_box(isinstance(n, int) and n < 0, "the image does not fit into the target")
        edges = [[offset_height, after[0]], [offset_width, after[1]], [0, 0]]
        if image_rank(x) == 4:
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
        for n in image_sizes(x):
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
        for n, target in zip(image_sizes(x), (target_height, target_width), strict=True):
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
        height, width = image_sizes(x)
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
