"""Max and average pooling over any number of spatial axes, with gradients of all orders.

Max-pooling's gradient goes to the first largest element of each window, in row-major order, as
TensorFlow's; a window that holds NaN sends it to the first NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, InvalidArgumentError
from graphflow.build import op
from graphflow.build.opdef import Array, Index, OpDef, Real, RealFloat, Specs, define
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.known import shape_from
from graphflow.ops.random import sizes_of
from graphflow.ops.sums import shape_of
from graphflow.ops.windows import (
    Axis,
    axes,
    channels_last,
    counts,
    elements,
    explicit,
    format_last,
    inner,
    last_dims,
    need_rank,
    output_dims,
    padded,
    restored,
    spatial,
    taps,
)


def _attributes(rank: int, attrs: Any) -> tuple[Any, Any, Any, Any]:
    """Window, strides, dilations and padding of the spatial axes."""
    form = attrs["data_format"]
    window = spatial(attrs["ksize"], rank, "ksize", form)
    strides = spatial(attrs["strides"], rank, "strides", form)
    return window, strides, (1,) * (rank - 2), explicit(attrs["padding"], rank, form)


def _geometry(sizes: Any, rank: int, attrs: Any) -> tuple[Axis, ...]:
    """Raises:
    InvalidArgumentError: the window does not fit; sizes have channels last.
    """
    if len(sizes) != rank:
        raise InvalidArgumentError(
            None, None, f"the input of pooling must have rank {rank}, not shape {tuple(sizes)}"
        )
    geometry = axes(sizes[1:-1], *_attributes(len(sizes), attrs))
    if any(a.size and not a.out for a in geometry):
        raise InvalidArgumentError(
            None, None, f"a window of {attrs['ksize']} does not fit on an input of shape {sizes}"
        )
    return geometry


def _pooled(x: Tensor, rank: int, attrs: Any) -> Any:
    """Dims of the result, in the data format."""
    need_rank(x.dims, rank, "the input of pooling")
    sizes = last_dims(x.dims, attrs["data_format"])
    out = output_dims(sizes, *_attributes(rank, attrs), rank)
    batch, channels = (sizes[0], sizes[-1]) if sizes else (None, None)
    return format_last((batch, *out, channels), attrs["data_format"])


def _work(x: Any, attrs: Any) -> float:
    """One flop per tap; windows that overlap see elements more than once."""
    sizes = attrs["ksize"] if isinstance(attrs["ksize"], tuple) else (attrs["ksize"],)
    return elements(x.dims) * elements(sizes)


def _lowest(dtype: Any) -> Any:
    return -np.inf if dtype.kind not in "iu" else np.iinfo(dtype).min


# ---- kernels


def _max_pool(xp: Any, x: Array, rank: int, attrs: Any) -> Array:
    x = channels_last(xp, x, attrs["data_format"])
    geometry = _geometry(x.shape, rank, attrs)
    whole = padded(xp, x, geometry, _lowest(x.dtype))
    result = None
    for _, index in taps(geometry):
        part = whole[index]
        result = part if result is None else xp.maximum(result, part)
    return restored(xp, xp.ascontiguousarray(result), attrs["data_format"])


def _first_hits(xp: Any, whole: Array, y: Array, geometry: Any) -> Iterator[tuple[Any, Array]]:
    """For each tap: its slice, and whether it is the one its window took."""
    taken = xp.zeros(y.shape, bool)
    for _, index in taps(geometry):
        part = whole[index]
        hit = ((part == y) | (part != part)) & ~taken
        taken |= hit
        yield index, hit


def _max_pool_grad(xp: Any, x: Array, y: Array, g: Array, rank: int, attrs: Any) -> Array:
    x, y, g = [channels_last(xp, a, attrs["data_format"]) for a in (x, y, g)]
    geometry = _geometry(x.shape, rank, attrs)
    _check_result(g.shape, x.shape, geometry)
    _check_result(y.shape, x.shape, geometry)
    whole = padded(xp, x, geometry, _lowest(x.dtype))
    result = xp.zeros(whole.shape, g.dtype)
    for index, hit in _first_hits(xp, whole, y, geometry):
        result[index] += xp.where(hit, g, xp.zeros((), g.dtype))
    return restored(xp, xp.ascontiguousarray(result[inner(geometry)]), attrs["data_format"])


def _max_pool_grad_grad(xp: Any, x: Array, y: Array, gg: Array, rank: int, attrs: Any) -> Array:
    x, y, gg = [channels_last(xp, a, attrs["data_format"]) for a in (x, y, gg)]
    geometry = _geometry(x.shape, rank, attrs)
    _check_result(y.shape, x.shape, geometry)
    whole = padded(xp, x, geometry, _lowest(x.dtype))
    spread = padded(xp, gg, geometry)
    result = xp.zeros(y.shape, gg.dtype)
    for index, hit in _first_hits(xp, whole, y, geometry):
        result = xp.where(hit, spread[index], result)
    return restored(xp, result, attrs["data_format"])


def _avg_pool(xp: Any, x: Array, rank: int, attrs: Any) -> Array:
    x = channels_last(xp, x, attrs["data_format"])
    geometry = _geometry(x.shape, rank, attrs)
    whole = padded(xp, x, geometry)
    result = xp.zeros((x.shape[0], *[a.out for a in geometry], x.shape[-1]), x.dtype)
    for _, index in taps(geometry):
        result += whole[index]
    return restored(xp, result / xp.asarray(counts(geometry, x.dtype)), attrs["data_format"])


def _avg_pool_grad(xp: Any, sizes: Any, g: Array, rank: int, attrs: Any) -> Array:
    dims = last_dims(sizes_of(sizes), attrs["data_format"])
    geometry = _geometry(dims, rank, attrs)
    g = channels_last(xp, g, attrs["data_format"])
    _check_result(g.shape, dims, geometry)
    share = g / xp.asarray(counts(geometry, g.dtype))
    result = xp.zeros((dims[0], *[a.padded for a in geometry], dims[-1]), g.dtype)
    for _, index in taps(geometry):
        result[index] += share
    return restored(xp, xp.ascontiguousarray(result[inner(geometry)]), attrs["data_format"])


def _check_result(found: Any, sizes: Any, geometry: Any) -> None:
    wanted = (sizes[0], *[a.out for a in geometry], sizes[-1])
    if found != wanted:
        raise InvalidArgumentError(
            None, None, f"pooling an input of shape {sizes} gives shape {wanted}, not {found}"
        )


# ---- signatures


def _max_like(
    xp: Any, x: Real, *, ksize: Any, strides: Any, padding: Any, data_format: Any = "NHWC"
) -> None:
    """The largest element of each window; padding never is. [batch, *size, channels]."""


def _max_grad_like(
    xp: Any,
    x: RealFloat,
    y: RealFloat,
    g: RealFloat,
    *,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: Any = "NHWC",
) -> None:
    """Gradient of max-pooling: g goes where y, the largest element of each window of x, was."""


def _max_grad_grad_like(
    xp: Any,
    x: RealFloat,
    y: RealFloat,
    gg: RealFloat,
    *,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: Any = "NHWC",
) -> None:
    """The elements of gg, shaped like x, at the place of each window's largest element in x."""


