"""Waiting for what other threads and processes do: until it is done, not for a time."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import traceback
import warnings
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


def forked(child: Callable[[], object], patience: float = PATIENCE) -> bool:
    """Call a function in a fork of this process, which then ends at once; did it return?"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are other threads
        pid = os.fork()
    if not pid:
        gc.disable()  # what it would collect may want locks that other threads had
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    ended = [(0, 0)]

    def has_ended() -> bool:
        ended.append(os.waitpid(pid, os.WNOHANG))
        return ended[-1][0] == pid

    try:
        until(has_ended, patience)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return ended[-1][1] == 0


def asleep(condition: threading.Condition) -> bool:
    """Does a thread wait there?"""
    waiters = condition._waiters  # type: ignore[attr-defined]
    return bool(waiters)
