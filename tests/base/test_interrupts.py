"""Interrupts that wait until what they would tear apart is through."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from graphflow.base.interrupts import in_slices, interruptible, uninterrupted


@uninterrupted
def work(done: list[str], *stops: bool) -> None:
    signal.raise_signal(signal.SIGINT)
    done.append("begun")
    for stop in stops:
        if stop:
            interruptible()
        done.append("more")


def test_an_interrupt_waits_for_the_end_or_for_where_it_may_come():
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work(done, False)
    assert done == ["begun", "more"]
    with pytest.raises(KeyboardInterrupt):
        work(done, False, True)
    assert done == ["begun", "more"] * 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    interruptible()  # there is none any more


@pytest.fixture
def handled() -> Any:
    """What the user's own handler, which raises nothing, has been given."""
    found: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: found.append(number))
    yield found
    signal.signal(signal.SIGINT, before)


def test_a_handler_of_the_users_own_is_called_and_stays(handled):
    mine = signal.getsignal(signal.SIGINT)
    work(done := [], True, False)
    assert (handled, done) == ([signal.SIGINT], ["begun", "more", "more"])
    assert signal.getsignal(signal.SIGINT) is mine
    signal.raise_signal(signal.SIGINT)
    assert len(handled) == 2


def test_a_handler_may_put_another_one_in_its_place(handled):
    def ends_at_the_second(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGINT, ends_at_the_second)
    work([], True, False)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_one_holds_them_back_for_another(handled):
    @uninterrupted
    def outer() -> None:
        work([], False)
        assert not handled

    outer()
    assert len(handled) == 1


def test_waits_are_short_only_where_interrupts_are_held_back():
    pauses: list[float] = []

    @uninterrupted
    def waits() -> None:
        pauses.append(in_slices(60.0))
        other = threading.Thread(target=lambda: pauses.append(in_slices(60.0)))
        other.start()
        other.join()

    waits()
    assert pauses == [0.25, 60.0]
    assert in_slices(60.0) == 60.0


def test_other_threads_are_left_alone():
    seen: list[Any] = []

    @uninterrupted
    def looks() -> None:
        seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=looks)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_other_signals_whose_handlers_raise_are_held_back_too():
    class Late(Exception):
        pass

    def alarm(number: int, frame: Any) -> None:
        raise Late

    done: list[str] = []

    @uninterrupted
    def looks() -> None:
        signal.raise_signal(signal.SIGALRM)
        signal.raise_signal(signal.SIGINT)
        done.append("before")
        with pytest.raises(Late):
            interruptible()
        done.append("behind")

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with pytest.raises(KeyboardInterrupt):
            looks()
        assert signal.getsignal(signal.SIGALRM) is alarm
    finally:
        signal.signal(signal.SIGALRM, before)
    assert done == ["before", "behind"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
