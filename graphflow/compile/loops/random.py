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
    if step.opdef.name != "RandomUniform" or spec is None or spec[1] != np.float32:
        return None
    if not spec[0] or 0 in spec[0] or s.static(arguments[0]) is None:
        return None
    seeds = {name: step.attrs[name] for name in ("seed", "seed2", "stream")}
    inputs = (CONTEXT, *[slot for slot in step.inputs if slot != CONTEXT])
    name = f"{step.name}/key"
    key = Step(philox_key, inputs, step.outputs, seeds, (), name, step.where)
    words = s.before(key, arguments[0], Value((3,), _U64, "outside"))
    parts = [View(words.value, (), (), i) for i in range(3)]
    place = whole(Value(spec[0], np.dtype(np.int64), "index"))
    view: View | None = s.map(spec[0], [*parts, place], uniform(), step.name)
    return None if view is None else [view]


def uniform() -> Node:
    """A float32 of [0, 1) from key, counter (low, high) and the number of the element."""
    key, low, high = [Node("arg", (), _U64, i) for i in range(3)]
    place = Node("arg", (), np.dtype(np.int64), 3).astype(_U64)
    words = _block(key, low, high, apply("right_shift", place, 2))
    word = place & 3
    picked = words[3]
    for i in (2, 1, 0):
        picked = apply("where", apply("equal", word, i), words[i], picked)
    # 23 bits become the mantissa of a number in [1, 2), less 1: the same number
    fraction = (picked & _MANTISSA).astype(np.int32).astype(np.float32)
    return fraction * 2.0**-23


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