def _avg_like(
    xp: Any, x: RealFloat, *, ksize: Any, strides: Any, padding: Any, data_format: Any = "NHWC"
) -> None:
    """The mean of each window, over what is not padding. [batch, *size, channels]."""


def _avg_grad_like(
    xp: Any,
    sizes: Index,
    g: RealFloat,
    *,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: Any = "NHWC",
) -> None:
    """Gradient of average pooling by its input, whose shape is `sizes`."""


# ---- entries


def _cases(rank: int, signature: str) -> Any:
    """`signature`: x input, y pooled result, g like the result, i like the input, s sizes."""
    rows: tuple[tuple[Any, ...], ...] = (
        ((2, 4, 4, 2), 2, 2, "VALID", "NHWC"),
        ((1, 5, 4, 1), (1, 3, 2, 1), (1, 2, 1, 1), "SAME", "NHWC"),
        ((1, 5, 3, 2), (1, 2, 2, 1), (1, 1, 1, 1), "VALID", "NHWC"),
        ((0, 3, 3, 1), 2, 2, "SAME", "NHWC"),
        ((1, 2, 3, 4), (1, 1, 2, 2), (1, 1, 2, 2), "SAME", "NCHW"),
    )
    if rank == 5:
        rows = (
            ((1, 2, 3, 3, 2), 2, 1, "SAME", "NDHWC"),
            ((1, 2, 4, 2, 2), (1, 1, 2, 2, 2), (1, 1, 1, 2, 2), "VALID", "NCDHW"),
        )

    def cases(s: Sampler) -> list[Case]:
        made = []
        for shape, ksize, strides, padding, form in rows:
            attrs = {"ksize": ksize, "strides": strides, "padding": padding, "data_format": form}
            x = s.distinct(*shape)
            y = _max_pool(np, x, rank, attrs)
            inputs = {
                "x": x,
                "y": y,
                "g": s.normal(*y.shape),
                "i": s.normal(*x.shape),
                "s": np.array(x.shape, np.int32),
            }
            check = None if signature == "x" else (len(signature) - 1,)
            made.append(Case(tuple([inputs[c] for c in signature]), attrs, check))
        return made

    return cases


