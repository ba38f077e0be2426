"""Programs of loops, branches and lists, with their gradients; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal, with_gradients

PROGRAMS = Programs()
program = PROGRAMS.register

X = normal(4, 3)


def _twice(tf: Any, function: Any, *arrays: Any) -> list[Any]:
    """Value, gradients, and gradients of the gradients' squares."""
    inputs = [tf.constant(a) for a in arrays]
    y = function(*inputs)
    first = tf.gradients(tf.reduce_sum(y * y), inputs)
    second = tf.gradients(tf.add_n([tf.reduce_sum(g * g) for g in first]), inputs)
    return [y, *first, *second]


@program
def loops(tf: Any) -> list[Any]:
    def power(x: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            return i + 1, tf.tanh(y * x) + tf.reduce_mean(y)

        return tf.while_loop(lambda i, y: i < 5, body, [0, x])[1]

    def growing(x: Any) -> Any:
        start = [tf.constant(0), x]
        shapes = [tf.TensorShape([]), tf.TensorShape([None, 3])]
        grown = tf.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, tf.concat([y, y[:1] * 2], 0)), start, shapes
        )
        return grown[1]

    def halved(x: Any) -> Any:
        def body(y: Any) -> Any:
            return tf.cond(tf.reduce_sum(y) > 0, lambda: [y * 0.5 - 0.1], lambda: [y * y])

        return tf.while_loop(lambda y: tf.norm(y) > 0.3, body, [x], maximum_iterations=9)

    return [
        *_twice(tf, power, X),
        *with_gradients(tf, growing, X),
        *with_gradients(tf, halved, X),
    ]


@program
def branches(tf: Any) -> list[Any]:
    def chosen(x: Any) -> Any:
        big = tf.reduce_max(x) > 1
        return tf.cond(big, lambda: tf.exp(x), lambda: x * 3) + tf.case(
            [(x[0, 0] > 9, lambda: tf.zeros([3], x.dtype)), (big, lambda: x[1])],
            default=lambda: x[2],
        )

    return _twice(tf, chosen, X) + _twice(tf, chosen, X / 9)


@program
def maps(tf: Any) -> list[Any]:
    found = _twice(tf, lambda x: tf.map_fn(lambda row: row * tf.reduce_sum(row), x), X)
    found += _twice(tf, lambda x: tf.scan(lambda a, row: tf.sin(a) * row, x), X)
    found += _twice(tf, lambda x: tf.foldl(lambda a, row: a * row + 1, x), X)
    found += _twice(tf, lambda x: tf.foldr(lambda a, row: a * row + 1, x), X)
    return found


@program
def arrays(tf: Any) -> list[Any]:
    def rows(x: Any) -> Any:
        array = tf.TensorArray(x.dtype, 4).unstack(x)
        return tf.stack([array.read(2) * array.read(0), array.read(1)]), array.gather([3, 1])

    def scattered(x: Any) -> Any:
        return tf.TensorArray(x.dtype, 6).scatter([5, 0, 2, 1, 3, 4], tf.concat([x, x[:2]], 0))

    def pieces(x: Any) -> Any:
        parts = tf.TensorArray(x.dtype, 3, infer_shape=False).split(x, [1, 0, 3])
        again = tf.TensorArray(x.dtype, 2, infer_shape=False)
        return again.write(0, parts.read(2) * 2).write(1, parts.read(0)).concat()

    found = with_gradients(tf, lambda x: tf.concat(rows(x), 0), X)
    found += with_gradients(tf, lambda x: scattered(x).stack(), X)
    found += with_gradients(tf, pieces, X)
    return [*found, scattered(tf.constant(X)).size()]


@program
def recomputed(tf: Any) -> list[Any]:
    cheap = tf.recompute_grad(lambda x: tf.sin(x) * tf.exp(x))
    return with_gradients(tf, cheap, X)


@program
def users_gradients(tf: Any) -> list[Any]:
    @tf.custom_gradient
    def clipped(x: Any) -> Any:
        return tf.square(x), lambda g: tf.clip_by_value(g * x, -0.3, 0.3)

    python = [tf.py_func(np.sin, [X], tf.float64, stateful=s) for s in (True, False)]
    return [*with_gradients(tf, clipped, X), *python]
