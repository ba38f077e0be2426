"""Modified Bessel functions of the first kind, elementwise.

SciPy, or on a GPU its counterpart in CuPy, is imported when one of them first runs.
"""

from __future__ import annotations

from typing import Any

from graphflow.build import op
from graphflow.build.opdef import Array, RealFloat
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import unary
from graphflow.ops.compare import equal
from graphflow.ops.conditions import where
from graphflow.ops.elementary import _sign
from graphflow.ops.filling import ones_like
from graphflow.ops.public import function
from graphflow.ops.rules import same
from graphflow.ops.special import call


def _i1_slope(y: Tensor, x: Tensor, i0: Any, scaled: bool) -> Tensor:
    """The derivative of I1, or of its scaled form; 1/2 at 0, where y / x is not known."""
    zero = equal(x, 0)
    safe = where(zero, ones_like(x), x)
    slope = i0(safe) - y / safe
    slope = slope - _sign(x) * y if scaled else slope
    return where(zero, ones_like(x) / 2, slope)


@function
@op("BesselI0", infer=same, grad=lambda g, y, x: g * bessel_i1(x), cases=unary())
def bessel_i0(xp: Any, x: RealFloat) -> Array:
    """The modified Bessel function of order 0, elementwise."""
    return call(xp, "i0", x)


@function
@op(
    "BesselI0e",
    infer=same,
    grad=lambda g, y, x: g * (bessel_i1e(x) - _sign(x) * y),
    cases=unary(),
)
def bessel_i0e(xp: Any, x: RealFloat) -> Array:
    """exp(-|x|) times the modified Bessel function of order 0, elementwise."""
    return call(xp, "i0e", x)


@function
@op(
    "BesselI1",
    infer=same,
    grad=lambda g, y, x: g * _i1_slope(y, x, bessel_i0, scaled=False),
    cases=unary(),
)
def bessel_i1(xp: Any, x: RealFloat) -> Array:
    """The modified Bessel function of order 1, elementwise."""
    return call(xp, "i1", x)


@function
@op(
    "BesselI1e",
    infer=same,
    grad=lambda g, y, x: g * _i1_slope(y, x, bessel_i0e, scaled=True),
    cases=unary(),
)
def bessel_i1e(xp: Any, x: RealFloat) -> Array:
    """exp(-|x|) times the modified Bessel function of order 1, elementwise."""
    return call(xp, "i1e", x)
