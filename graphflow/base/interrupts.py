"""Ctrl-C comes at any moment, also between two messages that belong together.  What must not be
torn apart holds it back until it is through, or comes to a place where it may be interrupted.

Python runs handlers of signals on its main thread alone, between any two bytecodes, and has no mask
for them.  So another handler takes the place of the user's meanwhile.
"""

from __future__ import annotations

# Python's module `signal` takes 2.5 us for a call that takes 0.2 here.
from _signal import SIGINT, getsignal, raise_signal, signal  # type: ignore[import-not-found]
from collections.abc import Callable
from functools import wraps
from threading import get_ident, main_thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_SLICE = 0.25  # seconds: how long one who waits may take to notice

_held: list[tuple[int, Any]] = []
_handler: Any = None  # the user's, while ours is there


def _hold(number: int, frame: Any) -> None:
    _held.append((number, frame))


def uninterrupted(function: Callable[P, R]) -> Callable[P, R]:
    """The same, which an interrupt does not end but at `interruptible`, and at its end."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        global _handler
        if get_ident() != main_thread().ident:
            return function(*args, **kwargs)
        handler = getsignal(SIGINT)
        if handler is _hold or not callable(handler):  # the default one ends the process
            return function(*args, **kwargs)
        _handler = handler
        signal(SIGINT, _hold)
        try:
            return function(*args, **kwargs)
        finally:
            signal(SIGINT, _handler)
            if _held:
                _tell_the_user()

    return call


def interruptible() -> None:
    """Here an interrupt that was held back may end what is under way.

    Raises:
      KeyboardInterrupt: there was one; or what else the user's handler raises.
    """
    global _handler
    if not _held or get_ident() != main_thread().ident:
        return
    signal(SIGINT, _handler)
    try:
        _tell_the_user()
    finally:
        _handler = getsignal(SIGINT)  # it may have put another one there
        signal(SIGINT, _hold)


def _tell_the_user() -> None:
    last = _held[-1]
    _held.clear()
    if callable(_handler):
        _handler(*last)
    else:  # he has put the default one, or none, in its place meanwhile
        raise_signal(SIGINT)


def in_slices(seconds: float) -> float:
    """How long a wait may be before it looks whether there was an interrupt."""
    holds = getsignal(SIGINT) is _hold and get_ident() == main_thread().ident
    return min(seconds, _SLICE) if holds else seconds
