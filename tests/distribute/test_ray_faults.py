"""Ray workers that end, freeze, keep Python's lock or run out of memory, at named moments."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute.messages import Step, Ticket
from tests.distribute.evidence import arm
from tests.distribute.programs import same, summed, train
from tests.until import PATIENCE, until

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.timeout(600)]

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
STEPS = 24
DEADLINE = 3.0  # seconds, where a test waits for it; else more, for a busy machine
LONG = {"deadline": 60.0}


@pytest.fixture(scope="module")
def sums() -> tuple[list[Any], list[Any]]:
    with tf.Graph().as_default():
        return summed(None, STEPS)


@pytest.fixture
def cluster(ray_is_up: None, request: Any) -> Iterator[tf.Cluster]:
    options = {"deadline": DEADLINE, "start_deadline": 200, "snapshot_every": 5, "spares": 1}
    with tf.Cluster(workers=2, cpus_per_worker=0, **options | request.param) as cluster:
        yield cluster
        for worker in cluster.workers.values():  # what a test has stopped
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGCONT)


def pids(cluster: tf.Cluster) -> list[int]:
    return [worker.pid for worker in cluster.workers.values()]


@pytest.mark.parametrize(
    "cluster",
    [LONG, LONG | {"transport": "sockets"}, LONG | {"transport": "ray"}],
    ids=["memory", "ring", "ray"],
    indirect=True,
)
def test_workers_end_between_the_chunks_of_a_sum(cluster, graph):
    """Each way to sum, and each of its messages."""
    steps, seen = iter(range(1, 1000)), [pids(cluster)]
    with tf.Graph().as_default():
        wanted = summed(None, STEPS, size=1000)

    def on_step(session: Any) -> None:
        number = next(steps)
        if number % 6 == 0 and number < STEPS:
            arm(cluster, number // 6 % 2, "sum", 1 + number // 12, "kill")
        elif number % 6 == 2:
            seen.append(pids(cluster))

    same(summed(cluster, STEPS, on_step, size=1000), wanted)
    assert len({tuple(one) for one in seen}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [{"deadline": 20.0}], indirect=True)
def test_workers_end_while_others_join_and_leave(cluster, graph):
    """While the state is copied, while it is handed over, and when plans are made anew.  Where that
    ends the change, nothing has changed, and it succeeds the next time."""
    plan = {3: (3, "save"), 7: (2, "rebuild"), 11: (3, "load"), 15: (2, "kernel")}
    steps, seen = iter(range(1, 1000)), [pids(cluster)[0]]
    with tf.Graph().as_default():
        wanted = train(None, 20)

    def on_step(session: Any) -> None:
        change = plan.get(next(steps))
        if change is not None:
            workers, point = change
            arm(cluster, 0, point, 1, "kill")
            try:
                cluster.resize(workers)
            except errors.UnavailableError:
                cluster.resize(workers)
        if pids(cluster)[0] != seen[-1]:
            seen.append(pids(cluster)[0])

    same(train(cluster, 20, on_step=on_step), wanted)
    assert len(seen) == 5
    assert len(pids(cluster)) == 2


@pytest.mark.parametrize("cluster", [{}], indirect=True)
def test_a_worker_freezes_in_a_sum(cluster, graph, sums):
    """Its peer waits in the same sum: for the deadline, and no longer."""
    steps, first, stopped = iter(range(1, 1000)), pids(cluster), []

    def on_step(session: Any) -> None:
        number = next(steps)
        if number == 8:
            arm(cluster, 1, "sum", 1, "stop")
            stopped.append(time.monotonic())
        if number == 9:
            stopped.append(time.monotonic())

    same(summed(cluster, STEPS, on_step), sums)
    assert pids(cluster)[0] == first[0]
    assert pids(cluster)[1] != first[1]
    assert stopped[1] - stopped[0] < PATIENCE


@pytest.mark.parametrize("cluster", [LONG], indirect=True)
def test_connections_are_cut(cluster, graph, sums):
    """The process lives; nobody reaches it past Ray any more, and its connections end at once."""
    points, seen = iter(["kernel", "receive", "prepared"]), set()
    steps = iter(range(1, 1000))

    def on_step(session: Any) -> None:
        seen.add(tuple(pids(cluster)))
        number = next(steps)
        if number % 6 == 3 and (point := next(points, None)) is not None:
            arm(cluster, number // 6 % 2, point, 1, "cut")

    start = time.monotonic()
    same(summed(cluster, STEPS, on_step), sums)
    assert next(points, None) is None
    assert len(seen) == 4
    assert time.monotonic() - start < LONG["deadline"]  # which has not passed


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [{}, {"transport": "ray"}], indirect=True)
def test_one_worker_ends_while_another_one_is_frozen(cluster, graph, sums):
    """Who takes the place of the one waits for the other one, until that is given up as well."""
    steps, times = iter(range(1, 1000)), []

    def on_step(session: Any) -> None:
        number = next(steps)
        if number in (8, 9):
            times.append(time.monotonic())
        if number == 8:
            os.kill(pids(cluster)[1], signal.SIGSTOP)
            os.kill(pids(cluster)[0], signal.SIGKILL)

    same(summed(cluster, STEPS, on_step), sums)
    assert times[1] - times[0] < PATIENCE  # and not as long as workers may take to start


@pytest.mark.parametrize("cluster", [{}], indirect=True)
def test_a_kernel_keeps_pythons_lock(cluster, graph, sums):
    """For less than the deadline: nothing happens.  For longer: no thread of the worker can give a
    sign of life, and it counts as frozen."""
    steps, seen = iter(range(1, 1000)), [pids(cluster)]

    def on_step(session: Any) -> None:
        number = next(steps)
        if number in (6, 12):
            arm(cluster, 1, "kernel", 1, "hold", DEADLINE / 2 if number == 6 else 60)
        if number in (7, 13):
            seen.append(pids(cluster))

    same(summed(cluster, STEPS, on_step), sums)
    first, after_short, after_long = seen
    assert first == after_short
    assert first[0] == after_long[0]
    assert first[1] != after_long[1]


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [{"deadline": 1.0}], indirect=True)
def test_a_kernel_that_always_keeps_the_lock_is_given_up(cluster, graph):
    """With the reason, and what to do; the session lives on."""
    with tf.device(T1):
        a = tf.Variable(1.0)
        held = tf.py_func(_hold, [a], tf.float32)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        start = time.monotonic()
        with pytest.raises(errors.DeadlineExceededError, match=r"given up: 3 times.*deadline="):
            session.run(held)
        assert time.monotonic() - start < PATIENCE  # the function does not end by then
        assert session.run(a) == 1.0


def _hold(value: Any) -> Any:
    import ctypes

    ctypes.PyDLL(None).sleep(60)
    return value


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [{"deadline": 20.0}, {"transport": "ray", "deadline": 20.0}],
                         indirect=True)  # fmt: skip
def test_memory_ends_outside_of_kernels(cluster, graph, sums):
    points = iter(["receive", "committed", "save"])
    steps, seen = iter(range(1, 1000)), set()

    def on_step(session: Any) -> None:
        seen.add(pids(cluster)[1])
        if next(steps) % 5 == 2 and (point := next(points, None)) is not None:
            arm(cluster, 1, point, 1, "memory")

    same(summed(cluster, STEPS, on_step), sums)
    assert next(points, None) is None
    assert len(seen) == 3  # a copy that fails costs no worker


class Unreadable:
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return _exhausted, ()


def _exhausted() -> None:
    raise MemoryError("so a test wants it")


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [{"transport": "ray", "deadline": 20.0}], indirect=True)
def test_a_worker_cannot_unpickle_what_it_is_sent(cluster, graph):
    """Of which Ray tells only who has sent it: a step, and a value."""
    from graphflow.distribute.ray_calls import hand

    first = pids(cluster)
    with tf.device(T1):
        a = tf.Variable(1.0)
        up = a.assign_add(1.0)
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        link, worker, ticket = (
            session.target.conductor._link,
            list(cluster.workers)[1],
            Ticket(0, 9, 9),
        )
        heard: list[Any] = []
        link.send(worker, Step(9, (), ticket, 1, [Unreadable()], False), heard.append)
        until(lambda: heard)
        assert heard[0].worker_lost
        hand(cluster._actors[worker], link._session, ticket, "key", Unreadable())
        values = iter(range(2, 100_000))
        until(lambda: session.run(up) == next(values) and pids(cluster)[1] != first[1])
    assert pids(cluster)[0] == first[0]


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [{"deadline": 20.0}], indirect=True)
def test_a_kernel_asks_for_more_memory_than_the_process_may_have(cluster, graph):
    """The limit is real, by the system."""
    size = tf.placeholder(tf.int32, [])
    with tf.device(T1):
        a = tf.Variable(1.0)
        limited = tf.py_func(_limit, [a], tf.float32)
        up = a.assign_add(tf.reduce_sum(tf.fill([size], 1.0)))
    with tf.Session(cluster=cluster) as session:
        session.run(a.initializer)
        first = pids(cluster)
        assert session.run(limited) == 1.0
        with pytest.raises(errors.ResourceExhaustedError, match="Fill"):
            session.run(up, {size: 1 << 30})
        np.testing.assert_array_equal(session.run(up, {size: 3}), 4.0)
        assert pids(cluster) == first


def _limit(value: Any) -> Any:
    import resource

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), resource.RLIM_INFINITY))
    return value
