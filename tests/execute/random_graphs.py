"""Graphs that are grown from numbers, so that hypothesis can shrink them.

Values are whole numbers from -9 to 9: a sum of them is the same in any order, so that results are
compared to the bit, and whatever jumps (a comparison, the place of a maximum) jumps alike on both
tiers.  What gives fractions is an output of its own, compared within rounding, and goes on rounded
down, at a place where hardly any value lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphflow as tf
from tests.execute.random_ops import (
    FRACTIONS,
    GROWING,
    MOVES,
    Digits,
    Unfit,
    alike,
    has_elements,
    is_float,
    is_number,
    need,
    rounded,
    sizes,
    tame,
)

# ---- bodies


def _same(x: Any, y: Any, d: Digits) -> Any:
    """An op of x that keeps its shape and dtype; else x."""
    found = _applied(d.of(MOVES + GROWING), x, y, d)
    return tf.identity(x if found is None else alike(x, tame(found)))


def looped(x: Any, y: Any, d: Digits) -> Any:
    number = d(10_000)
    done = tf.while_loop(
        lambda i, a: i < 3, lambda i, a: (i + 1, _same(a, y, Digits(number))), [tf.constant(0), x]
    )
    return done[1]


def branched(x: Any, y: Any, d: Digits) -> Any:
    need(is_number(x))
    which, other = Digits(d(10_000)), Digits(d(10_000))
    condition = tf.reduce_sum(x) > tf.constant(0, x.dtype)
    return tf.cond(condition, lambda: _same(x, y, which), lambda: _same(x, y, other))


OPS = [*MOVES, *GROWING, *FRACTIONS, looped, branched]
_LARGEST = 20_000  # elements


def _applied(op: Any, x: Any, y: Any, d: Digits) -> Any:
    """What an op gives; None where it does not go with the values."""
    try:
        found = op(x, y, d)
    except (Unfit, ValueError, TypeError):
        return None
    return None if math.prod(sizes(found)) > _LARGEST or len(found.shape) > 5 else found


def grown(choices: Any, leaves: list[Any]) -> tuple[list[Any], list[Any]]:
    """Results that are whole numbers, and those that are fractions.

    Args:
      choices: (op, how long ago x was made, and y, digits) of each.
    """
    values, fractions = list(leaves), []
    for number, a, b, digits in choices:
        op = OPS[number % len(OPS)]
        x, y = [values[-1 - i % len(values)] for i in (a, b)]
        found = _applied(op, x, y, Digits(digits))
        if found is None:
            continue
        if op in FRACTIONS:
            fractions.append(found)
            found = rounded(found)
        values.append(found if op in MOVES else tame(found))
    return values[len(leaves) :], fractions


# ---- whole programs


@dataclass(frozen=True)
class Case:
    """A program.

    Attributes:
      sizes: of the axes of its inputs.
      choices: see `grown`.
      update: what becomes of the variable: nothing, or one of three.
      layouts: of the inputs in memory, two bits each.
    """

    sizes: tuple[int, int, int]
    choices: list[tuple[int, int, int, int]]
    update: int = 0
    layouts: int = 0

    def build(self) -> tuple[list[Any], list[Any], dict[Any, Any]]:
        """Exact outputs, others, and feeds, in the default graph."""
        m, n, b = self.sizes
        shapes = {tf.bool: [(m, n)], tf.int64: [(n,)], tf.int32: [(m,)], tf.float64: [(m, n)],
                  tf.float32: [(m, 1), (), (b, m, n), (n,), (m, n)]}  # fmt: skip
        inputs = [tf.placeholder(t, shape) for t, found in shapes.items() for shape in found]
        draw = np.random.default_rng(0)
        feeds = {x: _numbers(draw, x, self.layouts >> 2 * i & 3) for i, x in enumerate(inputs)}
        variable = tf.Variable(draw.integers(-3, 4, (m, n)).astype(np.float32))
        exact, loose = grown(self.choices, [variable.value(), *inputs])
        floats = [y for y in exact if is_float(y)]
        if floats:
            sources = [x for x in [variable, *inputs] if is_float(x)]
            loose += [tf.convert_to_tensor(g) for g in tf.gradients(floats[-1], sources)
                      if g is not None]  # fmt: skip
            loose += self._update(variable, floats[-1])
        return exact or [inputs[-1] + 1.0], loose, feeds

    def _update(self, variable: Any, y: Any) -> list[Any]:
        m, n, _ = self.sizes
        y = tf.cast(y, tf.float32)
        if self.update == 1:
            return [variable.assign_add(tf.zeros([m, n]) + tame(tf.reduce_sum(y)))]
        if self.update == 2 and math.prod(sizes(y)) == m * n:
            return [variable.assign(tf.reshape(y, [m, n]))]
        if self.update == 3 and m and has_elements(y) and sizes(y)[-1] == n:
            rows = math.prod(sizes(y)) // n
            index = [i % m for i in range(rows)]
            return [tf.scatter_add(variable, index, tf.reshape(y, [rows, n]))]
        return []


def _numbers(draw: np.random.Generator, x: Any, layout: int) -> Any:
    values = draw.integers(0 if x.dtype == tf.bool else -3, 2 if x.dtype == tf.bool else 4,
                           sizes(x)).astype(x.dtype.np)  # fmt: skip
    if not values.ndim or not layout:
        return values
    if layout == 1:
        return np.asfortranarray(values)
    return np.flip(np.flip(values).copy()) if layout == 2 else np.repeat(values, 2, -1)[..., ::2]


def drawn(draw: np.random.Generator) -> Case:
    """A case for a loop without hypothesis."""
    choices = [tuple(map(int, draw.integers(0, [len(OPS), 4, 12, 10**9]))) for _ in range(10)]
    found = [int(n) for n in draw.choice([1, 2, 3, 5, 8, 17], 3)]
    return Case(tuple(found), choices, int(draw.integers(4)), int(draw.integers(1 << 18)))  # type: ignore[arg-type]
