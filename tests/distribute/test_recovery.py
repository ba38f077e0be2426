"""Sessions whose workers are killed or frozen: they go on, and not one bit is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute import failpoints
from graphflow.distribute.messages import Notice, Rebuild, Save, Step
from tests.distribute.in_process import InProcess
from tests.distribute.programs import same, train
from tests.until import PATIENCE, until

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
STEPS = 12
CLUSTER = {"every": 4}


class Killer:
    """Kills a worker when the n-th message of a kind is sent to one."""

    def __init__(self, cluster: InProcess, victim: int, kind: type, count: int, to: int):
        self.cluster, self.victim, self.kind = cluster, victim, kind
        self.count, self.to = count, cluster.names[to]
        cluster.before = self

    def __call__(self, worker: str, message: Any) -> None:
        if isinstance(message, self.kind) and worker == self.to:
            self.count -= 1
            if self.count == 0:
                self.cluster.kill(self.victim)


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("step", [1, 2, 5, 6, 7, 13])
def test_training_goes_on_bit_for_bit_when_a_worker_is_killed(cluster, graph, undisturbed, victim,
                                                              step):  # fmt: skip
    killer = Killer(cluster, victim, Step, step, to=0)
    same(train(cluster, STEPS, scopes=(T0, T1)), undisturbed)
    assert killer.count <= 0
    assert sum(isinstance(m, Rebuild) for _, m in cluster.log) >= 2


def test_a_worker_that_dies_again_and_again(cluster, graph, undisturbed):
    steps = iter(range(1000))

    def now_and_then(session: Any) -> None:
        n = next(steps)
        cluster.kill(n % 2)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=now_and_then), undisturbed)


def test_all_workers_may_die_at_once(cluster, graph, undisturbed):
    steps = iter(range(1000))

    def both(session: Any) -> None:
        if next(steps) == 6:
            cluster.kill(0)
            cluster.kill(1)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=both), undisturbed)


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("kind", [Rebuild, Save, Notice])
def test_a_loss_in_the_middle_of_anything(cluster, graph, undisturbed, victim, kind):
    """During a recovery, and while copies of the state are made."""
    steps = iter(range(1000))

    def first(session: Any) -> None:
        if next(steps) == 6:
            cluster.kill(0)
            Killer(cluster, victim, kind, 1, to=1)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=first), undisturbed)


def test_a_frozen_worker_is_replaced_at_the_deadline(graph, undisturbed):
    steps = iter(range(1000))
    with InProcess(2, every=4, deadline=0.3) as cluster:

        def freeze(session: Any) -> None:
            if next(steps) == 6:
                cluster.freeze(1)

        same(train(cluster, STEPS, scopes=(T0, T1), on_step=freeze), undisturbed)


# ---- what else is state


def queued(cluster: Any, on_step: Any) -> list[Any]:
    """A pipeline through a shuffling queue on worker 1, with random numbers and a print."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [])
        with tf.device(T1 if cluster else ""):
            queue = tf.RandomShuffleQueue(32, 2, [tf.float32], shapes=[[]], seed=5)
            put = queue.enqueue(x + tf.random_uniform([], seed=1))
        with tf.device(T0 if cluster else ""):
            total = tf.Variable(0.0)
            add = total.assign_add(queue.dequeue() * tf.random_normal([], seed=2))
            said = tf.print("total", add)
        found = []
        with tf.Session(cluster=cluster, seed=3) as session:
            session.run(total.initializer)
            for i in range(4):
                session.run(put, {x: i})
            for i in range(14):
                session.run(put, {x: i})
                found.append(session.run([add, said])[0])
                if on_step is not None:
                    on_step(session)
            return [*found, session.run(queue.size())]


def test_queues_and_random_numbers_come_back_and_output_goes_out_once(cluster, capfd):
    wanted = queued(None, None)
    said = capfd.readouterr()
    steps = iter(range(1000))

    def now_and_then(session: Any) -> None:
        if (n := next(steps)) % 3 == 1:
            cluster.kill(n % 2)

    assert queued(cluster, now_and_then) == wanted
    assert capfd.readouterr() == said


def test_results_of_python_functions_are_not_asked_for_again(cluster, graph):
    """They are logged at the driver; the function may know more than we do."""
    calls = iter(range(100))
    with tf.device(T0):
        a = tf.Variable(0.0)
    with tf.device(T1):
        b = tf.Variable(0.0)
    number = tf.placeholder(tf.float32, [])
    drawn = tf.py_func(_noise, [number], tf.float64)
    step = tf.group(a.assign_add(tf.cast(drawn, tf.float32)), b.assign_add(1.0))
    with tf.Session(cluster=cluster) as session:
        session.run(tf.global_variables_initializer())
        seen = []
        for i in range(11):
            seen.append(session.run([drawn, step], {number: next(calls)})[0])
            cluster.kill(i % 2)
        total = np.float32(0)
        for each in seen:
            total += np.float32(each)
        assert session.run([a, b]) == [total, 11.0]


def _noise(number: Any) -> float:
    return float(np.random.default_rng().normal())


def all_reach(done: list[int], after: list[int]) -> bool:
    return all(n >= min(m, 15) for n, m in zip(done, after, strict=True))


