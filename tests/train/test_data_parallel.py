"""DataParallel: what is computed depends on the replicas, and not on what carries them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf

CPUS = [f"/cpu:{i}" for i in range(4)]


def network(x: Any, y: Any) -> Any:
    w = tf.get_variable("w", [6, 8], initializer=tf.glorot_uniform_initializer(seed=1))
    b = tf.get_variable("b", [8], initializer=tf.zeros_initializer())
    v = tf.get_variable("v", [8, 3], initializer=tf.glorot_uniform_initializer(seed=2))
    hidden = tf.nn.dropout(tf.nn.relu(tf.matmul(x, w) + b), 0.8, seed=4)
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=tf.matmul(hidden, v))
    )


def plain(x: Any, y: Any) -> Any:
    w = tf.get_variable("w", [6, 3], initializer=tf.glorot_uniform_initializer(seed=1))
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=tf.matmul(x, w))
    )


def train(
    make: Any,
    model: Any = network,
    batch: int = 32,
    cluster: Any = None,
    built: bool = False,
    on_step: Any = lambda step: None,
) -> tuple[list[Any], list[Any]]:
    """Losses of some steps, and the weights then."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        x, y = tf.placeholder(tf.float32, [None, 6]), tf.placeholder(tf.int32, [None])
        optimizer = make(tf.train.AdamOptimizer(0.01))
        if built:
            step = optimizer.minimize(model, inputs=[x, y])
        else:
            loss = model(x, y)
            step = optimizer.minimize(loss)
        fetch = getattr(optimizer, "loss", None)
        config = tf.ConfigProto(
            device_count={"CPU": 4}, allow_soft_placement=True, deterministic=True
        )
        with tf.Session(config=config, seed=7, cluster=cluster) as session:
            session.run(tf.global_variables_initializer())
            losses = []
            for i in range(5):
                feeds = {x: rng.normal(size=(batch, 6)), y: rng.integers(0, 3, batch)}
                losses.append(session.run([loss if fetch is None else fetch, step], feeds)[0])
                on_step(i)
            return losses, session.run(tf.trainable_variables())


def parallel(replicas: int, devices: Any = None, **options: Any) -> Any:
    return lambda inner: tf.distribute.DataParallel(inner, replicas, devices, **options)


class ByHand:
    """Towers, gradients added up by `add_n`, as TensorFlow 1's programs did it."""

    def __init__(self, inner: Any, devices: Any = CPUS):
        self.inner = inner
        self.devices = devices

    def minimize(self, model: Any, inputs: Any) -> Any:
        shards = zip(*[tf.split(each, 2) for each in inputs], strict=True)
        losses, grads = [], []
        for i, shard in enumerate(shards):
            with tf.device(self.devices[i]), tf.variable_scope("", reuse=i > 0):
                losses.append(model(*shard))
                grads.append(self.inner.compute_gradients(losses[-1]))
        self.loss = tf.add_n(losses) / 2.0
        with tf.device(self.devices[0]):
            mean = [
                (tf.add_n([g for g, _ in same]) / 2.0, same[0][1])
                for same in zip(*grads, strict=True)
            ]
        return self.inner.apply_gradients(mean)


def assert_same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a[0], b[0])
    for one, other in zip(a[1], b[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("batch", "tier"),
    [(32, "reference"), (30, "reference"), (30, "native")],  # 30: replicas of 7 and 8 examples
)
def test_bits_do_not_depend_on_the_devices(batch, tier, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_TIER", tier)
    alone = train(parallel(4, CPUS[:1]), batch=batch)
    for devices in (CPUS[:2], CPUS[:3], CPUS):
        assert_same(train(parallel(4, devices), batch=batch), alone)


def test_bits_do_not_depend_on_the_buckets():
    whole = train(parallel(2, CPUS[:2]))
    assert_same(train(parallel(2, CPUS[:2], bucket=1)), whole)
    assert_same(train(parallel(2, CPUS[:2], bucket=100)), whole)


def test_a_function_of_the_inputs_is_built_once_per_replica():
    assert_same(
        train(parallel(2, CPUS[:2]), plain, built=True), train(parallel(2, CPUS[:2]), plain)
    )


@pytest.mark.parametrize("batch", [32, 30, 3])
def test_replicas_together_do_what_one_does(batch):
    losses, weights = train(lambda inner: inner, plain, batch)
    found, got = train(parallel(4, CPUS), plain, batch)
    np.testing.assert_allclose(found, losses, rtol=1e-6)
    np.testing.assert_allclose(got[0], weights[0], rtol=1e-4, atol=1e-6)


def test_in_graph_replication_by_hand_has_the_same_bits():
    by_hand = train(ByHand, plain, built=True)
    assert_same(by_hand, train(parallel(2, CPUS[:2]), plain, built=True))


def test_rows_of_an_embedding_stay_rows():
    with tf.Graph().as_default():
        ids = tf.placeholder(tf.int32, [None])
        table = tf.get_variable("table", [50, 4], initializer=tf.ones_initializer())
        loss = tf.reduce_mean(tf.square(tf.nn.embedding_lookup(table, ids)))
        optimizer = tf.distribute.DataParallel(tf.train.GradientDescentOptimizer(1.0), 2, CPUS[:2])
        ((grad, _),) = optimizer.compute_gradients(loss)
        assert isinstance(grad, tf.IndexedSlices)
        step = optimizer.apply_gradients([(grad, table)])
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(tf.global_variables_initializer())
            session.run(step, {ids: [3, 7, 3, 9]})
            after = session.run(table)
    expected = np.ones((50, 4), np.float32)
    expected[[7, 9]] -= 2 / 16
    expected[3] -= 4 / 16
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_work_and_variables_are_spread():
    with tf.Graph().as_default():
        x, y = tf.placeholder(tf.float32, [None, 6]), tf.placeholder(tf.int32, [None])
        optimizer = tf.distribute.DataParallel(tf.train.MomentumOptimizer(0.1, 0.9), 2, CPUS[:2])
        step = optimizer.minimize(network(x, y))
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
            placed = session.placement(step, {x: None, y: None}).devices
    for device in "01":
        here = [op for op, d in placed.items() if d.endswith(f"CPU:{device}")]
        assert sum(op.type == "MatMul" for op in here) >= 4  # forward and backward
        assert any(op.type == "VarHandle" for op in here)


def test_what_cannot_be_copied_is_named():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 2], name="x")
        w = tf.get_variable("w", [2])
        looped = tf.while_loop(lambda i, v: i < 2, lambda i, v: (i + 1, v * w), [0, x])[1]
        optimizer = tf.distribute.DataParallel(tf.train.GradientDescentOptimizer(0.1), 2)
        with pytest.raises(ValueError, match=r"While .* has a body.*give minimize a function"):
            optimizer.minimize(tf.reduce_sum(looped))
        with pytest.raises(ValueError, match="depends on no placeholder"):
            optimizer.minimize(tf.reduce_sum(w))
    with pytest.raises(ValueError, match="2 replicas on 3 devices"):
        tf.distribute.DataParallel(tf.train.GradientDescentOptimizer(0.1), 2, 3)
