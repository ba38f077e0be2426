"""A thread that is about to wait tells whoever relies on it to go on; and waits that know of stops
of their own process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from graphflow.base.interrupts import interruptible

_here = threading.local()
_SLICE = 0.25  # seconds


def waits() -> None:
    """Called before a wait of unknown length, by whoever is going to wait."""
    told: Callable[[], None] | None = getattr(_here, "told", None)
    if told is not None:
        told()


class telling:
    """In this block, call a function whenever this thread is about to wait."""

    def __init__(self, function: Callable[[], None]):
        self._function = function

    def __enter__(self) -> None:
        self._before = getattr(_here, "told", None)
        _here.told = self._function

    def __exit__(self, *_: Any) -> None:
        _here.told = self._before


def patiently(wait: Callable[[float], object], seconds: float) -> bool:
    """Has what is waited for come within so many seconds in which this process ran?

    What has come while it was stopped, as a busy machine stops a virtual one for seconds, has not
    been taken up yet by the threads that bring it.  So slices are counted, and not the time, of
    which a stop takes one.

    Args:
      wait: waits for at most as many seconds as it is given; has it come?
      seconds: to wait.
    """
    while seconds > _SLICE:
        if wait(_SLICE):
            return True
        interruptible()
        seconds -= _SLICE
    return bool(wait(seconds))


class Flag(threading.Event):
    """An event that is looked at, and never waited for: it is made in a tenth of the time."""

    def __init__(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        raise NotImplementedError("nobody is woken by a flag")
