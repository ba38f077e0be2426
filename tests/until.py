"""Waiting for what other threads and processes do: until it is done, not for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 20.0  # seconds; a busy machine may stop a thread for one or two


def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Return when the condition holds; fail where it does not within so many seconds."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"not within {patience:g} s"
        time.sleep(0.002)
