"""Optimizers against what TensorFlow computes, and the parts of their interface."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "data" / "optimizers.json").read_text())

_spec = importlib.util.spec_from_file_location("programs", HERE / "programs.py")
programs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(programs)


@pytest.mark.parametrize("case", RECORDED)
def test_updates_equal_tensorflows(case):
    name, _, sparse = case.partition(" ")
    got = programs.train(tf, name, bool(sparse))
    want = RECORDED[case]
    np.testing.assert_allclose(got["values"], want["values"], rtol=2e-6, atol=1e-6)
    assert got["slots"] == want["slots"]
    assert sorted(got["end"]) == sorted(want["end"])
    for variable, value in want["end"].items():
        np.testing.assert_allclose(
            got["end"][variable], value, rtol=2e-6, atol=1e-6, err_msg=variable
        )


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def test_rows_without_gradient_stay_bit_for_bit():
    table = tf.Variable(np.ones((4, 2), np.float32) / 3)
    loss = tf.reduce_sum(tf.gather(table, [1, 1, 3]))
    update = tf.train.MomentumOptimizer(0.5, 0.9).minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(table)
        session.run(update)
        after = session.run(table)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    np.testing.assert_allclose(after[1], before[1] - 1.0, rtol=1e-6)
    np.testing.assert_allclose(after[3], before[3] - 0.5, rtol=1e-6)


def test_minimize_names_what_it_cannot_reach():
    w = tf.Variable(1.0, name="lonely")
    with pytest.raises(ValueError, match=r"depends on none of the variables \['lonely:0'\]"):
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.constant(1.0), var_list=[w])


def test_there_must_be_variables_and_gradients():
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with pytest.raises(ValueError, match="no variables to optimize"):
        optimizer.minimize(tf.constant(1.0))
    w = tf.Variable(1.0)
    with pytest.raises(ValueError, match="no gradients given"):
        optimizer.apply_gradients([(None, w)])
    with pytest.raises(TypeError, match=r"is no tf.Variable"):
        optimizer.compute_gradients(w * 2.0, [w * 1.0])
    with pytest.raises(ValueError, match="must be floating"):
        optimizer.compute_gradients(tf.constant(1), [w])


def test_only_listed_variables_change_and_the_step_counts():
    a, b = tf.Variable(1.0), tf.Variable(1.0)
    step = tf.Variable(0, trainable=False)
    update = tf.train.GradientDescentOptimizer(0.5).minimize(a * b, step, var_list=[a])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(update) is None
        assert session.run([a, b, step]) == [0.5, 1, 1]


def test_a_learning_rate_may_be_a_tensor_and_be_fed():
    w = tf.Variable(1.0)
    rate = tf.placeholder(tf.float32, [])
    update = tf.train.GradientDescentOptimizer(rate).minimize(w * 3.0)
    with tf.Session() as session:
        session.run(w.initializer)
        session.run(update, {rate: 0.1})
        np.testing.assert_allclose(session.run(w), 0.7, rtol=1e-6)


def test_constraints_are_applied_after_the_update():
    w = tf.Variable([1.0, 1.0], constraint=lambda v: tf.maximum(v, 0.0))
    update = tf.train.GradientDescentOptimizer(1.0).minimize(tf.reduce_sum(w * [5.0, 0.5]))
    with tf.Session() as session:
        session.run(w.initializer)
        session.run(update)
        assert session.run(w).tolist() == [0, 0.5]


def test_users_write_their_own():
    class Sign(tf.train.Optimizer):
        def __init__(self):
            super().__init__(False, "Sign")

        def _apply_dense(self, grad, var):
            return var.assign_sub(tf.sign(grad))

    w = tf.Variable([1.0, -1.0, 0.0])
    update = Sign().minimize(tf.reduce_sum(tf.square(w)))
    with tf.Session() as session:
        session.run(w.initializer)
        session.run(update)
        assert session.run(w).tolist() == [0, 0, 0]


def test_update_ops_are_named_like_tensorflows(graph):
    w = tf.Variable(1.0, name="w")
    update = tf.train.GradientDescentOptimizer(0.1).minimize(w * 2.0)
    assert update.name == "GradientDescent"
    assert any(o.name.startswith("GradientDescent/update_w/") for o in graph.get_operations())
    assert any(o.name.startswith("gradients/") for o in graph.get_operations())


def test_a_variable_without_elements_is_trained_as_any_other():
    empty = tf.Variable(np.zeros((0, 3), np.float32))
    w = tf.Variable(1.0)
    loss = tf.reduce_sum(empty) + w
    names = ("GradientDescent", "Adagrad", "Adadelta", "RMSProp", "Adam")
    optimizers = [getattr(tf.train, f"{name}Optimizer")(0.5) for name in names]
    optimizers.append(tf.train.MomentumOptimizer(0.5, 0.9))
    updates = [optimizer.minimize(loss) for optimizer in optimizers]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for update in updates:
            before = session.run(w)
            session.run(update)
            assert session.run(w) < before
        assert session.run(empty).shape == (0, 3)
