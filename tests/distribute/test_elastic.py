"""Workers join and leave while sessions run, and the bits stay."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute import elastic, failpoints
from graphflow.distribute.elastic import Membership
from tests.distribute.in_process import InProcess
from tests.distribute.programs import train
from tests.until import PATIENCE, until

STEPS = 12
CLUSTER = {"every": 4, "deadline": 2.0}


def script(cluster: Any, changes: dict[int, int], kills: dict[int, int]) -> Any:
    """After which steps there are how many workers, or which one is killed."""
    steps = iter(range(1, 1000))

    def on_step(session: Any) -> None:
        now = next(steps)
        if now in changes:
            cluster.resize(changes[now])
        if now in kills:
            cluster.kill(kills[now])

    return on_step


@pytest.mark.parametrize(
    ("changes", "kills"),
    [
        ({3: 3}, {}),
        ({3: 1}, {}),
        ({2: 4, 5: 1, 8: 3}, {}),
        ({3: 1, 6: 2}, {4: 0, 7: 1, 9: 0}),
        ({1: 3, 2: 2, 3: 3, 4: 1}, {1: 2, 3: 0}),
    ],
)
def test_training_goes_on_bit_for_bit(cluster, graph, undisturbed, changes, kills):
    losses, weights = train(cluster, STEPS, on_step=script(cluster, changes, kills))
    np.testing.assert_array_equal(losses, undisturbed[0])
    for one, other in zip(weights, undisturbed[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("point", ["save", "rebuild", "load", "kernel"])
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_is_lost_while_others_join_or_leave(graph, undisturbed, point, victim, workers):
    """While its state is copied, while it is handed over, and while plans are made anew.  Where
    that ends the change, nothing has changed."""
    steps, lost = iter(range(1, 1000)), []
    with InProcess(2, every=4, deadline=2.0) as cluster:

        def die() -> None:
            lost.append(victim)
            cluster.kill(victim)

        def on_step(session: Any) -> None:
            if next(steps) == 5:
                failpoints.arm(point, 1, die)
                with suppress(errors.UnavailableError):
                    cluster.resize(workers)

        losses, weights = train(cluster, STEPS, on_step=on_step)
    assert lost
    np.testing.assert_array_equal(losses, undisturbed[0])
    for one, other in zip(weights, undisturbed[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_state_of_a_worker_that_leaves_is_handed_over(cluster, graph):
    with tf.device("/job:worker/task:1"):
        a = tf.Variable(1.0)
        queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
        put, up = queue.enqueue(7.0), a.assign_add(2.0)
        got = queue.dequeue() + tf.random_uniform([], seed=1)
    soft = tf.ConfigProto(allow_soft_placement=True)
    with tf.Session(cluster=cluster, config=soft) as session:
        session.run(a.initializer)
        session.run([put, up])
        cluster.resize(1)
        assert session.run(up) == 5.0
        one = session.run(got)
        assert 7.0 <= one < 8.0
        cluster.resize(3)
        session.run(put)
        assert session.run(up) == 7.0
        assert session.run(got) != one


def test_a_name_that_is_gone_is_an_error_without_soft_placement(cluster, graph):
    with tf.device("/job:worker/task:1"):
        a = tf.Variable(1.0)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        cluster.resize(1)
        with pytest.raises(errors.OpError, match="task:1"):
            session.run(a)


def test_a_run_that_begins_during_a_change_is_not_lost(cluster, graph):
    a = tf.Variable(1.0)
    up = a.assign_add(1.0)
    with tf.Session(cluster=cluster) as session, ThreadPoolExecutor(1) as pool:
        session.run(a.initializer)
        session.run(up)
        conductor, begun = cluster._conductor, []

        def slowly(*arguments):
            """The state has been copied."""
            begun.append(pool.submit(session.run, up))
            wait(begun, 0.2)
            return conductor(*arguments)

        cluster._conductor = slowly
        cluster.resize(3)
        assert [each.result(PATIENCE) for each in begun] == [3.0]
        assert session.run(a) == 3.0


def test_where_one_session_cannot_move_the_others_stay_too(graph):
    """The first has its state on the other workers when the second one's run does not end."""
    a = tf.Variable(1.0)
    up = a.assign_add(1.0)
    queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
    value, put = queue.dequeue(), queue.enqueue(1.0)
    with (
        InProcess(2, every=4, deadline=0.3) as cluster,
        tf.Session(cluster=cluster) as first,
        tf.Session(cluster=cluster) as second,
        ThreadPoolExecutor(1) as pool,
    ):
        first.run(a.initializer)
        second.run(put)
        second.run(value)
        waiting = pool.submit(second.run, value)
        until(lambda: second.target.conductor._machine.running)
        before = [session.target.conductor for session in (first, second)]
        with pytest.raises(errors.DeadlineExceededError, match="still under way"):
            cluster.resize(3)
        assert [session.target.conductor for session in (first, second)] == before
        assert first.run(up) == 2.0
        second.run(put)
        assert waiting.result(PATIENCE) == 1.0
        cluster.resize(3)
        assert first.run(up) == 3.0
        assert len(first.target.conductor.workers) == 3


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("where", ["before", "inside"])
def test_a_plan_that_is_loaded_during_a_change_is_made_anew(cluster, graph, where, workers):
    """It was made for the workers from before, and comes to those from afterwards, or to a session
    that is closed."""
    with tf.device("/job:worker/task:1"):
        a = tf.Variable(1.0)
    up = a.assign_add(1.0)
    soft = tf.ConfigProto(allow_soft_placement=True)
    with tf.Session(cluster=cluster, config=soft) as session:
        session.run(a.initializer)
        target = session.target
        place = target if where == "before" else target.conductor
        load = place.load

        def late(*arguments):
            place.load = load
            cluster.resize(workers)
            return load(*arguments)

        place.load = late
        assert session.run(up) == 2.0
        assert session.run(a) == 2.0


