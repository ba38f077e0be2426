"""The same elements in another order: reversed, rolled."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import shapes
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, op
from graphflow.build.opdef import Array, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case
from graphflow.ops.known import static_ints
from graphflow.ops.rules import axes_in, axis_in
from graphflow.ops.shape_ops import no_cost, reshape

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
