"""Space to depth, space to batch, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.known import constant_value
from graphflow.ops.shape_ops import no_cost


def _space_spec(x: Tensor, *, block_size: int, data_format: str) -> Specs:
    return _block_spec(x, block_size, data_format, to_depth=True)


def _depth_spec(x: Tensor, *, block_size: int, data_format: str) -> Specs:
    return _block_spec(x, block_size, data_format, to_depth=False)


def _block_spec(x: Tensor, k: int, data_format: str, to_depth: bool) -> Specs:
    if k < 2:
        raise GraphError(f"block_size must be 2 or more, not {k}")
    if data_format not in ("NHWC", "NCHW"):
        raise GraphError(f"data_format must be NHWC or NCHW, not {data_format!r}")
    if x.dims is None:
        return [((None,) * 4, x.dtype)]
    if len(x.dims) != 4:
        raise ShapeError(f"the input must have rank 4, not shape {format_dims(x.dims)}")
    order = (0, 1, 2, 3) if data_format == "NHWC" else (0, 2, 3, 1)
    n, h, w, c = [x.dims[i] for i in order]
    whole = (h, w) if to_depth else (c,)
    unit = k if to_depth else k * k
    if any(size is not None and size % unit for size in whole):
        raise ShapeError(f"shape {format_dims(x.dims)} is not divided by blocks of {k}")
    if to_depth:
        sizes = (n, _scaled(h, 1, k), _scaled(w, 1, k), _scaled(c, k * k, 1))
    else:
        sizes = (n, _scaled(h, k, 1), _scaled(w, k, 1), _scaled(c, 1, k * k))
    back = (0, 1, 2, 3) if data_format == "NHWC" else (0, 3, 1, 2)
    return [(tuple([sizes[i] for i in back]), x.dtype)]


def _scaled(n: int | None, up: int, down: int) -> int | None:
    return None if n is None else n * up // down


def _divides(sizes: tuple[int, ...], unit: int, x: Array) -> None:
    if unit < 1 or any(n % unit for n in sizes):
        raise InvalidArgumentError(None, None, f"shape {x.shape} is not divided by its blocks")


@op(
    "SpaceToDepth",
    infer=_space_spec,
    grad=lambda g, y, x, **attrs: depth_to_space(g, **attrs),
    cost=no_cost,
    cases=lambda s: [
        Case((s.uniform(1, 2, 4, 3),), {"block_size": 2}),
        Case((s.uniform(1, 3, 2, 4),), {"block_size": 2, "data_format": "NCHW"}),
    ],
)
def _space_to_depth(xp: Any, x: T, *, block_size: Any, data_format: Any = "NHWC") -> Array:
    """Blocks of an image [n, h, w, c] become the channels of one pixel."""
    k = block_size
    if data_format == "NCHW":
        x = x.transpose(0, 2, 3, 1)
    n, h, w, c = x.shape
    _divides((h, w), k, x)
    y = x.reshape(n, h // k, k, w // k, k, c).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(n, h // k, w // k, k * k * c)
    return y.transpose(0, 3, 1, 2) if data_format == "NCHW" else y


@op(
    "DepthToSpace",
    infer=_depth_spec,
    grad=lambda g, y, x, **attrs: space_to_depth(g, **attrs),
    cost=no_cost,
    cases=lambda s: [
        Case((s.uniform(1, 1, 2, 8),), {"block_size": 2}),
        Case((s.uniform(1, 4, 1, 2),), {"block_size": 2, "data_format": "NCHW"}),
    ],
)
def _depth_to_space(xp: Any, x: T, *, block_size: Any, data_format: Any = "NHWC") -> Array:
    """The channels of each pixel of an image [n, h, w, c] become a block."""
    k = block_size
    if data_format == "NCHW":
        x = x.transpose(0, 2, 3, 1)
    n, h, w, c = x.shape
    _divides((c,), k * k, x)
    y = x.reshape(n, h, w, k, k, c // (k * k)).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(n, h * k, w * k, c // (k * k))
    return y.transpose(0, 3, 1, 2) if data_format == "NCHW" else y


def _to_batch_spec(x: Tensor, block: Tensor, paddings: Tensor) -> Specs:
    return _batch_spec(x, block, paddings, 1)


def _from_batch_spec(x: Tensor, block: Tensor, crops: Tensor) -> Specs:
    return _batch_spec(x, block, crops, -1)


def _batch_spec(x: Tensor, block: Tensor, edges: Tensor, sign: int) -> Specs:
    if x.dims is None:
        return [(None, x.dtype)]
    count = None if block.dims is None else block.dims[0]
    sizes, pairs = constant_value(block), constant_value(edges)
    if count is None or sizes is None or pairs is None:
        return [((None,) * len(x.dims), x.dtype)]
    if len(x.dims) <= count or pairs.shape != (count, 2) or (sizes < 1).any() or (pairs < 0).any():
        raise ShapeError(
            f"blocks {sizes.tolist()} and edges {pairs.tolist()} do not fit {format_dims(x.dims)}"
        )
    total = int(np.prod(sizes))
    dims = list(x.dims)
    if sign < 0 and dims[0] is not None and dims[0] % total:
        raise ShapeError(f"a batch of {dims[0]} is not made of {total} blocks")
    dims[0] = _scaled(dims[0], total, 1) if sign > 0 else _scaled(dims[0], 1, total)
    for i, (k, pair) in enumerate(zip(sizes.tolist(), pairs.tolist(), strict=True), 1):
        n = dims[i]
        if n is None:
            continue
        n = n + sum(pair) if sign > 0 else n * k - sum(pair)
        if n < 0 or (sign > 0 and n % k):
            raise ShapeError(f"axis {i} of {format_dims(x.dims)} does not fit blocks of {k}")
        dims[i] = n // k if sign > 0 else n
    return [(tuple(dims), x.dtype)]


def _batch_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.uniform(4, 2, 3), np.array([2], np.int32), np.array([[0, 0]], np.int32))),
        Case(
            (s.uniform(4, 2, 4), np.array([2, 2], np.int32), np.array([[1, 1], [0, 0]], np.int32))
        ),
    ]


@op(
    "SpaceToBatchND",
    infer=_to_batch_spec,
    grad=lambda g, y, x, block, paddings: (batch_to_space_nd(g, block, paddings), None, None),
    host=("block_shape", "paddings"),
    cost=no_cost,
    cases=_batch_cases,
)
def _to_batch(xp: Any, x: T, block_shape: Index, paddings: Index) -> Array:
    """Zero-pads the axes after the first and moves their blocks into the batch."""
    blocks = block_shape.tolist()
    m = len(blocks)
    rest = x.shape[m + 1 :]
    padded = xp.pad(x, [[0, 0], *paddings.tolist(), *[[0, 0] for _ in rest]])
    split = []
    for n, k in zip(padded.shape[1 : m + 1], blocks, strict=True):
        _divides((n,), k, padded)
        split += [n // k, k]
    y = padded.reshape((x.shape[0], *split, *rest))
    inner = [2 * i + 2 for i in range(m)]
    outer = [2 * i + 1 for i in range(m)]
    last = range(2 * m + 1, y.ndim)
    y = y.transpose([*inner, 0, *outer, *last])
    return y.reshape((-1 if y.size else x.shape[0] * int(np.prod(blocks)), *split[::2], *rest))


@op(
    "BatchToSpaceND",
    infer=_from_batch_spec,
    grad=lambda g, y, x, block, crops: (space_to_batch_nd(g, block, crops), None, None),
    host=("block_shape", "crops"),
    cost=no_cost,
    cases=_batch_cases,
)
def _from_batch(xp: Any, x: T, block_shape: Index, crops: Index) -> Array:
    """Moves the batch back into blocks of the axes after the first, and crops them."""
    blocks = block_shape.tolist()
    m = len(blocks)
    total = int(np.prod(blocks))
    _divides((x.shape[0],), total, x)
    y = x.reshape((*blocks, x.shape[0] // total, *x.shape[1:]))
    pairs = [axis for i in range(m) for axis in (m + 1 + i, i)]
    y = y.transpose([m, *pairs, *range(2 * m + 1, y.ndim)])
    sizes = [n * k for n, k in zip(x.shape[1 : m + 1], blocks, strict=True)]
    y = y.reshape((x.shape[0] // total, *sizes, *x.shape[m + 1 :]))
    spans = [slice(a, n - b) for n, (a, b) in zip(sizes, crops.tolist(), strict=True)]
    return y[(slice(None), *spans)]


# ---- TensorFlow's functions


def space_to_depth(
    input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC"
) -> Tensor:
    """Blocks of an image become the channels of one pixel."""
    return _space_to_depth(input, block_size=block_size, data_format=data_format, name=name)


def depth_to_space(
    input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC"
) -> Tensor:
    """The channels of each pixel of an image become a block."""
    return _depth_to_space(input, block_size=block_size, data_format=data_format, name=name)


def space_to_batch_nd(
    input: Any, block_shape: Any, paddings: Any, name: str | None = None
) -> Tensor:
    """Zero-pad the axes after the first and move their blocks into the batch."""
    return _to_batch(input, as_tensor(block_shape), as_tensor(paddings), name=name)


def batch_to_space_nd(input: Any, block_shape: Any, crops: Any, name: str | None = None) -> Tensor:
    """Move the batch back into blocks of the axes after the first, and crop them."""
    return _from_batch(input, as_tensor(block_shape), as_tensor(crops), name=name)


def space_to_batch(
    input: Any,
    paddings: Any,
    block_size: int | None = None,
    name: str | None = None,
    block_shape: Any = None,
) -> Tensor:
    """`space_to_batch_nd` with square blocks of images, or with `block_shape`."""
    block = [block_size, block_size] if block_shape is None else block_shape
    return space_to_batch_nd(input, block, paddings, name)


def batch_to_space(
    input: Any,
    crops: Any,
    block_size: int | None = None,
    name: str | None = None,
    block_shape: Any = None,
) -> Tensor:
    """`batch_to_space_nd` with square blocks of images, or with `block_shape`."""
    block = [block_size, block_size] if block_shape is None else block_shape
    return batch_to_space_nd(input, block, crops, name)