def test_workers_change_while_a_thread_trains_on(cluster, graph):
    a = tf.Variable(0.0)
    up = a.assign_add(1.0)
    done = threading.Event()

    def train_on(session):
        steps = 0
        while not done.is_set():
            session.run(up)
            steps += 1
        return steps

    with tf.Session(cluster=cluster) as session, ThreadPoolExecutor(2) as pool:
        session.run(a.initializer)
        session.run(up)
        training = [pool.submit(train_on, session) for _ in range(2)]
        try:
            for count in (3, 2, 1, 2):
                cluster.resize(count)
        finally:
            done.set()
        steps = sum(each.result(PATIENCE) for each in training)
        assert session.run(a) == 1 + steps


def test_a_run_that_does_not_end_is_waited_for_and_named(graph):
    queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
    value, put = queue.dequeue(), queue.enqueue(1.0)
    with (
        InProcess(2, every=4, deadline=0.3) as cluster,
        tf.Session(cluster=cluster) as session,
        ThreadPoolExecutor(1) as pool,
    ):
        session.run(put)
        session.run(value)
        waiting = pool.submit(session.run, value)
        until(lambda: session.target.conductor._machine.running)
        with pytest.raises(errors.DeadlineExceededError, match="still under way"):
            cluster.resize(3)
        session.run(put)
        assert waiting.result(PATIENCE) == 1.0


# ---- membership


class Elastic(InProcess):
    """Three workers, of which some may be without a replacement.

    Attributes:
      free: for how many workers there is room.
      history: names of the workers, whenever they change.
    """

    def __init__(self, least: int = 1) -> None:
        super().__init__(3, every=4, deadline=2.0)
        self.available = self.free = 0
        self.history: list[list[int]] = []
        self.membership = Membership(self, self.names, least)
        self.stands_in = self.membership.stands_in

    def room(self) -> int:
        return self.free

    def go_to(self, names: Any) -> None:
        self.free -= len([name for name in names if name not in self.names])
        super().go_to(names)
        self.history.append([int(name[-1]) for name in names])

    def __exit__(self, *_: object) -> None:
        self.membership.close()
        super().__exit__()


@pytest.fixture(autouse=True)
def _only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic, "LOOKS", 1000.0)


