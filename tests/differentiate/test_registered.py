"""Gradients of the user's own: custom_gradient, RegisterGradient, gradient_override_map."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import graphflow as tf

_numbers = itertools.count()


def registered(function: Any) -> str:
    """Register a gradient under a name that is free."""
    name = f"Test{next(_numbers)}"
    tf.RegisterGradient(name)(function)
    return name


def values(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feeds)


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as graph:
        yield graph


def test_an_override_replaces_the_gradient_of_what_is_built_inside(graph: Any) -> None:
    name = registered(lambda op, g: 7 * g * op.inputs[0])
    x = tf.constant([1.0, -2.0])
    with graph.gradient_override_map({"Sign": name}):
        y = tf.sign(x)
    outside = tf.sign(x)
    assert values([tf.gradients(y, x)[0], tf.gradients(outside, x)[0]])[0].tolist() == [7, -14]
    assert not values(tf.gradients(outside, x)[0]).any()


def test_an_override_may_name_another_op(graph: Any) -> None:
    x = tf.constant([1.0, -2.0])
    with graph.gradient_override_map({"Round": "Identity"}):
        y = tf.round(x)
    assert values(tf.gradients(3 * y, x)[0]).tolist() == [3, 3]


def test_an_override_reaches_into_bodies(graph: Any) -> None:
    name = registered(lambda op, g: 5 * g)
    x = tf.constant(2.0)
    with graph.gradient_override_map({"Square": name}):
        y = tf.cond(x > 0, lambda: tf.square(x), lambda: x)
    assert values(tf.gradients(y, x)[0]) == 5


def test_a_name_without_gradient_stops(graph: Any) -> None:
    name = f"Test{next(_numbers)}"
    tf.NotDifferentiable(name)
    x = tf.constant(2.0)
    with graph.gradient_override_map({"Square": name}):
        y = tf.square(x)
    assert tf.gradients(y, x) == [None]


def test_mistakes_are_told(graph: Any) -> None:
    with pytest.raises(KeyError, match="registered for 'Square' already"):
        tf.RegisterGradient("Square")(lambda op, g: g)
    with pytest.raises(TypeError, match="map of strings"), graph.gradient_override_map({"A": 3}):
        pass
    x = tf.constant(2.0)
    with graph.gradient_override_map({"Square": "nobody"}):
        y = tf.square(x)
    with pytest.raises(LookupError, match="registered under the name 'nobody'"):
        tf.gradients(y, x)
    with graph.gradient_override_map({"Square": registered(lambda op, g: [g, g])}):
        y = tf.square(x)
    with pytest.raises(ValueError, match="returned 2 gradients for 1 inputs"):
        tf.gradients(y, x)


def test_py_func_gets_a_gradient_by_its_type(graph: Any) -> None:
    name = registered(lambda op, g: [2 * op.inputs[0] * g])
    x = tf.constant([3.0, 4.0])
    with graph.gradient_override_map({"PyFunc": name}):
        y = tf.py_func(np.square, [x], tf.float32)
    assert values(tf.gradients(y, x)[0]).tolist() == [6, 8]


# ---- custom_gradient


@tf.custom_gradient
def log1pexp(x: Any) -> Any:
    e = tf.exp(x)
    return tf.log(1 + e), lambda dy: dy * (1 - 1 / (1 + e))


def test_a_custom_gradient_replaces_that_of_the_body() -> None:
    x = tf.placeholder(tf.float32, [])
    y = log1pexp(x)
    assert values(tf.gradients(y, x)[0], {x: 100.0}) == 1.0  # NaN by the chain rule
    assert values(y, {x: 0.0}) == pytest.approx(np.log(2))


def test_custom_gradients_are_differentiated_again() -> None:
    @tf.custom_gradient
    def cube(x: Any) -> Any:
        return x**3, lambda dy: 3 * x**2 * dy

    x = tf.constant(2.0)
    (first,) = tf.gradients(cube(x), x)
    assert values([first, tf.gradients(first, x)[0]]) == [12, 12]


def test_several_results_and_arguments() -> None:
    @tf.custom_gradient
    def both(x: Any, y: Any) -> Any:
        return (x + y, {"product": x * y}), lambda a, b: (a * 10, b * 100)

    x, y = tf.constant(2.0), tf.constant(3.0)
    total, more = both(x, y)
    assert values([total, more["product"], *tf.gradients([total, more["product"]], [x, y])]) == [
        5,
        6,
        10,
        100,
    ]


def test_gradients_of_variables_used_inside() -> None:
    v, other = tf.Variable(3.0), tf.Variable(1.0)

    @tf.custom_gradient
    def scaled(x: Any) -> Any:
        def grad(dy: Any, variables: Any) -> Any:
            assert variables == [v]
            return 2 * dy, [10 * dy]

        return x * v, grad

    y = scaled(other * 4)
    assert values([y, *tf.gradients(y, [v, other])]) == [12, 10, 8]


def test_wrong_custom_gradients_are_told() -> None:
    v = tf.Variable(3.0)
    with pytest.raises(TypeError, match="must take the keyword argument 'variables'"):
        tf.custom_gradient(lambda x: (x * v, lambda dy: dy))(tf.constant(1.0))
    x = tf.constant(1.0)
    y = tf.custom_gradient(lambda x: (x * 2, lambda dy: (dy, dy)))(x)
    with pytest.raises(ValueError, match="returned 2 gradients for 1 arguments"):
        tf.gradients(y, x)
