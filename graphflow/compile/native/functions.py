"""Elementary functions of float32 as straight-line code, so that loops vectorise.

A call of libm would stop LLVM's vectoriser.  Polynomials are Cephes' (Moshier) where no other
source is named; NaN goes through, infinities and denormals come out right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow.compile.native.inverse import INVERSE

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
# 2 / pi in parts of 29 bits; the last reaches what the largest float32 needs.
_TWO_OVER_PI = tuple(
    float.fromhex(part)
    for part in ("0x1.45f306dp-1", "0x1.9391054p-30", "0x1.4fe13abp-59", "0x1.d1f534dp-88",
                 "0x1.b81b6c5p-117", "0x1.5993c4p-148", "0x1.c820ff2p-175")
)  # fmt: skip


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
    return e.select(small, e.copysign(p, x), large)  # of a zero, too


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
    return e.copysign(e.select(e.less(a, 0.625), near, far), x)


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
    """sin(x + quarter * pi / 2), for every finite x.

    The quarter turns in x, modulo 4: x has 24 bits and each part of 2 / pi has 29, so their
    products are exact in float64, and so is what is left of each modulo 4.
    """
    wide = e.widened(x)
    turns: Any = 0.0
    for part in _TWO_OVER_PI:
        product = e.wide("fmul", wide, part)
        whole = e.wide_round(e.wide("fmul", product, 0.25))
        turns = e.wide("fadd", turns, e.wide_fma(whole, -4.0, product))
    n = e.wide_round(turns)
    r = e.narrowed(e.wide("fmul", e.wide("fsub", turns, n), 1.5707963267948966))
    q = e.integer("add", e.wide_to_integer(n), quarter)
    square = e.multiply(r, r)
    sine = e.fma(e.multiply(e.polynomial(square, _SIN), square), r, r)
    cosine = e.fma(e.multiply(e.polynomial(square, _COS), square), square, e.fma(square, -0.5, 1.0))
    odd = e.is_set(e.integer("and", q, 1))
    result = e.select(odd, cosine, sine)
    sign = e.integer("shl", e.integer("and", q, 2), 30)
    result = e.float_of(e.integer("xor", e.bits(result), sign))
    if quarter == 0:
        result = e.select(e.less(e.absolute(x), 1e-4), x, result)  # keeps the sign of a zero
    return e.select(e.less(e.absolute(x), float("inf")), result, float("nan"))


def power(e: Any, x: Any, y: Any) -> Any:
    """|x|^y = exp(y log |x|) in float64, then C99's cases: signs, zeros, infinities, ones."""
    size = e.absolute(x)
    exponent = e.wide("fmul", e.widened(y), _wide_log(e, size))
    result = e.narrowed(_wide_exp(e, exponent))
    plain = e.less(size, float("inf"))
    whole = e.equal(e.call("trunc", "float", y), y)
    half = e.multiply(y, 0.5)
    odd = e.both(whole, e.differs(e.call("trunc", "float", half), half))
    result = e.select(e.both(e.equal(size, 1.0), e.equal(y, y)), 1.0, result)
    result = e.select(odd, e.copysign(result, x), result)
    broken = e.both(e.both(e.less(x, 0.0), plain), e.differs(e.call("trunc", "float", y), y))
    result = e.select(broken, float("nan"), result)
    return e.select(e.equal(x, 1.0), 1.0, e.select(e.equal(y, 0.0), 1.0, result))


def _wide_log(e: Any, x: Any) -> Any:
    """log of a float32 that is not negative, in float64 to 1e-12: 2 atanh((m - 1) / (m + 1))."""
    bits = e.emit("i64", f"bitcast double {e.widened(x).text} to i64")  # no float32 is denormal
    above = e.binary("sub", bits, 0x3FE6A09E667F3BCD, "i64")  # sqrt(1/2)
    k = e.binary("ashr", above, 52, "i64")
    scaled = e.binary("sub", bits, e.binary("shl", k, 52, "i64"), "i64")
    m = e.emit("double", f"bitcast i64 {scaled.text} to double")
    s = e.wide("fdiv", e.wide("fsub", m, 1.0), e.wide("fadd", m, 1.0))
    square = e.wide("fmul", s, s)
    series: Any = 2 / 15
    for n in (13, 11, 9, 7, 5, 3, 1):
        series = e.wide_fma(series, square, 2 / n)
    power = e.emit("i32", f"trunc i64 {k.text} to i32")
    power = e.emit("double", f"sitofp i32 {power.text} to double")
    result = e.wide_fma(power, 0.6931471805599453, e.wide("fmul", series, s))
    result = e.select(e.less(x, float("inf")), result, e.widened(x), "double")  # inf and NaN
    return e.select(e.equal(x, 0.0), float("-inf"), result, "double")


def _wide_exp(e: Any, x: Any) -> Any:
    """exp in float64 to 1e-11, right wherever its float32 is neither 0 nor infinite."""
    for test, bound in (("olt", -200.0), ("ogt", 200.0)):  # NaN stays
        beyond = e.emit("i1", f"fcmp {test} double {x.text}, {e.text(bound, 'double')}")
        x = e.select(beyond, bound, x, "double")
    n = e.wide_round(e.wide("fmul", x, _LOG2_E))
    r = e.wide_fma(n, -0.6931471805599453, x)
    series: Any = 1 / 3628800
    for factorial in (362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1):
        series = e.wide_fma(series, r, 1 / factorial)
    exponent = e.emit("i64", f"sext i32 {e.wide_to_integer(n).text} to i64")
    shifted = e.binary("shl", e.binary("add", exponent, 1023, "i64"), 52, "i64")
    return e.wide("fmul", series, e.emit("double", f"bitcast i64 {shifted.text} to double"))


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
    "cosh": cosh, "sin": sin, "cos": cos, "erf": erf, "power": power, **INVERSE,
}  # fmt: skip
