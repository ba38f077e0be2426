"""Many runs of the same fetches: in order, and several under way where that makes no difference."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import graphflow as tf
from tests.distribute.in_process import InProcess
from tests.until import PATIENCE, until


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


class Meets:
    """A function that returns only when another call of it is under way."""

    def __init__(self):
        self.barrier = threading.Barrier(2)
        self.most = self.now = 0
        self.lock = threading.Lock()

    def __call__(self, x):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.barrier.wait(PATIENCE)
        with self.lock:
            self.now -= 1
        return x


@pytest.mark.parametrize("in_flight", [2, 4])
def test_runs_that_only_read_overlap_and_come_in_order(graph, in_flight):
    meets = Meets()
    x = tf.placeholder(tf.float32, [])
    v = tf.Variable(10.0)
    first = v + x
    y = tf.py_func(meets, [first], tf.float32, stateful=False)
    with tf.Session() as session:
        session.run(v.initializer)
        session.run(first, {x: 0.0})
        meets.barrier = threading.Barrier(1)  # the first run is alone
        results = session.run_steps(y, ({x: float(i)} for i in range(9)), in_flight=in_flight)
        assert next(results) == 10.0
        meets.barrier = threading.Barrier(2)
        assert list(results) == [10.0 + i for i in range(1, 9)]
        assert 2 <= meets.most <= in_flight


@pytest.mark.parametrize("kind", ["write", "random", "input"])
def test_runs_that_do_more_come_one_after_another(graph, kind):
    v = tf.Variable(1.0)
    x = tf.placeholder(tf.float32, [])
    queue = tf.FIFOQueue(20, [tf.float32], shapes=[[]])
    fill = queue.enqueue_many([np.arange(12, dtype=np.float32)])
    fetch = {
        "write": v.assign(v * 0.5 + x),
        "random": tf.random_normal([], seed=3) + x,
        "input": queue.dequeue() + x,
    }[kind]
    feeds = [{x: float(i)} for i in range(10)]
    results = []
    for many in (True, False):
        with tf.Session(seed=1) as session:
            session.run([v.initializer, fill])
            if many:
                results.append(list(session.run_steps(fetch, feeds)))
            else:
                results.append([session.run(fetch, fed) for fed in feeds])
    assert results[0] == results[1]


def test_a_number_of_runs_without_feeds(graph):
    v = tf.Variable(0)
    with tf.Session() as session:
        session.run(v.initializer)
        assert list(session.run_steps(v.assign_add(1), 4)) == [1, 2, 3, 4]
        assert list(session.run_steps(v, 0)) == []


def test_a_failure_comes_in_its_place(graph):
    x = tf.placeholder(tf.int32, [None])
    y = tf.reshape(tf.zeros([4]), x)
    shapes = [[4], [2, 2], [3], [4]]
    with tf.Session() as session:
        results = session.run_steps(y, [{x: s} for s in shapes])
        assert next(results).shape == (4,)
        assert next(results).shape == (2, 2)
        with pytest.raises(tf.errors.InvalidArgumentError):
            next(results)
        with pytest.raises(ValueError, match="at least one"):
            session.run_steps(y, 1, in_flight=0)


def test_who_stops_early_leaves_nothing_behind(graph):
    x = tf.placeholder(tf.float32, [])
    fed = iter([{x: float(i)} for i in range(100)])
    with tf.Session() as session:
        results = session.run_steps(x + 1.0, fed)
        assert [next(results) for _ in range(5)] == [1, 2, 3, 4, 5]
        results.close()
        assert len(list(fed)) >= 90  # feeds are taken as they are needed


def test_stages_on_two_workers_overlap(graph):
    """While one run is on its second worker, the next one is on the first."""
    x = tf.placeholder(tf.float32, [2])
    with tf.device("/job:worker/task:0"):
        a = tf.sqrt(x)
    with tf.device("/job:worker/task:1"):
        b = a * 2.0
    held = []
    with InProcess(2) as cluster, tf.Session(cluster=cluster) as session:
        feeds = [{x: [float(i), 4.0]} for i in range(6)]
        results = session.run_steps(b, feeds, in_flight=3)
        next(results)
        cluster.deliver_later = held.append  # what goes to the second worker
        with_next = threading.Thread(target=lambda: held.append(list(results)))
        with_next.start()
        until(
            lambda: len(held) == 3
        )  # three runs are through the first worker, none through the second
        deliveries, cluster.deliver_later = list(held), None
        for deliver in deliveries:
            deliver()
        with_next.join(PATIENCE)
        np.testing.assert_array_equal(held[-1], [2 * np.sqrt(np.float32(f[x])) for f in feeds[1:]])
