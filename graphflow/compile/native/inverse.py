"""The inverse circular and hyperbolic functions, of float32, computed in float64.

There the cancellation that their formulas suffer from costs nothing that float32 could show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_PI = 3.141592653589793
_TAN_EIGHTH = 0.41421356237309503  # tan(pi / 8)


def _select(e: Any, condition: Any, a: Any, b: Any) -> Any:
    return e.select(condition, a, b, "double")


def _compare(e: Any, test: str, a: Any, b: Any) -> Any:
    kinds = f"{e.text(a, 'double')}, {e.text(b, 'double')}"
    return e.emit("i1", f"fcmp {test} double {kinds}")


def _root(e: Any, x: Any) -> Any:
    return e.call("sqrt", "double", x)


def _atan(e: Any, x: Any) -> Any:
    """The odd series of arctan, on arguments brought below tan(pi / 8)."""
    size = e.call("fabs", "double", x)
    large = _compare(e, "ogt", size, 1.0)
    inner = _select(e, large, e.wide("fdiv", 1.0, size), size)
    middle = _compare(e, "ogt", inner, _TAN_EIGHTH)
    turned = e.wide("fdiv", e.wide("fsub", inner, 1.0), e.wide("fadd", inner, 1.0))
    t = _select(e, middle, turned, inner)
    square = e.wide("fmul", t, t)
    series: Any = 1 / 25
    for n in range(23, 0, -2):
        series = e.wide_fma(series, square, (1 if n % 4 == 1 else -1) / n)
    angle = e.wide("fadd", e.wide("fmul", series, t), _select(e, middle, _PI / 4, 0.0))
    angle = _select(e, large, e.wide("fsub", _PI / 2, angle), angle)
    return e.call("copysign", "double", angle, x)


def arctan(e: Any, x: Any) -> Any:
    return e.narrowed(_atan(e, e.widened(x)))


def arctan2(e: Any, y: Any, x: Any) -> Any:
    """By quadrant: C99's results, of signed zeros and infinities, too."""
    y, x = e.widened(y), e.widened(x)
    high, wide = e.call("fabs", "double", y), e.call("fabs", "double", x)
    ratio = e.wide("fdiv", high, wide)
    same = _compare(e, "oeq", high, wide)  # both infinite, or both 0
    odd = _compare(e, "uno", ratio, ratio)
    known = _compare(e, "ord", high, wide)
    zero = _select(e, _compare(e, "oeq", high, 0.0), 0.0, 1.0)
    ratio = _select(e, e.both(e.both(same, odd), known), zero, ratio)
    angle = _atan(e, ratio)
    bits = e.emit("i64", f"bitcast double {x.text} to i64")
    left = e.emit("i1", f"icmp slt i64 {bits.text}, 0")
    angle = _select(e, left, e.wide("fsub", _PI, angle), angle)
    angle = _select(e, known, angle, e.wide("fadd", x, y))
    return e.narrowed(e.call("copysign", "double", angle, y))


def _beside(e: Any, x: Any) -> Any:
    """sqrt(1 - x^2); NaN beyond 1."""
    return _root(e, e.wide("fmul", e.wide("fsub", 1.0, x), e.wide("fadd", 1.0, x)))


def arcsin(e: Any, x: Any) -> Any:
    wide = e.widened(x)
    return e.narrowed(_atan(e, e.wide("fdiv", wide, _beside(e, wide))))


def arccos(e: Any, x: Any) -> Any:
    """From the side that does not cancel: 2 arctan(sqrt((1 - x) / (1 + x)))."""
    wide = e.widened(x)
    ratio = e.wide("fdiv", e.wide("fsub", 1.0, wide), e.wide("fadd", 1.0, wide))
    return e.narrowed(e.wide("fmul", 2.0, _atan(e, _root(e, ratio))))


def _log1p(e: Any, x: Any) -> Any:
    """log(1 + x) of a float64 x >= 0: 2^k m, and the series of atanh."""
    u = e.wide("fadd", x, 1.0)
    bits = e.emit("i64", f"bitcast double {u.text} to i64")
    above = e.binary("sub", bits, 0x3FE6A09E667F3BCD, "i64")  # sqrt(1/2)
    k = e.binary("ashr", above, 52, "i64")
    scaled = e.binary("sub", bits, e.binary("shl", k, 52, "i64"), "i64")
    m = e.emit("double", f"bitcast i64 {scaled.text} to double")
    small = _compare(e, "olt", u, 1.4142135623730951)  # there m is u, and x is better
    part = _select(e, small, x, e.wide("fsub", m, 1.0))
    s = e.wide("fdiv", part, e.wide("fadd", part, 2.0))
    square = e.wide("fmul", s, s)
    series: Any = 2 / 17
    for n in range(15, 0, -2):
        series = e.wide_fma(series, square, 2 / n)
    power = e.emit("i32", f"trunc i64 {k.text} to i32")
    power = e.emit("double", f"sitofp i32 {power.text} to double")
    power = _select(e, small, 0.0, power)
    result = e.wide_fma(power, 0.6931471805599453, e.wide("fmul", series, s))
    return _select(e, _compare(e, "olt", u, float("inf")), result, u)


def arcsinh(e: Any, x: Any) -> Any:
    """log(|x| + sqrt(x^2 + 1)), as log1p(|x| + x^2 / (1 + sqrt(x^2 + 1)))."""
    wide = e.widened(x)
    size = e.call("fabs", "double", wide)
    square = e.wide("fmul", wide, wide)
    root = _root(e, e.wide("fadd", square, 1.0))
    infinite = _compare(e, "oeq", size, float("inf"))  # inf / inf
    rest = e.wide("fdiv", square, e.wide("fadd", root, 1.0))
    rest = _select(e, infinite, 0.0, rest)
    return e.narrowed(e.call("copysign", "double", _log1p(e, e.wide("fadd", size, rest)), wide))


def arccosh(e: Any, x: Any) -> Any:
    """log(x + sqrt(x^2 - 1)), as log1p of that less 1; NaN below 1."""
    less = e.wide("fsub", e.widened(x), 1.0)
    less = _select(e, _compare(e, "olt", less, 0.0), float("nan"), less)
    root = _root(e, e.wide("fmul", less, e.wide("fadd", less, 2.0)))
    return e.narrowed(_log1p(e, e.wide("fadd", less, root)))


def arctanh(e: Any, x: Any) -> Any:
    """log((1 + x) / (1 - x)) / 2, as log1p(2 |x| / (1 - |x|)) / 2; NaN beyond 1."""
    wide = e.widened(x)
    size = e.call("fabs", "double", wide)
    ratio = e.wide("fdiv", e.wide("fadd", size, size), e.wide("fsub", 1.0, size))
    ratio = _select(e, _compare(e, "ogt", size, 1.0), float("nan"), ratio)
    half = e.wide("fmul", 0.5, _log1p(e, ratio))
    return e.narrowed(e.call("copysign", "double", half, wide))


INVERSE: dict[str, Callable[..., Any]] = {
    "arctan": arctan, "arctan2": arctan2, "arcsin": arcsin, "arccos": arccos,
    "arcsinh": arcsinh, "arccosh": arccosh, "arctanh": arctanh,
}  # fmt: skip
