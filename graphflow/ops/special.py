"""Special functions: error functions, gamma, beta and zeta, elementwise.

SciPy, or on a GPU its counterpart in CuPy, is imported when one of them first runs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphflow.base.errors import ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import PAIRS, Case, Sampler, unary
from graphflow.ops.casting import cast
from graphflow.ops.compare import not_equal
from graphflow.ops.elementary import exp, log, log1p, square
from graphflow.ops.expression import special
from graphflow.ops.gamma_slopes import gamma_density, igamma_slope
from graphflow.ops.public import composite, function
from graphflow.ops.rules import broadcast, broadcast_dims, same
from graphflow.ops.sums import unbroadcast


def call(xp: Any, name: str, *arrays: Any) -> Any:
    """A function of the library of `xp`, which knows no 16-bit floats: those go through float32."""
    function = getattr(special(xp), name)
    dtype = arrays[0].dtype
    if dtype.itemsize > 2:
        return function(*arrays)
    return function(*[a.astype(np.dtype(np.float32)) for a in arrays]).astype(dtype)


@function
@op(
    "Erf",
    infer=same,
    grad=lambda g, y, x: g * (2 / math.sqrt(math.pi) * exp(-square(x))),
    elementwise=True,
    cases=unary(),
)
def erf(xp: Any, x: RealFloat) -> Array:
    """The error function, elementwise."""
    return call(xp, "erf", x)


@function
@op(
    "Erfc",
    infer=same,
    grad=lambda g, y, x: g * (-2 / math.sqrt(math.pi) * exp(-square(x))),
    elementwise=True,
    cases=unary(),
)
def erfc(xp: Any, x: RealFloat) -> Array:
    """1 - erf(x) without loss for large x, elementwise."""
    return call(xp, "erfc", x)


@function
@op(
    "Erfinv",
    infer=same,
    grad=lambda g, y, x: g * (math.sqrt(math.pi) / 2 * exp(square(y))),
    elementwise=True,
    cases=unary(-0.8, 0.8),
)
def erfinv(xp: Any, x: RealFloat) -> Array:
    """The inverse of erf, elementwise; NaN outside [-1, 1]."""
    return call(xp, "erfinv", x)


@function
@op(
    "Lgamma",
    infer=same,
    grad=lambda g, y, x: g * digamma(x),
    elementwise=True,
    cases=unary(0.3, 4.0),
)
def lgamma(xp: Any, x: RealFloat) -> Array:
    """log |gamma(x)|, elementwise."""
    return call(xp, "gammaln", x)


@function
@op(
    "Digamma",
    infer=same,
    grad=lambda g, y, x: g * polygamma(x * 0 + 1, x),
    elementwise=True,
    cases=unary(0.5, 4.0),
)
def digamma(xp: Any, x: RealFloat) -> Array:
    """The derivative of lgamma, elementwise."""
    return call(xp, "digamma", x)


def _orders(s: Sampler) -> list[Case]:
    cases = [(s.integers(3, *a, dtype=np.float64), s.positive(*b)) for a, b in PAIRS]
    return [Case(inputs, check=(1,)) for inputs in cases]


@function
@op(
    "Polygamma",
    infer=broadcast,
    grad=lambda g, y, a, x: (None, unbroadcast(g * polygamma(a + 1, x), x, a)),
    elementwise=True,
    cases=_orders,
)
def polygamma(xp: Any, a: RealFloat, x: RealFloat) -> Array:
    """The derivative of digamma of whole order a at x > 0, with broadcasting.

    It is not differentiated with respect to a.
    """
    sign = xp.where(xp.equal(xp.fmod(a, 2), 0), a * 0 - 1, a * 0 + 1)
    value = sign * xp.exp(call(xp, "gammaln", a + 1)) * call(xp, "zeta", a + 1, x)
    return xp.where(xp.equal(a, 0), call(xp, "digamma", x), value)


def _zeta_cases(s: Sampler) -> list[Case]:
    pairs = [(s.positive(*a) + 1, s.positive(*b)) for a, b in PAIRS]
    return [Case(inputs, check=(1,)) for inputs in pairs]


@function
@op(
    "Zeta",
    infer=broadcast,
    grad=lambda g, y, x, q: (None, unbroadcast(g * -x * zeta(x + 1, q), q, x)),
    elementwise=True,
    cases=_zeta_cases,
)
def zeta(xp: Any, x: RealFloat, q: RealFloat) -> Array:
    """The Hurwitz zeta function, the sum of (q + n)**-x, for x > 1; with broadcasting.

    It is not differentiated with respect to x.
    """
    return call(xp, "zeta", x, q)


def _gamma_cases(s: Sampler) -> list[Case]:
    pairs = [(s.positive(*a), s.positive(*b)) for a, b in PAIRS]
    by_x = [Case(inputs, check=(1,)) for inputs in pairs]
    a = np.array([0.3, 1.0, 4.0, 50.0])
    pairs += [(a, 0.8 * a), (a, a + 2)]
    return by_x + [Case(inputs, check=(0,), second=False) for inputs in pairs]  # see gamma_slopes


def _igamma_grad(sign: float) -> Any:
    def grad(g: Any, y: Any, a: Any, x: Any) -> Any:
        g = g * sign
        by_a = unbroadcast(g * igamma_slope(a, x), a, x)
        return by_a, unbroadcast(g * gamma_density(a, x), x, a)

    return grad


@function
@op(
    "Igamma",
    infer=broadcast,
    grad=_igamma_grad(1.0),
    elementwise=True,
    cases=_gamma_cases,
)
def igamma(xp: Any, a: RealFloat, x: RealFloat) -> Array:
    """The lower regularised incomplete gamma function, with broadcasting.

    With respect to a, it is differentiated once only.
    """
    return call(xp, "gammainc", a, x)


@function
@op(
    "Igammac",
    infer=broadcast,
    grad=_igamma_grad(-1.0),
    elementwise=True,
    cases=_gamma_cases,
)
def igammac(xp: Any, a: RealFloat, x: RealFloat) -> Array:
    """The upper regularised incomplete gamma function, with broadcasting.

    With respect to a, it is differentiated once only.
    """
    return call(xp, "gammaincc", a, x)


def _betainc_spec(a: Tensor, b: Tensor, x: Tensor) -> Specs:
    dims = broadcast_dims(broadcast_dims(a.dims, b.dims), x.dims)
    return [(dims, a.dtype)]


def _betainc_grad(g: Any, y: Any, a: Any, b: Any, x: Any) -> Any:
    log_beta = lgamma(a) + lgamma(b) - lgamma(a + b)
    density = exp((b - 1) * log1p(-x) + (a - 1) * log(x) - log_beta)
    return None, None, unbroadcast(g * density, x, a, b)


def _betainc_cases(s: Sampler) -> list[Case]:
    shapes = (((), (), ()), ((2, 3), (2, 3), (2, 3)), ((2, 1), (3,), ()), ((0,), (0,), (0,)))
    return [
        Case((s.positive(*a), s.positive(*b), s.uniform(*x, low=0.1, high=0.9)), check=(2,))
        for a, b, x in shapes
    ]


@function
@op("Betainc", infer=_betainc_spec, grad=_betainc_grad, elementwise=True, cases=_betainc_cases)
def betainc(xp: Any, a: RealFloat, b: RealFloat, x: RealFloat) -> Array:
    """The regularised incomplete beta function of x in [0, 1], with broadcasting.

    It is not differentiated with respect to a and b.
    """
    return call(xp, "betainc", a, b, x)


def _positive_pairs(s: Sampler) -> list[Case]:
    return [Case((s.normal(*a), s.positive(*b))) for a, b in PAIRS]


def _xlogy_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    logarithm = xlogy(cast(not_equal(x, 0), x.dtype), y)
    return unbroadcast(g * logarithm, x, y), unbroadcast(g * xdivy(x, y), y, x)


@function
@op("Xlogy", infer=broadcast, grad=_xlogy_grad, elementwise=True, cases=_positive_pairs)
def xlogy(xp: Any, x: RealFloat, y: RealFloat) -> Array:
    """x log(y), but 0 where x is 0, also if y is NaN; with broadcasting."""
    return xp.where(xp.equal(x, 0), x, x * xp.log(y))


def _xdivy_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    inverse = xdivy(cast(not_equal(x, 0), x.dtype), y)
    return unbroadcast(g * inverse, x, y), unbroadcast(g * xdivy(-x, y * y), y, x)


@function
@op("Xdivy", infer=broadcast, grad=_xdivy_grad, elementwise=True, cases=_positive_pairs)
def xdivy(xp: Any, x: RealFloat, y: RealFloat) -> Array:
    """x / y, but 0 where x is 0, also if y is NaN; with broadcasting."""
    return xp.where(xp.equal(x, 0), x, xp.divide(x, y))


def _product_cases(s: Sampler) -> list[Case]:
    infinite = Case((np.array([np.inf, np.nan, 2.0]), np.array([0.0, 0.0, 3.0])), grad=False)
    return [*[Case((s.normal(*a), s.normal(*b))) for a, b in PAIRS], infinite]


def _product_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    return (
        unbroadcast(multiply_no_nan(g, y), x, y),
        unbroadcast(multiply_no_nan(x, g), y, x),
    )


@function
@op("MulNoNan", infer=broadcast, grad=_product_grad, elementwise=True, cases=_product_cases)
def multiply_no_nan(xp: Any, x: RealFloat, y: RealFloat) -> Array:
    """x y, but 0 where y is 0, also if x is infinite or NaN; with broadcasting."""
    return xp.where(xp.equal(y, 0), 0, x * y)


def _xlog1py_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    logarithm = xlog1py(cast(not_equal(x, 0), x.dtype), y)
    return unbroadcast(g * logarithm, x, y), unbroadcast(g * xdivy(x, 1 + y), y, x)


@function
@op("Xlog1py", infer=broadcast, grad=_xlog1py_grad, elementwise=True, cases=_positive_pairs)
def xlog1py(xp: Any, x: RealFloat, y: RealFloat) -> Array:
    """x log(1 + y), but 0 where x is 0, also if y is NaN; with broadcasting."""
    return xp.where(xp.equal(x, 0), x, x * xp.log1p(y))


@function
@op(
    "Ndtri",
    infer=same,
    grad=lambda g, y, x: g * (math.sqrt(2 * math.pi) * exp(square(y) / 2)),
    cases=unary(0.1, 0.9),
)
def ndtri(xp: Any, x: RealFloat) -> Array:
    """The number below which a standard normal one lies with probability x, elementwise."""
    return call(xp, "ndtri", x)


def erfcinv(x: Any, name: str | None = None) -> Tensor:
    """The inverse of erfc, elementwise; NaN outside [0, 2]."""
    with composite(name, "erfcinv", x):
        result: Tensor = ndtri(0.5 * as_tensor(x)) * -math.sqrt(0.5)
        return result


def lbeta(x: Any, name: str | None = None) -> Tensor:
    """The logarithm of the beta function of the vectors in the last axis.

    Raises:
      ShapeError: x is a scalar.
    """
    from graphflow.ops.reduce import reduce_sum

    x = as_tensor(x)
    if x.dims == ():
        raise ShapeError(f"a vector is needed, not shape {format_dims(x.dims)}")
    with composite(name, "lbeta", x):
        return reduce_sum(lgamma(x), -1) - lgamma(reduce_sum(x, -1))