def replicas(cluster: Any, on_step: Any = None) -> tuple[list[Any], list[Any]]:
    """Losses and weights of a network of three logical replicas."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 6])

        def model(part: Any) -> Any:
            w = tf.get_variable("w", [6, 4], initializer=tf.glorot_uniform_initializer(seed=1))
            noisy = tf.nn.dropout(tf.matmul(part, w), 0.8, seed=4)
            return tf.reduce_mean(tf.square(noisy - 1.0))

        devices = [f"/job:worker/task:{i}" for i in range(3)]
        inner = tf.train.MomentumOptimizer(0.05, 0.9)
        optimizer = tf.distribute.DataParallel(inner, 3, devices)
        step = optimizer.minimize(model, inputs=[x])
        config = tf.ConfigProto(allow_soft_placement=True)
        with tf.Session(cluster=cluster, config=config, seed=7) as session:
            session.run(tf.global_variables_initializer())
            losses = []
            for i in range(STEPS):
                batch = rng.normal(size=(12, 6)).astype(np.float32)
                losses.append(session.run([optimizer.loss, step], {x: batch})[0])
                if on_step is not None:
                    on_step(i + 1)
            return losses, session.run(tf.trainable_variables())


def test_training_goes_on_with_those_that_are_left_and_with_those_that_come_back(monkeypatch):
    """Losses, departures and joins; sums run over logical replicas, so the bits stay."""
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    expected = replicas(None)
    with Elastic() as cluster:

        def on_step(now: int) -> None:
            if now == 2:
                cluster.kill(1)
            if now == 4:
                cluster.membership.look()  # off the stand-in
                cluster.membership.look()  # there is no room
                assert cluster.history == [[0, 2]]
            if now == 5:
                cluster.kill(0)
            if now == 6:
                cluster.membership.look()
                assert cluster.history[1:] == [[2]]
                cluster.free = 1
            if now == 7:
                cluster.membership.look()
                assert cluster.history[2:] == [[0, 2]]
            if now == 9:
                cluster.free = 5
                cluster.membership.look()
                cluster.membership.look()
                assert cluster.history[3:] == [[0, 1, 2]]

        losses, weights = replicas(cluster, on_step)
    np.testing.assert_array_equal(losses, expected[0])
    np.testing.assert_array_equal(weights, expected[1])


def test_with_fewer_than_the_least_the_session_ends():
    soft = tf.ConfigProto(allow_soft_placement=True)
    with Elastic(least=2) as cluster, tf.Graph().as_default():
        with tf.device("/job:worker/task:0"):
            up = tf.Variable(1.0).assign_add(1.0)
        with tf.device("/job:worker/task:1"):
            down = tf.Variable(1.0).assign_sub(1.0)
        with tf.Session(cluster=cluster, config=soft) as session:
            session.run(tf.global_variables_initializer())
            cluster.kill(0)
            assert session.run([up, down]) == [2.0, 0.0]
            cluster.membership.look()
            assert cluster.history == [[1, 2]]
            assert session.run([up, down]) == [3.0, -1.0]
            cluster.kill(1)
            with pytest.raises(errors.UnavailableError, match="no other worker"):
                session.run([up, down])


def test_a_worker_that_is_replaced_is_nobody_to_leave():
    with Elastic() as cluster, tf.Graph().as_default():
        cluster.available = 5
        with tf.device("/job:worker/task:0"):
            a = tf.Variable(1.0)
        with tf.Session(cluster=cluster) as session:
            session.run(a.initializer)
            cluster.kill(0)
            assert session.run(a) == 1.0
            cluster.membership.look()
        assert cluster.history == []


def test_it_is_noticed_without_anybody_asking(monkeypatch):
    monkeypatch.setattr(elastic, "LOOKS", 0.02)
    with Elastic() as cluster, tf.Graph().as_default():
        with tf.device("/job:worker/task:1"):
            a = tf.Variable(1.0)
            up = a.assign_add(1.0)
        soft = tf.ConfigProto(allow_soft_placement=True)
        with tf.Session(cluster=cluster, config=soft) as session:
            session.run(a.initializer)
            cluster.kill(1)
            until(lambda: (session.run(up), cluster.history)[1])
        assert cluster.history == [[0, 2]]


class Told:
    """Members that do not know how many more there may be."""

    def __init__(self) -> None:
        self.names = ["a"]
        self.looks = 0
        self.answers = False

    def room(self) -> int:
        self.looks += 1
        if not self.answers:
            raise RuntimeError("Ray does not answer")
        return 1

    def go_to(self, names: Any) -> None:
        self.names = names


def test_whoever_cannot_tell_who_is_there_is_asked_again_and_the_user_is_told_once_each_time(
    monkeypatch, caplog
):
    monkeypatch.setattr(elastic, "LOOKS", 0.01)
    members = Told()
    membership = Membership(members, ["a", "b"], 1)

    def is_told(times: int) -> None:
        until(lambda: len(caplog.records) == times)
        before = members.looks
        until(lambda: members.looks >= before + 3)
        assert len(caplog.records) == times

    try:
        for times in (1, 2):
            is_told(times)
            members.answers = True
            until(lambda: members.names == ["a", "b"])
            members.answers, members.names = False, ["a"]
    finally:
        membership.close()
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    assert "the workers stay as they are" in caplog.text
    assert "Ray does not answer" in caplog.text


def test_nobody_looks_after_a_cluster_that_is_gone(monkeypatch, caplog):
    monkeypatch.setattr(elastic, "LOOKS", 0.01)
    members = Told()
    membership = Membership(weakref.proxy(members), ["a"], 1)
    del members
    until(lambda: not membership._thread.is_alive())
    assert not caplog.records
