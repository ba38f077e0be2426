"""Which workers give signs of life: a pure state machine over time.

A worker that owes an answer may compute for long, or wait for input.  It is asked for a sign of
life now and then, and is taken for frozen when it has given none for the deadline.  Workers that
owe nothing are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
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

    @property
    def interval(self) -> float:
        """Seconds between pings."""
        return self.deadline / PINGS

    def heard(self, worker: str, now: float) -> None:
        """The worker has given a sign of life."""
        if worker in self._seen:
            self._seen[worker] = _Seen(now, now)

    def look(self, owing: Iterable[str], now: float) -> tuple[list[str], list[str]]:
        """Workers to ping, and workers that are frozen.

        Args:
          owing: those whose answer is awaited; their time runs from when they first are.
          now: seconds by a clock that never goes back.
        """
        self._seen = {w: self._seen.get(w) or _Seen(now, now) for w in owing}
        silent, frozen = [], []
        for worker, seen in self._seen.items():
            # Counted from the ping: if the driver itself was stopped, nobody else is frozen.
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
