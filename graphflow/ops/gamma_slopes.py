"""How gamma distributions move with their parameter: derivatives with respect to a.

With P(a, x) the lower regularised incomplete gamma function and p its density, a sample s that
is held at its quantile P(a, s) moves by ds/da = -(dP/da) / p.  It is computed as TensorFlow does:
differentiate the series of P term by term, or the continued fraction of 1 - P where x > a
(Figurnov, Mohamed and Mnih, "Implicit reparameterization gradients", 2018).  Above `LARGE`, the
expansion of quantiles by Cornish and Fisher gives it (Abramowitz and Stegun, 26.4.14).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from graphflow.build import OPS, op
from graphflow.build.opdef import Array, RealFloat
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import PAIRS, Case, Sampler
from graphflow.ops.elementary import exp, log
from graphflow.ops.expression import special
from graphflow.ops.rules import broadcast
from graphflow.ops.sums import unbroadcast

LARGE: Final = 1e5  # there the expansion errs by 1e-12, and the series takes thousands of terms
EPSILON: Final = 2.0**-53
TOGETHER: Final = 16  # terms between two looks whether all have settled: each waits for a GPU
ONCE: Final = "with respect to a, the incomplete gamma function is differentiated once only"


def gamma_density(a: Any, x: Any) -> Tensor:
    """Density of the gamma distribution of shape parameter a and scale 1 at x."""
    return exp((a - 1) * log(x) - x - OPS["Lgamma"](a))


def igamma_slope(a: Tensor, x: Tensor) -> Tensor:
    """d/da of the lower regularised incomplete gamma function; no more by a."""
    return _igamma_slope(OPS["PreventGradient"](a, message=ONCE), x)


def sample_slope(alpha: Tensor, sample: Tensor) -> Tensor:
    """d sample / d alpha, for samples of gamma distributions of scale 1; no more by alpha."""
    return _sample_slope(OPS["PreventGradient"](alpha, message=ONCE), sample)


def _cases(s: Sampler) -> list[Case]:
    pairs = [(s.positive(*a), s.positive(*b)) for a, b in PAIRS]
    a = np.array([0.05, 0.4, 1.0, 3.0, 30.0, 900.0])
    far = [(a, a * t) for t in (0.7, 1.0, 1.3)]
    return [
        *[Case(inputs, check=(1,)) for inputs in pairs],
        *[Case(inputs, check=(1,), second=False) for inputs in far],  # 6 s for the same formula
    ]


def _by_x(g: Any, y: Any, a: Any, x: Any) -> Any:
    slope = gamma_density(a, x) * (log(x) - OPS["Digamma"](a))
    return unbroadcast(g, a, x), unbroadcast(g * slope, x, a)  # the first one leads into an error


def _by_sample(g: Any, y: Any, alpha: Any, sample: Any) -> Any:
    slope = OPS["Digamma"](alpha) - log(sample) - y * ((alpha - 1) / sample - 1)
    return unbroadcast(g, alpha, sample), unbroadcast(g * slope, sample, alpha)


@op("IgammaGradA", infer=broadcast, grad=_by_x, cases=_cases)
def _igamma_slope(xp: Any, a: RealFloat, x: RealFloat) -> Array:
    """d/da of the lower regularised incomplete gamma function, with broadcasting."""
    big, at = _doubles(xp, a, x)
    inside = (big > 0) & (at > 0) & xp.isfinite(at)
    safe_a, safe_x = xp.where(inside, big, 1.0), xp.where(inside, at, 1.0)
    density = xp.exp((safe_a - 1) * xp.log(safe_x) - safe_x - special(xp).gammaln(safe_a))
    slope = -quantile_slope(xp, big, at)
    return xp.where(inside, slope * density, slope).astype(a.dtype)


@op("RandomGammaGrad", infer=broadcast, grad=_by_sample, cases=_cases)
def _sample_slope(xp: Any, alpha: RealFloat, sample: RealFloat) -> Array:
    """d sample / d alpha, for samples of gamma distributions of scale 1; with broadcasting."""
    return quantile_slope(xp, *_doubles(xp, alpha, sample)).astype(alpha.dtype)


def _doubles(xp: Any, a: Array, x: Array) -> list[Array]:
    return list(xp.broadcast_arrays(a.astype(np.float64), x.astype(np.float64)))


def quantile_slope(xp: Any, a: Array, x: Array) -> Array:
    """ds/da at s = x, where P(a, s) stays what it is; float64, 0 at the ends, NaN for a <= 0."""
    shape = a.shape
    a, x = a.reshape(-1), x.reshape(-1)
    slope = xp.where((a > 0) & ((x == 0) | (x == math.inf)), 0.0, xp.full(a.shape, math.nan))
    usual = (a > 0) & (x > 0) & xp.isfinite(a) & xp.isfinite(x)
    large, above = usual & (a > LARGE), (x > 1) & (x > a)
    parts: list[tuple[Array, Callable[..., Array]]] = [
        (large, _expanded), (usual & ~large & above, _by_fraction),
        (usual & ~large & ~above, _by_series),
    ]  # fmt: skip
    for mask, function in parts:
        (rows,) = xp.nonzero(mask)
        if rows.size:
            slope[rows] = function(xp, a[rows], x[rows])
    return slope.reshape(shape)


def _by_series(xp: Any, a: Array, x: Array) -> Array:
    """P = x^a e^-x / gamma(a + 1) * (1 + x / (a + 1) + x^2 / ((a + 1)(a + 2)) + ...)."""
    r, term, total = a, xp.ones(a.shape), xp.ones(a.shape)
    by_a, summed = xp.zeros(a.shape), xp.zeros(a.shape)
    moving = True
    while moving:
        for _ in range(TOGETHER):
            r = r + 1
            factor = x / r
            by_a = factor * (by_a - term / r)
            term = factor * term
            total, summed = total + term, summed + by_a
        moving = bool((xp.abs(by_a) > EPSILON * xp.abs(summed)).any())
    return -(summed + total * (xp.log(x) - special(xp).digamma(a + 1))) * x / a


def _by_fraction(xp: Any, a: Array, x: Array) -> Array:
    """1 - P = x^a e^-x / gamma(a) * (a continued fraction of Legendre's, by its convergents)."""
    zero, one = xp.zeros(a.shape), xp.ones(a.shape)
    y, z = 1 - a, x + 2 - a
    old, now = (one, x, zero, zero), (x + 1, z * x, zero, -x)  # numerator, denominator, their d/da
    ratio = now[0] / now[1]
    slope = -ratio * now[3] / now[1]
    for count in range(1, 100 + 20 * math.isqrt(int(xp.max(a)))):
        y, z = y + 1, z + 2
        both = y * count
        top, bottom = now[0] * z - old[0] * both, now[1] * z - old[1] * both
        top_a = now[2] * z - now[0] - old[2] * both + old[0] * count
        bottom_a = now[3] * z - now[1] - old[3] * both + old[1] * count
        scale = 1 / xp.where(bottom == 0, 1.0, xp.abs(bottom))  # else they overflow
        old = tuple([v * scale for v in now])
        now = tuple([v * scale for v in (top, bottom, top_a, bottom_a)])
        before, ratio = slope, now[0] / now[1]
        slope = (now[2] - ratio * now[3]) / now[1]
        if count % TOGETHER == 0 and not bool(
            (xp.abs(slope - before) > EPSILON * xp.abs(slope)).any()
        ):
            break
    return (slope + ratio * (xp.log(x) - special(xp).digamma(a))) * x


def _expanded(xp: Any, a: Array, x: Array) -> Array:
    root = xp.sqrt(a)
    z = (x - a) / root
    for _ in range(6):  # Newton's method: each step doubles the digits
        quantile = (
            root * z
            + (z * z - 1) / 3
            + (z**3 - 7 * z) / (36 * root)
            - (3 * z**4 + 7 * z**2 - 16) / (810 * a)
        )
        by_z = root + 2 * z / 3 + (3 * z * z - 7) / (36 * root)
        z = z - (quantile - (x - a)) / by_z
    return (
        1
        + z / (2 * root)
        - (z**3 - 7 * z) / (72 * a * root)
        + (3 * z**4 + 7 * z * z - 16) / (810 * a * a)
    )
