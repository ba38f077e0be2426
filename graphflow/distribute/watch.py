"""Which workers give signs of life: a pure state machine over time.

A worker that owes an answer may compute for long, or wait for input.  It is asked for a sign of
life now and then, and is taken for frozen when it has given none for the deadline, counted from
the last one, or from the message that it owes the answer to.  Workers that owe nothing are left
alone.

A kernel that keeps Python's global lock keeps the worker from giving signs of life, too: one that
does so for longer than the deadline is taken for frozen.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

PINGS = 4  # per deadline


@dataclass
class _Seen:
    heard: float  # last sign of life, or when it began to owe an answer
    pinged: float  # last ping
    unanswered: float | None = None  # first ping since the last sign of life


class Watch:
    """Attributes:
    deadline: seconds without a sign of life after which a worker is taken for frozen.
    """

    def __init__(self, deadline: float):
        self.deadline = deadline
        self._seen: dict[str, _Seen] = {}
        self._asked: dict[str, float] = {}  # worker -> time of the last message to it
        self._looked = -math.inf

    @property
    def interval(self) -> float:
        """Seconds between pings."""
        return self.deadline / PINGS

    def heard(self, worker: str, now: float) -> None:
        """The worker has given a sign of life."""
        if worker in self._seen:
            self._seen[worker] = _Seen(now, now)

    def asked(self, worker: str, now: float) -> None:
        """A message was sent to the worker: if it owes nothing yet, its time runs from here."""
        self._asked[worker] = now

    def forget(self, worker: str) -> None:
        """Another one will have that name."""
        self._seen.pop(worker, None)
        self._asked.pop(worker, None)

    def pause(self, now: float) -> float:
        """Seconds until there is something to `look` for, if nothing comes in meanwhile."""
        if not self._seen:
            return self.interval
        due = [now + self.interval]
        for seen in self._seen.values():
            due.append(seen.pinged + self.interval)
            if seen.unanswered is not None:
                due.append(seen.unanswered + self.deadline - self.interval)
        return max(0.0, min(due) - now)

    def look(self, owing: Iterable[str], now: float) -> tuple[list[str], list[str]]:
        """Workers to ping, and workers that are frozen.

        Args:
          owing: those whose answer is awaited.
          now: seconds by a clock that never goes back.
        """
        asked = self._asked
        self._seen = {w: self._seen.get(w) or _Seen(t := asked.get(w, now), t) for w in owing}
        # If the driver itself was stopped, or nobody waited, nobody else is frozen: time counts
        # from the ping, and anew where nobody looked, so that answers are not taken up yet.
        missed, self._looked = now - self._looked > 2 * self.interval, now
        silent, frozen = [], []
        for worker, seen in self._seen.items():
            if missed:
                seen.unanswered = None
            if seen.unanswered is not None and (
                now - seen.unanswered >= self.deadline - self.interval
            ):
                frozen.append(worker)
            elif now - seen.pinged >= self.interval:
                silent.append(worker)
                seen.pinged = now
                if seen.unanswered is None:
                    seen.unanswered = now
        return silent, frozen


class Supervision:
    """Which of a job's tasks give signs of life; these owe them all the time.

    A task that comes up is not frozen, however long it takes to import what it needs; but it has
    to come up.
    """

    def __init__(self, heartbeat: float, patience: float):
        """Args:
        heartbeat: seconds without a sign of life after which a task is taken for frozen.
        patience: seconds until the first one.
        """
        self._watch = Watch(heartbeat)
        self._patience = patience
        self._due: dict[str, float] = {}  # of those that come up

    def started(self, task: str, now: float) -> None:
        """A task was started, perhaps again, and asked for its first sign of life."""
        self._watch.forget(task)
        self._due[task] = now + self._patience

    def heard(self, task: str, now: float) -> None:
        """A task has given a sign of life."""
        if self._due.pop(task, None) is not None:
            self._watch.asked(task, now)
        self._watch.heard(task, now)

    def pause(self, now: float) -> float:
        """Seconds until there is something to `look` for."""
        return max(0.0, min([self._watch.pause(now), *[due - now for due in self._due.values()]]))

    def look(self, tasks: Collection[str], now: float) -> tuple[list[str], dict[str, str]]:
        """Tasks to ask for a sign of life, and those that are lost, with the reason.

        Args:
          tasks: those that run.
          now: seconds by a clock that never goes back.
        """
        up = [task for task in tasks if task not in self._due]
        silent, frozen = self._watch.look(up, now)
        lost = dict.fromkeys(
            frozen, f"it gave no sign of life for {self._watch.deadline:g} s, and was ended"
        )
        for task in tasks:
            if self._due.get(task, now) < now:
                lost[task] = f"it did not come up within {self._patience:g} s"
        return silent, lost