def _max_family(prefix: str, rank: int) -> tuple[OpDef, OpDef, OpDef]:
    """Enter max-pooling, its gradient, and that one's gradient."""

    def infer(x: Tensor, **attrs: Any) -> Specs:
        return [(_pooled(x, rank, attrs), x.dtype)]

    def grad(g: Tensor, y: Tensor, x: Tensor, **attrs: Any) -> Any:
        return backward(x, y, g, **attrs)

    def grad_grad(gg: Any, dx: Any, x: Any, y: Any, g: Any, **attrs: Any) -> Any:
        return None, None, again(x, y, gg, **attrs)

    forward = define(
        prefix,
        lambda xp, x, **attrs: _max_pool(xp, x, rank, attrs),
        like=_max_like,
        infer=infer,
        grad=grad,
        cost=lambda x, **attrs: _work(x, attrs),
        cases=_cases(rank, "x"),
    )
    backward = define(
        f"{prefix}Grad",
        lambda xp, x, y, g, **attrs: _max_pool_grad(xp, x, y, g, rank, attrs),
        like=_max_grad_like,
        infer=lambda x, y, g, **_: [(x.dims, g.dtype)],
        grad=grad_grad,
        cost=lambda x, y, g, **attrs: 3.0 * _work(x, attrs),
        cases=_cases(rank, "xyg"),
    )
    again = define(
        f"{prefix}GradGrad",
        lambda xp, x, y, gg, **attrs: _max_pool_grad_grad(xp, x, y, gg, rank, attrs),
        like=_max_grad_grad_like,
        infer=lambda x, y, gg, **_: [(y.dims, gg.dtype)],
        grad=lambda g, y2, x, y, gg, **attrs: (None, None, backward(x, y, g, **attrs)),
        cost=lambda x, y, gg, **attrs: 3.0 * _work(x, attrs),
        cases=_cases(rank, "xyi"),
    )
    return forward, backward, again


def _avg_family(prefix: str, rank: int) -> tuple[OpDef, OpDef]:
    """Enter average pooling and its gradient, each the gradient of the other."""

    def infer(x: Tensor, **attrs: Any) -> Specs:
        return [(_pooled(x, rank, attrs), x.dtype)]

    def infer_input(sizes: Tensor, g: Tensor, **attrs: Any) -> Specs:
        dims = shape_from(sizes)
        need_rank(dims, rank, "the shape that average pooling's gradient takes")
        return [(dims or (None,) * rank, g.dtype)]

    def grad(g: Tensor, y: Tensor, x: Tensor, **attrs: Any) -> Any:
        return backward(shape_of(x), g, **attrs)

    forward = define(
        prefix,
        lambda xp, x, **attrs: _avg_pool(xp, x, rank, attrs),
        like=_avg_like,
        infer=infer,
        grad=grad,
        cost=lambda x, **attrs: _work(x, attrs),
        cases=_cases(rank, "x"),
    )
    backward = define(
        f"{prefix}Grad",
        lambda xp, sizes, g, **attrs: _avg_pool_grad(xp, sizes, g, rank, attrs),
        like=_avg_grad_like,
        infer=infer_input,
        grad=lambda gg, y, sizes, g, **attrs: (None, forward(gg, **attrs)),
        host=("sizes",),
        cost=lambda sizes, g, **attrs: _work(g, attrs),
        cases=_cases(rank, "sg"),
    )
    return forward, backward


