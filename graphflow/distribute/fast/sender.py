"""Sends on a connection without waiting for whoever is at its other end."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from graphflow.distribute.fast.greeting import PATIENCE

_IOV = 512  # parts of one call; the kernel takes 1024
_AT_ONCE = int(socket.MSG_DONTWAIT)  # as an enumeration it is looked up twice


class Sender:
    """Sends now what a connection takes at once; a thread of its own, while there is need for it,
    does the rest, and makes the connection."""

    def __init__(self, ended: Callable[[], None], connection: Any = None, connect: Any = None):
        """Args:
        ended: is told when the connection has ended.
        connection: where to send; whoever has made it closes it.  Or
        connect: makes one; it is called on the thread, when something is to be sent.
        """
        self._connect = connect
        self._ended = ended
        self._connection = connection
        self._direct = connection is not None and _takes_some(connection)
        self._lock = threading.Lock()
        self._queue: deque[tuple[list[Any], list[int]]] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False

    def send(self, parts: list[Any], descriptors: Sequence[int] = ()) -> bool:
        """Send buffers, which must not change until they are sent, and with their first byte
        descriptors, which are duplicated; False: the connection has ended."""
        with self._lock:
            if self._closed:
                return False
            fresh = [os.dup(d) for d in descriptors] if descriptors else []
            if self._thread is None and self._direct:
                parts, fresh = self._try(parts, fresh)
            if parts:
                self._queue.append((parts, fresh))
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="graphflow-send", daemon=True)
                    thread.start()  # where the system has no room for it, the next one may try
                    self._thread = thread
            return True

    def _try(self, parts: list[Any], fresh: list[int]) -> tuple[list[Any], list[int]]:
        """Send what goes without waiting; what is left."""
        try:
            if len(parts) == 1 and not fresh:  # half the time of the other call
                (part,) = parts
                done = self._connection.send(part, _AT_ONCE)
                if done == len(part):
                    return [], fresh
            else:
                done = self._connection.sendmsg(parts[:_IOV], _beside(fresh), _AT_ONCE)
        except OSError:  # it is full; or it has failed, and the thread will find out, too
            return parts, fresh
        _close(fresh)
        return _rest(parts, done), []

    def _run(self) -> None:
        failed = True
        try:
            if self._connection is None:
                self._connection = self._connect()
                self._direct = _takes_some(self._connection)
            while self._next():
                pass
            failed = self._closed
        except (OSError, EOFError):
            pass  # whoever reads from there is told of it by its end
        finally:  # of whatever it dies, nobody must wait for what it does not send
            if failed:
                self._give_up()

    def _give_up(self) -> None:
        with self._lock:
            self._closed = True
            queue, self._queue = self._queue, deque()
        for _, fresh in queue:
            _close(fresh)
        self._hang_up()
        self._ended()

    def _next(self) -> bool:
        """Send what waits; did something?"""
        with self._lock:
            if self._closed or not self._queue:
                self._thread = None
                return False
            parts, fresh = self._queue.popleft()
        if fresh:
            try:
                done = self._connection.sendmsg(parts[:1], _beside(fresh))
            finally:
                _close(fresh)
            parts = _rest(parts, done)
        for part in parts:
            self._connection.sendall(part)
        return True

    def _hang_up(self) -> None:
        if self._connection is not None:
            shut(self._connection)
            if self._connect is not None:
                self._connection.close()

    def close(self) -> None:
        """Send nothing more."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is None:
            self._hang_up()
            self._ended()
        elif self._connection is not None:
            shut(self._connection)  # the thread wakes, and closes it

    def join(self) -> None:
        """Wait until a connection that was closed is done with."""
        thread = self._thread
        if thread is not None:
            thread.join(PATIENCE)


def _takes_some(connection: Any) -> bool:
    """Can it be given as much as it takes without waiting?  TLS cannot."""
    return not isinstance(connection, ssl.SSLSocket)


def _beside(descriptors: Sequence[int]) -> list[Any]:
    if not descriptors:
        return []
    packed = np.array(descriptors, np.intc).tobytes()
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)]


def _rest(parts: Sequence[Any], done: int) -> list[Any]:
    """What is left of the parts after so many bytes."""
    left = []
    for part in parts:
        view = memoryview(part).cast("B")
        if done < len(view):
            left.append(view[done:])
        done = max(0, done - len(view))
    return left


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def shut(connection: Any) -> None:
    """Wake who waits on a socket; closing it would not."""
    with suppress(OSError):  # it is not connected any more
        connection.shutdown(socket.SHUT_RDWR)
