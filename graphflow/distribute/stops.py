"""For how long this process was stopped, by a signal: who waited for it may have given it up.

Clients of a server that gives no sign of life are told that their runs have failed, and do them
again in another session.  When the server goes on, what they had sent before lies there, or is
half done.  So it ends their sessions before it does anything more for them.

A thread has `look` called all the time.  Whoever is about to do something that cannot be undone
calls it before: then no stop lies between what was sent and that, but one of the last instant.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from graphflow.distribute.watch import PINGS

TICK = 0.25  # seconds between looks
# Of a client's deadline: who was silent for less than that was given up by nobody, as `Watch`
# counts from the first ping without an answer, which comes up to an interval after the last one.
SAFE = 1 - 1 / PINGS - 0.05


class Session(Protocol):
    """What a process does for a client."""

    def give_up(self, stopped: float) -> None:
        """Do nothing more: the process was stopped for so many seconds."""


class Stops:
    """Ends the sessions whose clients may have given up this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._sessions: dict[Session, float] = {}  # and the seconds that a stop may take
        self._looked: float | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """From now on, `look` is called every `TICK` seconds; before, there are no stops."""
        self._looked = self._clock()

    def enter(self, session: Session, safe: float) -> None:
        """End a session where this process is stopped, from now on, for longer than that."""
        self.look()
        with self._lock:
            self._sessions[session] = safe

    def leave(self, session: Session) -> None:
        """A session is over."""
        with self._lock:
            self._sessions.pop(session, None)

    def look(self) -> None:
        """End sessions, where nobody has looked for long."""
        if self._looked is None:
            return
        with self._lock:
            now = self._clock()
            stopped, self._looked = now - self._looked, now
            if stopped > 2 * TICK:
                for session, safe in self._sessions.items():
                    if stopped > safe:
                        session.give_up(stopped)
