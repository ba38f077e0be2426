"""Elementary functions of float32 as straight-line code, so that loops vectorise.

A call of libm would stop LLVM's vectoriser.  Polynomials are Cephes' (Moshier) where no other
source is named; NaN goes through, infinities and denormals come out right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # ln 2 in two parts, the first exact
_MAGIC = 12582912.0  # 1.5 * 2**23: adding it rounds to an integer, which the low bits then hold
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
        5.0000001201e-1)  # fmt: skip
_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1,
         -3.33332819422e-1)  # fmt: skip
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17)  # in two doubles


def exp(e: Any, x: Any) -> Any:
    """2^n exp(r) with n = round(x / ln 2); 2^n in two factors, so that it may underflow."""
    p, n = _exp_parts(e, e.clamped(x, -104.0, 89.0))
    return _scaled(e, e.add(p, 1.0), n)


def _exp_parts(e: Any, x: Any) -> Any:
    """exp(r) - 1, and n as an integer."""
    shifted = e.fma(x, _LOG2_E, _MAGIC)
    n = e.subtract(shifted, _MAGIC)
    r = e.fma(n, -_LN2_HIGH, x)
    r = e.fma(n, -_LN2_LOW, r)
    p = e.polynomial(r, _EXP)
    return e.fma(e.multiply(p, r), r, r), e.integer("sub", e.bits(shifted), 0x4B400000)


def _scaled(e: Any, p: Any, n: Any) -> Any:
    half = e.integer("ashr", n, 1)
    rest = e.integer("sub", n, half)
    return e.multiply(e.multiply(p, _power_of_two(e, half)), _power_of_two(e, rest))


def _power_of_two(e: Any, n: Any) -> Any:
    return e.float_of(e.integer("shl", e.integer("add", n, 127), 23))


def expm1(e: Any, x: Any) -> Any:
    """exp(x) - 1; for small x the polynomial itself, which loses nothing."""
    p, n = _exp_parts(e, e.clamped(x, -104.0, 89.0))
    large = e.subtract(_scaled(e, e.add(p, 1.0), n), 1.0)
    small = e.less(e.absolute(x), 0.34)  # there n is 0
    return e.select(small, p, large)


def log(e: Any, x: Any) -> Any:
    """x = m 2^k with m in [sqrt(1/2), sqrt(2)); denormals are scaled first."""
    tiny = e.less(x, 1.17549435e-38)
    scaled = e.select(tiny, e.multiply(x, 8388608.0), x)
    bits = e.bits(scaled)
    exponent = e.integer("ashr", e.integer("sub", bits, 0x3F3504F3), 23)
    mantissa = e.float_of(e.integer("sub", bits, e.integer("shl", exponent, 23)))
    k = e.add(e.from_integer(exponent), e.select(tiny, -23.0, 0.0))
    m = e.subtract(mantissa, 1.0)
    square = e.multiply(m, m)
    tail = e.multiply(e.multiply(e.polynomial(m, _LOG), square), m)
    tail = e.fma(k, _LN2_LOW, tail)
    tail = e.fma(square, -0.5, tail)
    result = e.fma(k, _LN2_HIGH, e.add(m, tail))
    result = e.select(e.less(x, float("inf")), result, x)  # inf and NaN
    result = e.select(e.less(x, 0.0), float("nan"), result)
    return e.select(e.equal(x, 0.0), float("-inf"), result)


def log1p(e: Any, x: Any) -> Any:
    """log(1 + x), corrected for what 1 + x loses (Kahan)."""
    u = e.add(x, 1.0)
    lost = e.subtract(x, e.subtract(u, 1.0))
    result = e.add(log(e, u), e.divide(lost, u))
    plain = e.less(e.absolute(x), 1e-7)
    result = e.select(plain, x, result)
    return e.select(e.equal(u, float("inf")), u, e.select(e.equal(u, 0.0), float("-inf"), result))


def tanh(e: Any, x: Any) -> Any:
    """An odd polynomial near 0; 1 - 2 / (exp(2x) + 1) elsewhere."""
    a = e.absolute(x)
    square = e.multiply(x, x)
    p = e.polynomial(square, _TANH)
    near = e.fma(e.multiply(p, square), x, x)
    high = e.clamped(a, 0.0, 10.0)
    t, n = _exp_parts(e, e.add(high, high))
    # beyond 10 tanh is 1: 2^n needs one factor
    grown = e.multiply(e.add(t, 1.0), _power_of_two(e, n))
    far = e.subtract(1.0, e.divide(2.0, e.add(grown, 1.0)))
    return e.select(e.less(a, 0.625), near, e.copysign(far, x))


def sinh(e: Any, x: Any) -> Any:
    """From expm1; where exp overflows alone, exp(x / 2) twice."""
    a = e.absolute(x)
    t = expm1(e, a)
    small = e.multiply(0.5, e.add(t, e.divide(t, e.add(t, 1.0))))
    half = exp(e, e.multiply(a, 0.5))
    large = e.multiply(e.multiply(half, 0.5), half)
    return e.copysign(e.select(e.less(a, 20.0), small, large), x)


def cosh(e: Any, x: Any) -> Any:
    half = exp(e, e.multiply(e.absolute(x), 0.5))
    square = e.multiply(e.multiply(half, 0.5), half)
    # 0.25 / square = exp(-|x|) / 2
    return e.add(square, e.divide(0.25, square))


def sin(e: Any, x: Any) -> Any:
    return _circular(e, x, 0)


def cos(e: Any, x: Any) -> Any:
    return _circular(e, x, 1)


def _circular(e: Any, x: Any, quarter: int) -> Any:
    """sin(x + quarter * pi / 2): reduced in float64, right up to |x| of about 1e8."""
    wide = e.widened(x)
    n = e.wide_round(e.wide("fmul", wide, 2 / 3.141592653589793))
    r = e.wide_fma(n, -_HALF_PI[0], wide)
    r = e.narrowed(e.wide_fma(n, -_HALF_PI[1], r))
    q = e.integer("add", e.wide_to_integer(n), quarter)
    square = e.multiply(r, r)
    sine = e.fma(e.multiply(e.polynomial(square, _SIN), square), r, r)
    cosine = e.fma(e.multiply(e.polynomial(square, _COS), square), square, e.fma(square, -0.5, 1.0))
    odd = e.is_set(e.integer("and", q, 1))
    result = e.select(odd, cosine, sine)
    sign = e.integer("shl", e.integer("and", q, 2), 30)
    result = e.float_of(e.integer("xor", e.bits(result), sign))
    return e.select(e.less(e.absolute(x), float("inf")), result, float("nan"))


def erf(e: Any, a: Any) -> Any:
    """Two polynomials, after N. Juffa: error below 1 ulp in both parts."""
    t = e.absolute(a)
    s = e.multiply(a, a)
    r = e.fma(-1.72853470e-5, t, 3.83197126e-4)
    u = e.fma(-3.88396438e-3, t, 2.42546219e-2)
    r = e.fma(r, s, u)
    for c in (-1.06777877e-1, -6.34846687e-1, -1.28717512e-1):
        r = e.fma(r, t, c)
    r = e.fma(r, t, e.negative(t))
    far = e.copysign(e.subtract(1.0, exp(e, r)), a)
    near = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1,
            1.28379166e-1)  # fmt: skip
    close = e.fma(e.polynomial(s, near), a, a)
    return e.select(e.less(t, 0.927734375), close, far)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "tanh": tanh, "sinh": sinh,
    "cosh": cosh, "sin": sin, "cos": cos, "erf": erf,
}  # fmt: skip
