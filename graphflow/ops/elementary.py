"""Elementary functions of one input, elementwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Float, Num, Real, RealFloat
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import SHAPES, Case, Sampler, unary
from graphflow.ops.complexes import conjugate
from graphflow.ops.public import composite, function
from graphflow.ops.rules import same


def _away(s: Sampler) -> list[Case]:
    """Away from a kink at zero."""
    return [Case((s.normal(*shape),)) for shape in SHAPES]


def _halves(s: Sampler) -> list[Case]:
    return [Case((np.asarray([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.3, -0.7]),)), Case((s.normal(),))]


@function
@op("Neg", infer=same, grad=lambda g, y, x: -g, elementwise=True, cases=unary())
def negative(xp: Any, x: Num) -> Array:
    """-x, elementwise."""
    return -x


@op("Abs", infer=same, grad=lambda g, y, x: g * OPS["Sign"](x), elementwise=True, cases=_away)
def _abs(xp: Any, x: Real) -> Array:
    """|x|, elementwise; the gradient at 0 is 0."""
    return xp.abs(x)


def _no_slope(g: Any, y: Any, x: Any) -> Any:
    return OPS["ZerosLike"](x)


@op("Sign", infer=same, grad=_no_slope, elementwise=True, cases=_away)
def _sign(xp: Any, x: Real) -> Array:
    """-1, 0 or 1 as x is negative, zero or positive, elementwise; the gradient is 0."""
    return xp.sign(x)


@function
@op(
    "Square",
    infer=same,
    grad=lambda g, y, x: g * (2 * conjugate(x)),
    elementwise=True,
    cases=unary(),
)
def square(xp: Any, x: Num) -> Array:
    """x * x, elementwise."""
    return x * x


@function
@op(
    "Sqrt",
    infer=same,
    grad=lambda g, y, x: g * 0.5 / conjugate(y),
    elementwise=True,
    cases=unary(0.3, 3.0),
)
def sqrt(xp: Any, x: Float) -> Array:
    """The square root of x, elementwise; NaN below 0.  The gradient at 0 is inf."""
    return xp.sqrt(x)


@function
@op(
    "Rsqrt",
    infer=same,
    grad=lambda g, y, x: g * -0.5 * conjugate(y * y * y),
    elementwise=True,
    cases=unary(0.3, 3.0),
)
def rsqrt(xp: Any, x: Float) -> Array:
    """1 / sqrt(x), elementwise."""
    return 1 / xp.sqrt(x)


@function
@op(
    "Reciprocal",
    infer=same,
    grad=lambda g, y, x: -g * conjugate(y * y),
    elementwise=True,
    cases=unary(0.3, 3.0),
)
def reciprocal(xp: Any, x: Float) -> Array:
    """1 / x, elementwise."""
    return 1 / x


@function
@op("Floor", infer=same, grad=None, elementwise=True, cases=_halves)
def floor(xp: Any, x: RealFloat) -> Array:
    """The largest whole number that is not above x, elementwise."""
    return xp.floor(x)


@function
@op("Ceil", infer=same, grad=None, elementwise=True, cases=_halves)
def ceil(xp: Any, x: RealFloat) -> Array:
    """The smallest whole number that is not below x, elementwise."""
    return xp.ceil(x)


@function
@op("Rint", infer=same, grad=None, elementwise=True, cases=_halves)
def rint(xp: Any, x: RealFloat) -> Array:
    """The nearest whole number, the even one of two, elementwise."""
    return xp.rint(x)


@op("Round", infer=same, grad=None, elementwise=True, cases=_halves)
def _round(xp: Any, x: RealFloat) -> Array:
    """The nearest whole number, the even one of two, elementwise."""
    return xp.rint(x)


@function
@op("Exp", infer=same, grad=lambda g, y, x: g * conjugate(y), elementwise=True, cases=unary())
def exp(xp: Any, x: Float) -> Array:
    """e**x, elementwise."""
    return xp.exp(x)


@function
@op(
    "Expm1",
    infer=same,
    grad=lambda g, y, x: g * exp(conjugate(x)),
    elementwise=True,
    cases=unary(),
)
def expm1(xp: Any, x: Float) -> Array:
    """e**x - 1 without loss near 0, elementwise."""
    return xp.expm1(x)


@function
@op("Log", infer=same, grad=lambda g, y, x: g / conjugate(x), elementwise=True, cases=unary(0.3, 3))
def log(xp: Any, x: Float) -> Array:
    """The natural logarithm, elementwise: -inf at 0, NaN below."""
    return xp.log(x)


@function
@op(
    "Log1p",
    infer=same,
    grad=lambda g, y, x: g / (1 + conjugate(x)),
    elementwise=True,
    cases=unary(-0.5, 3),
)
def log1p(xp: Any, x: Float) -> Array:
    """log(1 + x) without loss near 0, elementwise."""
    return xp.log1p(x)


@function
@op("Sin", infer=same, grad=lambda g, y, x: g * cos(conjugate(x)), elementwise=True, cases=unary())
def sin(xp: Any, x: Float) -> Array:
    """The sine, elementwise."""
    return xp.sin(x)


@function
@op("Cos", infer=same, grad=lambda g, y, x: -g * sin(conjugate(x)), elementwise=True, cases=unary())
def cos(xp: Any, x: Float) -> Array:
    """The cosine, elementwise."""
    return xp.cos(x)


@function
@op(
    "Tan",
    infer=same,
    grad=lambda g, y, x: g * (1 + square(conjugate(y))),
    elementwise=True,
    cases=unary(-1, 1),
)
def tan(xp: Any, x: Float) -> Array:
    """The tangent, elementwise."""
    return xp.tan(x)


@function
@op(
    "Asin",
    infer=same,
    grad=lambda g, y, x: g * rsqrt(1 - square(conjugate(x))),
    elementwise=True,
    cases=unary(-0.8, 0.8),
)
def asin(xp: Any, x: Float) -> Array:
    """The inverse sine in [-pi/2, pi/2], elementwise; NaN outside [-1, 1]."""
    return xp.arcsin(x)


@function
@op(
    "Acos",
    infer=same,
    grad=lambda g, y, x: -g * rsqrt(1 - square(conjugate(x))),
    elementwise=True,
    cases=unary(-0.8, 0.8),
)
def acos(xp: Any, x: Float) -> Array:
    """The inverse cosine in [0, pi], elementwise; NaN outside [-1, 1]."""
    return xp.arccos(x)


@function
@op(
    "Atan",
    infer=same,
    grad=lambda g, y, x: g / (1 + square(conjugate(x))),
    elementwise=True,
    cases=unary(),
)
def atan(xp: Any, x: Float) -> Array:
    """The inverse tangent in (-pi/2, pi/2), elementwise."""
    return xp.arctan(x)


@function
@op(
    "Sinh", infer=same, grad=lambda g, y, x: g * cosh(conjugate(x)), elementwise=True, cases=unary()
)
def sinh(xp: Any, x: Float) -> Array:
    """The hyperbolic sine, elementwise."""
    return xp.sinh(x)


@function
@op(
    "Cosh", infer=same, grad=lambda g, y, x: g * sinh(conjugate(x)), elementwise=True, cases=unary()
)
def cosh(xp: Any, x: Float) -> Array:
    """The hyperbolic cosine, elementwise."""
    return xp.cosh(x)


@function
@op(
    "Tanh",
    infer=same,
    grad=lambda g, y, x: g * (1 - square(conjugate(y))),
    elementwise=True,
    cases=unary(),
)
def tanh(xp: Any, x: Float) -> Array:
    """The hyperbolic tangent, elementwise."""
    return xp.tanh(x)


@function
@op(
    "Asinh",
    infer=same,
    grad=lambda g, y, x: g / cosh(conjugate(y)),
    elementwise=True,
    cases=unary(),
)
def asinh(xp: Any, x: Float) -> Array:
    """The inverse hyperbolic sine, elementwise."""
    return xp.arcsinh(x)


@function
@op(
    "Acosh",
    infer=same,
    grad=lambda g, y, x: g / sinh(conjugate(y)),
    elementwise=True,
    cases=unary(1.3, 3),
)
def acosh(xp: Any, x: Float) -> Array:
    """The inverse hyperbolic cosine, elementwise; NaN below 1."""
    return xp.arccosh(x)


@function
@op(
    "Atanh",
    infer=same,
    grad=lambda g, y, x: g / (1 - square(conjugate(x))),
    elementwise=True,
    cases=unary(-0.8, 0.8),
)
def atanh(xp: Any, x: Float) -> Array:
    """The inverse hyperbolic tangent, elementwise; NaN outside [-1, 1]."""
    return xp.arctanh(x)


# ---- TensorFlow's functions


def sign(x: Any, name: str | None = None) -> Tensor:
    """-1, 0 or 1 as x is negative, zero or positive, elementwise; the gradient is 0.

    Of complex numbers x / |x|, 0 at 0; the gradient is that of x / |x|, where TensorFlow has 0.
    """
    from graphflow.ops.arithmetic import div_no_nan
    from graphflow.ops.complexes import complex, complex_abs

    x = as_tensor(x)
    if not x.dtype.is_complex:
        return _sign(x, name=name)
    with composite(name, "Sign", x) as scope:
        size = complex_abs(x)
        return div_no_nan(x, complex(size, 0 * size), name=scope)
