"""Named moments at which tests make a worker fail, or a client."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

POINTS = (
    "receive",  # a value from a peer has come
    "kernel",  # the kernels of a step are about to run
    "sum",  # a part of a sum over replicas is on its way
    "prepared",  # all is computed, and the driver does not know
    "committed",  # all is applied, and the driver does not know
    "save",  # a copy of the state is to be made
    "copy",  # a part of the copy of another worker's state has come
    "rebuild",  # the state of a cut is to be taken
    "load",  # a plan has come
)
# The same of clients of servers.
CLIENTS = ("decided",)  # a server is about to be told what becomes of a run


def _run_out_of_memory(_: float) -> None:
    raise MemoryError("so a test wants it")


def _send(number: int) -> Callable[[float], Any]:
    return lambda _: os.kill(os.getpid(), number)


def _cut_connections(_: float) -> None:
    """Those with the driver and with peers of this machine; not Ray's."""
    for entry in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # it is no socket
            descriptor = os.dup(int(entry))
            try:
                connection = socket.socket(fileno=descriptor)
            except OSError:
                os.close(descriptor)
                continue
            with connection:
                names = connection.getsockname(), connection.getpeername()
                if any(isinstance(n, bytes) and n.startswith(b"\0graphflow") for n in names):
                    connection.shutdown(socket.SHUT_RDWR)


# What may happen then.
FAULTS: Mapping[str, Callable[[float], Any]] = {
    "kill": _send(signal.SIGKILL),
    "stop": _send(signal.SIGSTOP),
    "cut": _cut_connections,
    "memory": _run_out_of_memory,
    # Calls through PyDLL keep the global lock.
    "hold": lambda seconds: ctypes.PyDLL(None).usleep(int(seconds * 1e6)),
}

_armed: dict[str, tuple[int, Callable[[], object]]] = {}


def arm(point: str, count: int, action: Callable[[], object]) -> None:
    """Call `action` when a moment comes for the `count`-th time from now.

    Raises:
      ValueError: there is no such moment.
    """
    if point not in POINTS + CLIENTS:
        known = ", ".join(POINTS + CLIENTS)
        raise ValueError(f"failpoint {point!r}: it must be one of {known}")
    _armed[point] = count, action


def disarm() -> None:
    """Forget all that was armed."""
    _armed.clear()


def hit(point: str) -> None:
    """The moment is here."""
    if _armed and point in _armed:
        count, action = _armed[point]
        if count > 1:
            _armed[point] = count - 1, action
        else:
            del _armed[point]
            action()
