"""Random numbers inside of loops: Philox as a scalar expression of an element's place.

The reference kernel's numbers, bit by bit (normals: see `normal`).  The step's key and counter come
from a kernel that runs before all loops: the counter is state, and advances as it does on the
reference tier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from graphflow.compile.loops.values import Value, View, whole
from graphflow.compile.plan import CONTEXT, Step
from graphflow.ops.expression import Node, apply
from graphflow.ops.philox import LOW, MULTIPLIERS, ROUNDS, WEYL
from graphflow.ops.random import philox_key

_U64 = np.dtype(np.uint64)
_MANTISSA = 0x7FFFFF


def draw(s: Any, step: Step, arguments: list[Any]) -> list[View] | None:
    """The output of a random step as a view, or None: then its kernel draws.

    Args:
      s: the specialiser.
      arguments: views of the step's inputs, the shape's first.
    """
    spec = s.spec(step.outputs[0])
    statics = [s.static(v) for v in arguments]
    if spec is None or any(v is None for v in statics) or not spec[0] or 0 in spec[0]:
        return None
    body = _body(step, spec[1], statics)
    if body is None:
        return None
    seeds = {name: step.attrs[name] for name in ("seed", "seed2", "stream")}
    inputs = [slot for slot in step.inputs if slot != CONTEXT][:1]
    name = f"{step.name}/key"
    key = Step(philox_key, (CONTEXT, *inputs), step.outputs, seeds, (), name, step.where)
    words = s.before(key, arguments[0], Value((3,), _U64, "outside"))
    parts = [View(words.value, (), (), i) for i in range(3)]
    place = whole(Value(spec[0], np.dtype(np.int64), "index"))
    view: View | None = s.map(spec[0], [*parts, place], body, step.name)
    return None if view is None else [view]


def _body(step: Step, dtype: np.dtype[Any], statics: list[Any]) -> Node | None:
    """What an element is, by the op and its bounds; None for other distributions.

    Truncated normals, which draw again, and normals of float64 are left to their kernels: those
    initialise, and for these the last bit of a sine counts.
    """
    fill = _FILLS.get((step.opdef.name, dtype.name))
    if fill is not None:
        return fill()
    if step.opdef.name == "RandomUniformInt" and dtype == np.int32:
        low, high = int(statics[1]), int(statics[2])
        return integer(low, high) if low < high else None
    return None


def integer(low: int, high: int) -> Node:
    """An int32 of [low, high): the remainder of a word."""
    part = apply("remainder", _word(), high - low)
    return (part + low % 2**32).astype(np.int32)  # what is above 32 bits falls off


def uniform() -> Node:
    """A float32 of [0, 1)."""
    return _unit(_word())


def uniform64() -> Node:
    """A float64 of [0, 1), from two words."""
    high, low = _pair(_place())
    mantissa = (high & 0xFFFFF) * 2**32 + low
    return mantissa.astype(np.float64) * 2.0**-52


def normal() -> Node:
    """A standard normal float32, by Box and Muller: the sine, or the cosine, of a pair.

    Computed in float64 and rounded once, as the kernel does.  NumPy's logarithm and sine may differ
    in the last bit of float64 from these, and so one number in 2**27 in the last bit of float32.
    """
    place = _place()
    first, second = _pair(apply("right_shift", place, 1))
    least = apply("maximum", _unit(first), 1e-7).astype(np.float64)
    angle = _unit(second).astype(np.float64) * (2.0 * math.pi)
    angle = angle.astype(np.float32).astype(np.float64)
    radius = apply("sqrt", logarithm(least) * -2.0)
    return (sine(angle, (place & 1).astype(np.float64)) * radius).astype(np.float32)


_FILLS: Mapping[tuple[str, str], Callable[[], Node]] = MappingProxyType(
    {
        ("RandomUniform", "float32"): uniform,
        ("RandomUniform", "float64"): uniform64,
        ("RandomStandardNormal", "float32"): normal,
    }
)


def logarithm(x: Node) -> Node:
    """The natural logarithm of a float64 of [2**-31, 1), to 2 ulp."""
    exponent: Any = x * 0.0
    for bits in (16, 8, 4, 2, 1):  # to [1/2, 1)
        small = apply("less", x, 2.0**-bits)
        x = apply("where", small, x * 2.0**bits, x)
        exponent = apply("where", small, exponent - float(bits), exponent)
    small = apply("less", x, math.sqrt(0.5))  # to [0.71, 1.41)
    x = apply("where", small, x * 2.0, x)
    exponent = apply("where", small, exponent - 1.0, exponent)
    # 2 artanh(s): of |s| < 0.172, eleven terms leave 2e-17
    s = (x - 1.0) / (x + 1.0)
    series = _polynomial(s * s, [2.0 / (2 * n + 1) for n in range(1, 11)])
    return exponent * math.log(2.0) + (s * 2.0 + s * (s * s) * series)


# pi / 2 in two parts, of which the first has 33 bits: products with quarters are exact.
_QUARTER = (float.fromhex("0x1.921fb5440000p+0"), float.fromhex("0x1.0b4611a626331p-34"))


def sine(angle: Node, ahead: Node) -> Node:
    """The sine of a float64 of [0, 2 pi] that a float32 holds, `ahead` quarters of a turn on."""
    turns = apply("floor", angle * (2.0 / math.pi) + 0.5)
    rest = (angle - turns * _QUARTER[0]) - turns * _QUARTER[1]
    square = rest * rest
    # |rest| <= pi / 4: what the series leave out is below 6e-17
    factorials = [(-1) ** n / math.factorial(2 * n + 1) for n in range(1, 8)]
    flat = rest + rest * square * _polynomial(square, factorials)
    factorials = [(-1) ** n / math.factorial(2 * n) for n in range(1, 9)]
    steep = square * _polynomial(square, factorials) + 1.0
    quarter = turns + ahead  # 0 to 5
    odd = _one_of(quarter, 1.0, 3.0, 5.0)
    value = apply("where", odd, steep, flat)
    return apply("where", _one_of(quarter, 2.0, 3.0), value * -1.0, value)


def _one_of(x: Node, *values: float) -> Node:
    found = apply("equal", x, values[0])
    for value in values[1:]:
        found = apply("logical_or", found, apply("equal", x, value))
    return found


def _polynomial(x: Node, coefficients: Sequence[float]) -> Node:
    """By Horner, the constant one first."""
    result: Any = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        result = x * result + coefficient
    return result


def _unit(word: Node) -> Node:
    """A float32 of [0, 1)."""
    # 23 bits become the mantissa of a number in [1, 2), less 1: the same number
    return (word & _MANTISSA).astype(np.int32).astype(np.float32) * 2.0**-23


def _place() -> Node:
    """The number of the element."""
    return Node("arg", (), np.dtype(np.int64), 3).astype(_U64)


def _word() -> Node:
    """The element's word of 32 bits: each block gives four."""
    place = _place()
    words = _words(apply("right_shift", place, 2))
    number = place & 3
    picked = words[3]
    for i in (2, 1, 0):
        picked = apply("where", apply("equal", number, i), words[i], picked)
    return picked


