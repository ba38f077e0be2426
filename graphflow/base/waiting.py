"""A thread that is about to wait tells whoever relies on it to go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_here = threading.local()


def waits() -> None:
    """Called before a wait of unknown length, by whoever is going to wait."""
    told: Callable[[], None] | None = getattr(_here, "told", None)
    if told is not None:
        told()


@contextmanager
def telling(function: Callable[[], None]) -> Iterator[None]:
    """In this block, call a function whenever this thread is about to wait."""
    before = getattr(_here, "told", None)
    _here.told = function
    try:
        yield
    finally:
        _here.told = before
