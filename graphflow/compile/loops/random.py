"""Random numbers inside of loops: Philox as a scalar expression of an element's place.

The reference kernel's numbers, bit by bit.  The step's key and counter come from a kernel that
runs before all loops: the counter is state, and advances as it does on the reference tier.
"""

from __future__ import annotations

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
    """What an element is, by the op and its bounds; None for other distributions."""
    if step.opdef.name == "RandomUniform" and dtype == np.float32:
        return uniform()
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
    # 23 bits become the mantissa of a number in [1, 2), less 1: the same number
    fraction = (_word() & _MANTISSA).astype(np.int32).astype(np.float32)
    return fraction * 2.0**-23


def _word() -> Node:
    """A word of 32 bits from key, counter (low, high) and the number of the element."""
    key, low, high = [Node("arg", (), _U64, i) for i in range(3)]
    place = Node("arg", (), np.dtype(np.int64), 3).astype(_U64)
    words = _block(key, low, high, apply("right_shift", place, 2))
    number = place & 3
    picked = words[3]
    for i in (2, 1, 0):
        picked = apply("where", apply("equal", number, i), words[i], picked)
    return picked


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
