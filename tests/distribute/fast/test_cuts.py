"""Connections that are cut in the middle of a frame, while both processes live."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.errors import OpError
from graphflow.distribute.fast.sender import Sender
from tests.distribute.fast_cluster import FastCluster

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
STEPS = 9


class Cut:
    """A connection that breaks in the middle of the `count`-th frame that is sent on it."""

    def __init__(self, connection, count, late=0.0):
        self._connection = connection
        self._count = count
        self._late = late  # seconds until its end is seen

    def send(self, data, *options):
        return self._sent([data], lambda: self._connection.send(data, *options))

    def sendmsg(self, parts, *options):
        return self._sent(parts, lambda: self._connection.sendmsg(parts, *options))

    def sendall(self, data):
        self._sent([data], lambda: self._connection.sendall(data))

    def _sent(self, parts, send):
        self._count -= 1
        if self._count:
            return send()
        data = b"".join(bytes(part) for part in parts)
        self._connection.setblocking(True)
        self._connection.sendall(data[: len(data) // 2])
        end = threading.Timer(self._late, self._connection.shutdown, [socket.SHUT_RDWR])
        end.start()
        if not self._late:
            end.join()
        return len(data)

    def __getattr__(self, name):
        return getattr(self._connection, name)


def train(cluster, on_step=lambda step: None):
    """Losses and weights of a model whose layers are on two workers, and values on their way."""
    with tf.Graph().as_default():
        rng = np.random.default_rng(3)
        x = tf.placeholder(tf.float32, [None, 8])
        with tf.device(T0):
            w0 = tf.Variable(rng.normal(size=(8, 300)).astype(np.float32))
            hidden = tf.tanh(tf.matmul(x, w0))
        with tf.device(T1):
            w1 = tf.Variable(rng.normal(size=(300, 1)).astype(np.float32))
            loss = tf.reduce_mean(tf.square(tf.matmul(hidden, w1)))
        step = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
        with tf.Session(cluster=cluster, seed=5) as session:
            session.run(tf.global_variables_initializer())
            losses = []
            for i in range(STEPS):
                on_step(i)
                feed = rng.normal(size=(64, 8)).astype(np.float32)
                losses.append(session.run([loss, step], {x: feed})[0])
            return losses, session.run([w0, w1])


def same(a, b):
    assert a[0] == b[0]
    for x, y in zip(a[1], b[1], strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def undisturbed():
    with FastCluster(2) as cluster:
        found = train(cluster)
        assert cluster.replaced == 0
        return found


def of_answers(cluster):
    """The connection on which a worker answers."""
    return cluster.workers[cluster.names[1]].service._way._sender


def of_messages(cluster):
    """The connection on which the driver sends to a worker."""
    return cluster.exchange._lines[cluster.names[1]]


def of_values(cluster):
    """The connection on which a worker sends values to another one."""
    first, second = cluster.names
    return cluster.workers[first].peers._outgoing[second]


@pytest.mark.parametrize(
    ("line", "shared_memory"),
    [(of_answers, True), (of_messages, True), (of_values, True), (of_values, False)],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_cut_in_a_frame_is_a_worker_lost_and_no_bit(line, count, shared_memory, undisturbed):
    with FastCluster(2, shared_memory) as cluster:

        def cut(step):
            if step == 5:
                sender = line(cluster)
                assert isinstance(sender, Sender)
                sender._connection = Cut(sender._connection, count)

        same(train(cluster, cut), undisturbed)
        assert cluster.replaced == 1


def test_a_worker_that_owes_no_answer_is_missed_too(undisturbed):
    """The value that it was to send is all that another one waits for."""
    with FastCluster(2) as cluster:

        def cut(step):
            if step == 5:
                sender = of_values(cluster)
                sender._connection = Cut(sender._connection, 2, late=0.3)

        same(train(cluster, cut), undisturbed)
        assert cluster.replaced == 1


@pytest.mark.parametrize("line", [of_answers, of_messages, of_values])
def test_without_recovery_it_is_an_error_in_time(line):
    with FastCluster(2, every=None) as cluster:

        def cut(step):
            if step == 2:
                sender = line(cluster)
                sender._connection = Cut(sender._connection, 1)

        with pytest.raises(OpError, match="was lost"):
            train(cluster, cut)
