"""Random programs of nested branches and loops against the same programs written out."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import graphflow as tf


class Program:
    """A random expression, with control flow as ops or as Python's own.

    Bodies are built from seeds, so that both ways build the same one as often as they call it.
    """

    def __init__(self, as_ops: bool):
        self.as_ops = as_ops

    def build(self, rng: random.Random, depth: int, tensors: list[Any]) -> Any:
        first, second = rng.choice(tensors), rng.choice(tensors)
        kind = rng.randrange(7 if depth else 4)
        if kind < 4:
            return (
                tf.sin(first) * second,
                first + second * 0.5,
                tf.tanh(first - second),
                first,
            )[kind]
        seeds = rng.randrange(10**9), rng.randrange(10**9)

        def inner(which: int, *more: Any) -> Any:
            return self.build(random.Random(seeds[which]), depth - 1, [*tensors, *more])

        if kind == 6:
            return self.branch(rng.random() < 0.5, lambda: inner(0), lambda: inner(1))
        return self.loop(
            rng.randrange(4), lambda a, b: (inner(0, a, b), inner(1, a, b)), (first, second)
        )

    def branch(self, chosen: bool, then: Any, orelse: Any) -> Any:
        if self.as_ops:
            return tf.cond(tf.placeholder_with_default(chosen, ()), then, orelse)
        return then() if chosen else orelse()

    def loop(self, times: int, body: Any, first: Any) -> Any:
        if self.as_ops:
            last = tf.while_loop(
                lambda i, a, b: i < times, lambda i, a, b: (i + 1, *body(a, b)), (0, *first)
            )[1:]
        else:
            last = first
            for _ in range(times):
                last = body(*last)
        return last[0] + last[1]


@pytest.mark.parametrize("seed", range(25))
def test_values_and_gradients_equal_those_written_out(seed: int) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        xs = [tf.constant(np.float64(v)) for v in (0.7, -0.4)]
        both = []
        for as_ops in (True, False):
            rng = random.Random(seed)
            program = Program(as_ops)
            y = sum(program.build(rng, 3, xs) * (k + 1.0) for k in range(4))
            found = [y]
            for _ in range(2):
                slopes = tf.gradients(y, xs, unconnected_gradients="zero")
                found += slopes
                y = slopes[0] * 0.3 + slopes[1]
            both.append(found)
        got, wanted = session.run(both)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
