"""Moving averages and learning rates beyond TensorFlow's values: names, savers, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.errors import DTypeError, GraphError
from graphflow.train.moving_averages import assign_moving_average


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as g:
        yield g


def test_a_saver_puts_averages_into_the_variables(tmp_path: Path) -> None:
    w = tf.get_variable("w", initializer=[1.0, 2.0])
    b = tf.get_variable("b", initializer=[7.0], trainable=False)
    averages = tf.train.ExponentialMovingAverage(0.5)
    with tf.control_dependencies([w.assign_add([2.0, 2.0])]):
        update = averages.apply([w])
    assert averages.average(w).op.name == "w/ExponentialMovingAverage"
    assert tf.moving_average_variables() == [w]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(update)
        path = tf.train.Saver().save(session, str(tmp_path / "m"))
    with tf.Graph().as_default(), tf.Session() as session:
        w, b = tf.get_variable("w", [2]), tf.get_variable("b", [1], trainable=False)
        names = tf.train.ExponentialMovingAverage(0.5).variables_to_restore()
        assert names == {"w/ExponentialMovingAverage": w, "b": b}
        tf.train.Saver(names).restore(session, path)
        assert [v.tolist() for v in session.run([w, b])] == [[2, 3], [7]]


def test_averages_of_tensors_are_corrected_for_their_start() -> None:
    x = tf.placeholder(tf.float32, [])
    plain = tf.train.ExponentialMovingAverage(0.9, name="plain")
    fair = tf.train.ExponentialMovingAverage(0.9, zero_debias=True, name="fair")
    updates = [plain.apply([x]), fair.apply([x])]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(updates, {x: 5.0})
        assert session.run([plain.average(x), fair.average(x)]) == pytest.approx([0.5, 5.0])
        session.run(updates, {x: 1.0})
        expected = (0.9 * 0.5 + 0.1) / (1 - 0.81)
        assert session.run(fair.average(x)) == pytest.approx(expected)


def test_assign_moving_average_stands_alone() -> None:
    v = tf.get_variable("v", initializer=4.0)
    new = assign_moving_average(v, tf.constant(2.0), 0.75, zero_debias=False)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(new) == 3.5
        assert session.run(v) == 3.5


def test_refuses_what_has_no_average_or_rate() -> None:
    with pytest.raises(DTypeError):
        tf.train.ExponentialMovingAverage(0.9).apply([tf.get_variable("n", initializer=1)])
    with pytest.raises(GraphError, match="static shape"):
        tf.train.ExponentialMovingAverage(0.9).apply([tf.placeholder(tf.float32)])
    with pytest.raises(GraphError, match="global_step"):
        tf.train.exponential_decay(0.1, None, 10, 0.5)
    with pytest.raises(GraphError, match="boundary less"):
        tf.train.piecewise_constant(tf.constant(1), [1, 2], [0.1, 0.2])


def test_noise_on_a_rate_is_around_it() -> None:
    tf.set_random_seed(1)
    rates = [tf.train.noisy_linear_cosine_decay(0.1, 5, 20, noise) for noise in [1e-6] * 2]
    plain = tf.train.linear_cosine_decay(0.1, 5, 20)
    with tf.Session() as session:
        (a, b), c = session.run([rates, plain])
    assert a != b
    np.testing.assert_allclose([a, b], c, 0.01)
