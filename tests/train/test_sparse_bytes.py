"""The gradient of a lookup stays sparse all the way: what a step computes is counted in bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import graphflow as tf

ROWS, WIDTH, TAKEN = 100_000, 8, 5
STATE = {"ReadVariable", "VarHandle", "Assign", "ScatterSub", "ScatterAdd", "ScatterUpdate"}


def computed(target: Any) -> int:
    """Bytes of all tensors that a step makes, but for variables and their new values."""
    seen, stack, total = set(), [target], 0
    while stack:
        operation = stack.pop()
        if operation in seen:
            continue
        seen.add(operation)
        stack += [*[t.op for t in operation.inputs], *operation.control_inputs]
        if operation.type not in STATE:
            for t in operation.outputs:
                assert t.dims is not None, f"{t} has no static rank"
                # what has no static size is what the distinct rows give
                total += math.prod(TAKEN if n is None else n for n in t.dims) * t.dtype.size
    return total


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: tf.train.GradientDescentOptimizer(0.1),
        lambda: tf.train.MomentumOptimizer(0.1, 0.9),
        lambda: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
        lambda: tf.train.AdagradOptimizer(0.1),
        lambda: tf.train.AdadeltaOptimizer(0.1),
        lambda: tf.train.RMSPropOptimizer(0.1),  # Adam's moments decay in all rows
    ],
)
def test_adding_scaling_clipping_and_applying_keep_to_the_rows(optimizer: Any) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        table = tf.Variable(np.ones((ROWS, WIDTH), np.float32))
        first = tf.nn.embedding_lookup(table, [3, 7, 3])
        second = tf.gather(table, [7, 99_999])
        loss = tf.reduce_sum(first * first) + tf.reduce_sum(second)
        (gradient,) = tf.gradients(loss, table)
        (clipped,), _ = tf.clip_by_global_norm([gradient * 2.0], 10.0)
        assert isinstance(clipped, tf.IndexedSlices)
        step = optimizer().apply_gradients([(clipped, table)])
        assert computed(step) < 100 * TAKEN * WIDTH * 4  # the table has 20,000 times a row
        session.run(tf.global_variables_initializer())
        session.run(step)
        changed = np.nonzero((session.run(table) != 1).any(axis=1))[0]
        assert changed.tolist() == [3, 7, 99_999]


def test_a_dense_term_is_noticed() -> None:
    with tf.Graph().as_default():
        table = tf.Variable(np.ones((ROWS, WIDTH), np.float32))
        loss = tf.reduce_sum(tf.gather(table, [3])) + tf.reduce_sum(table)
        step = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        assert computed(step) > ROWS * WIDTH * 4
