"""Ops that graphs are grown from, each of a value, another one, and choices out of one number.

Of whole numbers from -9 to 9 some only move them, some grow them or change their dtype, and some
give fractions (see `random_graphs.py`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import graphflow as tf


class Unfit(Exception):
    """An op does not go with these values."""


def need(condition: Any) -> None:
    if not condition:
        raise Unfit


class Digits:
    """Small choices out of one number: the least significant digit is the first."""

    def __init__(self, number: int):
        self._number = number

    def __call__(self, below: int) -> int:
        self._number, digit = divmod(self._number, max(1, below))
        return digit

    def of(self, choices: Any) -> Any:
        return choices[self(len(choices))]

    def flag(self) -> bool:
        return bool(self(2))

    def axis(self, x: Any) -> int:
        need(len(x.shape))
        return self(len(x.shape))

    def axes(self, x: Any) -> list[int]:
        return [i for i in range(len(x.shape)) if self.flag()]


def sizes(x: Any) -> list[int]:
    return [int(n) for n in x.shape]


def is_float(x: Any) -> bool:
    return bool(x.dtype in (tf.float32, tf.float64))


def is_number(x: Any) -> bool:
    return bool(x.dtype != tf.bool)


def has_elements(x: Any) -> bool:
    return len(x.shape) > 0 and 0 not in sizes(x)


def tame(x: Any) -> Any:
    """From -9 to 9."""
    if not is_number(x):
        return x
    return tf.maximum(tf.minimum(x, tf.constant(9, x.dtype)), tf.constant(-9, x.dtype))


def rounded(x: Any) -> Any:
    return tame(tf.floor(x * tf.constant(2.0, x.dtype) + tf.constant(0.3711, x.dtype)))


def divisor(n: int, d: Digits) -> int:
    need(n)
    return int(d.of([f for f in range(1, n + 1) if n % f == 0]))


# ---- moves: of x, another value, and choices


def transpose(x: Any, y: Any, d: Digits) -> Any:
    left = list(range(len(x.shape)))
    return tf.transpose(x, [left.pop(d(len(left))) for _ in sizes(x)])


def reshape(x: Any, y: Any, d: Digits) -> Any:
    shape = sizes(x)
    at = d(len(shape) + 1)
    if at == len(shape):
        return tf.reshape(x, [math.prod(shape)] if d.flag() else shape[::-1])
    if d.flag():
        part = divisor(shape[at], d)
        return tf.reshape(x, [*shape[:at], part, shape[at] // part, *shape[at + 1 :]])
    return tf.reshape(x, [*shape[:at], math.prod(shape[at : at + 2]), *shape[at + 2 :]])


def axes_of_size_1(x: Any, y: Any, d: Digits) -> Any:
    return tf.squeeze(x) if d(3) == 0 else tf.expand_dims(x, d(len(x.shape) + 1))


def sliced(x: Any, y: Any, d: Digits) -> Any:
    parts: list[Any] = []
    for n in sizes(x):
        step, low, high = d.of([1, 2, -1, -2]), d(n + 1), d(n + 1)
        parts.append(slice(low, None, step) if d.flag() else slice(low, max(low, high), abs(step)))
    need(parts)
    if d(3) == 0 and sizes(x)[0]:
        parts[0] = d(sizes(x)[0])
    if d(3) == 0:
        parts.insert(d(len(parts) + 1), tf.newaxis)
    return x[tuple(parts)]


def cut(x: Any, y: Any, d: Digits) -> Any:
    begin = [d(n + 1) for n in sizes(x)]
    need(begin)
    return tf.slice(x, begin, [d(n - b + 1) for n, b in zip(sizes(x), begin, strict=True)])


def pad(x: Any, y: Any, d: Digits) -> Any:
    need(len(x.shape) and is_number(x))
    return tf.pad(x, [[d(3), d(3)] for _ in sizes(x)], constant_values=d(2))


def mirror(x: Any, y: Any, d: Digits) -> Any:
    need(has_elements(x) and is_number(x))
    more = d(2)
    margins = [[d(n + more), d(n + more)] for n in sizes(x)]
    return tf.pad(x, margins, mode="SYMMETRIC" if more else "REFLECT")


def concat(x: Any, y: Any, d: Digits) -> Any:
    axis = d.axis(x)
    parts = [x, y if y.dtype == x.dtype and _joins(x, y, axis) else x]
    if d(3) == 0 and has_elements(x) and is_float(x):
        parts.append(tf.reduce_max(x, axis, keepdims=True))
    if d(3) == 0:
        parts.append(x)
    return tf.concat(parts[::-1] if d.flag() else parts, axis)


def _joins(x: Any, y: Any, axis: int) -> bool:
    pairs = zip(sizes(x), sizes(y), strict=False)
    fits = all(m == n for i, (m, n) in enumerate(pairs) if i != axis)
    return len(x.shape) == len(y.shape) and fits


def alike(x: Any, y: Any) -> Any:
    """y where it has the shape and dtype of x, else x."""
    return y if sizes(x) == sizes(y) and x.dtype == y.dtype else x


def stack(x: Any, y: Any, d: Digits) -> Any:
    return tf.stack([x, alike(x, y), x][: 2 + d(2)], d(len(x.shape) + 1))


def split(x: Any, y: Any, d: Digits) -> Any:
    axis = d.axis(x)
    n = sizes(x)[axis]
    if d.flag():
        first = d(n + 1)
        parts = tf.split(x, [first, n - first], axis)
    else:
        parts = tf.split(x, divisor(n, d), axis)
    return tf.concat(parts[::-1], axis) if d.flag() else d.of(parts)


def unstack(x: Any, y: Any, d: Digits) -> Any:
    axis = d.axis(x)
    need(sizes(x)[axis])
    parts = tf.unstack(x, axis=axis)
    return tf.stack(parts[::-1], d(len(x.shape))) if d.flag() else d.of(parts)


def reverse(x: Any, y: Any, d: Digits) -> Any:
    return tf.reverse(x, d.axes(x))


def roll(x: Any, y: Any, d: Digits) -> Any:
    axis = d.axis(x)
    need(sizes(x)[axis])
    return tf.roll(x, d(4) - 1, axis)


def gather(x: Any, y: Any, d: Digits) -> Any:
    axis = d.axis(x)
    n = sizes(x)[axis]
    need(n)
    if y.dtype in (tf.int32, tf.int64):
        return tf.gather(x, tf.floormod(y, tf.constant(n, y.dtype)), axis=axis)
    index = [d(n) for _ in range(1 + d(4))]
    return tf.gather(x, [index, index] if d.flag() else index, axis=axis)


def tile(x: Any, y: Any, d: Digits) -> Any:
    need(len(x.shape))
    return tf.tile(x, [1 + d(2) for _ in sizes(x)])


def broadcast(x: Any, y: Any, d: Digits) -> Any:
    return tf.broadcast_to(x, [1 + d(3), *[1 + d(3) if n == 1 else n for n in sizes(x)]])


def where(x: Any, y: Any, d: Digits) -> Any:
    y = alike(x, y)
    if d.flag() and has_elements(x):
        return tf.where(tf.constant([d.flag() for _ in range(sizes(x)[0])]), x, y)
    return tf.where(x > tf.constant(0, x.dtype) if is_number(x) else x, x, y)


def identity(x: Any, y: Any, d: Digits) -> Any:
    return d.of([tf.identity, tf.stop_gradient, lambda v: tf.ensure_shape(v, v.shape)])(x)


def scatter(x: Any, y: Any, d: Digits) -> Any:
    need(is_float(x) and has_elements(x))
    rows = [d(4) for _ in range(sizes(x)[0])]
    if d.flag():
        return tf.unsorted_segment_sum(x, [row - 1 for row in rows], 3)
    return tf.scatter_nd([[row] for row in rows], x, [4, *sizes(x)[1:]])


# ---- what leads to larger numbers, or to another dtype

BINARY = [tf.add, tf.subtract, tf.multiply, tf.maximum, tf.minimum, tf.squared_difference]
REDUCTIONS = [tf.reduce_sum, tf.reduce_max, tf.reduce_min]
UNARY = [tf.abs, tf.negative, tf.square, tf.sign, lambda v: v * v * v,
         lambda v: v * tf.constant(2, v.dtype) + tf.constant(1, v.dtype)]  # fmt: skip
OF_FLOATS = [tf.nn.relu, tf.nn.relu6, lambda v: tf.nn.l2_loss(v) * 2.0]
COMPARISONS = [tf.less, tf.greater_equal, tf.equal, tf.not_equal]
LOGICAL = [tf.logical_and, tf.logical_or, tf.logical_xor]
DTYPES = [tf.float32, tf.int32, tf.int64, tf.float64, tf.bool]


def beside(x: Any, y: Any) -> Any:
    """y under a shape that goes with that of x; else x."""
    a, b = sizes(x), sizes(y)
    if x.dtype != y.dtype:
        return x
    if all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1], strict=False)):
        return y
    if len(b) == 1 and b[0] in a:
        return tf.reshape(y, [b[0] if i == a.index(b[0]) else 1 for i in range(len(a))])
    return x


def binary(x: Any, y: Any, d: Digits) -> Any:
    need(is_number(x))
    pair = [x, beside(x, y)]
    return d.of(BINARY)(*(pair[::-1] if d.flag() else pair))


def with_reduced(x: Any, y: Any, d: Digits) -> Any:
    """x and what is the same along some of its axes."""
    need(is_float(x) and has_elements(x))
    found = d.of(REDUCTIONS)(x, d.axes(x) or [-1], keepdims=True)
    return d.of(BINARY)(x, tame(found))


def reduction(x: Any, y: Any, d: Digits) -> Any:
    if not is_number(x):
        return d.of([tf.reduce_any, tf.reduce_all])(x, d.axes(x) or None, keepdims=d.flag())
    reduce = d.of(REDUCTIONS) if 0 not in sizes(x) else tf.reduce_sum
    return reduce(x, d.axes(x) or None, keepdims=d.flag())


def unary(x: Any, y: Any, d: Digits) -> Any:
    need(is_number(x))
    return d.of([*UNARY, *OF_FLOATS] if x.dtype == tf.float32 else UNARY)(x)


def cumsum(x: Any, y: Any, d: Digits) -> Any:
    need(is_number(x))
    return tf.cumsum(x, d.axis(x), exclusive=d.flag(), reverse=d.flag())


def matmul(x: Any, y: Any, d: Digits) -> Any:
    need(is_float(x) and len(x.shape) > 1)
    a, b = sizes(x), sizes(y)
    if x.dtype == y.dtype and len(a) == len(b) and a[:-2] == b[:-2]:
        for flip, turn in ((0, 0), (0, 1), (1, 0), (1, 1)):
            if a[-2 if flip else -1] == b[-1 if turn else -2]:
                return tf.matmul(x, y, transpose_a=bool(flip), transpose_b=bool(turn))
    if d.flag() or len(a) > 2:
        flip = d.flag()
        return tf.matmul(x, x, transpose_a=flip, transpose_b=not flip)
    weights = tf.constant(np.arange(a[-1] * 3).reshape(a[-1], 3) % 5 - 2, x.dtype)
    return tf.matmul(x, weights) + tf.constant([1, 0, 2], x.dtype)


def add_n(x: Any, y: Any, d: Digits) -> Any:
    need(is_float(x) and len(x.shape) == 2)
    first = tf.matmul(x, x, transpose_b=True)
    again = tf.matmul(x, x * tf.constant(2, x.dtype), transpose_b=True)
    return tf.add_n([first, alike(first, y), again][: 2 + d(2)])


def compare(x: Any, y: Any, d: Digits) -> Any:
    if not is_number(x):
        return d.of(LOGICAL)(x, alike(x, y)) if d.flag() else tf.logical_not(x)
    return d.of(COMPARISONS)(x, beside(x, y))


def cast(x: Any, y: Any, d: Digits) -> Any:
    return tf.cast(x, d.of(DTYPES))


def place(x: Any, y: Any, d: Digits) -> Any:
    need(is_number(x) and has_elements(x))
    return d.of([tf.argmax, tf.argmin])(x, d.axis(x))


def one_hot(x: Any, y: Any, d: Digits) -> Any:
    return tf.one_hot(tf.cast(x, tf.int32), 1 + d(4), axis=d(len(x.shape) + 1), on_value=2.0)


def images(x: Any, d: Digits) -> Any:
    need(x.dtype == tf.float32 and has_elements(x) and len(x.shape) < 5)
    shape = sizes(x)
    while len(shape) < 4:
        shape.insert(d(2) * len(shape), 1)
    return tf.reshape(x, [shape.pop(d(len(shape))) for _ in range(4)])


def convolved(x: Any, y: Any, d: Digits) -> Any:
    x = images(x, d)
    shape = (1 + d(3), 1 + d(3), sizes(x)[3], 1 + d(3))
    filters = tf.constant(np.arange(math.prod(shape)).reshape(shape) % 5 - 2, tf.float32)
    step = 1 + (d(3) == 0)
    return tf.nn.conv2d(x, filters, [1, step, step, 1], d.of(["SAME", "VALID"]))


def pooled(x: Any, y: Any, d: Digits) -> Any:
    x, size = images(x, d), 1 + d(3)
    step = d.of([size, 1])
    padding = d.of(["SAME", "VALID"])
    return tf.nn.max_pool(x, [1, size, size, 1], [1, step, step, 1], padding)


# ---- what gives fractions

SMOOTH = [tf.tanh, tf.sigmoid, lambda v: tf.exp(tf.minimum(v, 2.0)), tf.erf, tf.nn.softplus, tf.sin,
          lambda v: tf.sqrt(tf.abs(v)), lambda v: tf.log1p(tf.abs(v)), lambda v: v / 3.0,
          tf.nn.leaky_relu, lambda v: tf.rsqrt(tf.abs(v) + 1.0), tf.nn.elu,
          lambda v: v / (tf.abs(v) + 1.0),
          lambda v: v * tf.random_uniform(v.shape, seed=3),
          lambda v: v + tf.random_normal(v.shape, seed=5)]  # fmt: skip


def smooth(x: Any, y: Any, d: Digits) -> Any:
    need(x.dtype == tf.float32)
    return d.of(SMOOTH)(x)


def softmax(x: Any, y: Any, d: Digits) -> Any:
    need(is_float(x) and has_elements(x))
    return d.of([tf.nn.softmax, tf.nn.log_softmax])(x, d.of([-1, d.axis(x)]))


def mean(x: Any, y: Any, d: Digits) -> Any:
    need(is_float(x) and 0 not in sizes(x))
    return tf.reduce_mean(x, d.axes(x) or None, keepdims=d.flag())


def normalised(x: Any, y: Any, d: Digits) -> Any:
    """Over any axes: of layers, and of batches."""
    need(x.dtype == tf.float32 and has_elements(x))
    centre, variance = tf.nn.moments(x, d.axes(x) or [-1], keepdims=True)
    return tf.nn.batch_normalization(x, centre, variance, None, None, 0.5)


def cross_entropy(x: Any, y: Any, d: Digits) -> Any:
    need(x.dtype == tf.float32 and has_elements(x) and len(x.shape) == 2)
    rows, classes = sizes(x)
    if d.flag():
        return tf.nn.softmax_cross_entropy_with_logits(labels=tf.nn.softmax(-x), logits=x)
    labels = [d(classes) for _ in range(rows)]
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.constant(labels), logits=x)


MOVES = [transpose, reshape, axes_of_size_1, sliced, cut, pad, mirror, concat, stack, split,
         unstack, reverse, roll, gather, tile, broadcast, where, identity, scatter]  # fmt: skip
GROWING = [binary, binary, with_reduced, with_reduced, reduction, reduction, unary, cumsum, matmul,
           add_n, compare, cast, place, one_hot, convolved, pooled]  # fmt: skip
FRACTIONS = [smooth, softmax, mean, normalised, cross_entropy]
