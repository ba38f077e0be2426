"""Servers that were stopped by a signal do nothing late that their clients have given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute.events import Lost
from graphflow.distribute.stops import SAFE, TICK, Stops
from graphflow.distribute.watch import Watch
from tests.distribute.four_tasks import client, four_tasks
from tests.until import until


@pytest.fixture
def cluster() -> Iterator[dict[str, tf.train.Server]]:
    with four_tasks() as found:
        yield found


class Session:
    """Notes for how long it was stopped, where that is too long."""

    def __init__(self) -> None:
        self.stopped: list[float] = []

    def give_up(self, stopped: float) -> None:
        self.stopped.append(stopped)


def test_a_stop_is_time_in_which_nobody_looks():
    now, short, long = [0.0], Session(), Session()
    stops = Stops(lambda: now[0])
    now[0] = 100.0
    stops.enter(short, 5.0)  # nobody looks yet, so nothing is known
    stops.start()
    while now[0] < 120.0:
        now[0] += TICK
        stops.look()
    stops.enter(long, 50.0)
    now[0] += 20.0
    stops.look()
    stops.leave(short)
    now[0] += 60.0
    late = Session()
    stops.enter(late, 5.0)  # opened after the stop
    assert (short.stopped, long.stopped, late.stopped) == ([20.0], [60.0], [])


@pytest.mark.parametrize("last", np.linspace(0, 2, 9))
def test_who_is_stopped_for_less_than_the_safe_time_is_given_up_by_nobody(last):
    """However the pings of a driver lie, which has a message answered or not."""
    watch, now = Watch(8.0), last
    watch.look(["a"], 0.0)
    watch.heard("a", last)
    while not watch.look(["a"], now)[1]:
        now += watch.pause(now)
    assert now - last > SAFE * 8.0


@pytest.mark.parametrize("within", [False, True], ids=["before a run", "within a run"])
def test_what_was_sent_to_a_server_before_it_was_stopped_for_long_is_void(cluster, within):
    """Its client may do that again in another session."""
    served, now = cluster["ps0"]._serving._member.task, [0.0]
    served.state.stops._clock = lambda: now[0]
    served.state.stops.start()
    stops: list[float] = []

    def stop(value: Any) -> Any:
        now[0] += stops.pop() if stops else 0.0
        return value

    with tf.Graph().as_default() as graph, tf.device("/job:ps/task:0"):
        v = tf.Variable(np.float32(0), name="v")
        up = v.assign_add(tf.py_func(stop, [tf.constant(np.float32(1))], tf.float32)).op
    a, b = (tf.Session(cluster[f"worker{i}"].target, graph=graph) for i in (0, 1))
    for host, safe in zip(served._hosts.values(), (5.0, 50.0), strict=True):
        served.state.stops.enter(host, safe)
    a.run(v.initializer)
    now[0] += 4.0  # nobody gives up who answers then
    a.run(up)
    if within:
        stops.append(6.0)
    else:
        now[0] += 6.0
    with pytest.raises(errors.UnavailableError, match="stopped for so long"):
        a.run(up)
    assert b.run(v) == 1.0
    b.run(up)
    served.look()
    until(lambda: len(served._hosts) == 1)
    a.close()
    with tf.Session(cluster["worker0"].target, graph=graph) as again:
        again.run(up)
        assert again.run(v) == 3.0
    b.close()


@pytest.mark.parametrize("decided", [True, False], ids=["committed", "undecided"])
def test_a_run_that_others_carry_out_is_carried_out_by_who_was_stopped(
    cluster, monkeypatch, decided
):
    """All or none: it asks the others what they were told."""
    stopped, other = (cluster[f"ps{i}"]._serving._member.task for i in (1, 0))
    now, go, told = [0.0], threading.Event(), threading.Event()
    stopped.state.stops._clock = lambda: now[0]
    stopped.state.stops.start()
    with tf.Graph().as_default() as graph:
        made = []
        for i in (0, 1):
            with tf.device(f"/job:ps/task:{i}"):
                made.append(tf.Variable(0, name=f"v{i}"))
        both = tf.group(*[v.assign_add(1) for v in made])
    a, b = (tf.Session(cluster[f"worker{i}"].target, graph=graph) for i in (0, 1))
    a.run([v.initializer for v in made])
    (host, _) = stopped._hosts.values()
    stopped.state.stops.enter(host, 5.0)

    def hold(task: Any) -> None:
        def notice(*given: Any, usual: Any = task.notice) -> Any:
            told.set()
            go.wait(20)
            return usual(*given)

        monkeypatch.setattr(task, "notice", notice)

    hold(stopped)
    if not decided:
        hold(other)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(a.run, both)
        assert told.wait(20)
        if decided:
            until(lambda: b.run(made[0]) == 1)
        now[0] += 6.0
        stopped.look()
        until(lambda: len(stopped._hosts) == 1 and not stopped._ending.locked())
        assert b.run(made[1]) == int(decided)
        go.set()
        with suppress(errors.OpError):
            running.result(20)
    assert b.run(made) == [int(decided)] * 2
    for session in (a, b):
        session.close()


def test_a_frozen_server_is_lost_to_its_clients_and_may_return(cluster):
    """As `UnavailableError`, after which a MonitoredTrainingSession makes another session."""
    session, _, up, init = client(cluster["worker0"])
    session.run(init)
    name = cluster["ps0"]._serving.name
    conductor = session._target.conductor
    conductor._handle(Lost(name, "it gave no sign of life for 9 s", frozen=True))
    with pytest.raises(errors.UnavailableError, match=r"ps.*task:0.*9 s.*when it is there again"):
        session.run(up)
    session.close()
