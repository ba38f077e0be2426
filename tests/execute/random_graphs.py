"""Graphs that are grown from numbers, so that hypothesis can shrink them."""

from __future__ import annotations

from typing import Any

import graphflow as tf

UNARY = [tf.tanh, tf.sigmoid, tf.nn.relu, tf.square, tf.negative, tf.abs, tf.exp, tf.nn.softmax,
         lambda x: tf.reduce_sum(x, -1, keepdims=True), lambda x: tf.reduce_mean(x, 0),
         tf.reduce_max, lambda x: tf.transpose(x) if len(x.shape) == 2 else x,
         lambda x: tf.reshape(x, [-1]), lambda x: tf.cast(x > 0.1, tf.float32),
         lambda x: x[1:], lambda x: tf.reverse(x, [-1]), lambda x: tf.concat([x, x], 0),
         lambda x: tf.pad(x, [[1, 0]] * len(x.shape)), lambda x: tf.erf(x) ** 3.0,
         lambda x: tf.gather(x, [int(x.shape[0]) - 1, 0]) if x.shape[0] else x,
         lambda x: tf.random_uniform(x.shape, seed=3) * x,
         lambda x: tf.random_normal(x.shape, seed=5) + x,
         lambda x: tf.math.lgamma(tf.abs(x) + 1.0)]  # fmt: skip
BINARY = [tf.add, tf.subtract, tf.multiply, tf.maximum, tf.minimum, tf.squared_difference]


def grown(choices: list[tuple[int, int, int]], leaves: list[Any]) -> list[Any]:
    """A graph from numbers: each makes an op of earlier results, where the shapes allow it."""
    values = list(leaves)
    for kind, a, b in choices:
        x, y = values[a % len(values)], values[b % len(values)]
        try:
            if kind < len(UNARY):
                found = UNARY[kind](x) if len(x.shape) else tf.tanh(x)
            elif kind < len(UNARY) + len(BINARY):
                found = BINARY[kind - len(UNARY)](x, y)
            else:
                found = tf.matmul(x, y, transpose_a=bool(a % 2), transpose_b=bool(b % 2)) * 0.1
        except ValueError:
            continue
        values.append(tf.clip_by_value(found, -10.0, 10.0))
    return values[len(leaves) :]
