"""Reductions made of several ops: norms, moments, log of sums; and clipping by norms."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Float
from graphflow.build.tensor import Tensor
from graphflow.ops.arithmetic import div_no_nan, maximum, minimum
from graphflow.ops.casting import cast
from graphflow.ops.compare import is_finite, not_equal
from graphflow.ops.elementary import exp, log, sqrt, square
from graphflow.ops.known import static_ints
from graphflow.ops.math import abs, add_n
from graphflow.ops.public import composite, renamed
from graphflow.ops.reduce import (
    _axes_cases,
    _kept,
    _size,
    _spec,
    reduce_max,
    reduce_mean,
    reduce_sum,
)
from graphflow.ops.select import keep
from graphflow.ops.sources import identity, stop_gradient


def _norm_grad(g: Any, y: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    return x * _kept(div_no_nan(g, y), x, axis, keepdims)


@op("EuclideanNorm", infer=_spec, grad=_norm_grad, cost=_size, cases=_axes_cases)
def _euclidean_norm(xp: Any, x: Float, *, axis: Any = None, keepdims: bool = False) -> Array:
    """The square root of the sum of squares over axes; its gradient at 0 is 0."""
    square = x * x if x.dtype.kind != "c" else xp.conj(x) * x
    return xp.sqrt(xp.sum(square, axis=axis, keepdims=keepdims, dtype=x.dtype))


def _axis(axis: Any) -> Any:
    axis = static_ints(axis, "axis")
    return (axis,) if isinstance(axis, int) else axis


def reduce_euclidean_norm(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """The square root of the sum of squares over axes; its gradient at 0 is 0."""
    return _euclidean_norm(input_tensor, axis=_axis(axis), keepdims=bool(keepdims), name=name)


def reduce_logsumexp(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """log(sum(exp(x))) over axes without overflow; -inf of nothing.  See `reduce_sum`."""
    axis = _axis(renamed(axis, reduction_indices, "axis", "reduction_indices"))
    kept = bool(renamed(keepdims, keep_dims, "keepdims", "keep_dims", False))
    x = as_tensor(input_tensor)
    with composite(name, "ReduceLogSumExp", x) as scope:
        # Shifted by the maximum; where that is infinite, inf - inf would make NaN.
        top = reduce_max(x, axis, keepdims=True)
        top = stop_gradient(keep(is_finite(top), top))
        total = log(reduce_sum(exp(x - top), axis, keepdims=kept))
        if not kept:
            top = reduce_sum(top, axis)  # of size 1: drops the axes
        return identity(total + top, name=scope)


def count_nonzero(
    input_tensor: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
    dtype: Any = dtypes.int64,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
    input: Any = None,
) -> Tensor:
    """How many elements over axes are not zero (not empty, of strings), in `dtype`."""
    x = as_tensor(renamed(input_tensor, input, "input_tensor", "input"))
    axis = renamed(axis, reduction_indices, "axis", "reduction_indices")
    kept = renamed(keepdims, keep_dims, "keepdims", "keep_dims", False)
    with composite(name, "count_nonzero", x):
        zero = np.zeros((), bool) if x.dtype.is_bool else "" if x.dtype is dtypes.string else 0
        return cast(reduce_sum(cast(not_equal(x, zero), dtypes.int64), axis, kept), dtype)


def reduce_variance(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """The mean squared distance from the mean, over axes; floating numbers."""
    x = as_tensor(input_tensor)
    with composite(name, "reduce_variance", x):
        return reduce_mean(square(x - reduce_mean(x, axis, keepdims=True)), axis, keepdims)


def reduce_std(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """The square root of `reduce_variance`."""
    x = as_tensor(input_tensor)
    with composite(name, "reduce_std", x):
        return sqrt(reduce_variance(x, axis, keepdims))


def norm(
    tensor: Any,
    ord: Any = "euclidean",
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """Norms of vectors (one axis, or all elements) or matrices (two axes).

    Args:
      tensor: floating or complex numbers.
      ord: "euclidean" ("fro" for matrices), 1, 2, another positive number, or np.inf.
      axis: an axis, a pair of axes, or None: all elements as one vector.

    Raises:
      GraphError: there is no such norm.
    """
    kept = bool(renamed(keepdims, keep_dims, "keepdims", "keep_dims", False))
    axes = _axis(axis)
    matrix = axes is not None and len(axes) == 2
    x = as_tensor(tensor)
    if axes is not None and len(axes) > 2:
        raise GraphError(f"axis must be one axis or two, not {axes}")
    if not (ord in ("euclidean", "fro") or (not isinstance(ord, str) and ord > 0)):
        raise GraphError(f"there is no norm of order {ord!r}")
    with composite(name, "norm", x) as scope:
        if ord in ("euclidean", "fro") or (ord == 2 and not matrix):
            found = _euclidean_norm(abs(x) if x.dtype.is_complex else x, axis=axes, keepdims=kept)
        elif matrix:
            found = _matrix_norm(abs(x), ord, axes, kept)
        elif ord == np.inf:
            found = reduce_max(abs(x), axes, kept)
        elif ord == 1:
            found = reduce_sum(abs(x), axes, kept)
        else:
            found = reduce_sum(abs(x) ** ord, axes, kept) ** (1 / ord)
        return identity(found, name=scope)


def _matrix_norm(magnitude: Tensor, ord: Any, axes: Any, kept: bool) -> Tensor:
    if ord not in (1, np.inf):
        raise GraphError(f"there is no matrix norm of order {ord!r} here: use 1, np.inf, 'fro'")
    down, across = axes if ord == 1 else axes[::-1]
    sums = reduce_sum(magnitude, down, keepdims=True)
    largest = reduce_max(sums, across, keepdims=True)
    return largest if kept else reduce_sum(largest, axes)


# ---- clipping


def _is_sparse(t: Any) -> bool:
    return hasattr(t, "indices") and hasattr(t, "values")


def _values(t: Any) -> Tensor:
    return t.values if _is_sparse(t) else as_tensor(t)


def _like(t: Any, values: Tensor) -> Any:
    return type(t)(values, t.indices, t.dense_shape) if _is_sparse(t) else values


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Any:
    """Elements forced into [clip_value_min, clip_value_max]; IndexedSlices stay sparse.

    The gradient is 0 outside of the range and passes at its borders.
    """
    values = _values(t)
    with composite(name, "clip_by_value", values) as scope:
        clipped = maximum(minimum(values, clip_value_max), clip_value_min, name=scope)
        if values.dims is not None:
            clipped.shape.assert_is_compatible_with(values.dims)
    return _like(t, clipped)


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """Scaled down, where needed, to a Euclidean norm of at most `clip_norm`.

    Args:
      t: a tensor or IndexedSlices, which stay sparse.
      clip_norm: a positive scalar.
      axes: over which the norm is taken; all by default.
    """
    values = _values(t)
    with composite(name, "clip_by_norm", values) as scope:
        length = _euclidean_norm(values, axis=_axis(axes), keepdims=True)
        clipped = identity(values * clip_norm / maximum(length, clip_norm), name=scope)
    return _like(t, clipped)


def global_norm(t_list: Any, name: str | None = None) -> Any:
    """The Euclidean norm of all tensors together; None entries are passed over.

    Raises:
      TypeError: the argument is no list.
      ValueError: it holds no tensor.
    """
    if not isinstance(t_list, (list, tuple)):
        raise TypeError(f"global_norm takes a list of tensors, not {type(t_list).__name__}")
    values = [_values(t) for t in t_list if t is not None]
    if not values:
        raise GraphError("global_norm needs at least one tensor")
    with composite(name, "global_norm", *values) as scope:
        squares = [reduce_sum(square(v)) for v in values]
        total = add_n(squares)
        some = not_equal(total, 0)
        return keep(some, sqrt(keep(some, total, other=1)), name=scope)


def clip_by_global_norm(
    t_list: Any, clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Tensor]:
    """Tensors scaled down together to a global norm of at most `clip_norm`, and that norm.

    A norm that is infinite or NaN makes all of them NaN, so that it does not go unnoticed.

    Args:
      t_list: tensors, IndexedSlices (which stay sparse) and None.
      clip_norm: a positive scalar.
      use_norm: the norm, where it is known already.
    """
    if use_norm is None:
        use_norm = global_norm(t_list, name)
    use_norm = as_tensor(use_norm)
    with composite(name, "clip_by_global_norm", use_norm):
        scale = clip_norm / maximum(use_norm, clip_norm)
        scale = keep(is_finite(use_norm), scale, other=np.nan)
        clipped = [None if t is None else _like(t, identity(_values(t) * scale)) for t in t_list]
    return clipped, use_norm


def clip_by_average_norm(t: Any, clip_norm: Any, name: str | None = None) -> Tensor:
    """Scaled down, where needed, so that norm / number of elements is at most `clip_norm`."""
    from graphflow.ops.shape_ops import size

    values = as_tensor(t)
    with composite(name, "clip_by_average_norm", values) as scope:
        average = _euclidean_norm(values) / cast(size(values), values.dtype)
        return identity(values * clip_norm / maximum(average, clip_norm), name=scope)
