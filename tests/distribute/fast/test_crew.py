"""One thread where that is enough, and more where one waits or takes long."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from graphflow.base.waiting import waits
from graphflow.distribute.fast.crew import TICK, Crew
from tests.until import PATIENCE


class Work:
    def __init__(self):
        self.come = queue.Queue()
        self.threads = []
        self.done = queue.Queue()
        self.crew = Crew(self.come.get, self.do)

    def do(self, function):
        self.threads.append(threading.get_ident())
        self.done.put(function())


@pytest.fixture
def work():
    work = Work()
    yield work
    work.come.put(None)


@pytest.fixture
def nobody_watches(monkeypatch):
    """A loaded machine may make short work long."""
    monkeypatch.setattr(Crew, "_watch", lambda self: None)


def test_short_work_stays_on_one_thread(nobody_watches, work):
    for i in range(200):
        work.come.put(lambda i=i: i)
        assert work.done.get(timeout=PATIENCE) == i
    assert len(set(work.threads)) == 1


def test_a_watchman_who_comes_late_takes_the_turn_from_nobody(nobody_watches, work):
    """He has seen a long job, and is held up until it is over: its thread receives by then."""
    seen = []
    work.come.put(lambda: seen.append(work.crew._job))
    work.done.get(timeout=PATIENCE)
    work.come.put(lambda: seen.append(work.crew._job))
    work.done.get(timeout=PATIENCE)
    threads = threading.active_count()
    work.crew._hand_over(seen[0])
    assert threading.active_count() == threads  # nobody receives beside that one


def test_who_waits_lets_another_one_receive_at_once(work):
    go_on = threading.Event()

    def wait():
        waits()
        assert go_on.wait(PATIENCE)
        return "waited"

    for _ in range(10):
        work.come.put(wait)
    work.come.put(lambda: "passed")
    assert work.done.get(timeout=PATIENCE) == "passed"
    go_on.set()
    assert [work.done.get(timeout=PATIENCE) for _ in range(10)] == ["waited"] * 10


def test_long_work_lets_another_one_receive_soon(work):
    go_on = threading.Event()
    work.come.put(lambda: go_on.wait(PATIENCE))
    time.sleep(30 * TICK)  # the watchman sleeps, or does not: both must do
    work.come.put(lambda: "passed")
    assert work.done.get(timeout=PATIENCE) == "passed"
    go_on.set()
    assert work.done.get(timeout=PATIENCE)


def test_after_a_pause_the_watchman_is_there_again(work):
    for _ in range(3):
        time.sleep(25 * TICK)
        go_on = threading.Event()
        work.come.put(lambda go_on=go_on: go_on.wait(PATIENCE))
        work.come.put(lambda: "passed")
        assert work.done.get(timeout=PATIENCE) == "passed"
        go_on.set()
        assert work.done.get(timeout=PATIENCE) is True


def test_nobody_is_left_when_there_is_nothing_more():
    work, go_on = Work(), threading.Event()
    for _ in range(8):
        work.come.put(lambda: (waits(), go_on.wait(PATIENCE)))
    work.come.put(lambda: "last")
    assert work.done.get(timeout=PATIENCE) == "last"
    work.come.put(None)
    go_on.set()
    for _ in range(8):
        work.done.get(timeout=PATIENCE)
