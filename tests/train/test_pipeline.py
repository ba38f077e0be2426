"""Pipelines: the bits of one device in any order, and devices that work at the same time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.place.schedules import pipeline as simulated

CPUS = [f"/cpu:{i}" for i in range(3)]


def stage(name: str, units: int, activation: Any = tf.tanh) -> Any:
    def build(x: Any) -> Any:
        with tf.variable_scope(name):
            w = tf.get_variable(
                "w", [x.shape[1], units], initializer=tf.glorot_uniform_initializer(seed=units)
            )
            b = tf.get_variable("b", [units], initializer=tf.zeros_initializer())
            return activation(tf.matmul(x, w) + b)

    return build


STAGES = [stage("one", 7), stage("two", 5), stage("three", 4, tf.identity)]


def loss_of(logits: Any, labels: Any) -> Any:
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def train(
    order: Any,
    devices: Any,
    batch: int = 16,
    microbatches: int = 4,
    cluster: Any = None,
    on_step: Any = lambda step: None,
) -> Any:
    """Losses of some steps, and the weights; without an order, all at once."""
    rng = np.random.default_rng(1)
    with tf.Graph().as_default():
        x, y = tf.placeholder(tf.float32, [None, 6]), tf.placeholder(tf.int32, [None])
        optimizer = tf.train.AdamOptimizer(0.01)
        if order is None:
            h = x
            for each in STAGES:
                h = each(h)
            loss = loss_of(h, y)
            step = optimizer.minimize(loss)
        else:
            made = tf.distribute.Pipeline(optimizer, STAGES, microbatches, devices, order)
            step = made.minimize(x, loss_of, [y])
            loss = made.loss
        config = tf.ConfigProto(
            device_count={"CPU": 3}, allow_soft_placement=True, deterministic=True
        )
        with tf.Session(config=config, cluster=cluster) as session:
            session.run(tf.global_variables_initializer())
            losses = []
            for i in range(4):
                feeds = {x: rng.normal(size=(batch, 6)), y: rng.integers(0, 4, batch)}
                losses.append(session.run([loss, step], feeds)[0])
                on_step(i)
            return losses, session.run(tf.trainable_variables())


def test_both_orders_have_the_bits_of_one_device():
    losses, weights = train("gpipe", CPUS[:1] * 3)
    for order, devices in itertools.product(("gpipe", "1f1b"), (CPUS[:1] * 3, CPUS)):
        found, got = train(order, devices)
        np.testing.assert_array_equal(found, losses)
        for one, other in zip(got, weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_native_code_has_the_bits_of_one_device_too(monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    losses, weights = train("1f1b", CPUS[:1] * 3)
    found, got = train("1f1b", CPUS)
    np.testing.assert_array_equal(found, losses)
    for one, other in zip(got, weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch", [16, 18])  # 18: micro-batches of 4 and 5 examples
def test_microbatches_together_are_the_batch(batch):
    losses, weights = train(None, None, batch)
    found, got = train("1f1b", CPUS, batch)
    np.testing.assert_allclose(found, losses, rtol=1e-6)
    for one, other in zip(got, weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("order", ["gpipe", "1f1b"])
def test_each_stage_keeps_to_its_order(order):
    """As the trace tells: forward and backward tasks one after the other, as simulated."""
    with tf.Graph().as_default():
        x, y = tf.placeholder(tf.float32, [None, 6]), tf.placeholder(tf.int32, [None])
        made = tf.distribute.Pipeline(
            tf.train.GradientDescentOptimizer(0.1), STAGES, 4, CPUS, order
        )
        step = made.minimize(x, loss_of, [y])
        told = tf.RunMetadata()
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 3})) as session:
            session.run(tf.global_variables_initializer())
            feeds = {x: np.ones((8, 6)), y: np.zeros(8, int)}
            session.run(step, feeds, tf.RunOptions(trace_level=3), told)
    expected = simulated([1.0] * 3, 4, backward=[2.0] * 3, order=order).schedule
    names = list(expected.problem.names)
    for device in range(3):
        ran = [
            f"{parts[1][0]} {parts[1][2]}.{parts[1][4]}"
            for s in sorted(told.step_stats, key=lambda s: s.start)
            if s.device.endswith(f"CPU:{device}") and s.op == "MatMul"
            for parts in [s.name.split("/")]
        ]
        wanted = [names[t] for t in expected.order if expected.where[t] == device]
        assert [key for key, _ in itertools.groupby(ran)] == wanted


def test_arguments_are_checked():
    for stages, count, devices in ((STAGES, 0, CPUS), ([], 4, []), (STAGES, 4, CPUS[:2])):
        with pytest.raises(ValueError, match="each stage needs a device"):
            tf.distribute.Pipeline(tf.train.GradientDescentOptimizer(0.1), stages, count, devices)
