"""Moments and the normalisations over them."""

from __future__ import annotations

from typing import Any

from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import OPS, as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.arithmetic import maximum, multiply, squared_difference
from graphflow.ops.bias import channel_axis, channels_first
from graphflow.ops.casting import cast
from graphflow.ops.elementary import rsqrt, square
from graphflow.ops.public import composite, renamed
from graphflow.ops.reduce import reduce_mean, reduce_sum
from graphflow.ops.shape_ops import reshape, size, squeeze
from graphflow.ops.sources import identity


def moments(
    x: Any,
    axes: Any,
    shift: Any = None,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and variance (mean squared distance from the mean) over some axes.

    Args:
      x: floating; float16 is computed in float32.
      axes: the axes to go over.
      shift: accepted, without meaning, as in TensorFlow.
      keepdims: keep these axes with size 1; `keep_dims` is its old name.
    """
    keep = bool(renamed(keepdims, keep_dims, "keepdims", "keep_dims", False))
    with composite(name, "moments", x):
        x = as_tensor(x, name="x")
        wide = cast(x, dtypes.float32) if x.dtype.size == 2 else x
        mean = reduce_mean(wide, axes, keepdims=True, name="mean")
        # TensorFlow stops the gradient of this mean, which is 0. But its own gradient is not:
        # without stopping, the second order is right.
        variance = reduce_mean(squared_difference(wide, mean), axes, keepdims=True, name="variance")
        if not keep:
            dropped = list(axes) if isinstance(axes, (list, tuple)) else [axes]
            mean, variance = squeeze(mean, dropped), squeeze(variance, dropped)
        return cast(mean, x.dtype), cast(variance, x.dtype)


def weighted_moments(
    x: Any,
    axes: Any,
    frequency_weights: Any,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """As `moments`, where each element counts by its weight; weights broadcast to x."""
    keep = bool(renamed(keepdims, keep_dims, "keepdims", "keep_dims", False))
    with composite(name, "weighted_moments", x, frequency_weights):
        x = as_tensor(x, name="x")
        weights = cast(as_tensor(frequency_weights, name="frequency_weights"), x.dtype)
        weights = weights + OPS["ZerosLike"](x)  # their sum is over all elements of x
        total = reduce_sum(weights, axes, keepdims=True)
        mean = reduce_sum(weights * x, axes, keepdims=True) / total
        squares = reduce_sum(weights * squared_difference(x, mean), axes, keepdims=True)
        variance = squares / total
        if not keep:
            dropped = list(axes) if isinstance(axes, (list, tuple)) else [axes]
            mean, variance = squeeze(mean, dropped), squeeze(variance, dropped)
        return mean, variance


def sufficient_statistics(
    x: Any,
    axes: Any,
    shift: Any = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Count, sum, sum of squares (both of x - shift), and the shift or None."""
    keep = bool(renamed(keepdims, keep_dims, "keepdims", "keep_dims", False))
    with composite(name, "sufficient_statistics", x, shift):
        x = as_tensor(x, name="x")
        picked = size(reduce_sum(x, axes, keepdims=True))
        count = cast(size(x), x.dtype) / cast(picked, x.dtype)
        moved = x
        if shift is not None:
            shift = as_tensor(shift, x.dtype, "shift")
            moved = x - shift
        total = reduce_sum(moved, axes, keepdims=keep, name="mean_ss")
        squares = reduce_sum(square(moved), axes, keepdims=keep, name="var_ss")
        return count, total, squares, shift


def normalize_moments(
    counts: Any, mean_ss: Any, variance_ss: Any, shift: Any, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance from what `sufficient_statistics` gives."""
    with composite(name, "normalize", counts, mean_ss, variance_ss):
        total = as_tensor(mean_ss)
        factor = 1.0 / as_tensor(counts, total.dtype)
        moved = total * factor
        mean = moved if shift is None else moved + shift
        return mean, as_tensor(variance_ss) * factor - square(moved)


def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: Any,
    name: str | None = None,
) -> Tensor:
    """scale * (x - mean) / sqrt(variance + variance_epsilon) + offset.

    Args:
      x: a floating tensor.
      mean, variance: of shapes that broadcast to x, as `moments` with keepdims=True gives.
      offset, scale: tensors, or None to leave them out.
    """
    with composite(name, "batchnorm", x, mean, variance, scale, offset):
        x = as_tensor(x)
        inverse = rsqrt(as_tensor(variance) + variance_epsilon)
        if scale is not None:
            inverse = inverse * scale
        shift = -as_tensor(mean) * inverse if offset is None else offset - mean * inverse
        return x * cast(inverse, x.dtype) + cast(shift, x.dtype)


def fused_batch_norm(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any = None,
    variance: Any = None,
    epsilon: float = 0.001,
    data_format: str = "NHWC",
    is_training: bool = True,
    name: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation of images.

    Args:
      x: [batch, height, width, channels], or channels second where "NCHW".
      scale, offset: [channels].
      mean, variance: [channels]; what to normalise with where not training.
      epsilon: added to the variance; at least 1.001e-5.
      is_training: normalise with the moments of the batch.

    Returns:
      The result, and mean and variance [channels]: of the batch (the variance with Bessel's
      correction) where training, else those given.

    Raises:
      ValueError: mean or variance is missing where not training.
    """
    if not is_training and (mean is None or variance is None):
        raise GraphError("fused_batch_norm needs mean and variance where is_training is False")
    with composite(name, "FusedBatchNorm", x, scale, offset):
        x = as_tensor(x)
        wide = cast(x, dtypes.float32) if x.dtype.size == 2 else x
        rank = 4 if x.dims is None else len(x.dims)
        axes = [i for i in range(rank) if i != channel_axis(rank, data_format)]
        if is_training:
            mean, variance = moments(wide, axes)
        mean, variance = as_tensor(mean), as_tensor(variance)
        first = channels_first(data_format)
        m, v, b, k = [_spread(t, rank, first) for t in (mean, variance, offset, scale)]
        y = batch_normalization(wide, m, v, b, k, max(epsilon, 1.001e-5))
        if is_training:
            count = cast(size(wide), wide.dtype) / cast(size(mean), wide.dtype)
            variance = variance * (count / maximum(count - 1.0, 1.0))
        return cast(y, x.dtype), identity(mean), identity(variance)


def _spread(x: Any, rank: int, first: bool) -> Tensor:
    """A vector of the channels, to broadcast over images."""
    return reshape(x, [1, -1, *[1] * (rank - 2)]) if first else as_tensor(x)


def batch_norm_with_global_normalization(
    t: Any = None,
    m: Any = None,
    v: Any = None,
    beta: Any = None,
    gamma: Any = None,
    variance_epsilon: Any = None,
    scale_after_normalization: Any = None,
    name: str | None = None,
    input: Any = None,
    mean: Any = None,
    variance: Any = None,
) -> Tensor:
    """Batch normalisation of t [batch, height, width, channels] with m, v, beta, gamma [channels].

    gamma is used where scale_after_normalization is True.
    """
    t = renamed(t, input, "t", "input")
    m = renamed(m, mean, "m", "mean")
    v = renamed(v, variance, "v", "variance")
    scale = gamma if scale_after_normalization else None
    return batch_normalization(t, m, v, beta, scale, variance_epsilon, name)


def l2_normalize(
    x: Any,
    axis: Any = None,
    epsilon: float = 1e-12,
    name: str | None = None,
    dim: Any = None,
) -> Tensor:
    """x / sqrt(max(sum(x ** 2), epsilon)), the sum along `axis` (old name: dim)."""
    axis = renamed(axis, dim, "axis", "dim")
    with composite(name, "l2_normalize", x) as scope:
        x = as_tensor(x, name="x")
        squares = reduce_sum(square(x), axis, keepdims=True)
        return multiply(x, rsqrt(OPS["Maximum"](squares, epsilon)), name=scope)