def _pair(number: Node) -> tuple[Node, Node]:
    """Two words: each block gives two pairs."""
    words = _words(apply("right_shift", number, 1))
    even = apply("equal", number & 1, 0)
    return apply("where", even, words[0], words[2]), apply("where", even, words[1], words[3])


def _words(block: Node) -> list[Node]:
    """The words of a block, from key and counter (low, high)."""
    key, low, high = [Node("arg", (), _U64, i) for i in range(3)]
    return _block(key, low, high, block)


def _block(key: Node, low: Node, high: Node, offset: Node) -> list[Node]:
    """Four words of 32 bits; `graphflow.ops.philox.blocks_at` on one element."""
    start = low + offset
    high = high + apply("less", start, offset).astype(_U64)
    words = [_low(start), _high(start), _low(high), _high(high)]
    keys = [_low(key), _high(key)]
    for _ in range(ROUNDS):
        first, second = words[0] * MULTIPLIERS[0], words[2] * MULTIPLIERS[1]
        words = [
            _high(second) ^ words[1] ^ keys[0],
            _low(second),
            _high(first) ^ words[3] ^ keys[1],
            _low(first),
        ]
        keys = [_low(k + w) for k, w in zip(keys, WEYL, strict=True)]
    return words


def _low(word: Node) -> Node:
    return word & LOW


def _high(word: Node) -> Node:
    return apply("right_shift", word, 32)
