"""Dropout, dense layers and activations that are more than one op."""

from __future__ import annotations

import numbers
from typing import Any

from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import OPS, as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.activations import relu
from graphflow.ops.bias import bias_add
from graphflow.ops.casting import cast
from graphflow.ops.compare import not_equal
from graphflow.ops.joining import concat
from graphflow.ops.matmul import matmul
from graphflow.ops.public import composite
from graphflow.ops.random import random_normal, random_uniform
from graphflow.ops.reduce import reduce_mean
from graphflow.ops.shape_ops import shape


def dropout(
    x: Any,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> Tensor:
    """Set elements to 0 at random and scale the others, so that the expected sum stays.

    Args:
      x: a floating tensor.
      keep_prob: probability that an element is kept; a number or a scalar tensor.
      noise_shape: shape of the random decisions, which broadcast to x; by default that of x.
      seed: the operation's seed.
      rate: 1 - keep_prob; one of the two must be given.

    Raises:
      ValueError: both or neither are given, or one is out of range.
    """
    if keep_prob is None and rate is None:
        raise GraphError("dropout needs rate (or keep_prob, its old form)")
    if keep_prob is not None:
        if rate is not None:
            raise GraphError("dropout takes rate or keep_prob = 1 - rate, not both")
        rate = 1 - keep_prob
    return dropout_v2(x, rate, noise_shape, seed, name)


def dropout_v2(
    x: Any,
    rate: Any,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """`dropout` with rate, the probability that an element is dropped, in [0, 1)."""
    with composite(name, "dropout", x):
        x = as_tensor(x, name="x")
        if not x.dtype.is_floating:
            raise GraphError(f"dropout is for floating tensors, not {x.dtype.name}: {x!r}")
        fixed = isinstance(rate, numbers.Real)
        if fixed and not 0 <= rate < 1:
            raise GraphError(f"the rate of dropout must be in [0, 1), not {rate}")
        if fixed and rate == 0:
            return x
        rate = as_tensor(rate, x.dtype, "rate")
        random = random_uniform(_noise_shape(x, noise_shape), seed=seed, dtype=x.dtype)
        scaled = x * (1.0 / (1.0 - rate))
        kept = cast(OPS["GreaterEqual"](random, rate), x.dtype)
        return scaled * kept


def _noise_shape(x: Tensor, noise_shape: Any) -> Any:
    """The shape of the decisions; None in a list stands for the size of x."""
    if noise_shape is None:
        return x.dims if x.dims is not None and None not in x.dims else shape(x)
    if isinstance(noise_shape, (list, tuple)) and None in list(noise_shape):
        sizes = x.dims if x.dims is not None else (None,) * len(noise_shape)
        return [
            n if n is not None else sizes[i] if sizes[i] is not None else shape(x)[i]
            for i, n in enumerate(noise_shape)
        ]
    return noise_shape


def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """matmul(x, weights) + biases; x [batch, in], weights [in, out], biases [out]."""
    with composite(name, "xw_plus_b", x, weights, biases) as scope:
        return bias_add(matmul(x, weights), biases, name=scope)


def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """relu(matmul(x, weights) + biases); x [batch, in], weights [in, out], biases [out]."""
    with composite(name, "relu_layer", x, weights, biases) as scope:
        return relu(bias_add(matmul(x, weights), biases), name=scope)


def noisy_relu(
    features: Any, stddev: Any = 1.0, seed: int | None = None, name: str | None = None
) -> Tensor:
    """max(0, features + noise), with noise of mean 0 and the given deviation for each element.

    (Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010,
    which takes the deviation sqrt(sigmoid(features)): pass a tensor.)

    Args:
      features: a floating tensor.
      stddev: a number, or a tensor that broadcasts to the features.
      seed: the operation's seed.
    """
    with composite(name, "noisy_relu", features) as scope:
        x = as_tensor(features, name="features")
        sizes = x.dims if x.dims is not None and None not in x.dims else shape(x)
        return relu(x + random_normal(sizes, stddev=stddev, dtype=x.dtype, seed=seed), name=scope)


def crelu(features: Any, name: str | None = None, axis: int = -1) -> Tensor:
    """relu of the features and of the negated features, concatenated along an axis.

    (Shang et al., arXiv:1603.05201.)
    """
    with composite(name, "CRelu", features) as scope:
        x = as_tensor(features, name="features")
        return relu(concat([x, -x], axis), name=scope)


def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """The share of zeros among the elements, float32; NaN where there are none."""
    with composite(name, "zero_fraction", value):
        value = as_tensor(value)
        nonzero = not_equal(value, OPS["ZerosLike"](value))
        return 1.0 - reduce_mean(cast(nonzero, dtypes.float32))
