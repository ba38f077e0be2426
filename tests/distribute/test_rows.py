"""Rows of large tables are written in place on servers, and nobody sees more than they should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.distribute.rows import SMALLEST

ROWS, WIDTH = SMALLEST // 32, 16  # twice as large as it must be


@pytest.fixture
def servers() -> Iterator[list[tf.train.Server]]:
    spec = {"ps": ["ps:1"], "worker": ["w0:1", "w1:1"]}
    found = [tf.train.Server(spec, job, i) for job, i in (("ps", 0), ("worker", 0), ("worker", 1))]
    yield found
    for server in found:
        server.stop()


def table(initial: Any = None) -> Any:
    with tf.device("/job:ps/task:0"):
        value = np.ones((ROWS, WIDTH), np.float32) if initial is None else initial
        return tf.Variable(value, name="table")


def stored(server: tf.train.Server) -> Any:
    (entry,) = server._serving._member.task.state.store._entries.values()
    return entry.value


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: tf.train.GradientDescentOptimizer(0.5),
        lambda: tf.train.MomentumOptimizer(0.5, 0.9),
        lambda: tf.train.AdagradOptimizer(0.5),
    ],
)
def test_training_has_the_bits_of_a_session_without_servers(servers, optimizer):
    def train(target: str) -> Any:
        with tf.Graph().as_default():
            v = table()
            ids = tf.placeholder(tf.int32, [None])
            loss = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(v, ids)))
            step = optimizer().minimize(loss)
            config = tf.ConfigProto(allow_soft_placement=True)
            with tf.Session(target, config=config) as session:
                session.run(tf.global_variables_initializer())
                losses = [session.run([loss, step], {ids: i})[0] for i in ([3, 7, 3], [7, 9, 0])]
                return losses, session.run(v)

    losses, values = train(servers[1].target)
    expected, whole = train("")
    assert losses == expected
    np.testing.assert_array_equal(values, whole)


def test_the_table_is_not_copied_and_stays_the_stores_own(servers):
    fed = np.ones((ROWS, WIDTH), np.float32)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [ROWS, WIDTH])
        v = table(tf.zeros([ROWS, WIDTH]))
        fill, add = v.assign(x).op, tf.scatter_add(v, [5, 5], np.ones((2, WIDTH))).op
        look = tf.nn.embedding_lookup(v, [5])
        with tf.Session(servers[1].target) as session:
            session.run(fill, {x: fed})
            session.run(add)
            first = stored(servers[0])
            rows = session.run(look)
            session.run(add)
            assert stored(servers[0]) is first
            np.testing.assert_array_equal(rows, np.full((1, WIDTH), 3))  # as it was then
            np.testing.assert_array_equal(session.run(look), np.full((1, WIDTH), 5))
    assert (fed == 1).all()


def test_a_run_that_fails_changes_no_row(servers):
    with tf.Graph().as_default():
        v = table()
        add = tf.scatter_add(v, [1], np.ones((1, WIDTH)))
        with tf.control_dependencies([add.op]):
            fails = tf.Assert(False, ["no"])
        with tf.Session(servers[1].target) as session:
            session.run(v.initializer)
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(fails)
            np.testing.assert_array_equal(session.run(v[1]), np.ones(WIDTH))


def test_the_whole_is_there_for_whoever_asks(servers):
    """In the run that writes rows, too; and of two writes both count."""
    with tf.Graph().as_default():
        v = table()
        one = tf.scatter_add(v, [1], np.ones((1, WIDTH)))
        with tf.control_dependencies([one.op]):
            total = tf.reduce_sum(v.read_value()[:3])
            two = tf.scatter_sub(v, [2], np.ones((1, WIDTH))).op
        with tf.Session(servers[1].target) as session:
            session.run(v.initializer)
            assert session.run([total, two])[0] == 4 * WIDTH
            np.testing.assert_array_equal(session.run(v)[:4, 0], [1, 2, 0, 1])
            assert session.run(one)[1, 0] == 3
