"""Batches that a graph takes by itself: each row once per pass, and the same ones after a loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.base import errors
from graphflow.datasets import Minibatches
from graphflow.ops.shuffling import shuffled_row
from tests.distribute.in_process import InProcess


def rows(numbers: Any, count: int, seed: int) -> list[int]:
    return list(map(int, shuffled_row.kernel(np, np.asarray(numbers), rows=count, seed=seed)))


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 300), seed=st.integers(-3, 2**64), turn=st.integers(0, 2**30))
def test_each_pass_has_each_row_once(count, seed, turn):
    found = rows(np.arange(count) + turn * count, count, seed)
    assert sorted(found) == list(range(count))


def test_the_order_follows_seed_and_pass():
    passes = [tuple(rows(np.arange(100) + 100 * e, 100, s)) for s in (1, 2) for e in range(20)]
    assert len(set(passes)) == 40
    for place in range(0, 100, 33):  # no row has a place of its own
        assert len({order[place] for order in passes}) > 20


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_a_run_takes_one_batch_and_a_failed_one_none(graph):
    x = np.arange(5) * 10
    data = Minibatches(x, x + 1, size=2)
    a, b = data.next
    bad = tf.Assert(False, ["no"])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for wanted in ([0, 10], [20, 30]):
            found = session.run([a, b])
            np.testing.assert_array_equal(found[0], wanted)
            np.testing.assert_array_equal(found[1], found[0] + 1)
        with pytest.raises(errors.InvalidArgumentError):
            session.run([a, bad])
        np.testing.assert_array_equal(session.run(a), [40, 0])  # the next pass has begun
        assert session.run(data.position) == 6


@pytest.mark.parametrize(
    ("arrays", "size", "what"),
    [
        ((), 1, "none"),
        (([],), 1, r"\[0\]"),
        (([1], [1, 2]), 1, r"\[1, 2\]"),
        (([1],), 0, "size is 0"),
    ],
)
def test_what_makes_no_batches_is_refused(graph, arrays, size, what):
    with pytest.raises(ValueError, match=what):
        Minibatches(*arrays, size=size)


X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
Y = (X @ np.float32([[1.0], [-2.0], [3.0]])).astype(np.float32)
STEPS = 12


class Stop(Exception):
    pass


def build(devices: tuple[str, str] = ("", "")) -> tuple[Any, Any, Any]:
    """Weights, a step that gives its rows and loss, and the initialiser."""
    with tf.device(devices[0]):
        x, y, number = Minibatches(X, Y, np.arange(50), size=8, seed=4).next
    with tf.device(devices[1]):
        w = tf.get_variable("w", [3, 1], initializer=tf.zeros_initializer())
        loss = tf.reduce_mean(tf.square(tf.matmul(x, w) - y))
    step = tf.train.get_or_create_global_step()
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, step)
    return w, [number, loss, train], tf.global_variables_initializer()


def told(results: list[Any]) -> list[Any]:
    return [(number.tolist(), loss.tobytes()) for number, loss, _ in results]


def alone() -> tuple[list[Any], bytes]:
    with tf.Graph().as_default():
        w, step, start = build()
        with tf.Session() as session:
            session.run(start)
            found = [session.run(step) for _ in range(STEPS)]
            return told(found), session.run(w).tobytes()


def test_training_goes_on_from_a_checkpoint_with_the_batches_it_would_have_seen(tmp_path):
    """It ends at a step that nobody has saved, in the middle of the second pass."""
    wanted, weights = alone()

    def attempt(stops: int | None) -> tuple[int, list[Any], bytes]:
        with tf.Graph().as_default():
            w, step, _ = build()
            with tf.train.MonitoredTrainingSession(
                checkpoint_dir=str(tmp_path), save_checkpoint_steps=3, save_checkpoint_secs=None,
                log_step_count_steps=None, save_summaries_steps=None,
            ) as session:  # fmt: skip
                begun = int(session.raw_session.run(tf.train.get_global_step()))
                found = [session.run(step) for _ in range(begun, stops or STEPS)]
                if stops is not None:
                    raise Stop
                return begun, told(found), session.raw_session.run(w).tobytes()

    with pytest.raises(Stop):
        attempt(8)
    begun, found, trained = attempt(None)
    assert 0 < begun < 8
    assert begun * 8 % 50  # within a pass
    assert found == wanted[begun:]
    assert trained == weights


def test_a_lost_worker_takes_no_batch_with_it():
    devices = ("/job:worker/task:0", "/job:worker/task:1")
    wanted, weights = alone()
    with tf.Graph().as_default(), InProcess(2, every=4) as cluster:
        w, step, start = build(devices)
        with tf.Session(cluster=cluster) as session:
            session.run(start)
            found = []
            for i in range(STEPS):
                if i in (3, 7, 8):
                    cluster.kill(i % 2)
                found.append(session.run(step))
            assert told(found) == wanted
            assert session.run(w).tobytes() == weights
