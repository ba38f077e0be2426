"""Initializers: their statistics, configurations and errors; values are in tests/nn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.ops import initializers

SHAPE = (3, 3, 20, 40)  # fan-in 180, fan-out 360


def value(make: Any) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(make())


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        (initializers.glorot_uniform(1), 2 / 540),
        (initializers.glorot_normal(1), 2 / 540),
        (initializers.he_normal(1), 2 / 180),
        (initializers.he_uniform(1), 2 / 180),
        (initializers.lecun_normal(1), 1 / 180),
        (initializers.lecun_uniform(1), 1 / 180),
        (initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal", 1), 3 / 360),
        (initializers.UniformUnitScaling(2.0, 1), 4 / 180),
        (initializers.RandomNormal(0.0, 0.5, 1), 0.25),
        (initializers.RandomUniform(-1, 1, 1), 1 / 3),
    ],
)
def test_variance(initializer: Any, variance: float) -> None:
    found = value(lambda: initializer(SHAPE))
    assert found.shape == SHAPE
    assert found.var() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("shape", [(5, 2), (2, 5), (3, 3), (2, 3, 4)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    found = value(lambda: initializers.orthogonal(2.0, 1)(shape)).reshape(-1, shape[-1])
    small = found.T @ found if found.shape[0] >= found.shape[1] else found @ found.T
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "expected"), [((), (1, 1)), ((4,), (4, 4)), ((2, 3), (2, 3)), (SHAPE, (180, 360))]
)
def test_fans(shape: Any, expected: Any) -> None:
    assert initializers.fans(shape) == expected


@pytest.mark.parametrize(
    "initializer",
    [
        initializers.zeros(),
        initializers.ones(),
        initializers.constant(3),
        initializers.random_uniform(-1, 1, 2),
        initializers.random_normal(1.0, 2.0, 3),
        initializers.truncated_normal(1.0, 2.0, 3),
        initializers.uniform_unit_scaling(2.0, 3),
        initializers.variance_scaling(2.0, "fan_avg", "uniform", 3),
        initializers.glorot_uniform(3),
        initializers.glorot_normal(3),
        initializers.orthogonal(2.0, 3),
        initializers.identity(2.0),
    ],
    ids=lambda i: type(i).__name__,
)
def test_configurations_make_the_same_again(initializer: Any) -> None:
    again = type(initializer).from_config(initializer.get_config())
    assert again.get_config() == initializer.get_config()
    first, second = [value(lambda i=i: i([3, 2])) for i in (initializer, again)]
    np.testing.assert_array_equal(first, second)


def test_dtypes() -> None:
    with tf.Graph().as_default():
        assert initializers.zeros()([2], tf.bool).dtype == tf.bool
        assert initializers.glorot_uniform(dtype=tf.float64)([2, 2]).dtype == tf.float64
        assert initializers.random_uniform(0, 5)([2], tf.int32).dtype == tf.int32
        with pytest.raises(TypeError, match="floating"):
            initializers.glorot_uniform(dtype=tf.int32)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: initializers.variance_scaling(0.0), "positive"),
        (lambda: initializers.variance_scaling(mode="fan"), "fan_in"),
        (lambda: initializers.variance_scaling(distribution="cauchy"), "cauchy"),
        (lambda: initializers.orthogonal()([3]), "two axes"),
        (lambda: initializers.identity()([3, 3, 3]), "two axes"),
        (lambda: initializers.glorot_uniform()([None, 3]), "fully known"),
        (lambda: initializers.constant([1, 2, 3])([2]), "does not fill"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, error: str) -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match=error):
        make()


def test_variables_take_them_as_classes_and_instances() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        a = tf.get_variable("a", [2, 2], initializer=tf.ones_initializer)
        b = tf.get_variable("b", [2, 2], initializer=tf.constant_initializer(4.0))
        c = tf.get_variable("c", [2, 2])
        session.run(tf.global_variables_initializer())
        assert session.run(a + b).tolist() == [[5, 5], [5, 5]]
        assert abs(session.run(c)).max() <= np.sqrt(6 / 4)