max_pool_entry, max_pool_grad_entry, _ = _max_family("MaxPool", 4)
max_pool3d_entry, max_pool3d_grad_entry, _ = _max_family("MaxPool3D", 5)
avg_pool_entry, _ = _avg_family("AvgPool", 4)
avg_pool3d_entry, _ = _avg_family("AvgPool3D", 5)


# ---- with the places of the maxima


def _argmax_spec(x: Tensor, *, Targmax: Any, include_batch_in_index: bool, **attrs: Any) -> Specs:
    dims = _pooled(x, 4, {**attrs, "data_format": "NHWC"})
    return [(dims, x.dtype), (dims, Targmax)]


def _argmax_grad(
    g: Any, y: Any, x: Tensor, *, Targmax: Any, include_batch_in_index: bool, **attrs: Any
) -> Any:
    return None if g[0] is None else max_pool_grad_entry(x, y[0], g[0], **attrs)


@op(
    "MaxPoolWithArgmax",
    infer=_argmax_spec,
    grad=_argmax_grad,
    cost=lambda x, **attrs: 4.0 * _work(x, attrs),
    cases=lambda s: [
        Case(
            (s.distinct(2, 5, 4, 2),),
            {"ksize": 2, "strides": 2, "padding": padding, "include_batch_in_index": batch},
        )
        for padding, batch in (("SAME", False), ("VALID", True))
    ],
)
def _with_argmax(
    xp: Any,
    x: RealFloat,
    *,
    ksize: Any,
    strides: Any,
    padding: Any,
    Targmax: Any = dtypes.int64,
    include_batch_in_index: bool = False,
) -> tuple[Array, Array]:
    """The largest element of each window, and its place (h * width + w) * channels + c in the
    image (with the batch: in the whole input); x: [batch, height, width, channels]."""
    attrs = {"ksize": ksize, "strides": strides, "padding": padding, "data_format": "NHWC"}
    y = _max_pool(xp, x, 4, attrs)
    geometry = _geometry(x.shape, 4, attrs)
    whole = padded(xp, x, geometry, _lowest(x.dtype))
    each = math.prod(x.shape[1:])  # also where there are no images
    places = xp.arange(each, dtype=Targmax.np).reshape(1, *x.shape[1:])
    spread = padded(xp, places, geometry)
    result = xp.zeros(y.shape, Targmax.np)
    for index, hit in _first_hits(xp, whole, y, geometry):
        result = xp.where(hit, spread[index], result)
    if include_batch_in_index:
        offset = xp.arange(x.shape[0], dtype=Targmax.np) * each
        result = result + offset.reshape(-1, 1, 1, 1)
    return y, result


def max_pool_with_argmax(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NHWC",
    Targmax: Any = dtypes.int64,
    name: str | None = None,
    output_dtype: Any = None,
    include_batch_in_index: bool = False,
) -> tuple[Tensor, Tensor]:
    """The largest element of each window and its place, flattened.

    Args:
      input: [batch, height, width, channels].
      ksize, strides: size and distance of the windows.
      padding: "SAME" or "VALID".
      data_format: "NHWC".
      Targmax: dtype of the places, int32 or int64; `output_dtype` is its newer name.
      include_batch_in_index: count over the whole input, not over each image.

    Raises:
      ValueError: another data format.
    """
    if data_format != "NHWC":
        raise GraphError(f"max_pool_with_argmax is for NHWC, not {data_format!r}")
    dtype = dtypes.as_dtype(Targmax if output_dtype is None else output_dtype)
    return _with_argmax(
        input,
        ksize=tuple(ksize) if isinstance(ksize, list) else ksize,
        strides=tuple(strides) if isinstance(strides, list) else strides,
        padding=padding,
        Targmax=dtype,
        include_batch_in_index=include_batch_in_index,
        name=name,
    )
