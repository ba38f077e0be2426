"""Tensors repeated: tile, broadcast, repeat, grids."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import shapes
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import Dims, TensorShape, as_dims, format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Index, Num, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.joining import concat
from graphflow.ops.known import known_dims, shape_from
from graphflow.ops.public import composite
from graphflow.ops.rules import axis_in, broadcast_dims, rank_is
from graphflow.ops.shape_ops import expand_dims, no_cost, reshape, shape, shape_input
from graphflow.ops.sources import constant
from graphflow.ops.sums import unbroadcast

# ---- tile


def _tile_spec(x: Tensor, multiples: Tensor) -> Specs:
    known = known_dims(multiples)
    rank = len(known) if known is not None else None if x.dims is None else len(x.dims)
    if rank is None:
        return [(None, x.dtype)]
    if x.dims is not None and len(x.dims) != rank:
        raise ShapeError(f"{rank} multiples do not fit shape {format_dims(x.dims)}")
    if any(m is not None and m < 0 for m in known or ()):
        raise ShapeError(f"multiples must not be negative: {known}")
    return [(_times(x.dims or (None,) * rank, known or (None,) * rank), x.dtype)]


def _times(dims: Any, multiples: Any) -> Dims:
    pairs = zip(dims, multiples, strict=True)
    return tuple([0 if 0 in (n, m) else None if None in (n, m) else n * m for n, m in pairs])


def _tile_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.uniform(*dims), np.array(multiples, np.int32)))
        for dims, multiples in [
            ((2, 3), (2, 1)),
            ((2,), (3,)),
            ((), ()),
            ((2, 1), (1, 4)),
            ((2, 3), (0, 2)),
            ((0, 3), (2, 2)),
        ]
    ]


@op(
    "Tile",
    infer=_tile_spec,
    grad=lambda g, y, x, m: (OPS["TileGrad"](g, m, shape(x)), None),
    host=("multiples",),
    cases=_tile_cases,
)
def _tile(xp: Any, x: T, multiples: Index) -> Array:
    """x repeated `multiples[i]` times along axis i."""
    times = multiples.tolist()
    if len(times) != x.ndim or min(times, default=0) < 0:
        raise InvalidArgumentError(None, None, f"multiples {times} do not fit shape {x.shape}")
    return xp.tile(x, times)


def _untile_spec(g: Tensor, multiples: Tensor, shape: Tensor) -> Specs:
    return [(shape_from(shape), g.dtype)]


@op(
    "TileGrad",
    infer=_untile_spec,
    grad=lambda g, y, x, m, s: (tile(g, m), None, None),
    host=("multiples", "shape"),
    cases=lambda s: [
        Case((s.uniform(4, 3), np.array([2, 1], np.int32), np.array([2, 3], np.int32))),
        Case((s.uniform(), np.array([], np.int32), np.array([], np.int32))),
        Case((s.uniform(0), np.array([0], np.int32), np.array([3], np.int32))),
    ],
)
def _untile(xp: Any, g: Num, multiples: Index, shape: Index) -> Array:
    """The sum of the copies that `Tile` made of a tensor of that shape."""
    pairs = zip(multiples.tolist(), shape.tolist(), strict=True)
    split = [k for pair in pairs for k in pair]
    axes = tuple(range(0, len(split), 2))
    return xp.sum(g.reshape(split), axis=axes, dtype=g.dtype)


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
    ranks = [rank_is(t, 1, "a shape")[0] for t in (a, b)]
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
    if a.ndim != 1 or b.ndim != 1:
        raise InvalidArgumentError(None, None, f"shapes are vectors, not {a.shape} and {b.shape}")
    found = shapes.broadcast(tuple(a.tolist()), tuple(b.tolist()))
    if found is shapes.CLASH:
        raise InvalidArgumentError(
            None, None, f"shapes {a.tolist()} and {b.tolist()} do not broadcast"
        )
    return xp.array(found, dtype=a.dtype)


# ---- TensorFlow's functions


def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:
    """A tensor repeated `multiples[i]` times along axis i."""
    return _tile(input, ints(multiples), name=name)


def ints(value: Any) -> Tensor:
    """A vector of integers; int32 where it is empty."""
    if isinstance(value, (list, tuple)) and not value:
        return constant(np.zeros(0, np.int32))
    return as_tensor(value)


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """A tensor stretched to a shape by NumPy's rules.

    Raises:
      ValueError, InvalidArgumentError: it does not broadcast to that shape.
    """
    return _broadcast_to(input, shape_input(shape), name=name)


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
        if counts.dims == () and x.dims is not None:
            return _repeated(x, counts, axis_in(axis, len(x.dims)))
        each = broadcast_to(reshape(counts, [-1]), expand_dims(size, 0))
        places = where(sequence_mask(each))[:, 0]
        return gather(x, places, axis=axis)


def _repeated(x: Tensor, count: Tensor, axis: int) -> Tensor:
    """Each entry along an axis equally often: a tile of a new axis behind it."""
    assert x.dims is not None
    ones = [np.ones(n, count.dtype.np) for n in (axis + 1, len(x.dims) - axis - 1)]
    wide = tile(expand_dims(x, axis + 1), concat([ones[0], count[None], ones[1]], 0))
    sizes = shape(x, out_type=count.dtype)
    return reshape(wide, concat([sizes[:axis], (sizes[axis] * count)[None], sizes[axis + 1 :]], 0))


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
