"""Python's garbage collector, kept out of the way of work that makes millions of live objects."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_paused = 0
_was_enabled = False


@contextmanager
def paused_collection() -> Iterator[None]:
    """No automatic collection inside; nests, from several threads too.

    A full collection walks every live object, and they come again and again while a plan of
    100,000 operations is made, all of it alive: 3.7 s with them, 2.2 s and linear without.
    """
    global _paused, _was_enabled
    with _lock:
        if not _paused:
            _was_enabled = gc.isenabled()
            gc.disable()
        _paused += 1
    try:
        yield
    finally:
        with _lock:
            _paused -= 1
            if not _paused and _was_enabled:
                gc.enable()
