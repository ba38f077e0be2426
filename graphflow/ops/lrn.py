"""L2Loss and local response normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import InvalidArgumentError
from graphflow.build import OPS, op
from graphflow.build.opdef import Array, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, unary
from graphflow.ops.rules import rank_is, same, whole


@op(
    "L2Loss",
    infer=lambda t: [((), t.dtype)],
    grad=lambda g, y, t: g * t,
    cases=unary(),
)
def l2_loss(xp: Any, t: RealFloat) -> Array:
    """sum(t ** 2) / 2, a scalar."""
    flat = t.reshape(t.size)
    return xp.asarray(xp.dot(flat, flat) / 2, dtype=t.dtype)


# ---- local response normalisation


def _images(x: Tensor, **_: Any) -> Specs:
    return [(rank_is(x, 4, "the input of lrn"), x.dtype)]


def window_sum(xp: Any, x: Array, depth_radius: int) -> Array:
    """For each element, the sum of those at most `depth_radius` away along the last axis."""
    channels = x.shape[-1]
    result = x if depth_radius and channels > 1 else x.copy()
    for shift in range(1, min(depth_radius, channels - 1) + 1):
        moved = xp.zeros((*x.shape[:-1], shift), x.dtype)
        above = xp.concatenate([x[..., shift:], moved], axis=-1)
        below = xp.concatenate([moved, x[..., :-shift]], axis=-1)
        result = result + above + below
    return result


def _window_grad(g: Tensor, y: Tensor, x: Tensor, **attrs: Any) -> Tensor:
    return OPS["ChannelWindowSum"](g, **attrs)


@op(
    "ChannelWindowSum",
    infer=same,
    grad=_window_grad,
    cases=lambda s: [
        Case((s.normal(2, 1, 1, 5),), {"depth_radius": radius}) for radius in (0, 1, 7)
    ],
)
def _window_sum(xp: Any, x: RealFloat, *, depth_radius: Any) -> Array:
    """For each element, the sum of those at most `depth_radius` away along the last axis."""
    return window_sum(xp, x, depth_radius)


def _lrn_grad(
    g: Tensor, y: Tensor, x: Tensor, *, depth_radius: Any, bias: Any, alpha: Any, beta: Any
) -> Tensor:
    norm = bias + alpha * _window_sum(x * x, depth_radius=depth_radius)
    inner = _window_sum(g * y / norm, depth_radius=depth_radius)
    return g * OPS["Pow"](norm, -beta) - 2.0 * alpha * beta * x * inner


@op(
    "LRN",
    infer=_images,
    grad=_lrn_grad,
    cost=lambda x, **attrs: 20.0 * float(np.prod([n or 1 for n in x.dims or ()])),
    cases=lambda s: [
        Case((s.normal(2, 1, 2, 5),), {"depth_radius": 1, "bias": 1.5, "alpha": 0.3, "beta": 0.6}),
        Case((s.normal(1, 1, 1, 3),), {"depth_radius": 5}),
        Case((s.normal(0, 1, 1, 3),), {"depth_radius": 5}),
    ],
)
def _lrn(
    xp: Any,
    x: RealFloat,
    *,
    depth_radius: Any = 5,
    bias: Any = 1.0,
    alpha: Any = 1.0,
    beta: Any = 0.5,
) -> Array:
    """x / (bias + alpha * s) ** beta, where s sums the squares of the channels at most
    `depth_radius` away; x: [batch, height, width, channels]."""
    if x.ndim != 4:
        raise InvalidArgumentError(None, None, f"images have rank 4, not shape {x.shape}")
    norm = (bias + alpha * window_sum(xp, x * x, depth_radius)) ** -beta
    return x * norm.astype(x.dtype, copy=False)  # of bfloat16 and a number, NumPy makes float32


def local_response_normalization(
    input: Any,
    depth_radius: int = 5,
    bias: float = 1.0,
    alpha: float = 1.0,
    beta: float = 0.5,
    name: str | None = None,
) -> Tensor:
    """input / (bias + alpha * sqr_sum) ** beta (Krizhevsky, Sutskever and Hinton 2012).

    Args:
      input: [batch, height, width, channels].
      depth_radius: squares are summed over the channels at most that far away.
    """
    return _lrn(
        input,
        depth_radius=whole(depth_radius, "depth_radius"),
        bias=float(bias),
        alpha=float(alpha),
        beta=float(beta),
        name=name,
    )
