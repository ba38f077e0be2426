"""Processors that workers are bound to."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from graphflow.distribute import processors
from graphflow.distribute.processors import Processors, bound
from tests.until import PATIENCE

FEW = tuple(range(os.getpid() * 10**6, os.getpid() * 10**6 + 3))  # no machine has these


def test_no_two_workers_have_the_same_until_one_ends():
    one, other = Processors(1, FEW), Processors(2, FEW)
    assert (one.numbers, other.numbers) == (FEW[:1], FEW[1:])
    one.close()
    again = Processors(1, FEW)
    assert again.numbers == FEW[:1]
    for each in (other, again):
        each.close()


def test_workers_share_where_they_are_more_and_evenly():
    all_of_them = [Processors(1, FEW) for _ in range(7)]
    assert [p.numbers[0] for p in all_of_them] == [FEW[i % 3] for i in range(7)]
    two = Processors(2, FEW)
    assert two.numbers == FEW[1:]
    for each in (*all_of_them, two):
        each.close()


def test_who_wants_more_than_there_are_has_each_once():
    every = Processors(5, FEW)
    assert every.numbers == FEW
    every.close()


def test_a_system_that_gives_no_names_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not here")

    monkeypatch.setattr(processors.socket, "socket", lambda _: SimpleNamespace(
        bind=refused, close=lambda: None))  # fmt: skip
    with pytest.raises(PermissionError, match="not here"):
        Processors(1, FEW)


@contextmanager
def _bound(free: Sequence[int]) -> Iterator[Processors]:
    """This process has one processor, and then those again that it had."""
    mine = bound(1)
    try:
        yield mine
    finally:
        mine.close()
        for each in map(int, os.listdir("/proc/self/task")):
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(each, free)
                os.sched_setscheduler(each, os.SCHED_OTHER, os.sched_param(0))


def test_all_threads_of_a_process_are_bound_and_those_that_they_start():
    free = sorted(os.sched_getaffinity(0))
    going, found = threading.Event(), []

    def note() -> None:
        found.append((os.sched_getaffinity(0), os.sched_getscheduler(0)))

    def look() -> None:
        going.wait(PATIENCE)
        later = threading.Thread(target=note)
        note()
        later.start()
        later.join(PATIENCE)

    thread = threading.Thread(target=look)
    thread.start()
    with _bound(free) as mine:
        going.set()
        thread.join(PATIENCE)
        assert len(mine.numbers) == 1
        assert found == [(set(mine.numbers), os.SCHED_BATCH)] * 2


def test_a_thread_that_has_chosen_a_policy_keeps_it():
    free = sorted(os.sched_getaffinity(0))
    ready, going, found = threading.Event(), threading.Event(), []

    def look() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        ready.set()
        going.wait(PATIENCE)
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=look)
    thread.start()
    ready.wait(PATIENCE)
    with _bound(free):
        going.set()
        thread.join(PATIENCE)
        assert found == [os.SCHED_IDLE]
