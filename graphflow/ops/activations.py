"""Activation functions, elementwise, and the slopes that their gradients use."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Float, Real, RealFloat
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import SHAPES, Case, Sampler, unary
from graphflow.ops.compare import greater, less
from graphflow.ops.complexes import conjugate
from graphflow.ops.elementary import exp, negative
from graphflow.ops.public import composite, function, require
from graphflow.ops.rules import same
from graphflow.ops.select import keep

# Klambauer et al., Self-Normalizing Neural Networks (2017)
SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def _away(s: Sampler) -> list[Case]:
    return [Case((s.normal(*shape),)) for shape in SHAPES]


def _away_with(**attrs: Any) -> Any:
    return lambda s: [Case((s.normal(*shape),), attrs) for shape in SHAPES]


@function
@op(
    "Sigmoid",
    infer=same,
    grad=lambda g, y, x: g * conjugate(y * (1 - y)),
    elementwise=True,
    cases=unary(),
)
def sigmoid(xp: Any, x: Float) -> Array:
    """1 / (1 + exp(-x)), elementwise."""
    return 1 / (1 + xp.exp(-x))


@function
@op(
    "Softplus",
    infer=same,
    grad=lambda g, y, x: g * sigmoid(x),
    elementwise=True,
    cases=unary(),
)
def softplus(xp: Any, features: RealFloat) -> Array:
    """log(1 + exp(features)) without overflow, elementwise."""
    return xp.maximum(features, 0) + xp.log1p(xp.exp(-xp.abs(features)))


def _softsign_grad(g: Any, y: Any, x: Any) -> Any:
    from graphflow.ops.elementary import square

    return g / square(1 + abs(x))


@function
@op("Softsign", infer=same, grad=_softsign_grad, elementwise=True, cases=_away)
def softsign(xp: Any, features: RealFloat) -> Array:
    """features / (1 + |features|), elementwise."""
    return features / (1 + xp.abs(features))


@op("Relu", infer=same, grad=lambda g, y, x: keep(greater(y, 0), g), elementwise=True, cases=_away)
def _relu(xp: Any, features: Real) -> Array:
    """max(features, 0), elementwise; the gradient at 0 is 0."""
    return xp.maximum(features, 0)


def _relu6_grad(g: Any, y: Any, x: Any) -> Any:
    return keep(less(y, 6), keep(greater(y, 0), g))


@op(
    "Relu6",
    infer=same,
    grad=_relu6_grad,
    elementwise=True,
    cases=lambda s: [Case((s.normal(*shape) * 5 + 0.01,)) for shape in SHAPES],
)
def _relu6(xp: Any, features: Real) -> Array:
    """min(max(features, 0), 6), elementwise; the gradient at 0 and at 6 is 0."""
    return xp.minimum(xp.maximum(features, 0), 6)


def _leaky_grad(g: Any, y: Any, x: Any, *, alpha: float) -> Any:
    steep = keep(greater(x, 0), g)
    return steep + (g - steep) * _single(alpha)


def _single(alpha: float) -> float:
    """An attribute as TensorFlow keeps it, in float32: 0.1 is 0.10000000149 in float64, too."""
    return float(np.float32(alpha))


@op(
    "LeakyRelu",
    infer=same,
    grad=_leaky_grad,
    elementwise=True,
    cases=lambda s: [*_away(s), Case((s.normal(2, 3),), {"alpha": 1.5})],
)
def _leaky_relu(xp: Any, features: RealFloat, *, alpha: float = 0.2) -> Array:
    """features where positive, else alpha * features; the gradient at 0 is alpha."""
    return xp.where(features > 0, features, (features * _single(alpha)).astype(features.dtype))


def _elu_grad(g: Any, y: Any, x: Any) -> Any:
    # Where y < 0 the slope is exp(x) = y + 1; of the rest, 0 too, the minimum makes a constant 1.
    from graphflow.ops.arithmetic import minimum

    return g * (minimum(0, y) + 1)


@op("Elu", infer=same, grad=_elu_grad, elementwise=True, cases=_away)
def _elu(xp: Any, features: RealFloat) -> Array:
    """exp(features) - 1 where negative, else features; elementwise, slope 1 at 0."""
    return xp.where(features < 0, xp.expm1(xp.minimum(0, features)), features)


def _selu_grad(g: Any, y: Any, x: Any) -> Any:
    from graphflow.ops.arithmetic import minimum

    below = keep(less(x, 0), exp(minimum(0, x))) * (SELU_SCALE * SELU_ALPHA)
    above = g - keep(less(x, 0), g)
    return g * below + above * SELU_SCALE


@op("Selu", infer=same, grad=_selu_grad, elementwise=True, cases=_away)
def _selu(xp: Any, features: RealFloat) -> Array:
    """The scaled exponential linear unit, elementwise."""
    low = xp.expm1(xp.minimum(0, features)) * (SELU_SCALE * SELU_ALPHA)
    return xp.where(features < 0, low, features * SELU_SCALE).astype(features.dtype)


@op(
    "Step",
    infer=same,
    grad=None,
    elementwise=True,
    cases=lambda s: [Case((np.asarray([-1.0, -0.0, 0.0, 2.0]),)), *_away(s)],
)
def _step(xp: Any, x: Real) -> Array:
    """1 where x > 0, else 0, elementwise."""
    return (x > 0).astype(x.dtype)


# ---- TensorFlow's functions


def relu(features: Any, name: str | None = None) -> Tensor:
    """max(features, 0), elementwise; the gradient at 0 is 0."""
    return _relu(features, name=name)


def relu6(features: Any, name: str | None = None) -> Tensor:
    """min(max(features, 0), 6), elementwise; the gradient at 0 and at 6 is 0."""
    return _relu6(features, name=name)


def leaky_relu(features: Any, alpha: Any = 0.2, name: str | None = None) -> Tensor:
    """features where positive, else alpha * features; the gradient at 0 is alpha.

    Args:
      features: numbers; integers are converted to float32.
      alpha: the slope below 0: a Python number or a scalar tensor.
    """
    from graphflow.ops.casting import cast, to_float

    x = as_tensor(features)
    if x.dtype.is_integer:
        x = to_float(x)
    if isinstance(alpha, Tensor) or hasattr(alpha, "as_graph_tensor"):
        from graphflow.ops.arithmetic import minimum

        with composite(name, "LeakyRelu", x):
            return _relu(x) + cast(alpha, x.dtype) * minimum(x, 0)
    return _leaky_relu(x, alpha=float(alpha), name=name)


def elu(features: Any, name: str | None = None) -> Tensor:
    """features where positive, else exp(features) - 1; elementwise."""
    return _elu(features, name=name)


def selu(features: Any, name: str | None = None) -> Tensor:
    """scale * elu(features, alpha) with the constants of self-normalising networks."""
    return _selu(features, name=name)


def step(x: Any, name: str | None = None) -> Tensor:
    """Heaviside's step function: 1 where x > 0, else 0.  It has no gradient."""
    return _step(x, name=name)


def log_sigmoid(x: Any, name: str | None = None) -> Tensor:
    """log(sigmoid(x)) without overflow: -softplus(-x), elementwise."""
    x = as_tensor(x)
    with composite(name, "LogSigmoid", x) as scope:
        return negative(softplus(-x), name=scope)


def swish(features: Any, name: str | None = None) -> Tensor:
    """features * sigmoid(features), elementwise (Ramachandran et al., 2017)."""
    x = as_tensor(features)
    require(x.dtype.is_floating, x, "a floating dtype")
    with composite(name, "swish", x):
        return x * sigmoid(x)


def gelu(features: Any, approximate: bool = True, name: str | None = None) -> Tensor:
    """x * P(N(0, 1) <= x), elementwise (Hendrycks and Gimpel, 2016).

    Args:
      features: floating numbers.
      approximate: use the authors' formula with tanh, instead of erf.
    """
    x = as_tensor(features)
    require(x.dtype.is_floating, x, "a floating dtype")
    with composite(name, "Gelu", x):
        if approximate:
            from graphflow.ops.elementary import tanh

            return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * (x * x * x))))
        from graphflow.ops.special import erf

        return 0.5 * x * (1 + erf(x * 0.7071067811865476))
