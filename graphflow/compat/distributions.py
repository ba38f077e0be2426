"""Probability distributions, as `tf.distributions` and `tf.contrib.distributions` spell them.

Parameters broadcast to a batch of distributions.  With a seed, samples are TensorFlow's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphflow import nn, ops
from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import GraphError
from graphflow.base.shapes import TensorShape
from graphflow.build import Tensor, as_tensor
from graphflow.ops.public import composite
from graphflow.ops.rules import broadcast_dims


class Distribution:
    """A batch of distributions of scalars.

    Subclasses give `_log_prob`, `_sample`, and what else they know in closed form.

    Attributes:
      name: prefix of the names of what it builds.
      dtype: of samples.
    """

    def __init__(self, name: str, dtype: DType, *parameters: Tensor):
        self.name = name
        self.dtype = dtype
        self._parameters = parameters

    # ---- shapes

    @property
    def batch_shape(self) -> TensorShape:
        dims = self._parameters[0].dims
        for parameter in self._parameters[1:]:
            dims = broadcast_dims(dims, parameter.dims)
        return TensorShape(dims)

    @property
    def event_shape(self) -> TensorShape:
        return TensorShape([])

    def batch_shape_tensor(self, name: str = "batch_shape_tensor") -> Tensor:
        """The shape of the batch, as a tensor."""
        with composite(name, name, *self._parameters):
            total = ops.shape(self._parameters[0])
            for parameter in self._parameters[1:]:
                total = ops.broadcast_dynamic_shape(total, ops.shape(parameter))
            return total

    def event_shape_tensor(self, name: str = "event_shape_tensor") -> Tensor:
        return ops.constant(np.zeros(0, np.int32), name=name)

    # ---- what every distribution gives

    def sample(self, sample_shape: Any = (), seed: int | None = None, name: str = "sample") -> Any:
        """Independent samples: [*sample_shape, *batch_shape]."""
        with composite(f"{self.name}/{name}/", name, *self._parameters):
            sizes = as_tensor(
                np.asarray(sample_shape, np.int32)
                if isinstance(sample_shape, (tuple, list, int))
                else sample_shape
            )
            sizes = ops.reshape(sizes, [-1])
            count = ops.reduce_prod(sizes)
            batch = self.batch_shape_tensor()
            drawn = self._sample(ops.concat([[count], batch], 0), seed)
            return ops.reshape(drawn, ops.concat([sizes, batch], 0))

    def log_prob(self, value: Any, name: str = "log_prob") -> Tensor:
        """The logarithm of the density, or of the probability, at a value."""
        return self._at(self._log_prob, value, name)

    def prob(self, value: Any, name: str = "prob") -> Tensor:
        """The density, or the probability, at a value."""
        return self._at(lambda x: ops.exp(self._log_prob(x)), value, name)

    def cdf(self, value: Any, name: str = "cdf") -> Tensor:
        """The probability of at most a value."""
        return self._at(self._cdf, value, name)

    def log_cdf(self, value: Any, name: str = "log_cdf") -> Tensor:
        """The logarithm of `cdf`."""
        return self._at(lambda x: ops.log(self._cdf(x)), value, name)

    def survival_function(self, value: Any, name: str = "survival_function") -> Tensor:
        """1 - cdf."""
        return self._at(lambda x: 1.0 - self._cdf(x), value, name)

    def mean(self, name: str = "mean") -> Tensor:
        return self._of(self._mean, name)

    def variance(self, name: str = "variance") -> Tensor:
        return self._of(self._variance, name)

    def stddev(self, name: str = "stddev") -> Tensor:
        return self._of(lambda: ops.sqrt(self._variance()), name)

    def entropy(self, name: str = "entropy") -> Tensor:
        """The entropy, in nats."""
        return self._of(self._entropy, name)

    def mode(self, name: str = "mode") -> Tensor:
        return self._of(self._mode, name)

    def kl_divergence(self, other: Distribution, name: str = "kl_divergence") -> Tensor:
        """The Kullback-Leibler divergence from this distribution to another of its kind."""
        return kl_divergence(self, other, name=name)

    def _at(self, function: Any, value: Any, name: str) -> Tensor:
        with composite(f"{self.name}/{name}/", name, *self._parameters):
            found: Tensor = function(as_tensor(value, self.dtype))
            return found

    def _of(self, function: Any, name: str) -> Tensor:
        with composite(f"{self.name}/{name}/", name, *self._parameters):
            found: Tensor = function()
            return found

    def _whole(self, x: Any) -> Tensor:
        """A statistic in the shape of the batch."""
        return ops.broadcast_to(x, self.batch_shape_tensor())

    # ---- what subclasses know

    def _sample(self, shape: Tensor, seed: int | None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no samples")

    def _log_prob(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no density")

    def _cdf(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no cdf")

    def _mean(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no mean")

    def _variance(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no variance")

    def _entropy(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no entropy")

    def _mode(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no mode")


def _floats(*values: Any) -> list[Tensor]:
    """Parameters as tensors of one floating dtype."""
    known = [v.dtype for v in values if hasattr(v, "dtype")]
    dtype = as_dtype(known[0]) if known else dtypes.float32
    return [as_tensor(v, dtype) for v in values]


class Normal(Distribution):
    """Normal distributions with means `loc` and standard deviations `scale`."""

    def __init__(
        self, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True,
        name: str = "Normal",
    ):  # fmt: skip
        self.loc, self.scale = _floats(loc, scale)
        super().__init__(name, self.loc.dtype, self.loc, self.scale)

    def _sample(self, shape: Tensor, seed: int | None) -> Tensor:
        return ops.random_normal(shape, dtype=self.dtype, seed=seed) * self.scale + self.loc

    def _log_prob(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        return -0.5 * ops.square(z) - (0.5 * math.log(2 * math.pi) + ops.log(self.scale))

    def _cdf(self, x: Tensor) -> Tensor:
        return 0.5 * ops.erfc((self.loc - x) / (self.scale * math.sqrt(2)))

    def _mean(self) -> Tensor:
        return self._whole(self.loc)

    _mode = _mean

    def _variance(self) -> Tensor:
        return self._whole(ops.square(self.scale))

    def _entropy(self) -> Tensor:
        return self._whole(0.5 * math.log(2 * math.pi * math.e) + ops.log(self.scale))


class Laplace(Distribution):
    """Laplace distributions: densities exp(-|x - loc| / scale) / (2 scale)."""

    def __init__(
        self, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True,
        name: str = "Laplace",
    ):  # fmt: skip
        self.loc, self.scale = _floats(loc, scale)
        super().__init__(name, self.loc.dtype, self.loc, self.scale)

    def _sample(self, shape: Tensor, seed: int | None) -> Tensor:
        least = np.nextafter(self.dtype.np.type(-1), self.dtype.np.type(0))
        u = ops.random_uniform(shape, least, 1.0, self.dtype, seed)
        return self.loc - self.scale * ops.sign(u) * ops.log1p(-ops.abs(u))

    def _log_prob(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        return -ops.abs(z) - math.log(2) - ops.log(self.scale)

    def _cdf(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        return 0.5 - 0.5 * ops.sign(z) * ops.expm1(-ops.abs(z))

    def _mean(self) -> Tensor:
        return self._whole(self.loc)

    _mode = _mean

    def _variance(self) -> Tensor:
        return self._whole(2.0 * ops.square(self.scale))

    def _entropy(self) -> Tensor:
        return self._whole(math.log(2) + 1.0 + ops.log(self.scale))


class Uniform(Distribution):
    """Uniform distributions over [low, high)."""

    def __init__(
        self, low: Any = 0.0, high: Any = 1.0, validate_args: bool = False,
        allow_nan_stats: bool = True, name: str = "Uniform",
    ):  # fmt: skip
        self.low, self.high = _floats(low, high)
        super().__init__(name, self.low.dtype, self.low, self.high)

    def range(self, name: str = "range") -> Tensor:
        """high - low."""
        return ops.subtract(self.high, self.low, name=name)

    def _sample(self, shape: Tensor, seed: int | None) -> Tensor:
        u = ops.random_uniform(shape, dtype=self.dtype, seed=seed)
        return self.low + (self.high - self.low) * u

    def _log_prob(self, x: Tensor) -> Tensor:
        return ops.log(self._density(x))

    def _density(self, x: Tensor) -> Tensor:
        span = (x - x) + (self.high - self.low)  # NaN where x is
        inside = ops.logical_and(x >= self.low, x < self.high)
        outside = ops.logical_and(ops.logical_not(inside), ops.logical_not(ops.is_nan(x)))
        return ops.where_v2(outside, ops.zeros_like(span), 1.0 / span)

    def prob(self, value: Any, name: str = "prob") -> Tensor:
        return self._at(self._density, value, name)

    def _cdf(self, x: Tensor) -> Tensor:
        return ops.clip_by_value((x - self.low) / (self.high - self.low), 0.0, 1.0)

    def _mean(self) -> Tensor:
        return (self.low + self.high) / 2.0

    def _variance(self) -> Tensor:
        return ops.square(self.high - self.low) / 12.0

    def _entropy(self) -> Tensor:
        return ops.log(self.high - self.low)


class Exponential(Distribution):
    """Exponential distributions: densities rate exp(-rate x) for x >= 0."""

    def __init__(
        self, rate: Any, validate_args: bool = False, allow_nan_stats: bool = True,
        name: str = "Exponential",
    ):  # fmt: skip
        (self.rate,) = _floats(rate)
        super().__init__(name, self.rate.dtype, self.rate)

    def _sample(self, shape: Tensor, seed: int | None) -> Tensor:
        tiny = np.finfo(self.dtype.np).tiny
        u = ops.random_uniform(shape, tiny, 1.0, self.dtype, seed)
        return -ops.log(u) / self.rate

    def _log_prob(self, x: Tensor) -> Tensor:
        return ops.log(self.rate) - self.rate * x

    def _cdf(self, x: Tensor) -> Tensor:
        return -ops.expm1(-self.rate * ops.maximum(x, ops.zeros_like(x)))

    def _mean(self) -> Tensor:
        return 1.0 / self.rate

    def _mode(self) -> Tensor:
        return ops.zeros_like(self.rate)

    def _variance(self) -> Tensor:
        return 1.0 / ops.square(self.rate)

    def _entropy(self) -> Tensor:
        return 1.0 - ops.log(self.rate)


def _one_of(logits: Any, probs: Any, what: str) -> Any:
    if (logits is None) == (probs is None):
        raise GraphError(f"{what} takes either logits or probs")
    (given,) = _floats(probs if logits is None else logits)
    return given


class Bernoulli(Distribution):
    """Distributions of 1 with a probability, else 0; by it or by its logit."""

    def __init__(
        self, logits: Any = None, probs: Any = None, dtype: Any = dtypes.int32,
        validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Bernoulli",
    ):  # fmt: skip
        given = _one_of(logits, probs, "Bernoulli")
        if logits is None:
            self.probs, self.logits = given, ops.log(given) - ops.log1p(-given)
        else:
            self.logits, self.probs = given, ops.sigmoid(given)
        super().__init__(name, as_dtype(dtype), self.probs)

    def _sample(self, shape: Tensor, seed: int | None) -> Tensor:
        u = ops.random_uniform(shape, dtype=self.probs.dtype, seed=seed)
        return ops.cast(ops.less(u, self.probs), self.dtype)

    def _log_prob(self, x: Tensor) -> Tensor:
        event = ops.cast(x, self.logits.dtype)
        shape = ops.broadcast_dynamic_shape(ops.shape(event), ops.shape(self.logits))
        return -nn.sigmoid_cross_entropy_with_logits(
            labels=ops.broadcast_to(event, shape), logits=ops.broadcast_to(self.logits, shape)
        )

    def _mean(self) -> Tensor:
        return ops.identity(self.probs)

    def _mode(self) -> Tensor:
        return ops.cast(ops.greater(self.probs, 0.5), self.dtype)

    def _variance(self) -> Tensor:
        return self.probs * (1.0 - self.probs)

    def _entropy(self) -> Tensor:
        return -self.logits * (self.probs - 1.0) + ops.softplus(-self.logits)


class Categorical(Distribution):
    """Distributions over classes 0, 1, ..., by logits or probabilities in the last axis."""

    def __init__(
        self, logits: Any = None, probs: Any = None, dtype: Any = dtypes.int32,
        validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Categorical",
    ):  # fmt: skip
        given = _one_of(logits, probs, "Categorical")
        if given.dims is None or not given.dims:
            raise GraphError("Categorical needs logits or probs of known rank, at least 1")
        if logits is None:
            self.probs, self.logits = given, ops.log(given)
        else:
            self.logits, self.probs = given, ops.softmax(given)
        super().__init__(name, as_dtype(dtype), ops.reduce_max(self.logits, -1))

    @property
    def event_size(self) -> Tensor:
        return ops.shape(self.logits)[-1]

    def _sample(self, shape: Tensor, seed: int | None) -> Tensor:
        flat = ops.reshape(self.logits, [-1, self.event_size])
        drawn = ops.multinomial(flat, shape[0], seed=seed)
        return ops.cast(ops.transpose(drawn), self.dtype)

    def _log_prob(self, x: Tensor) -> Tensor:
        sizes = ops.broadcast_dynamic_shape(ops.shape(x), self.batch_shape_tensor())
        classes = ops.broadcast_to(x, sizes)
        whole = ops.concat([sizes, [self.event_size]], 0)
        return -nn.sparse_softmax_cross_entropy_with_logits(
            labels=classes, logits=ops.broadcast_to(self.logits, whole)
        )

    def _mode(self) -> Tensor:
        return ops.cast(ops.argmax(self.logits, -1), self.dtype)

    def _entropy(self) -> Tensor:
        logs = ops.log_softmax(self.logits)
        return -ops.reduce_sum(ops.exp(logs) * logs, -1)


# ---- divergences


def _normals(p: Normal, q: Normal) -> Tensor:
    ratio = ops.square(p.scale / q.scale)
    shift = ops.square((p.loc - q.loc) / q.scale)
    return 0.5 * (shift + ratio - 1.0 - ops.log(ratio))


def _bernoullis(p: Bernoulli, q: Bernoulli) -> Tensor:
    one = ops.softplus(-q.logits) - ops.softplus(-p.logits)
    zero = ops.softplus(q.logits) - ops.softplus(p.logits)
    return ops.sigmoid(p.logits) * one + ops.sigmoid(-p.logits) * zero


def _categoricals(p: Categorical, q: Categorical) -> Tensor:
    a, b = ops.log_softmax(p.logits), ops.log_softmax(q.logits)
    return ops.reduce_sum(ops.exp(a) * (a - b), -1)


_DIVERGENCES: dict[type, Any] = {
    Normal: _normals,
    Bernoulli: _bernoullis,
    Categorical: _categoricals,
}


def kl_divergence(
    distribution_a: Distribution, distribution_b: Distribution, allow_nan_stats: bool = True,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """The Kullback-Leibler divergence from one distribution to another of its kind.

    Raises:
      NotImplementedError: it is not known for these.
    """
    rule = _DIVERGENCES.get(type(distribution_a))
    if rule is None or type(distribution_a) is not type(distribution_b):
        raise NotImplementedError(
            f"no divergence is known from {type(distribution_a).__name__} to "
            f"{type(distribution_b).__name__}"
        )
    with composite(name, "KullbackLeibler", *distribution_a._parameters):
        found: Tensor = rule(distribution_a, distribution_b)
        return found
