"""Sums over replicas on several workers: values, failures, retries."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.ops.collectives import all_reduce
from tests.distribute.in_process import InProcess


def task(i):
    return f"/job:worker/task:{i}"


def replicas(count, value):
    """value(i) on worker i, and the sums there."""
    mine = []
    for i in range(count):
        with tf.device(task(i)):
            mine.append(value(i))
    return all_reduce(mine)


def test_variables_stay_equal_over_steps(graph):
    """Data-parallel descent of x^2 / 2 with a step of a quarter, from all replicas' gradients."""
    with InProcess(3) as cluster, tf.Session(cluster=cluster) as session:
        copies = []
        for i in range(3):
            with tf.device(task(i)):
                copies.append(tf.Variable([8.0, -4.0]))
        sums = replicas(3, lambda i: copies[i] * 1.0)
        updates = []
        for i in range(3):
            with tf.device(task(i)):
                updates.append(copies[i].assign_sub(sums[i] * (0.25 / 3)).op)
        session.run(tf.global_variables_initializer())
        for _ in range(4):
            session.run(updates)
        for value in session.run(copies):
            np.testing.assert_allclose(value, np.array([8.0, -4.0]) * 0.75**4, rtol=1e-6)


def test_a_replica_that_fails_fails_the_run_and_nobody_waits(graph, cluster):
    x = tf.placeholder(tf.int32, [None])
    with tf.device(task(0)):
        v = tf.Variable(np.zeros(4, np.float32))
    with tf.device(task(1)):
        bad = tf.reshape(tf.ones([4]) * 2.0, x)
    sums = replicas(2, lambda i: (v * 1.0, bad)[i])
    with tf.device(task(0)):
        update = v.assign_add(sums[0])
    with tf.Session(cluster=cluster) as session:
        session.run(v.initializer)
        with pytest.raises(errors.InvalidArgumentError, match="Reshape"):
            session.run(update.op, {x: [3]})
        np.testing.assert_array_equal(session.run(v), np.zeros(4))
        np.testing.assert_array_equal(session.run(update, {x: [4]}), np.full(4, 2.0))


def test_overlapping_runs_that_sum_and_lose_races(graph, cluster):
    totals = []
    for i in range(2):
        with tf.device(task(i)):
            totals.append(tf.Variable(0.0))
    sums = replicas(2, lambda i: tf.ones([]) * (i + 1.0))
    updates = []
    for i in range(2):
        with tf.device(task(i)):
            updates.append(totals[i].assign_add(sums[i]).op)
    with tf.Session(cluster=cluster) as session:
        session.run(tf.global_variables_initializer())
        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(session.run, updates) for _ in range(24)]:
                each.result(40)
        assert session.run(totals) == [72.0, 72.0]


def test_a_lost_worker_wakes_those_who_sum_with_it(graph, cluster):
    with tf.device(task(1)):
        queue = tf.FIFOQueue(1, [tf.float32], shapes=[[]])
        late = queue.dequeue()
    sums = replicas(2, lambda i: (tf.ones([]) * 2.0, late)[i])
    with tf.device(task(0)):
        end = tf.negative(sums[0])
    with tf.Session(cluster=cluster) as session:
        session.run(tf.constant(0.0))
        threading.Timer(0.3, cluster.kill, [1]).start()
        with pytest.raises(errors.UnavailableError, match="task:1"):
            session.run(end)
