"""The same elements elsewhere: reversed, rolled, broadcast, repeated, in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import shapes
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import TensorShape, as_dims, format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.known import constant_value, shape_from, static_ints
from graphflow.ops.public import composite
from graphflow.ops.rules import axes_in, axis_in, broadcast_dims
from graphflow.ops.shape_ops import expand_dims, no_cost, reshape, shape, shape_tensor
from graphflow.ops.sums import unbroadcast

# ---- reverse and roll


def _reverse_spec(x: Tensor, *, axis: tuple[int, ...]) -> Specs:
    axes_in(axis, None if x.dims is None else len(x.dims))
    return [(x.dims, x.dtype)]


@op(
    "ReverseV2",
    infer=_reverse_spec,
    grad=lambda g, y, x, axis: reverse(g, axis),
    alias="x",
    cost=no_cost,
    cases=lambda s: [
        Case((s.uniform(2, 3),), {"axis": (1,)}),
        Case((s.uniform(2, 3),), {"axis": (0, -1)}),
        Case((s.uniform(0, 3),), {"axis": ()}),
    ],
)
def _reverse(xp: Any, x: T, *, axis: Any) -> Array:
    """x with the order of its elements reversed along the axes."""
    return xp.flip(x, axis) if axis else x


def _roll_spec(x: Tensor, shift: Tensor, *, axis: tuple[int, ...]) -> Specs:
    for a in axis:
        axis_in(a, None if x.dims is None else len(x.dims))
    return [(x.dims, x.dtype)]


@op(
    "Roll",
    infer=_roll_spec,
    grad=lambda g, y, x, shift, axis: (roll(g, OPS["Neg"](shift), axis), None),
    host=("shift",),
    cost=no_cost,
    cases=lambda s: [
        Case((s.uniform(4, 3), np.array([1, -5], np.int32)), {"axis": (0, 1)}),
        Case((s.uniform(3), np.array([2], np.int32)), {"axis": (-1,)}),
        Case((s.uniform(0), np.array([1], np.int32)), {"axis": (0,)}),
    ],
)
def _roll(xp: Any, x: T, shift: Index, *, axis: Any) -> Array:
    """x with its elements moved along each axis; those that leave come in at the other end."""
    return xp.roll(x, tuple(shift.tolist()), axis)


def _sequence_spec(x: Tensor, lengths: Tensor, *, seq_axis: int, batch_axis: int) -> Specs:
    if x.dims is not None:
        a, b = [axis_in(axis, len(x.dims)) for axis in (seq_axis, batch_axis)]
        if a == b:
            raise GraphError(f"seq_axis and batch_axis are both {a}")
        if lengths.dims is not None and shapes.merged(lengths.dims, (x.dims[b],)) is shapes.CLASH:
            raise ShapeError(f"lengths {format_dims(lengths.dims)} for {format_dims(x.dims)}")
    return [(x.dims, x.dtype)]


@op(
    "ReverseSequence",
    infer=_sequence_spec,
    grad=lambda g, y, x, lengths, **axes: (reverse_sequence(g, lengths, **axes), None),
    cost=no_cost,
    cases=lambda s: [
        Case((s.uniform(2, 4, 2), np.array([3, 0], np.int32)), {"seq_axis": 1, "batch_axis": 0}),
        Case((s.uniform(4, 3), np.array([4, 1, 2])), {"seq_axis": 0, "batch_axis": 1}),
    ],
)
def _reverse_sequence(
    xp: Any, x: T, lengths: Index, *, seq_axis: Any, batch_axis: Any = 0
) -> Array:
    """x with the first `lengths[b]` entries of each batch entry in reverse order."""
    y = xp.moveaxis(x, (batch_axis, seq_axis), (0, 1))
    count, n = y.shape[:2]
    if xp is np and lengths.size and not (lengths.min() >= 0 and lengths.max() <= n):
        raise InvalidArgumentError(
            None, None, f"lengths {lengths.tolist()} exceed the {n} entries of axis {seq_axis}"
        )
    places = xp.arange(n)[None, :]
    ends = lengths[:, None]
    order = xp.where(places < ends, ends - 1 - places, places)
    return xp.moveaxis(y[xp.arange(count)[:, None], order], (0, 1), (batch_axis, seq_axis))


# ---- broadcast


def _broadcast_spec(x: Tensor, shape: Tensor) -> Specs:
    dims = shape_from(shape)
    if dims is not None and x.dims is not None:
        _refuse_broadcast(x.dims, dims)
    return [(dims, x.dtype)]


def _refuse_broadcast(old: Any, new: Any) -> None:
    if len(old) > len(new) or any(
        n not in (1, None) and m is not None and n != m
        for n, m in zip(reversed(old), reversed(new), strict=False)
    ):
        raise ShapeError(f"shape {format_dims(old)} does not broadcast to {format_dims(new)}")


@op(
    "BroadcastTo",
    infer=_broadcast_spec,
    grad=lambda g, y, x, s: (unbroadcast(g, x, y), None),
    host=("shape",),
    alias="x",
    cost=no_cost,
    cases=lambda s: [
        Case((s.uniform(*old), np.array(new, np.int32)))
        for old, new in [((3,), (2, 3)), ((2, 1), (2, 3)), ((), (2,)), ((1,), (0,)), ((), ())]
    ],
)
def _broadcast_to(xp: Any, x: T, shape: Index) -> Array:
    """x stretched to a shape by NumPy's rules."""
    try:
        return xp.broadcast_to(x, tuple(shape.tolist()))
    except ValueError:
        raise InvalidArgumentError(
            None, None, f"shape {x.shape} does not broadcast to {tuple(shape.tolist())}"
        ) from None


