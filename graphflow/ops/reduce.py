"""Reductions over axes: sum, mean, product, extremes, logic, arg-extremes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import Dims, format_dims, size_of
from graphflow.build import OPS, op
from graphflow.build.opdef import Array, Bool, Index, Num, Real, RealOrBool, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.known import static_ints
from graphflow.ops.public import renamed
from graphflow.ops.rules import axes_in, axis_in
from graphflow.ops.select import keep
from graphflow.ops.sums import shape_of, total


def reduced(dims: Dims, axis: Any, keepdims: bool) -> Dims:
    """The shape that is left after a reduction."""
    axes = axes_in(axis, None if dims is None else len(dims))
    if dims is None:
        return () if axis is None and not keepdims else None
    if keepdims:
        return tuple([1 if i in axes else n for i, n in enumerate(dims)])  # type: ignore[operator]
    return tuple([n for i, n in enumerate(dims) if i not in axes])  # type: ignore[operator]


def _spec(x: Tensor, *, axis: Any, keepdims: bool) -> Specs:
    return [(reduced(x.dims, axis, keepdims), x.dtype)]


def _size(x: Tensor, **_: Any) -> float:
    return float(size_of(x.dims) or 0)


def _axes_cases(s: Sampler, draw: Any = None, empty: bool = True, **more: Any) -> list[Case]:
    draw = draw or s.normal
    attrs: tuple[Any, ...] = (None, (0,), (-1,), (0, 2), (-1, 0), (), (0, 1, 2))
    cases = [Case((draw(2, 3, 2),), {"axis": a, "keepdims": k, **more})
             for a in attrs for k in (False, True)]  # fmt: skip
    cases.append(Case((draw(),), {"axis": None, **more}))
    cases.append(Case((draw(4),), {"axis": (0,), **more}))
    if empty:
        cases += [Case((draw(0, 3),), {"axis": a, **more}) for a in (None, (0,), (1,))]
    return cases


# ---- from the shape of a result back to that of the input


def _reduced_shape_spec(shape: Tensor, *, axis: Any) -> Specs:
    return [(shape.dims, shape.dtype)]


@op(
    "ReducedShape",
    infer=_reduced_shape_spec,
    grad=None,
    host=["shape"],
    cases=lambda s: [Case((np.asarray([2, 3, 4], np.int32),), {"axis": (0, -1)})],
)
def _reduced_shape(xp: Any, shape: Index, *, axis: Any) -> Array:
    """The shape after a reduction that keeps its axes with size 1; computed on the host."""
    kept = np.array(shape)
    kept[list(axis) if axis is not None else slice(None)] = 1
    return kept


@op(
    "ReducedCount",
    infer=lambda shape, *, axis, dtype: [((), dtype)],
    grad=None,
    host=["shape"],
    cases=lambda s: [
        Case((np.asarray([2, 3, 4], np.int32),), {"axis": a, "dtype": dtypes.float64})
        for a in (None, (0, -1), ())
    ],
)
def _reduced_count(xp: Any, shape: Index, *, axis: Any, dtype: Any) -> Array:
    """How many elements are reduced to one."""
    sizes = shape if axis is None else [shape[a] for a in axis]
    return xp.asarray(math.prod(int(n) for n in sizes), dtype=dtype.np)


def _kept(g: Tensor, x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """A result or its gradient with the reduced axes of size 1."""
    if keepdims:
        return g
    dims = reduced(x.dims, axis, keepdims=True)
    # -1 beside a size of 0 would say nothing
    if dims is not None and dims.count(None) <= (0 not in dims):
        return OPS["Reshape"](g, np.asarray([-1 if n is None else n for n in dims], np.int32))
    return OPS["Reshape"](g, _reduced_shape(shape_of(x), axis=axis))


def _spread(g: Tensor, x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """The gradient of a result, for each element that went into it."""
    return OPS["BroadcastTo"](_kept(g, x, axis, keepdims), shape_of(x))


def _count(x: Tensor, axis: Any) -> Any:
    if x.dims is not None:
        axes = axes_in(axis, len(x.dims)) or ()
        sizes = [x.dims[a] for a in axes]
        if None not in sizes:
            return float(math.prod(sizes))  # type: ignore[arg-type]
    return _reduced_count(shape_of(x), axis=axis, dtype=x.dtype)


# ---- the reductions


@op("Sum", infer=_spec, grad=lambda g, y, x, *, axis, keepdims: _spread(g, x, axis, keepdims),
    cost=_size, cases=_axes_cases)  # fmt: skip
def _sum(xp: Any, x: Num, *, axis: Any = None, keepdims: bool = False) -> Array:
    """The sum over axes, in pairs; 0 of nothing."""
    return total(xp, x, axis, keepdims)


def _mean_grad(g: Any, y: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    return _spread(g / _count(x, axis), x, axis, keepdims)


@op("Mean", infer=_spec, grad=_mean_grad, cost=_size, cases=_axes_cases)
def _mean(xp: Any, x: Num, *, axis: Any = None, keepdims: bool = False) -> Array:
    """The mean over axes; NaN of nothing.  That of integers is rounded towards zero.

    Of no integers and of no complex numbers it is 0, as TensorFlow's.  float16 is added in float32.
    """
    wide = np.float32 if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x.dtype
    added = total(xp, x, axis, keepdims, wide)
    count = x.size // added.size if added.size else 1
    if x.dtype.kind in "iu":
        return (xp.sign(added) * (xp.abs(added) // max(count, 1))).astype(x.dtype)
    least = 1 if x.dtype.kind == "c" else 0
    return (added / np.asarray(max(count, least), dtype=wide)[()]).astype(x.dtype)


def _prod_grad(g: Any, y: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    """Axis by axis: the other factors are the products before and after, right also at zeros."""
    from graphflow.ops.complexes import conjugate
    from graphflow.ops.scans import cumprod

    if x.dims is None and axis is None:
        flat = OPS["Reshape"](x, np.asarray([-1], np.int32))
        others = cumprod(flat, exclusive=True) * cumprod(flat, exclusive=True, reverse=True)
        g = OPS["Reshape"](g, np.asarray([], np.int32))
        return OPS["Reshape"](g * conjugate(others), shape_of(x))
    axes = axes_in(axis, None if x.dims is None else len(x.dims)) or ()
    products = [x]
    for a in axes:
        products.append(_prod(products[-1], axis=(a,), keepdims=True))
    g = _kept(g, x, axis, keepdims)
    for a, p in zip(reversed(axes), reversed(products[:-1]), strict=True):
        others = cumprod(p, a, exclusive=True) * cumprod(p, a, exclusive=True, reverse=True)
        g = g * conjugate(others)
    return g


def _with_zeros(s: Sampler) -> list[Case]:
    x = s.normal(3, 4)
    x[0, 1] = x[1, 0] = x[1, 2] = 0.0
    return [*_axes_cases(s), *[Case((x,), {"axis": a}) for a in (None, (0,), (1,), (0, 1))]]


@op("Prod", infer=_spec, grad=_prod_grad, cost=_size, cases=_with_zeros)
def _prod(xp: Any, x: Num, *, axis: Any = None, keepdims: bool = False) -> Array:
    """The product over axes; 1 of nothing."""
    return xp.prod(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _extreme_grad(g: Any, y: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    """Equal shares for all elements that equal the extreme one, as in TensorFlow."""
    from graphflow.ops.casting import cast
    from graphflow.ops.compare import equal

    chosen = equal(x, _kept(y, x, axis, keepdims))
    ties = _sum(cast(chosen, g.dtype), axis=axis, keepdims=True)
    return keep(chosen, _kept(g, x, axis, keepdims) / ties)


def _distinct_cases(s: Sampler) -> list[Case]:
    return _axes_cases(s, s.distinct, empty=False) + [
        Case((s.normal(0, 3),), {"axis": a}) for a in (None, (0,), (1,))
    ]


def _extreme(xp: Any, function: Any, x: Any, axis: Any, keepdims: bool, neutral: str) -> Any:
    """Of nothing: the dtype's last value on the other side, since CuPy has no `initial`."""
    if x.size:
        return function(x, axis=axis, keepdims=keepdims)
    dtype = dtypes.as_dtype(x.dtype)
    value = float(neutral + "inf") if dtype.is_floating else dtype.limits[neutral == "+"]
    return xp.full(reduced(x.shape, axis, keepdims), value, x.dtype)


