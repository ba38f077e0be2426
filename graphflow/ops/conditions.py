"""Picking by condition: select, where, masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Bool, Each, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.filling import zeros_like
from graphflow.ops.gathering import gather
from graphflow.ops.joining import concat
from graphflow.ops.known import static_ints
from graphflow.ops.public import composite
from graphflow.ops.rules import axis_in, broadcast_dims, merge_dims
from graphflow.ops.shape_ops import reshape, shape, squeeze
from graphflow.ops.sums import unbroadcast

# ---- select and where


def _select_spec(condition: Tensor, x: Tensor, y: Tensor) -> Specs:
    dims = merge_dims(x.dims, y.dims, "both branches")
    if condition.dims is not None and condition.dims != () and dims is not None:
        if len(condition.dims) == 1 and len(dims) != 1:
            merge_dims(condition.dims, dims[:1], "the condition and the first axis")
        else:
            dims = merge_dims(condition.dims, dims, "the condition and the branches")
    return [(dims, x.dtype)]


def _select_grad(g: Tensor, out: Tensor, condition: Tensor, x: Tensor, y: Tensor) -> Any:
    nothing = zeros_like(g)
    return None, _select(condition, g, nothing), _select(condition, nothing, g)


def _select_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.booleans(2, 3), s.uniform(2, 3), s.uniform(2, 3))),
        Case((s.booleans(2), s.uniform(2, 3), s.uniform(2, 3))),
        Case((np.array(True), s.uniform(2), s.uniform(2))),
        Case((s.booleans(0), s.uniform(0), s.uniform(0))),
    ]


@op("Select", infer=_select_spec, grad=_select_grad, cases=_select_cases)
def _select(xp: Any, condition: Bool, x: T, y: T) -> Array:
    """Elements of x where the condition holds, of y elsewhere; a condition vector picks rows."""
    if x.shape != y.shape or condition.shape not in ((), x.shape, x.shape[:1]):
        raise InvalidArgumentError(
            None,
            None,
            f"a condition of shape {condition.shape} does not select from shapes {x.shape} "
            f"and {y.shape}",
        )
    if condition.ndim == 1 and x.ndim > 1:
        condition = condition.reshape((-1,) + (1,) * (x.ndim - 1))
    return xp.where(condition, x, y)


def _where_spec(condition: Tensor) -> Specs:
    rank = None if condition.dims is None else len(condition.dims)
    return [((None, rank), dtypes.int64)]


def _where_cases(s: Sampler) -> list[Case]:
    return [Case((s.booleans(*dims),)) for dims in [(2, 3), (4,), (), (0, 2)]]


@op("Where", infer=_where_spec, grad=None, dynamic=True, cases=_where_cases)
def _where(xp: Any, condition: Each) -> Array:
    """Index vectors, int64 [n, rank], of the elements that are not zero, in row-major order."""
    return xp.argwhere(condition).astype(np.int64, copy=False)


def _select_v2_spec(condition: Tensor, x: Tensor, y: Tensor) -> Specs:
    dims = broadcast_dims(condition.dims, broadcast_dims(x.dims, y.dims))
    return [(dims, x.dtype)]


def _select_v2_grad(g: Tensor, out: Tensor, condition: Tensor, x: Tensor, y: Tensor) -> Any:
    nothing = np.zeros((), g.dtype.np)
    return (
        None,
        unbroadcast(_select_v2(condition, g, nothing), x, condition, y),
        unbroadcast(_select_v2(condition, nothing, g), y, condition, x),
    )


@op(
    "SelectV2",
    infer=_select_v2_spec,
    grad=_select_v2_grad,
    elementwise=True,
    cases=lambda s: [
        Case((s.booleans(3), s.uniform(2, 3), s.uniform(2, 1))),
        Case((s.booleans(2, 1), s.uniform(), s.uniform(3))),
        Case((s.booleans(2, 3), s.uniform(2, 3), s.uniform(2, 3))),
        Case((s.booleans(0, 3), s.uniform(3), s.uniform())),
    ],
)
def _select_v2(xp: Any, condition: Bool, x: T, y: T) -> Array:
    """Elements of x where the condition holds, of y elsewhere; all three broadcast."""
    return xp.where(condition, x, y)


# ---- TensorFlow's functions


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """Elements of `x` where the condition holds, of `y` elsewhere.

    Args:
      condition: bool; of the shape of x and y, a scalar, or a vector that picks their rows.
      x: values where it is True.
      y: values where it is False.
      name: its name.

    Returns:
      The selected values; without x and y, the index vectors of the true elements,
      int64 [n, rank].

    Raises:
      ValueError: only one of x and y is given, or shapes do not fit.
    """
    if x is None and y is None:
        return _where(condition, name=name)
    if x is None or y is None:
        raise ValueError("where takes x and y, or neither")
    return _select(condition, x, y, name=name)


def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """As `where`, but condition, x and y broadcast as in NumPy.

    Raises:
      ValueError: only one of x and y is given, or shapes do not broadcast.
    """
    if x is None and y is None:
        return _where(condition, name=name)
    if x is None or y is None:
        raise ValueError("where takes x and y, or neither")
    return _select_v2(condition, x, y, name=name)


def boolean_mask(tensor: Any, mask: Any, name: str = "boolean_mask", axis: Any = None) -> Tensor:
    """The entries of a tensor for which the mask is True.

    Args:
      tensor: a tensor.
      mask: bool, of known rank >= 1; its shape is that of the axes from `axis` on.
      name: its name.
      axis: 0 by default.

    Returns:
      The masked axes become one, whose size is known when run.

    Raises:
      ValueError: the mask does not fit, or its rank is unknown.
    """
    with composite(name, "boolean_mask", tensor, mask):
        x, m = (
            as_tensor(tensor),
            as_tensor(mask, dtypes.bool_ if not isinstance(mask, Tensor) else None),
        )
        if m.dims is None:
            raise GraphError("the rank of the mask must be known, even if some sizes are not")
        if not m.dims:
            raise ShapeError("the mask must not be a scalar")
        at = 0 if axis is None else static_ints(axis, "axis")
        if x.dims is not None:
            at = axis_in(at, len(x.dims))
            merge_dims(x.dims[at : at + len(m.dims)], m.dims, "the mask and the axes it masks")
        if len(m.dims) > 1:
            sizes = shape(x)
            x = reshape(
                x, concat([sizes[:at], np.array([-1], np.int32), sizes[at + len(m.dims) :]], 0)
            )
        places = squeeze(_where(reshape(m, [-1])), axis=[1])
        return gather(x, places, axis=at)
