"""Edges, luminance spaces and similarity of images; all are built of other ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow import ops
from graphflow.base.errors import ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.public import composite, require
from graphflow.ops.rules import rank_is

# Rows are red, green, blue; columns the luminance and two colours.
_YIQ = (
    (0.299, 0.59590059, 0.2115),
    (0.587, -0.27455667, -0.52273617),
    (0.114, -0.32134392, 0.31119955),
)
_FROM_YIQ = (
    (1.0, 1.0, 1.0),
    (0.95598634, -0.27201283, -1.10674021),
    (0.6208248, -0.64720424, 1.70423049),
)
_YUV = (
    (0.299, -0.14714119, 0.61497538),
    (0.587, -0.28886916, -0.51496512),
    (0.114, 0.43601035, -0.10001026),
)
_FROM_YUV = ((1.0, 1.0, 1.0), (0.0, -0.394642334, 2.03206185), (1.13988303, -0.58062185, 0.0))


def _mapped(images: Any, kernel: Any, name: str) -> Tensor:
    """The colours of each pixel multiplied with a matrix, [from, to]."""
    with composite(name, name, images):
        x = as_tensor(images)
        require(x.dtype.is_floating, x, "a floating image")
        if x.dims is not None and (not x.dims or x.dims[-1] not in (None, 3)):
            raise ShapeError(f"images have 3 channels, not shape {format_dims(x.dims)}")
        rank = None if x.dims is None else len(x.dims)
        last = [-1] if rank is None else [rank - 1]
        return ops.tensordot(x, np.array(kernel, x.dtype.np), [last, [0]])


def rgb_to_yiq(images: Any) -> Tensor:
    """Images [..., 3] of red, green and blue as luminance and two colours, I and Q."""
    return _mapped(images, _YIQ, "rgb_to_yiq")


def yiq_to_rgb(images: Any) -> Tensor:
    """The reverse of `rgb_to_yiq`."""
    return _mapped(images, _FROM_YIQ, "yiq_to_rgb")


def rgb_to_yuv(images: Any) -> Tensor:
    """Images [..., 3] of red, green and blue as luminance and two colours, U and V."""
    return _mapped(images, _YUV, "rgb_to_yuv")


def yuv_to_rgb(images: Any) -> Tensor:
    """The reverse of `rgb_to_yuv`."""
    return _mapped(images, _FROM_YUV, "yuv_to_rgb")


def image_gradients(image: Any) -> tuple[Tensor, Tensor]:
    """Differences to the next pixel below and to the right, 0 at the end.

    Args:
      image: [batch, height, width, channels].

    Returns:
      Two tensors of that shape, dy and dx.
    """
    with composite(None, "image_gradients", image):
        x = as_tensor(image)
        rank_is(x, 4, "the images of image_gradients")
        dy, dx = x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]
        below, right = [[0, 0], [0, 1], [0, 0], [0, 0]], [[0, 0], [0, 0], [0, 1], [0, 0]]
        return ops.pad(dy, below), ops.pad(dx, right)


def sobel_edges(image: Any) -> Tensor:
    """Sobel's derivatives along the height and the width.

    Args:
      image: [batch, height, width, channels], floating.

    Returns:
      [batch, height, width, channels, 2].
    """
    with composite(None, "sobel_edges", image):
        x = as_tensor(image)
        rank_is(x, 4, "the images of sobel_edges")
        whole = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")
        down = whole[:, 2:] - whole[:, :-2]
        across = whole[:, :, 2:] - whole[:, :, :-2]
        dy = down[:, :, :-2] + 2.0 * down[:, :, 1:-1] + down[:, :, 2:]
        dx = across[:, :-2] + 2.0 * across[:, 1:-1] + across[:, 2:]
        return ops.stack([dy, dx], axis=-1)
