"""Conv2D, Conv3D and their two gradients, which are convolutions again.

One definition serves any number of spatial axes: `_family` enters the three ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build.opdef import Index, OpDef, RealFloat, Specs, define
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.convolve import (
    convolve,
    convolve_depthwise,
    depthwise_to_filters,
    depthwise_to_input,
    to_filters,
    to_input,
)
from graphflow.ops.known import shape_from
from graphflow.ops.random import sizes_of
from graphflow.ops.sums import shape_of
from graphflow.ops.windows import (
    Axis,
    axes,
    channels_last,
    elements,
    explicit,
    format_last,
    last_dims,
    need_rank,
    output_dims,
    restored,
    spatial,
)


def _window(rank: int, attrs: Any) -> tuple[Any, Any, Any]:
    """Strides, dilations and padding of the spatial axes."""
    data_format = attrs["data_format"]
    return (
        spatial(attrs["strides"], rank, "strides", data_format),
        spatial(attrs["dilations"], rank, "dilations", data_format),
        explicit(attrs["padding"], rank, data_format),
    )


def _fits(channels: int, filters: Any, depthwise: bool) -> bool:
    """Do filters take so many channels?  Where they take a part of them, they are in groups, each
    for the next part; a known number of groups divides the results."""
    taken, made = filters[-2:]
    if channels == taken:
        return True
    if depthwise or not taken or channels % taken:
        return False
    return made is None or made % (channels // taken) == 0


def _geometry(
    rank: int, sizes: Any, filter_sizes: Any, attrs: Any, depthwise: bool
) -> tuple[Axis, ...]:
    """The windows over an input; sizes with channels last.

    Raises:
      InvalidArgumentError: the channels differ, or a window does not fit.
    """
    if len(sizes) != rank or len(filter_sizes) != rank:
        raise InvalidArgumentError(
            None,
            None,
            f"images and filters have rank {rank}, not shapes {tuple(sizes)} and {filter_sizes}",
        )
    strides, dilations, padding = _window(rank, attrs)
    if not _fits(sizes[-1], filter_sizes, depthwise):
        raise InvalidArgumentError(
            None,
            None,
            f"an input of {sizes[-1]} channels and filters {filter_sizes} for {filter_sizes[-2]}",
        )
    geometry = axes(sizes[1:-1], filter_sizes[:-2], strides, dilations, padding)
    if any(a.size and not a.out for a in geometry):
        raise InvalidArgumentError(
            None, None, f"filters of shape {filter_sizes} do not fit on an input of shape {sizes}"
        )
    return geometry


def _result_dims(sizes: Any, filters: Any, rank: int, depthwise: bool, attrs: Any) -> Any:
    """Dims of the convolution, in the data format, from dims with channels last.

    Raises:
      ShapeError: ranks, channels or windows do not fit together.
    """
    need_rank(sizes, rank, "the input of a convolution")
    need_rank(filters, rank, "the filters of a convolution")
    filters = filters or (None,) * rank
    known = sizes and None not in (sizes[-1], filters[-2])
    if known and not _fits(sizes[-1], filters, depthwise):
        raise ShapeError(
            f"an input of {sizes[-1]} channels and filters {format_dims(filters)} for {filters[-2]}"
        )
    out = output_dims(sizes, filters[:-2], *_window(rank, attrs), rank)
    channels = filters[-1]
    if depthwise:
        known = None not in (channels, filters[-2])
        channels = channels * filters[-2] if known else None
    dims = (sizes[0] if sizes else None, *out, channels)
    return format_last(dims, attrs["data_format"])


def _in_groups(xp: Any, count: int, apply: Any, a: Any, b: Any, *rest: Any) -> Any:
    """Apply to each group of channels by itself; they are in the last axis of all arrays."""
    if count == 1:
        return apply(xp, a, b, *rest)
    pairs = zip(xp.split(a, count, axis=-1), xp.split(b, count, axis=-1), strict=True)
    parts = [apply(xp, *map(xp.ascontiguousarray, pair), *rest) for pair in pairs]
    return xp.concatenate(parts, axis=-1)


def _groups(channels: int, filters: Any, depthwise: bool) -> int:
    return 1 if depthwise or not filters[-2] else channels // filters[-2]


def _check_gradient(g: Any, geometry: tuple[Axis, ...], batch: int, channels: int) -> None:
    wanted = (batch, *[a.out for a in geometry], channels)
    if g != wanted:
        raise InvalidArgumentError(
            None, None, f"the gradient of a convolution must have shape {wanted}, not {g}"
        )


# ---- signatures: inputs, attributes and documentation of the three ops of a family


def _forward(
    xp: Any,
    x: RealFloat,
    filters: RealFloat,
    *,
    strides: Any,
    padding: Any,
    data_format: Any = "NHWC",
    dilations: Any = 1,
) -> None:
    """Products of filters with windows of x, summed over taps and input channels.

    x: [batch, *size, in]; filters: [*window, in, out]; result: [batch, *out_size, out]. Filters
    of depthwise convolution are [*window, in, m] and serve one input channel each; its result
    has in * m channels. Others may be for 1 / n of the input channels: the first n-th of them goes
    with the first n-th of the filters, and so on. With data_format "NCHW" or "NCDHW" channels
    come after the batch.
    padding: "SAME", "VALID" or a pair (before, after) per axis.
    """


def _by_input(
    xp: Any,
    sizes: Index,
    filters: RealFloat,
    g: RealFloat,
    *,
    strides: Any,
    padding: Any,
    data_format: Any = "NHWC",
    dilations: Any = 1,
) -> None:
    """Gradient of a convolution by its input, whose shape is `sizes`; g: that of its result."""


def _by_filters(
    xp: Any,
    x: RealFloat,
    sizes: Index,
    g: RealFloat,
    *,
    strides: Any,
    padding: Any,
    data_format: Any = "NHWC",
    dilations: Any = 1,
) -> None:
    """Gradient of a convolution by its filters, whose shape is `sizes`; g: that of its result."""


def _family(
    names: tuple[str, str, str], rank: int, cases: Any, depthwise: bool = False
) -> tuple[OpDef, OpDef, OpDef]:
    """Enter a convolution and its gradients by input and by filters; each one's gradients are
    the other two."""

    def made(filters: Any) -> Any:
        return filters[-1] * filters[-2] if depthwise else filters[-1]

    def result_of(x: Any, filters: Any, attrs: Any) -> Any:
        sizes = last_dims(x.dims, attrs["data_format"])
        return _result_dims(sizes, filters.dims, rank, depthwise, attrs)

    def infer(x: Tensor, filters: Tensor, **attrs: Any) -> Specs:
        return [(result_of(x, filters, attrs), x.dtype)]

    def infer_input(sizes: Tensor, filters: Tensor, g: Tensor, **attrs: Any) -> Specs:
        return _described(sizes, g, rank)

    def infer_filters(x: Tensor, sizes: Tensor, g: Tensor, **attrs: Any) -> Specs:
        return _described(sizes, g, rank)

    def kernel(xp: Any, x: Any, filters: Any, **attrs: Any) -> Any:
        x = channels_last(xp, x, attrs["data_format"])
        geometry = _geometry(rank, x.shape, filters.shape, attrs, depthwise)
        apply = convolve_depthwise if depthwise else convolve
        groups = _groups(x.shape[-1], filters.shape, depthwise)
        result = _in_groups(xp, groups, apply, x, filters, geometry)
        return restored(xp, result, attrs["data_format"])

    def kernel_input(xp: Any, sizes: Any, filters: Any, g: Any, **attrs: Any) -> Any:
        dims = last_dims(sizes_of(sizes), attrs["data_format"])
        geometry = _geometry(rank, dims, filters.shape, attrs, depthwise)
        g = channels_last(xp, g, attrs["data_format"])
        _check_gradient(g.shape, geometry, dims[0], made(filters.shape))
        apply = depthwise_to_input if depthwise else to_input
        x = _in_groups(xp, _groups(dims[-1], filters.shape, depthwise), apply, g, filters, geometry)
        return xp.ascontiguousarray(restored(xp, x, attrs["data_format"]))

    def kernel_filters(xp: Any, x: Any, sizes: Any, g: Any, **attrs: Any) -> Any:
        dims = sizes_of(sizes)
        x = channels_last(xp, x, attrs["data_format"])
        g = channels_last(xp, g, attrs["data_format"])
        geometry = _geometry(rank, x.shape, dims, attrs, depthwise)
        _check_gradient(g.shape, geometry, x.shape[0], made(dims))
        apply = depthwise_to_filters if depthwise else to_filters
        groups = _groups(x.shape[-1], dims, depthwise)
        return _in_groups(xp, groups, apply, x, g, geometry, dims[-1] // groups)

    def grad(g: Any, y: Any, x: Any, filters: Any, **attrs: Any) -> Any:
        return (
            by_input(shape_of(x), filters, g, **attrs),
            by_filters(x, shape_of(filters), g, **attrs),
        )

    def grad_input(gg: Any, y: Any, sizes: Any, filters: Any, g: Any, **attrs: Any) -> Any:
        to_filters = by_filters(gg, shape_of(filters), g, **attrs)
        return None, to_filters, forward(gg, filters, **attrs)

    def grad_filters(gg: Any, y: Any, x: Any, sizes: Any, g: Any, **attrs: Any) -> Any:
        return by_input(shape_of(x), gg, g, **attrs), None, forward(x, gg, **attrs)

    def per_window(filters: Any) -> float:
        """Two flops for each tap (and input channel) of an output."""
        return 2.0 * elements((filters or ())[: -2 if depthwise else -1])

    forward = define(
        names[0],
        kernel,
        like=_forward,
        infer=infer,
        grad=grad,
        cost=lambda x, f, **attrs: elements(result_of(x, f, attrs)) * per_window(f.dims),
        cases=cases,
    )
    by_input = define(
        names[1],
        kernel_input,
        like=_by_input,
        infer=infer_input,
        grad=grad_input,
        host=("sizes",),
        cost=lambda sizes, f, g, **_: elements(g.dims) * per_window(f.dims),
        cases=lambda s: [
            Case((_sizes(x), f, _result_like(s, x, f, depthwise, attrs)), attrs, (1, 2))
            for x, f, attrs in _parts(cases(s))
        ],
    )
    by_filters = define(
        names[2],
        kernel_filters,
        like=_by_filters,
        infer=infer_filters,
        grad=grad_filters,
        host=("sizes",),
        cost=lambda x, sizes, g, **_: elements(g.dims) * per_window(_known(sizes)),
        cases=lambda s: [
            Case((x, _sizes(f), _result_like(s, x, f, depthwise, attrs)), attrs, (0, 2))
            for x, f, attrs in _parts(cases(s))
        ],
    )
    return forward, by_input, by_filters


def _described(sizes: Tensor, g: Tensor, rank: int) -> Specs:
    dims = shape_from(sizes)
    need_rank(dims, rank, "the shape that a gradient of a convolution takes")
    return [(dims or (None,) * rank, g.dtype)]


def _known(sizes: Any) -> Any:
    return shape_from(sizes) if isinstance(sizes, Tensor) else None


# ---- cases


def _sizes(x: Any) -> Any:
    return np.array(x.shape, np.int32)


def _parts(cases: list[Case]) -> list[tuple[Any, Any, Any]]:
    return [(*case.inputs, {"data_format": "NHWC", "dilations": 1, **case.attrs}) for case in cases]


def _result_like(s: Sampler, x: Any, filters: Any, depthwise: bool, attrs: Any) -> Any:
    sizes = last_dims(x.shape, attrs["data_format"])
    return s.normal(*_result_dims(sizes, filters.shape, x.ndim, depthwise, attrs))


def _cases2d(outputs: int, grouped: bool = False) -> Any:
    """Paddings, strides, dilations and formats over small images of two channels."""
    pads = ((0, 0), (1, 2), (0, 1), (0, 0))
    rows: tuple[tuple[Any, ...], ...] = (
        ((2, 4, 3, 2), (2, 2), 1, "VALID", "NHWC", 1),
        ((1, 5, 4, 2), (3, 2), 1, "SAME", "NHWC", 1),
        ((1, 5, 4, 2), (3, 3), (1, 2, 2, 1), "SAME", "NHWC", 1),
        ((1, 5, 5, 2), (2, 1), (1, 2, 3, 1), "VALID", "NHWC", 1),
        ((1, 5, 5, 2), (2, 2), 1, "SAME", "NHWC", (1, 2, 2, 1)),
        ((1, 3, 3, 2), (2, 2), (1, 2, 1, 1), pads, "NHWC", 1),
        ((1, 3, 3, 2), (1, 1), 1, "VALID", "NHWC", 1),
        ((0, 3, 3, 2), (2, 2), 1, "SAME", "NHWC", 1),
        ((1, 2, 4, 3), (2, 2), (1, 1, 2, 2), "SAME", "NCHW", 1),
    )

    def cases(s: Sampler) -> list[Case]:
        found = []
        for shape, window, strides, padding, form, dilations in rows:
            attrs = {"strides": strides, "padding": padding, "data_format": form}
            for groups in (1, 2) if grouped else (1,):
                if groups == 1 or shape[0] == 2 or form == "NCHW":
                    filters = s.normal(*window, 2 // groups, outputs)
                    inputs = (s.normal(*shape), filters)
                    found.append(Case(inputs, {**attrs, "dilations": dilations}))
        return found

    return cases


def _cases3d(s: Sampler) -> list[Case]:
    rows = (
        ((1, 3, 2, 3, 2), (2, 1, 2), 1, "SAME", "NDHWC"),
        ((1, 3, 3, 2, 1), (2, 2, 2), 2, "SAME", "NDHWC"),
        ((1, 2, 2, 3, 2), (2, 2, 2), 1, "VALID", "NCDHW"),
    )
    return [
        Case(
            (s.normal(*shape), s.normal(*window, last_dims(shape, form)[-1], 2)),
            {"strides": strides, "padding": padding, "data_format": form},
        )
        for shape, window, strides, padding, form in rows
    ]


conv2d_entry, conv2d_by_input, conv2d_by_filters = _family(
    ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"), 4, _cases2d(4, grouped=True)
)
conv3d_entry, conv3d_by_input, conv3d_by_filters = _family(
    ("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2"), 5, _cases3d
)
depthwise_entry, depthwise_by_input, depthwise_by_filters = _family(
    (
        "DepthwiseConv2dNative",
        "DepthwiseConv2dNativeBackpropInput",
        "DepthwiseConv2dNativeBackpropFilter",
    ),
    4,
    _cases2d(2),
    depthwise=True,
)