def test_overlapping_runs_lose_and_repeat_nothing(cluster, graph):
    """Each run is hit twice at most: one that has lost three workers is given up."""
    with tf.device(T0):
        a = tf.Variable(0.0)
        up_a = a.assign_add(1.0)
    with tf.device(T1):
        b = tf.Variable(0.0)
        up_b = b.assign_add(1.0)
    both = tf.group(up_a, up_b)
    with tf.Session(cluster=cluster) as session:
        session.run(tf.global_variables_initializer())

        done = [0] * 4  # runs, by thread, of 15
        went_on = threading.Condition()

        def count(thread: int) -> None:
            for fetch in (up_a, both, up_b) * 5:
                session.run(fetch)
                with went_on:
                    done[thread] += 1
                    went_on.notify_all()

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(count, thread) for thread in range(4)]
            for i in range(6):
                threading.Event().wait(0.02)
                with went_on:
                    after = [n + 1 for n in done] if i % 2 == 0 else done
                    over = partial(all_reach, done, after)  # of what was under way
                    assert went_on.wait_for(over, PATIENCE)
                cluster.kill(i % 2)
            for each in running:
                each.result(PATIENCE)
        assert session.run([a, b]) == [40.0, 40.0]


def test_a_run_that_waits_for_input_waits_on_after_a_loss(cluster, graph):
    with tf.device(T1):
        queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
    with tf.device(T0):
        a = tf.Variable(1.0)
        take = a.assign_add(queue.dequeue())
        up = a.assign_add(1.0)
    put = queue.enqueue(10.0)
    with tf.Session(cluster=cluster) as session, ThreadPoolExecutor(1) as pool:
        session.run(a.initializer)
        taken = pool.submit(session.run, take)
        for i in range(10):  # cuts come and go
            session.run(up)
            if i == 5:
                cluster.kill(1)
        session.run(put)
        assert taken.result(PATIENCE) == 21.0


def test_a_session_without_a_worker_for_the_lost_one_ends_and_says_why(cluster, graph):
    with tf.device(T1):
        a = tf.Variable(1.0)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        cluster.available = 0
        cluster.kill(1)
        for _ in range(2):
            with pytest.raises(errors.UnavailableError, match=r"no other worker.*there is none"):
                session.run(a)


def test_the_journal_is_bounded_and_reading_is_not_written_down(cluster, graph):
    with tf.device(T0):
        a = tf.Variable(0.0)
    up = a.assign_add(1.0)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        journal = session._target.conductor._machine._journal
        longest = 0
        for _ in range(200):
            session.run(up)
            session.run(a)
            longest = max(longest, len(journal))
        assert 2 <= longest <= 2 * 64 + 4 * 8
        for host in (cluster.host(0), cluster.host(1)):
            assert len(host._snapshots) <= 2


def test_feeds_may_be_changed_once_a_run_is_over(cluster, graph):
    x = tf.placeholder(tf.float32, [3])
    with tf.device(T0):
        a = tf.Variable(tf.zeros([3]))
    add = a.assign_add(x)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        feed = np.ones(3, np.float32)
        session.run(add, {x: feed})
        feed[:] = 100
        cluster.kill(0)
        np.testing.assert_array_equal(session.run(a), np.ones(3))


def test_a_worker_that_would_compute_other_bits_is_not_taken(cluster, graph):
    with tf.device(T1):
        a = tf.Variable(1.0)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        cluster.threads = 2
        cluster.kill(1)
        with pytest.raises(errors.UnavailableError, match=r"compute other bits.*threads=2"):
            session.run(a)


# ---- named moments


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("point", sorted(set(failpoints.POINTS) - {"sum"}))
def test_a_worker_may_be_lost_at_any_moment(cluster, graph, undisturbed, point, victim):
    """Whoever comes to it; the victim is one of both, so that it is that one or its peer."""
    steps = iter(range(1000))
    hits: list[int] = []

    def die() -> None:
        hits.append(victim)
        cluster.kill(victim)

    def arm(session: Any) -> None:
        if next(steps) in (5, 9):
            failpoints.arm(point, 2, die)
            if point in ("rebuild", "load"):  # during a recovery, and when plans come again
                cluster.kill(0)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=arm), undisturbed)
    beside = ("copy", "save")  # the steps: a busy machine may not come to them a second time
    assert len(hits) == 2 or point == "load" or (hits and point in beside)


def test_who_is_killed_while_it_opens_is_in_nobodys_way(cluster, graph, undisturbed):
    """However late its threads end, which have the process of the next one here."""
    name, steps = cluster.names[0], iter(range(1000))

    def die() -> None:
        hosts = cluster.links[0].hosts
        cluster.kill(0)
        until(lambda: name in hosts and hosts[name]._machine.generation)  # the next one has state

    def arm(session: Any) -> None:
        if next(steps) == 5:
            failpoints.arm("load", 2, die)
            cluster.kill(0)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=arm), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("point", sorted(set(failpoints.POINTS) - {"sum"}))
def test_a_worker_may_freeze_at_any_moment(graph, undisturbed, point):
    """It is missed at the deadline, whatever it was about to do."""
    steps = iter(range(1000))
    hits: list[str] = []
    with InProcess(2, every=4, deadline=0.5) as cluster:

        def freeze() -> None:
            hits.append(point)
            cluster.freeze(1)

        def arm(session: Any) -> None:
            if next(steps) == 5:
                seldom = point in ("copy", "load", "save")
                failpoints.arm(point, 1 if seldom else 2, freeze)
                if point in ("rebuild", "load"):
                    cluster.kill(0)

        same(train(cluster, STEPS, scopes=(T0, T1), on_step=arm), undisturbed)
    assert hits == [point]


def test_a_run_that_takes_its_workers_with_it_is_given_up(cluster, graph):
    with tf.device(T1):
        a = tf.Variable(1.0)
        deadly = a.assign_add(1.0)
        fine = a.assign_add(10.0)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        session.run(fine)

        def before(worker: str, message: Any) -> None:
            if isinstance(message, Step) and message.plan == plan and message.replay is None:
                cluster.kill(1)

        plan = 3
        cluster.before = before
        with pytest.raises(errors.UnavailableError, match=r"given up: 3 times a worker was lost"):
            session.run(deadly)
        assert session.run(fine) == 21.0
