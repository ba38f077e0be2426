"""Ctrl-C comes at any moment, also between two messages that belong together.  What must not be
torn apart holds it back until it is through, or comes to a place where it may be interrupted; and
other signals, whose handlers may raise something, too.

Python runs handlers of signals on its main thread alone, between any two bytecodes, and has no mask
for them.  So another handler takes the place of the user's meanwhile.
"""

from __future__ import annotations

# Python's module `signal` takes 2.5 us for a call that takes 0.2 here.
from _signal import (  # type: ignore[import-not-found]
    SIGALRM,
    SIGHUP,
    SIGINT,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    getsignal,
    raise_signal,
    signal,
)
from collections.abc import Callable
from functools import wraps
from threading import get_ident, main_thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_SLICE = 0.25  # seconds: how long one who waits may take to notice
_SIGNALS = (SIGINT, SIGTERM, SIGALRM, SIGHUP, SIGUSR1, SIGUSR2)

_held: list[tuple[int, Any]] = []
_handlers: dict[int, Any] = {}  # the user's, while ours is there


def _hold(number: int, frame: Any) -> None:
    _held.append((number, frame))


def uninterrupted(function: Callable[P, R]) -> Callable[P, R]:
    """The same, which handlers of signals do not end but at `interruptible`, and at its end."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if _handlers or get_ident() != main_thread().ident:
            return function(*args, **kwargs)
        try:
            for number in _SIGNALS:
                handler = getsignal(number)
                if callable(handler):  # the default one ends the process, or does nothing
                    _handlers[number] = handler
                    signal(number, _hold)
            return function(*args, **kwargs)
        finally:
            _put_back()
            if _held:
                _tell_the_user()

    return call


def _put_back() -> None:
    try:
        while _handlers:
            number, handler = next(reversed(_handlers.items()))
            signal(number, handler)
            _handlers.pop(number, None)
    finally:
        if _handlers:  # one that is back again has raised something
            _put_back()


def interruptible() -> None:
    """Here what was held back may end what is under way.

    Raises:
      KeyboardInterrupt: there was an interrupt; or what else the user's handler raises.
    """
    if not _held or not _handlers or get_ident() != main_thread().ident:
        return
    number = _held[0][0]
    signal(number, _handlers[number])
    try:
        _tell_the_user()
    finally:
        _handlers[number] = getsignal(number)  # it may have put another one there
        signal(number, _hold)


def _tell_the_user() -> None:
    number, frame = _held.pop(0)
    handler = getsignal(number)
    if callable(handler):
        handler(number, frame)
    else:  # another handler has put the default one there
        raise_signal(number)


def in_slices(seconds: float) -> float:
    """How long a wait may be before it looks whether there was an interrupt."""
    return min(seconds, _SLICE) if _handlers and get_ident() == main_thread().ident else seconds
