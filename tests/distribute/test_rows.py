"""Rows of large tables are written in place, and nobody sees more than they should."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.distribute.messages import Step
from graphflow.distribute.rows import SMALLEST
from graphflow.distribute.tables import Table
from tests.distribute.in_process import InProcess

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
            assert stored(servers[0])._memory is first._memory
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


# ---- workers of a cluster


def embeddings(optimizer: Any) -> tuple[Any, Any, Any, Any]:
    """A loss on rows of a table of worker 0; ids, loss, step, table."""
    with tf.device("/job:worker/task:0"):
        v = tf.get_variable("table", [ROWS, WIDTH], initializer=tf.constant_initializer(0.5))
    ids = tf.placeholder(tf.int32, [None])
    with tf.device("/job:worker/task:1"):
        loss = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(v, ids)))
    return ids, loss, optimizer.minimize(loss), v


def trained(cluster: Any, optimizer: Any, before: Any = None) -> tuple[list[Any], Any]:
    """Losses of eight steps, and the table."""
    with tf.Graph().as_default():
        ids, loss, step, v = embeddings(optimizer)
        config = tf.ConfigProto(allow_soft_placement=True)
        with tf.Session(cluster=cluster, config=config, seed=1) as session:
            session.run(tf.global_variables_initializer())
            losses = []
            for i in range(8):
                if before is not None:
                    before(i)
                rows = [7, i, 7, 2 * i]
                losses.append(session.run([loss, step], {ids: rows})[0])
            return losses, session.run(v)


def optimizers() -> Any:
    return [
        tf.train.GradientDescentOptimizer(0.1),
        tf.train.AdagradOptimizer(0.1),
    ]


@pytest.mark.parametrize("which", range(2))
@pytest.mark.parametrize("victim", [None, 0, 1])
def test_workers_train_with_the_same_bits_whoever_is_killed(which, victim, monkeypatch):
    """The loss comes between what was prepared and its commit: the worker that holds the table
    gets it back from a copy, and goes back to a version of its own if it is the other one."""
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    expected, whole = trained(None, optimizers()[which])
    with InProcess(2, every=3) as cluster:

        def before(i: int) -> None:
            if victim is not None and i in (2, 5):
                at_next_step = threading.Event()

                def kill(worker: str, message: Any) -> None:
                    if isinstance(message, Step) and not at_next_step.is_set():
                        at_next_step.set()
                        cluster.kill(victim)

                cluster.before = kill

        losses, values = trained(cluster, optimizers()[which], before)
    assert losses == expected
    np.testing.assert_array_equal(values, whole)


@pytest.mark.parametrize("tier", ["reference", "native"])
def test_a_step_on_a_worker_copies_the_rows_that_it_changes_and_nothing_else(
    cluster, tier, monkeypatch
):
    monkeypatch.setenv("GRAPHFLOW_TIER", tier)
    with tf.Graph().as_default():
        ids, loss, step, _ = embeddings(tf.train.GradientDescentOptimizer(0.1))
        with tf.Session(cluster=cluster) as session:
            session.run(tf.global_variables_initializer())
            for _ in range(3):
                session.run([loss, step], {ids: [1, 2]})
            tracemalloc.start()
            try:
                session.run([loss, step], {ids: [3, 4]})
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert peak < SMALLEST // 4


def test_an_aborted_write_of_rows_leaves_the_bits_that_were_there(cluster):
    """One worker has put its rows into the table when the other one fails."""
    with tf.Graph().as_default():
        with tf.device("/job:worker/task:0"):
            v = tf.get_variable("table", [ROWS, WIDTH], initializer=tf.constant_initializer(0.1))
            bad = tf.placeholder(tf.bool, [])
            add = tf.scatter_add(v, [5, 5, 6], np.full((3, WIDTH), 0.7, np.float32)).op
        with tf.device("/job:worker/task:1"):
            fails = tf.Assert(bad, ["no"])
        row = tf.nn.embedding_lookup(v, [4, 5, 6])
        with tf.Session(cluster=cluster) as session:
            session.run(tf.global_variables_initializer())
            session.run([add, fails], {bad: True})
            before = session.run(row)
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run([add, fails], {bad: False})
            np.testing.assert_array_equal(session.run(row), before)
            session.run([add, fails], {bad: True})
            np.testing.assert_array_equal(
                session.run(row)[1], before[1] + np.float32(0.7) + np.float32(0.7)
            )
            (table,) = [e.value for e in cluster.host(0).store.entries.values()]
            assert isinstance(table, Table)


def short_pause() -> bool:
    return threading.Event().wait(0.01)


def test_a_run_that_reads_sees_one_moment_while_others_write(cluster):
    """Whole, and by rows: all rows of a moment are the same."""
    everything = np.arange(ROWS, dtype=np.int32)
    with tf.Graph().as_default():
        with tf.device("/job:worker/task:0"):
            v = tf.get_variable("table", [ROWS, WIDTH], initializer=tf.zeros_initializer())
            add = tf.scatter_add(v, everything, np.ones((ROWS, WIDTH), np.float32)).op
            pause = tf.py_func(short_pause, [], tf.bool)
            first = tf.nn.embedding_lookup(v, [0, 1])
            with tf.control_dependencies([pause, first]):
                second = tf.nn.embedding_lookup(v, [ROWS - 1, 0])
                whole = tf.reduce_max(v.value()) - tf.reduce_min(v.value())
        with tf.Session(cluster=cluster) as session:
            session.run(tf.global_variables_initializer())
            done = threading.Event()

            def write() -> None:
                while not done.is_set():
                    session.run(add)

            writer = threading.Thread(target=write)
            writer.start()
            try:
                for _ in range(10):
                    one, two = session.run([first, second])
                    assert len({*one.flat, *two.flat}) == 1
                    assert session.run(whole) == 0
            finally:
                done.set()
                writer.join()
