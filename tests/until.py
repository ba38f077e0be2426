"""Waiting for what other threads and processes do: until it is done, not for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Seconds for what only a busy machine makes long: it may stop threads and processes for several.
PATIENCE = 60.0


def until(
    condition: Callable[[], object],
    patience: float = PATIENCE,
    state: Callable[[], object] | None = None,
) -> None:
    """Return when the condition holds; fail where it does not in time.

    Args:
      condition: is asked again and again.
      patience: seconds.
      state: tells in the failure's message how things stand.
    """
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            told = f": {state()}" if state is not None else ""
            raise AssertionError(f"not within {patience:g} s{told}")
        time.sleep(0.002)


def asleep(condition: threading.Condition) -> bool:
    """Does a thread wait there?"""
    waiters = condition._waiters  # type: ignore[attr-defined]
    return bool(waiters)
