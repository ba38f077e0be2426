"""Runs that begin before the one before them is committed: whoever runs the series cannot tell."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest

import graphflow as tf
from graphflow.distribute.messages import Step
from tests.distribute.in_process import InProcess

STEPS = 14


class Model:
    """A loss that depends on both workers, on a random number, and on a rate that is state."""

    def __init__(self) -> None:
        self.x = tf.placeholder(tf.float32, [])
        with tf.device("/job:worker/task:0"):
            self.v = tf.get_variable("v", [], initializer=tf.constant_initializer(1.0))
            noise = tf.random_uniform([], seed=4)
        with tf.device("/job:worker/task:1"):
            self.w = tf.get_variable("w", [], initializer=tf.constant_initializer(2.0))
            self.rate = tf.get_variable(
                "rate", [], initializer=tf.constant_initializer(0.01), trainable=False
            )
            self.loss = self.v * self.w + tf.log(self.x) * noise
            good = tf.Assert(self.x < 100.0, ["too large"])
        with tf.control_dependencies([good]):
            step = tf.train.GradientDescentOptimizer(self.rate).minimize(self.loss)
        self.fetch = [self.loss, step]
        self.variables = [self.v, self.w, self.rate]

    def feeds(self, bad: int = -1) -> list[Any]:
        return [{self.x: 200.0 if i == bad else 1.0 + i} for i in range(STEPS)]


def told(cluster: Any, in_flight: int, body: Any = None, bad: int = -1) -> list[Any]:
    """What whoever runs the series sees: losses, what the body saw, and the variables at the end.

    Args:
      body: called as (session, model, how many steps are through) after each; True: no more.
      bad: the step that fails.
    """
    seen: list[Any] = []
    with tf.Graph().as_default():
        model = Model()
        tf.set_random_seed(3)
        with tf.Session(cluster=cluster, seed=5) as session:
            session.run(tf.global_variables_initializer())
            try:
                results = session.run_steps(model.fetch, model.feeds(bad), in_flight=in_flight)
                for i, (loss, _) in enumerate(results):
                    seen.append(loss)
                    if body is not None:
                        found = body(session, model, i)
                        if found is True:
                            break
                        seen.append(found)
            except tf.errors.InvalidArgumentError as error:
                seen.append(error.message)
            results.close()
            seen += session.run(model.variables)
    return seen


def builds(cluster: InProcess) -> int:
    """How many steps were sent before the one before them was decided on."""
    return sum(isinstance(m, Step) and m.after is not None for _, m in cluster.log)


@pytest.fixture
def cluster() -> Iterator[InProcess]:
    with (
        mock.patch.dict(os.environ, GRAPHFLOW_TIER="reference"),
        InProcess(2, every=5) as cluster,
    ):
        yield cluster


def reads(session: Any, model: Any, i: int) -> Any:
    return float(session.run(model.v + model.w))


def changes_the_rate(session: Any, model: Any, i: int) -> Any:
    if i in (3, 4, 8):
        session.run(model.rate.assign(0.01 * i))
    return None


def changes_what_they_write(session: Any, model: Any, i: int) -> Any:
    if i % 4 == 1:
        session.run(model.v.assign_add(1.0))
    return None


def leaves(session: Any, model: Any, i: int) -> Any:
    return i == 5


BODIES = [None, reads, changes_the_rate, changes_what_they_write, leaves]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body and body.__name__)
def test_it_looks_as_if_each_run_began_when_it_is_asked_for(cluster, body):
    expected = told(cluster, 1, body)
    assert builds(cluster) == 0
    assert told(cluster, 3, body) == expected
    assert builds(cluster) > STEPS // 2


@pytest.mark.parametrize("bad", [1, 6, STEPS - 1])
def test_what_comes_after_a_failure_has_no_effect(cluster, bad):
    expected = told(cluster, 1, None, bad)
    assert told(cluster, 4, None, bad) == expected
    assert len(expected) == bad + 1 + 3


def test_an_interrupt_leaves_no_run_that_nobody_asks_for(cluster):
    """Each would keep its place among those that may be under way."""
    free = len(cluster.slots)
    for when in range(1, 12):
        steps = iter(range(1, 100))

        def interrupts(worker: str, message: Any, when: int = when, steps: Any = steps) -> None:
            if isinstance(message, Step) and message.after is not None and next(steps) == when:
                signal.raise_signal(signal.SIGINT)

        cluster.before = interrupts
        with pytest.raises(KeyboardInterrupt):
            told(cluster, 4)
        assert len(cluster.slots) == free


@pytest.mark.parametrize("worker", [0, 1])
def test_a_worker_is_killed_in_the_middle(cluster, worker):
    def kills(session: Any, model: Any, i: int) -> Any:
        if i in (2, 7):
            cluster.kill(worker)

    expected = told(cluster, 1)
    found = told(cluster, 4, kills)
    assert [x for x in found if x is not None] == expected


def test_workers_join_and_leave_in_the_middle(cluster):
    def resizes(session: Any, model: Any, i: int) -> Any:
        if i in (4, 9):
            cluster.resize(3 if i == 4 else 2)

    expected = told(cluster, 1)
    found = told(cluster, 3, resizes)
    assert [x for x in found if x is not None] == expected


def test_input_is_not_taken_ahead(cluster):
    """What nobody asks for would be missing in the queue."""
    with tf.Graph().as_default():
        queue = tf.FIFOQueue(8, [tf.float32], [[]])
        v = tf.Variable(0.0)
        fill = queue.enqueue_many([np.arange(8, dtype=np.float32)])
        step = v.assign_add(queue.dequeue())
        with tf.Session(cluster=cluster) as session:
            session.run([v.initializer, fill])
            results = session.run_steps(step, 8, in_flight=4)
            assert [next(results) for _ in range(3)] == [0, 1, 3]
            results.close()
            assert session.run(queue.size()) == 5
    assert builds(cluster) == 0


def test_feeds_that_fail_do_so_in_their_turn(cluster):
    def feeds(model: Any) -> Iterator[Any]:
        yield from model.feeds()[:5]
        raise KeyError("no more")

    with tf.Graph().as_default():
        model = Model()
        with tf.Session(cluster=cluster) as session:
            session.run(tf.global_variables_initializer())
            results = session.run_steps(model.fetch, feeds(model), in_flight=3)
            assert len([next(results) for _ in range(5)]) == 5
            with pytest.raises(KeyError, match="no more"):
                next(results)


def test_rows_of_tables_are_built_on_and_undone(cluster):
    """The version that one run has put into the memory is what the next one looks up."""

    def train(in_flight: int, count: int) -> Any:
        with tf.Graph().as_default():
            with tf.device("/job:worker/task:0"):
                v = tf.get_variable("t", [40_000, 8], initializer=tf.constant_initializer(0.5))
            ids = tf.placeholder(tf.int32, [None])
            with tf.device("/job:worker/task:1"):
                loss = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(v, ids)))
            fetch = [loss, tf.train.AdagradOptimizer(0.1).minimize(loss)]
            feeds = [{ids: [5, i % 3, 7]} for i in range(9)]
            with tf.Session(cluster=cluster) as session:
                session.run(tf.global_variables_initializer())
                results = session.run_steps(fetch, feeds, in_flight=in_flight)
                losses = [next(results)[0] for _ in range(count)]
                results.close()
                return losses, session.run(v[:8]).tolist()

    assert train(3, 9) == train(1, 9)
    assert train(4, 4) == train(1, 4)
