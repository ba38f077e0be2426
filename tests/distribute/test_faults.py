"""Workers that run out of memory, freeze, or end at named moments, in programs that sum over them:
training goes on bit for bit, or the user gets a typed error; nobody waits for ever."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute import failpoints
from graphflow.distribute.host import Host
from graphflow.distribute.messages import Broken, Rebuild, Step, Ticket
from tests.distribute.in_process import InProcess
from tests.distribute.programs import same, summed, train
from tests.until import PATIENCE, asleep, until

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
STEPS = 10
CLUSTER = {"every": 4}


@pytest.fixture(scope="module")
def sums() -> tuple[list[Any], list[Any]]:
    with tf.Graph().as_default():
        return summed(None, STEPS)


def after(step: int, action: Any) -> Any:
    """Calls something after a step."""
    steps = iter(range(1, 1000))

    def on_step(session: Any) -> None:
        if next(steps) == step:
            action()

    return on_step


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("message", [1, 2, 3, 4])
def test_a_worker_is_lost_between_the_chunks_of_a_sum(graph, cluster, sums, message, victim):
    """A step's sum is four messages, two from each worker: a chunk as it gathers, and a sum as it
    spreads."""
    lost: list[int] = []

    def die() -> None:
        lost.append(victim)
        cluster.kill(victim)

    on_step = after(5, lambda: failpoints.arm("sum", message, die))
    same(summed(cluster, STEPS, on_step), sums)
    assert lost


def test_a_worker_freezes_in_a_sum_and_its_peer_does_not_wait_for_it(graph, sums):
    with InProcess(2, every=4, deadline=0.4) as cluster:
        on_step = after(5, lambda: failpoints.arm("sum", 2, lambda: cluster.freeze(1)))
        same(summed(cluster, STEPS, on_step), sums)


def exhausted() -> None:
    raise MemoryError("so a test wants it")


@pytest.mark.parametrize("point", ["receive", "committed", "rebuild"])
def test_memory_that_ends_outside_of_kernels_costs_the_worker_and_no_bit(
    graph, cluster, undisturbed, point
):
    """It is in no known state any more: another one takes its place."""

    def arm() -> None:
        failpoints.arm(point, 2, exhausted)
        if point == "rebuild":
            cluster.kill(0)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=after(5, arm)), undisturbed)
    assert len(cluster.links[0].former) > 2  # the last two were closed with the session


def test_a_value_that_cannot_be_read_costs_the_worker_and_no_bit(graph, cluster, sums):
    told: list[str] = []

    def arm() -> None:
        host, count = cluster.host(1), itertools.count()
        whole = host.deliver

        def deliver(ticket: Any, key: str, value: Any) -> None:
            if next(count):
                whole(ticket, key, value)
                return
            told.append(key)
            host.undelivered(ticket, key, "it does not unpickle")

        host.deliver = deliver  # type: ignore[method-assign]

    same(summed(cluster, STEPS, after(5, arm)), sums)
    assert len(told) == 1
    assert len(cluster.links[0].former) == 3


def test_a_worker_that_breaks_waits_for_no_copy():
    """Of its state, in the place of a lost one: the deadline would end that, too, but late."""
    channel: Any = SimpleNamespace()
    host = Host(0, channel, patience=1000 * PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(host.notice, Rebuild(1, 4, worker=T0))
        try:
            until(lambda: asleep(host._copies._arrived))
            failpoints.arm("copy", 1, exhausted)
            host.deliver(Ticket(1, 0, 4), T0, None)
            assert isinstance(answer.result(PATIENCE), Broken)
        finally:
            host.close()


class Late:
    """A lock that one thread first takes when something else is so."""

    def __init__(self, lock: Any, condition: Callable[[], bool]):
        self.thread: int | None = None
        self.waits = False
        self._lock = lock
        self._condition = condition

    def __enter__(self) -> None:
        if threading.get_ident() == self.thread and not self.waits:
            self.waits = True
            until(self._condition)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_value_that_is_lost_just_before_its_step_is_known_wakes_that_step(graph, cluster, sums):
    """The step has found the worker sound when it came; the peer's chunk cannot be taken, and that
    is over before anybody knows of the step."""
    locks: list[Late] = []

    def before(worker: str, message: Any) -> None:
        if worker != cluster.names[1] or not isinstance(message, Step) or locks:
            return
        host = cluster.host(1)
        whole, lock = host.step, Late(host._lock, lambda: host._broken is not None)

        def step(message: Step) -> Any:
            lock.thread = threading.get_ident()
            return whole(message)

        host.step, host._lock = step, lock  # type: ignore
        locks.append(lock)

    def lost() -> None:
        until(lambda: locks and locks[0].waits)
        exhausted()

    def arm() -> None:
        failpoints.arm("receive", 1, lost)
        cluster.before = before

    same(summed(cluster, STEPS, after(5, arm)), sums)
    assert locks
    assert len(cluster.links[0].former) == 3


@pytest.mark.parametrize("point", ["kernel", "prepared"])
def test_memory_that_ends_in_a_step_fails_the_run_and_changes_nothing(graph, cluster, point):
    with tf.device(T1):
        a = tf.Variable(1.0)
        up = a.assign_add(1.0)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        failpoints.arm(point, 1, exhausted)
        with pytest.raises(errors.ResourceExhaustedError, match="ran out of memory"):
            session.run(up)
        assert session.run(up) == 2.0
        assert not cluster.links[0].former


def test_memory_that_ends_while_a_plan_is_loaded_is_told(graph, cluster):
    with tf.device(T1):
        a = tf.Variable(1.0)
    with tf.Session(cluster=cluster) as session:
        failpoints.arm("load", 1, exhausted)
        with pytest.raises(errors.ResourceExhaustedError, match="ran out of memory"):
            session.run(a.initializer)
        session.run(a.initializer)
        assert session.run(a) == 1.0


def test_memory_that_ends_while_the_state_is_copied_leaves_the_copy_before(
    graph, cluster, undisturbed
):
    """The journal goes on from there, so a loss afterwards costs nothing either."""

    def arm() -> None:
        failpoints.arm("save", 1, exhausted)

    steps = iter(range(1, 1000))

    def on_step(session: Any) -> None:
        number = next(steps)
        if number == 4:
            arm()
        if number == 9:
            assert not failpoints._armed
            cluster.kill(1)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=on_step), undisturbed)


def test_a_state_that_never_comes_back_ends_the_session(graph, cluster):
    """Each worker in the place of the lost one runs out of memory when it gets the state."""
    with tf.device(T1):
        a = tf.Variable(1.0)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)

        def again() -> None:
            failpoints.arm("rebuild", 1, again)
            exhausted()

        failpoints.arm("rebuild", 1, again)
        cluster.kill(1)
        with pytest.raises(errors.UnavailableError, match=r"out of memory.*in a row"):
            session.run(a)


def test_an_answer_that_cannot_be_sent_is_not_waited_for(graph, cluster):
    """A copy of the state that does not travel: the session goes on without that copy."""
    with tf.device(T1):
        a = tf.Variable(1.0)
        up = a.assign_add(1.0)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        link = cluster.links[0]
        answer = link._answer

        def lossy(worker: str, hear: Any, function: Any, sent: bytes) -> None:
            from graphflow.distribute.channel import Gone
            from graphflow.distribute.messages import Saved

            def spoilt(reply: Any) -> None:
                hear(Gone("it does not pickle", False) if isinstance(reply, Saved) else reply)

            with link.lock:
                link.waiting[worker].remove(hear)
                link.waiting[worker].append(spoilt)
            answer(worker, spoilt, function, sent)

        link._answer = lossy  # type: ignore[method-assign]
        for i in range(9):
            assert session.run(up) == 2.0 + i
        with pytest.raises(errors.UnavailableError, match="does not pickle"):
            session._target.conductor.capture()
        np.testing.assert_array_equal(session.run(up), 11.0)
