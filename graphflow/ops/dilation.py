"""Dilation and erosion of images: the greatest sum in each window of pixel and filter.

A gradient flows to the first of the greatest sums of a window, in the order of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import InvalidArgumentError
from graphflow.build import op
from graphflow.build.opdef import Array, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.filling import zeros_like
from graphflow.ops.rules import merge_dims, same
from graphflow.ops.windows import (
    Axis,
    axes,
    explicit,
    inner,
    need_rank,
    output_dims,
    padded,
    spatial,
    taps,
)


def _window(strides: Any, rates: Any, padding: Any) -> tuple[Any, Any, Any]:
    return (
        spatial(strides, 4, "strides", "NHWC"),
        spatial(rates, 4, "rates", "NHWC"),
        explicit(padding, 4, "NHWC"),
    )


def _result_dims(x: Tensor, filters: Tensor, **attrs: Any) -> Any:
    need_rank(x.dims, 4, "the input of a dilation")
    need_rank(filters.dims, 3, "the filter of a dilation")
    window = filters.dims or (None, None, None)
    channels = merge_dims(
        x.dims and x.dims[-1:], filters.dims and filters.dims[-1:], "channels of input and filter"
    )
    out = output_dims(x.dims, window[:-1], *_window(**attrs), 4)
    return (x.dims[0] if x.dims else None, *out, channels[0] if channels else None)


def _spec(x: Tensor, filters: Tensor, **attrs: Any) -> Specs:
    return [(_result_dims(x, filters, **attrs), x.dtype)]


def _spec_by_input(x: Tensor, filters: Tensor, g: Tensor, **attrs: Any) -> Specs:
    merge_dims(g.dims, _result_dims(x, filters, **attrs), "the gradient of a dilation")
    return same(x)


def _spec_by_filter(x: Tensor, filters: Tensor, g: Tensor, **attrs: Any) -> Specs:
    merge_dims(g.dims, _result_dims(x, filters, **attrs), "the gradient of a dilation")
    return same(filters)


def _spec_picked(x: Tensor, filters: Tensor, a: Tensor, b: Tensor, **attrs: Any) -> Specs:
    merge_dims(x.dims, a.dims, "what is picked of the input")
    merge_dims(filters.dims, b.dims, "what is picked of the filter")
    return _spec(x, filters, **attrs)


def _geometry(x: Any, filters: Any, strides: Any, rates: Any, padding: Any) -> tuple[Axis, ...]:
    """Raises:
    InvalidArgumentError: ranks, channels or windows do not fit.
    """
    if x.ndim != 4 or filters.ndim != 3 or x.shape[-1] != filters.shape[-1]:
        raise InvalidArgumentError(
            None, None, f"an image of shape {x.shape} and a filter of shape {filters.shape}"
        )
    window, far, pads = _window(strides, rates, padding)
    geometry = axes(x.shape[1:-1], filters.shape[:-1], window, far, pads)
    if any(a.size and not a.out for a in geometry):
        raise InvalidArgumentError(
            None, None, f"a filter of shape {filters.shape} does not fit an image of {x.shape}"
        )
    return geometry


def _greatest(xp: Any, x: Array, filters: Array, geometry: tuple[Axis, ...]) -> Any:
    """The greatest sum of each window, and the number of its tap; padding does not count."""
    whole = padded(xp, x, geometry)
    inside = padded(xp, xp.ones(x.shape, np.dtype(bool)), geometry, False)
    shape = (x.shape[0], *[a.out for a in geometry], x.shape[-1])
    lowest = np.finfo(x.dtype).min if x.dtype.kind == "f" else -np.inf
    best = xp.full(shape, lowest, x.dtype)
    at = xp.zeros(shape, np.dtype(np.int32))
    for number, (position, index) in enumerate(taps(geometry)):
        found = whole[index] + filters[position]
        better = xp.logical_and(found > best, inside[index])
        best = xp.where(better, found, best)
        at = xp.where(better, np.int32(number), at)
    return best, at


def _cases(s: Sampler) -> list[Case]:
    rows = (
        ((2, 4, 3, 2), (2, 2), 1, 1, "VALID"),
        ((1, 5, 4, 1), (3, 2), (1, 2, 2, 1), 1, "SAME"),
        ((1, 5, 5, 2), (2, 2), 1, (1, 2, 2, 1), "SAME"),
        ((0, 3, 3, 2), (2, 2), 1, 1, "SAME"),
    )
    return [
        Case(
            (s.distinct(*shape), s.distinct(*window, shape[-1]) * 1.37),
            {"strides": strides, "rates": rates, "padding": padding},
        )
        for shape, window, strides, rates, padding in rows
    ]


def _with_gradient(s: Sampler) -> list[Case]:
    cases = []
    for case in _cases(s):
        x, filters = case.inputs
        attrs = {**case.attrs}
        geometry = _geometry(x, filters, **attrs)
        g = s.normal(x.shape[0], *[a.out for a in geometry], x.shape[-1])
        cases.append(Case((x, filters, g), attrs, (2,)))
    return cases


def _grad(g: Tensor, y: Tensor, x: Tensor, filters: Tensor, **attrs: Any) -> Any:
    return _by_input(x, filters, g, **attrs), _by_filter(x, filters, g, **attrs)


@op("Dilation2D", infer=_spec, grad=_grad, cases=_cases)
def dilation(
    xp: Any, x: RealFloat, filters: RealFloat, *, strides: Any, rates: Any, padding: Any
) -> Array:
    """The greatest x + filter of each window: [batch, *size, channels], with a filter
    [*window, channels] for each channel."""
    return _greatest(xp, x, filters, _geometry(x, filters, strides, rates, padding))[0]


def _by_input_grad(gg: Any, y: Any, x: Any, filters: Any, g: Any, **attrs: Any) -> Any:
    return None, None, _picked(x, filters, gg, zeros_like(filters), **attrs)


@op("Dilation2DBackpropInput", infer=_spec_by_input, grad=_by_input_grad, cases=_with_gradient)
def _by_input(
    xp: Any, x: RealFloat, filters: RealFloat, g: RealFloat, *, strides: Any, rates: Any,
    padding: Any,
) -> Array:  # fmt: skip
    """The gradient of a dilation by its input; g is that of its result."""
    geometry = _geometry(x, filters, strides, rates, padding)
    _, at = _greatest(xp, x, filters, geometry)
    _check(g, at)
    result = xp.zeros((x.shape[0], *[a.padded for a in geometry], x.shape[-1]), x.dtype)
    for number, (_, index) in enumerate(taps(geometry)):
        result[index] += xp.where(at == number, g, xp.zeros_like(g))
    return xp.ascontiguousarray(result[inner(geometry)])


def _by_filter_grad(gg: Any, y: Any, x: Any, filters: Any, g: Any, **attrs: Any) -> Any:
    return None, None, _picked(x, filters, zeros_like(x), gg, **attrs)


@op("Dilation2DBackpropFilter", infer=_spec_by_filter, grad=_by_filter_grad, cases=_with_gradient)
def _by_filter(
    xp: Any, x: RealFloat, filters: RealFloat, g: RealFloat, *, strides: Any, rates: Any,
    padding: Any,
) -> Array:  # fmt: skip
    """The gradient of a dilation by its filter; g is that of its result."""
    geometry = _geometry(x, filters, strides, rates, padding)
    _, at = _greatest(xp, x, filters, geometry)
    _check(g, at)
    result = xp.zeros(filters.shape, x.dtype)
    for number, (position, _) in enumerate(taps(geometry)):
        result[position] = xp.sum(xp.where(at == number, g, xp.zeros_like(g)), axis=(0, 1, 2))
    return result


def _check(g: Array, at: Array) -> None:
    if g.shape != at.shape:
        raise InvalidArgumentError(
            None, None, f"the gradient of a dilation must have shape {at.shape}, not {g.shape}"
        )


def _picked_cases(s: Sampler) -> list[Case]:
    return [
        Case((*c.inputs, s.normal(*c.inputs[0].shape), s.normal(*c.inputs[1].shape)), c.attrs,
             (2, 3))
        for c in _cases(s)
    ]  # fmt: skip


def _picked_grad(g: Any, y: Any, x: Any, filters: Any, a: Any, b: Any, **attrs: Any) -> Any:
    return None, None, *_grad(g, y, x, filters, **attrs)


@op("Dilation2DPick", infer=_spec_picked, grad=_picked_grad, cases=_picked_cases)
def _picked(
    xp: Any, x: RealFloat, filters: RealFloat, a: RealFloat, b: RealFloat, *, strides: Any,
    rates: Any, padding: Any,
) -> Array:  # fmt: skip
    """a + b where x + filter is greatest in each window; a is shaped as x, b as the filter."""
    geometry = _geometry(x, filters, strides, rates, padding)
    _, at = _greatest(xp, x, filters, geometry)
    if a.shape != x.shape or b.shape != filters.shape:
        raise InvalidArgumentError(
            None, None, f"shapes {a.shape} and {b.shape} are not {x.shape} and {filters.shape}"
        )
    whole = padded(xp, a, geometry)
    result = xp.zeros(at.shape, x.dtype)
    for number, (position, index) in enumerate(taps(geometry)):
        result = xp.where(at == number, whole[index] + b[position], result)
    return result
