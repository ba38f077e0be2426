"""Batch normalisation and GRUs in native code: recognised from their parts, as users build them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compile.loops.nests import Nest, Product
from tests.execute.programs import agree, native_programs

Normalise = Callable[[tf.Tensor, bool], tf.Tensor]


def floats(*shape: int) -> Any:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def by_layer(fused: bool) -> Normalise:
    def normalise(x: tf.Tensor, training: bool) -> tf.Tensor:
        return tf.layers.batch_normalization(x, training=training, fused=fused, momentum=0.8)

    return normalise


def by_moments(x: tf.Tensor, training: bool) -> tf.Tensor:
    channels = x.shape[-1]
    average, spread = tf.Variable(tf.zeros([channels])), tf.Variable(tf.ones([channels]))
    mean, variance = tf.nn.moments(x, [0, 1, 2]) if training else (average, spread)
    for variable, value in ((average, mean), (spread, variance)) if training else ():
        change = variable.assign_sub(0.2 * (variable - value))
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, change)
    scale, shift = tf.Variable(tf.ones([channels])), tf.Variable(tf.zeros([channels]))
    return tf.nn.batch_normalization(x, mean, variance, shift, scale, 1e-3)


def by_op(x: tf.Tensor, training: bool) -> tf.Tensor:
    channels = x.shape[-1]
    scale, shift = tf.Variable(tf.ones([channels])), tf.Variable(tf.zeros([channels]))
    moving = () if training else (tf.constant(floats(channels)), tf.ones([channels]))
    y, *_ = tf.nn.fused_batch_norm(x, scale, shift, *moving, is_training=training)
    return y


def network(normalise: Normalise, training: bool, size: int = 9) -> Any:
    """A convolution, a normalisation, a rectifier and a pool; the averages are fetched, too."""
    x = tf.placeholder(tf.float32, [5, size, size, 3])
    filters = tf.Variable(floats(3, 3, 3, 7) * 0.3)
    h = tf.nn.conv2d(x, filters, strides=[1, 1, 1, 1], padding="SAME")
    h = tf.nn.max_pool(tf.nn.relu(normalise(h, training)), [1, 3, 3, 1], [1, 3, 3, 1], "SAME")
    loss = tf.reduce_mean(tf.square(h - 0.3))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        update = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    return [loss, update, *tf.global_variables()], {x: floats(5, size, size, 3)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize(
    "normalise",
    [by_layer(True), by_layer(False), by_moments, by_op],
    ids=["fused layer", "layer", "moments", "op"],
)
def test_batch_normalisation(normalise: Normalise, training: bool) -> None:
    agree(lambda: network(normalise, training), rtol=2e-4, atol=2e-5)


def plan_of(program: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    config = tf.ConfigProto(intra_op_parallelism_threads=2)
    with tf.Graph().as_default(), tf.Session(config=config, seed=1) as session:
        fetches, feeds = program()
        session.run(tf.global_variables_initializer())
        session.run(fetches, feeds)
        return max((n.plan for n in native_programs(session)), key=lambda p: len(p.text[0]))


@pytest.mark.parametrize("normalise", [by_layer(True), by_layer(False), by_moments, by_op],
                         ids=["fused layer", "layer", "moments", "op"])  # fmt: skip
def test_batch_normalisation_goes_over_the_images_few_times(
    normalise: Normalise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean, variance, and result with what follows; backward: two sums, one for the mean's own
    gradient, the result; and one that puts the pools' gradients back."""
    plan = plan_of(lambda: network(normalise, True, size=27), monkeypatch)
    assert not plan.called
    large = 5 * 27 * 27 * 7
    nests = [u for s in plan.units for u in s if isinstance(u, Nest) if _elements(u) >= large]
    assert len(nests) <= 7


def _elements(unit: Nest) -> int:
    """As many as the largest thing that it touches; unfolded images are none of ours."""
    touched = [a.value for a, _ in unit.accesses if a.value.shape[-1:] == (7,)]
    return max((math.prod(v.shape) for v in touched), default=0)


def recurrent(unrolled: bool, steps: int = 5) -> Any:
    x = tf.placeholder(tf.float32, [6, steps, 4])
    cell = tf.nn.rnn_cell.GRUCell(7)
    if unrolled:
        _, h = tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)
    else:
        _, h = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    loss = tf.reduce_mean(tf.square(h - 0.3))
    update = tf.train.AdamOptimizer(0.01).minimize(loss)
    return [loss, update, *tf.trainable_variables()], {x: floats(6, steps, 4)}


@pytest.mark.parametrize("unrolled", [True, False], ids=["static_rnn", "dynamic_rnn"])
def test_gated_recurrent_units(unrolled: bool) -> None:
    agree(lambda: recurrent(unrolled), rtol=2e-4, atol=2e-5, must=unrolled)


def test_an_unrolled_gru_adds_up_the_gradients_of_its_weights_in_one_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of(lambda: recurrent(True), monkeypatch)
    assert not plan.called
    products = [u for s in plan.units for u in s if isinstance(u, Product)]
    rows = 5 * 6  # of all steps
    gradients = [u for u in products if (u.m, u.n) in ((11, 14), (11, 7))]
    assert [max(u.inner) for u in gradients] == [rows, rows]


def test_the_steps_of_an_unrolled_loop_share_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where in memory a step finds its slice is no part of the code."""
    count = []
    for steps in (5, 9):
        plan = plan_of(lambda steps=steps: recurrent(True, steps), monkeypatch)
        count.append("".join(plan.text).count("define internal void @nest"))
    assert count[1] <= count[0] + 2
