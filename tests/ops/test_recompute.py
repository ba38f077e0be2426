"""Recomputation: the same numbers, while less is kept."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def block(x, w):
    return tf.tanh(tf.matmul(tf.sin(x), w)) * x


X = np.linspace(-1, 1, 12).reshape(3, 4)
W = np.linspace(-1, 1, 16).reshape(4, 4)


def test_values_and_gradients_of_both_orders_are_bit_equal():
    got = []
    for function in (block, tf.recompute_grad(block)):
        x, w = tf.constant(X), tf.constant(W)
        y = function(x, w)
        first = tf.gradients(y, [x, w])
        second = tf.gradients([tf.square(g) for g in first], [x, w])
        with tf.Session() as session:
            got.append(session.run([y, *first, *second]))
    for plain, again in zip(*got, strict=True):
        np.testing.assert_array_equal(plain, again)


def test_variables_and_outer_tensors_get_their_gradients():
    scale = tf.constant(3.0)

    @tf.recompute_grad
    def layer(x):
        v = tf.get_variable("v", initializer=[2.0, 5.0])
        return tf.square(x * v) * scale

    x = tf.constant([1.0, 2.0])
    with tf.variable_scope("in"):
        y = layer(x)
    (v,) = tf.trainable_variables()
    assert v.name == "in/v:0"
    grads = tf.gradients(y, [x, v, scale])
    with tf.Session() as session:
        session.run(v.initializer)
        dx, dv, dscale = session.run(grads)
    np.testing.assert_allclose(dx, [2 * 4 * 3, 2 * 2 * 25 * 3])
    np.testing.assert_allclose(dv, [2 * 2 * 3, 2 * 4 * 5 * 3])
    np.testing.assert_allclose(dscale, 4 + 100)


def test_structures_go_in_and_come_out():
    double = tf.recompute_grad(lambda pair, z: {"sum": pair[0] + pair[1], "z": z * 2.0})
    one, two = tf.constant(1.0), tf.constant(2.0)
    out = double((one, two), two)
    with tf.Session() as session:
        assert session.run(out) == {"sum": 3, "z": 4}
        assert session.run(tf.gradients([out["sum"], out["z"]], [one, two])) == [1, 3]


def loop(function, steps, size):
    x = tf.Variable(np.full(size, 0.5))
    _, y = tf.while_loop(lambda i, _: i < steps, lambda i, x: (i + 1, function(x)), [0, x.value()])
    return x, tf.gradients(y, x)[0]


def deep(x):
    for _ in range(10):
        x = tf.sin(x) * 1.01
    return x


def test_a_loop_keeps_nothing_but_its_variables():
    """Bit-equal gradients at a fraction of the peak."""
    size, steps = 50_000, 20
    peaks, values = [], []
    for function in (deep, tf.recompute_grad(deep)):
        x, grad = loop(function, steps, size)
        with tf.Session() as session:
            session.run(x.initializer)
            session.run(grad)
            tracemalloc.start()
            values.append(session.run(grad))
            peaks.append(tracemalloc.get_traced_memory()[1] / (8 * size))
            tracemalloc.stop()
    np.testing.assert_array_equal(*values)
    assert peaks[0] > 10 * steps  # the ten sines and their cosines' arguments, each iteration
    assert peaks[1] < 2 * steps + 30


def test_what_would_differ_the_second_time_is_refused():
    noisy = tf.recompute_grad(lambda x: x + tf.random_normal([2]))
    with pytest.raises(ValueError, match=r"RandomStandardNormal(.|\n)*test_recompute"):
        noisy(tf.constant([1.0, 2.0]))
    v = tf.Variable(0.0)
    with pytest.raises(ValueError, match="AssignAddVariable"):
        tf.recompute_grad(lambda x: v.assign_add(x))(tf.constant(1.0))
    inside = tf.recompute_grad(
        lambda x: tf.cond(x > 0, lambda: x + tf.random_uniform([]), lambda: x)
    )
    with pytest.raises(ValueError, match="RandomUniform"):
        inside(tf.constant(1.0))
