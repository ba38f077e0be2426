"""Waits that know of stops of their own process."""

from __future__ import annotations

import threading

import pytest

from graphflow.base.waiting import patiently


def test_it_waits_for_as_long_as_it_is_told_and_no_longer():
    asked: list[float] = []
    assert not patiently(asked.append, 1.1)
    assert sum(asked) == pytest.approx(1.1)


def test_a_stop_of_the_process_takes_no_more_than_a_slice_of_the_time():
    """However long it was: what came meanwhile is taken up afterwards."""
    looks = iter([False, False, True])  # in the first one, hours have passed
    assert patiently(lambda seconds: next(looks), 2.0)


def test_it_ends_when_the_thing_has_come():
    event = threading.Event()
    event.set()
    assert patiently(event.wait, 60.0)
    assert not patiently(threading.Event().wait, 0.0)
