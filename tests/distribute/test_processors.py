"""Processors that workers are bound to."""

from __future__ import annotations

import os
import threading

import pytest

from graphflow.distribute.processors import Processors, bound
from tests.until import PATIENCE

FEW = tuple(range(os.getpid() * 10**6, os.getpid() * 10**6 + 3))  # no machine has these


def test_no_two_workers_have_the_same_until_one_ends():
    one, other = Processors(1, FEW), Processors(2, FEW)
    none = Processors(1, FEW)
    assert (one.numbers, other.numbers, none.numbers) == (FEW[:1], FEW[1:], ())
    one.close()
    again = Processors(1, FEW)
    assert again.numbers == FEW[:1]
    for each in (other, again):
        each.close()


def test_who_does_not_get_enough_takes_none():
    assert Processors(4, FEW).numbers == ()
    enough = Processors(3, FEW)
    assert enough.numbers == FEW
    enough.close()


def test_all_threads_of_a_process_are_bound_and_those_that_they_start():
    free = sorted(os.sched_getaffinity(0))
    going, found = threading.Event(), []

    def look() -> None:
        going.wait(PATIENCE)
        later = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        found.append(os.sched_getaffinity(0))
        later.start()
        later.join(PATIENCE)

    thread = threading.Thread(target=look)
    thread.start()
    processors = bound(1)
    try:
        going.set()
        thread.join(PATIENCE)
        assert len(processors.numbers) == 1
        assert found == [set(processors.numbers)] * 2
    finally:
        processors.close()
        for each in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(each), free)


def test_where_all_are_taken_a_worker_stays_free_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    free = os.sched_getaffinity(0)
    every = Processors(len(FEW), FEW)
    with monkeypatch.context() as patched:
        patched.setattr(os, "sched_getaffinity", lambda pid: set(FEW))
        assert bound(1).numbers == ()
    assert "runs wherever there is room" in caplog.text
    assert os.sched_getaffinity(0) == free
    every.close()