def _broadcast_args_spec(a: Tensor, b: Tensor) -> Specs:
    ranks = [None if t.dims is None else t.dims[0] for t in (a, b)]
    known = [n for n in ranks if n is not None]
    return [((max(known) if len(known) == 2 else None,), a.dtype)]


@op(
    "BroadcastArgs",
    infer=_broadcast_args_spec,
    grad=None,
    host=("a", "b"),
    cost=no_cost,
    cases=lambda s: [Case((np.array([3, 1], np.int32), np.array([2, 1, 4], np.int32)))],
)
def _broadcast_args(xp: Any, a: T, b: T) -> Array:
    """The shape to which two shapes broadcast."""
    found = shapes.broadcast(tuple(a.tolist()), tuple(b.tolist()))
    if found is shapes.CLASH:
        raise InvalidArgumentError(
            None, None, f"shapes {a.tolist()} and {b.tolist()} do not broadcast"
        )
    return xp.array(found, dtype=a.dtype)


# ---- blocks


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
    if any(n % unit for n in sizes):
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


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """A tensor with the order of its elements reversed along the axes.

    Raises:
      ValueError: an axis is out of range or named twice.
    """
    axes = static_ints(axis, "axis")
    return _reverse(tensor, axis=axes if isinstance(axes, tuple) else (axes,), name=name)


def roll(input: Any, shift: Any, axis: Any, name: str | None = None) -> Tensor:
    """A tensor with its elements moved along the axes, cyclically."""
    axes = static_ints(axis, "axis")
    moves = reshape(shift, [-1])
    return _roll(input, moves, axis=axes if isinstance(axes, tuple) else (axes,), name=name)


def reverse_sequence(
    input: Any,
    seq_lengths: Any,
    seq_axis: int | None = None,
    batch_axis: int | None = None,
    name: str | None = None,
    seq_dim: int | None = None,
    batch_dim: int | None = None,
) -> Tensor:
    """Reverse the first `seq_lengths[b]` entries of each batch entry along `seq_axis`.

    Raises:
      InvalidArgumentError: a length exceeds the axis.
    """
    seq = seq_dim if seq_axis is None else seq_axis
    batch = batch_dim if batch_axis is None else batch_axis
    if seq is None:
        raise GraphError("reverse_sequence needs seq_axis")
    return _reverse_sequence(input, seq_lengths, seq_axis=seq, batch_axis=batch or 0, name=name)


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """A tensor stretched to a shape by NumPy's rules.

    Raises:
      ValueError, InvalidArgumentError: it does not broadcast to that shape.
    """
    return _broadcast_to(input, shape_tensor(shape), name=name)


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape:
    """The static shape to which two static shapes broadcast.

    Raises:
      ValueError: they do not.
    """
    return TensorShape(broadcast_dims(as_dims(shape_x), as_dims(shape_y)))


def broadcast_dynamic_shape(shape_x: Any, shape_y: Any) -> Tensor:
    """The shape, as a tensor, to which two shapes broadcast."""
    return _broadcast_args(as_tensor(shape_x), as_tensor(shape_y))


def repeat(input: Any, repeats: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """Each entry of a tensor along an axis, several times.

    Args:
      input: a tensor.
      repeats: how often; a number, or one per entry.
      axis: by default the tensor is flattened first.
      name: its name.
    """
    from graphflow.ops.conditions import where
    from graphflow.ops.filling import sequence_mask
    from graphflow.ops.gathering import gather

    with composite(name, "Repeat", input):
        x = as_tensor(input)
        if axis is None:
            x, axis = reshape(x, [-1]), 0
        counts = as_tensor(repeats)
        size = shape(x)[axis]
        each = broadcast_to(reshape(counts, [-1]), expand_dims(size, 0))
        places = where(sequence_mask(each))[:, 0]
        return gather(x, places, axis=axis)


def meshgrid(*args: Any, indexing: str = "xy", name: str = "meshgrid") -> list[Tensor]:
    """Coordinate tensors of a grid, one per vector.

    Args:
      *args: vectors.
      indexing: "xy": the first two axes are exchanged; "ij".
      name: its name.

    Raises:
      ValueError: indexing is neither.
    """
    if indexing not in ("xy", "ij"):
        raise GraphError(f"indexing must be 'xy' or 'ij', not {indexing!r}")
    if not args:
        return []
    with composite(name, "meshgrid", *args):
        vectors = [as_tensor(v) for v in args]
        order = list(range(len(vectors)))
        if indexing == "xy" and len(order) > 1:
            order[:2] = [1, 0]
        flat = [reshape(v, [-1]) for v in vectors]
        sizes = as_tensor([shape(flat[i])[0] for i in order])
        columns = [
            reshape(v, [-1 if axis == i else 1 for axis in order]) for i, v in enumerate(flat)
        ]
        return [broadcast_to(c, sizes) for c in columns]


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
