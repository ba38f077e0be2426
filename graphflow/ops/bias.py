"""BiasAdd, and the data formats of images."""

from __future__ import annotations

from typing import Any

from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import Dims, format_dims
from graphflow.build import op
from graphflow.build.opdef import Array, Num, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.filling import zeros_like
from graphflow.ops.sums import total


def channels_first(data_format: Any) -> bool:
    """Is it "NCHW" (or NCW, NCDHW), not "NHWC"?

    Raises:
      GraphError: it is neither.
    """
    if data_format in (None, "", "NHWC", "NWC", "NDHWC"):
        return False
    if data_format in ("NCHW", "NCW", "NCDHW"):
        return True
    raise GraphError(f"data_format must be NHWC or NCHW, or of 1 or 3 axes, not {data_format!r}")


def channel_axis(rank: int, data_format: Any) -> int:
    """Position of the channels."""
    return 1 if channels_first(data_format) else rank - 1


def _biased(value: Tensor, bias: Tensor, *, data_format: Any) -> Specs:
    if bias.dims is not None and len(bias.dims) != 1:
        raise ShapeError(f"the bias must be a vector, not of shape {format_dims(bias.dims)}")
    first = channels_first(data_format)
    if value.dims is None:
        return [(None, value.dtype)]
    if len(value.dims) < (3 if first else 2):
        raise ShapeError(
            f"a value with bias has at least rank {3 if first else 2}, not shape "
            f"{format_dims(value.dims)}"
        )
    axis = channel_axis(len(value.dims), data_format)
    channels = None if bias.dims is None else bias.dims[0]
    mine = value.dims[axis]
    if None not in (mine, channels) and mine != channels:
        raise ShapeError(
            f"a bias of size {channels} for {mine} channels, in a value of shape "
            f"{format_dims(value.dims)}"
        )
    dims: Dims = (*value.dims[:axis], channels if mine is None else mine, *value.dims[axis + 1 :])
    return [(dims, value.dtype)]


def _bias_add_grad(
    g: Tensor, y: Tensor, value: Tensor, bias: Tensor, *, data_format: Any
) -> tuple[Tensor, Tensor]:
    return g, _bias_grad(g, data_format=data_format)


def _cases(s: Sampler) -> list[Case]:
    shapes = (((2, 3), "NHWC"), ((2, 2, 1, 3), "NHWC"), ((0, 3), "NHWC"), ((2, 3, 1, 2), "NCHW"))
    return [
        Case((s.normal(*shape), s.normal(3)), {"data_format": data_format})
        for shape, data_format in shapes
    ]


@op("BiasAdd", infer=_biased, grad=_bias_add_grad, cases=_cases)
def _bias_add(xp: Any, value: Num, bias: Num, *, data_format: Any = "NHWC") -> Array:
    """value + bias, where the bias [channels] goes along the axis of channels.

    That is the last axis, or axis 1 where data_format is "NCHW".
    """
    # NumPy would repeat a bias of one number, and make more of a value than there is.
    if value.ndim < 2 or bias.shape != (value.shape[channel_axis(value.ndim, data_format)],):
        raise InvalidArgumentError(
            None, None, f"a bias of shape {bias.shape} for a value of shape {value.shape}"
        )
    return value + _along_channels(bias, value.ndim, data_format)


def _along_channels(bias: Array, rank: int, data_format: Any) -> Array:
    if not channels_first(data_format):
        return bias
    return bias.reshape(bias.shape[0], *[1] * (rank - 2))


def _vector(g: Tensor, *, data_format: Any) -> Specs:
    if g.dims is not None and len(g.dims) < 2:
        raise ShapeError(f"the gradient of a bias has rank at least 2, not {format_dims(g.dims)}")
    channels = None if g.dims is None else g.dims[channel_axis(len(g.dims), data_format)]
    return [((channels,), g.dtype)]


def _bias_grad_grad(gg: Tensor, y: Tensor, g: Tensor, *, data_format: Any) -> Tensor:
    return _bias_add(zeros_like(g), gg, data_format=data_format)


@op(
    "BiasAddGrad",
    infer=_vector,
    grad=_bias_grad_grad,
    cases=lambda s: [Case((c.inputs[0],), c.attrs) for c in _cases(s)],
)
def _bias_grad(xp: Any, g: Num, *, data_format: Any = "NHWC") -> Array:
    """The sum of g over all axes but that of the channels: [channels]."""
    if g.ndim < 2:
        raise InvalidArgumentError(
            None, None, f"the gradient of a bias has rank at least 2, not shape {g.shape}"
        )
    axis = channel_axis(g.ndim, data_format)
    return total(xp, g, tuple([i for i in range(g.ndim) if i != axis]))


def bias_add(
    value: Any, bias: Any, data_format: str | None = None, name: str | None = None
) -> Tensor:
    """value + bias along the axis of channels.

    Args:
      value: [batch, ..., channels], or [batch, channels, ...] where data_format is "NCHW".
      bias: [channels].
      data_format: "NHWC" (default, also "N...C") or "NCHW" ("NC...").
    """
    if data_format is not None and not isinstance(data_format, str):
        raise DTypeError(f"data_format must be a string, not {data_format!r}")
    first = data_format is not None and data_format.startswith("NC")
    if data_format not in (None, "N...C", "NC..."):
        channels_first(data_format)
    return _bias_add(value, bias, data_format="NCHW" if first else "NHWC", name=name)