@op("Max", infer=_spec, grad=_extreme_grad, cost=_size, cases=_distinct_cases)
def _max(xp: Any, x: Real, *, axis: Any = None, keepdims: bool = False) -> Array:
    """The largest element over axes; -inf, or the dtype's least value, of nothing.

    Of 0.0 and -0.0 it is either.
    """
    return _extreme(xp, xp.max, x, axis, keepdims, "-")


@op("Min", infer=_spec, grad=_extreme_grad, cost=_size, cases=_distinct_cases)
def _min(xp: Any, x: Real, *, axis: Any = None, keepdims: bool = False) -> Array:
    """The least element over axes; inf, or the dtype's largest value, of nothing.

    Of 0.0 and -0.0 it is either.
    """
    return _extreme(xp, xp.min, x, axis, keepdims, "+")


@op("All", infer=_spec, grad=None, cost=_size, cases=lambda s: _axes_cases(s, s.booleans))
def _all(xp: Any, x: Bool, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Are all elements true, over axes; true of nothing."""
    return xp.all(x, axis=axis, keepdims=keepdims)


@op("Any", infer=_spec, grad=None, cost=_size, cases=lambda s: _axes_cases(s, s.booleans))
def _any(xp: Any, x: Bool, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Is any element true, over axes; false of nothing."""
    return xp.any(x, axis=axis, keepdims=keepdims)


def _arg_spec(x: Tensor, *, axis: int, output_type: Any) -> Specs:
    if x.dims == ():
        raise ShapeError("a scalar has no axis to search along")
    at = axis_in(axis, None if x.dims is None else len(x.dims))
    if x.dims is not None and x.dims[at] == 0:
        raise ShapeError(f"axis {axis} of shape {format_dims(x.dims)} is empty")
    if output_type not in (dtypes.int32, dtypes.int64):
        raise GraphError(f"output_type must be int32 or int64, not {output_type.name}")
    return [(reduced(x.dims, (axis,), False), output_type)]


def _arg_cases(s: Sampler) -> list[Case]:
    tie = np.asarray([[1.0, 3.0, 3.0], [2.0, 0.0, 2.0]])
    return [
        Case((x,), {"axis": a, "output_type": t})
        for x in (tie, s.normal(2, 3))
        for a in (0, 1, -1)
        for t in (dtypes.int64, dtypes.int32)
    ]


def _searched(x: Any, axis: int) -> Any:
    if not x.shape[axis]:
        raise InvalidArgumentError(None, None, f"axis {axis} of shape {x.shape} is empty")
    return x


@op("ArgMax", infer=_arg_spec, grad=None, cost=_size, cases=_arg_cases)
def _argmax(xp: Any, x: RealOrBool, *, axis: int, output_type: Any) -> Array:
    """The index of the first largest element along an axis; NaN is never the largest."""
    x = _without_nan(xp, _searched(x, axis), -math.inf)
    return xp.argmax(x, axis=axis).astype(output_type.np)


@op("ArgMin", infer=_arg_spec, grad=None, cost=_size, cases=_arg_cases)
def _argmin(xp: Any, x: RealOrBool, *, axis: int, output_type: Any) -> Array:
    """The index of the first least element along an axis; NaN is never the least."""
    x = _without_nan(xp, _searched(x, axis), math.inf)
    return xp.argmin(x, axis=axis).astype(output_type.np)


def _without_nan(xp: Any, x: Array, instead: float) -> Array:
    if not dtypes.as_dtype(x.dtype).is_floating:
        return x
    return xp.where(xp.isnan(x), x.dtype.type(instead), x)


# ---- TensorFlow's functions


def _function(
    entry: Any, x: Any, axis: Any, keepdims: Any, name: Any, indices: Any, keep_dims: Any
) -> Tensor:
    axis = static_ints(renamed(axis, indices, "axis", "reduction_indices"), "axis")
    axis = (axis,) if isinstance(axis, int) else axis
    kept = renamed(keepdims, keep_dims, "keepdims", "keep_dims", False)
    return entry(x, axis=axis, keepdims=bool(kept), name=name)


def reduce_sum(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The sum over axes; 0 of nothing.

    Args:
      input_tensor: numbers.
      axis: an axis, a list of axes, negative ones counted from the end; None: all.
      keepdims: keep the axes, with size 1.

    Raises:
      GraphError: an axis is out of range or given twice.
    """
    return _function(_sum, input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_mean(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The mean over axes, NaN of nothing; that of integers is an integer.  See `reduce_sum`."""
    return _function(_mean, input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_prod(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The product over axes; 1 of nothing.  See `reduce_sum`."""
    return _function(_prod, input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_max(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The largest element over axes; ties share the gradient.  See `reduce_sum`."""
    return _function(_max, input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_min(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The least element over axes; ties share the gradient.  See `reduce_sum`."""
    return _function(_min, input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_all(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """Are all elements true, over axes; bool.  See `reduce_sum`."""
    return _function(_all, input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_any(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """Is any element true, over axes; bool.  See `reduce_sum`."""
    return _function(_any, input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def argmax(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = dtypes.int64,
) -> Tensor:
    """The index of the largest element along an axis, the first of several.

    Args:
      input: real numbers of rank at least 1.
      axis: the axis; 0 by default.
      dimension: the old name of `axis`.
      output_type: int64 or int32.
    """
    at = static_ints(renamed(axis, dimension, "axis", "dimension", 0), "axis")
    return _argmax(input, axis=at, output_type=dtypes.as_dtype(output_type), name=name)


def argmin(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = dtypes.int64,
) -> Tensor:
    """The index of the least element along an axis, the first of several.  See `argmax`."""
    at = static_ints(renamed(axis, dimension, "axis", "dimension", 0), "axis")
    return _argmin(input, axis=at, output_type=dtypes.as_dtype(output_type), name=name)
