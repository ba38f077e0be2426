"""Where answers of local workers are taken up: by the very thread that waits for them.

A thread that receives for others has to wake the one that waits, which takes as long as the
message itself.  So whoever waits receives, for himself and all others, until what he waits for has
come; then the next one does.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any


class Desk:
    """Calls functions when descriptors are readable, on a thread that waits at a `Bell`.

    Attributes:
      closed: nothing is received any more.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake, self._woken = os.pipe()
        self._readers: dict[int, Callable[[], None]] = {}
        self._turn = threading.Lock()
        self._leader: int | None = None  # the thread that receives
        self._waiting: set[Bell] = set()  # of those that do not
        self.closed = False
        self._lock = threading.Lock()  # of the epoll object's life, and of those that wait
        self.watch(self._wake, lambda: None)

    def watch(self, descriptor: int, read: Callable[[], None]) -> None:
        """From now on call `read` when there is something."""
        with self._lock:
            if not self.closed:
                self._readers[descriptor] = read
                self._epoll.register(descriptor, select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        """No longer; it is still open."""
        with self._lock:
            if self._readers.pop(descriptor, None) is not None and not self.closed:
                self._epoll.unregister(descriptor)

    def lead(self, bell: Bell) -> bool:
        """Become the one who receives, if nobody is and there is still something to."""
        if self.closed:
            return False  # what is waited for comes otherwise, if at all
        if not self._turn.acquire(blocking=False):
            with self._lock:
                self._waiting.add(bell)  # then look again: the other one may just have left
            if not self._turn.acquire(blocking=False):
                return False
        self._leader = threading.get_ident()
        return True

    def receive(self, seconds: float) -> None:
        """Wait until something is readable, at most so long, and call what reads it."""
        if self.closed:
            return
        for descriptor, _ in self._epoll.poll(seconds):
            if descriptor == self._wake:
                os.read(self._wake, 4096)
                continue
            read = self._readers.get(descriptor)
            if read is not None:
                read()

    def leave(self) -> None:
        """Let another one receive."""
        self._leader = None
        self._turn.release()
        if not self._waiting:  # who comes now finds that it is his turn
            return
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for bell in waiting:
            with bell:
                threading.Condition.notify_all(bell)

    def wake(self) -> None:
        """What the receiver waits for may be there, though nothing was received."""
        if self._leader not in (None, threading.get_ident()):
            with self._lock:  # closed meanwhile, the descriptor may be another's
                if not self.closed:
                    os.write(self._woken, b"x")

    def close(self) -> None:
        """Nothing is received any more."""
        with self._lock:
            self.closed = True
        os.write(self._woken, b"x")
        with self._turn:  # no deadline: who receives leaves, now that it is closed
            self._epoll.close()
            os.close(self._wake)
            os.close(self._woken)


class Bell(threading.Condition):
    """A condition; who waits for it receives meanwhile."""

    def __init__(self, desk: Desk):
        super().__init__(threading.Lock())
        self._desk = desk
        self._asleep = 0  # threads that wait here, and do not receive

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        end = None if timeout is None else time.monotonic() + timeout
        leads = False
        try:
            while not (result := predicate()):
                left = 60.0 if end is None else end - time.monotonic()
                if left <= 0:
                    break
                leads = leads or self._desk.lead(self)
                if not leads:
                    self.wait(left)
                    continue
                self.release()
                try:
                    self._desk.receive(left)
                    if self._desk.closed:
                        leads = False
                        self._desk.leave()
                finally:
                    self.acquire()  # no deadline: a lock that is held for moments
        finally:
            if leads:
                self.release()
                try:
                    self._desk.leave()
                finally:
                    self.acquire()  # no deadline: see above
        return result

    def wait(self, timeout: float | None = None) -> bool:
        self._asleep += 1
        try:
            return super().wait(timeout)
        finally:
            self._asleep -= 1

    def notify_all(self) -> None:
        if self._asleep:  # most often there is nobody but who receives
            super().notify_all()
        self._desk.wake()
