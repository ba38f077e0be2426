"""`graphflow run --progress`: how a program gets on, while it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from graphflow.place.units import seconds
from graphflow.session.watching import Call, watched_by

REFRESH = 4  # times a second
LATE = 5.0  # seconds after which a run that is under way is shown as late


class Counter:
    """Counts the runs of all sessions.

    Attributes:
      done: runs that have ended.
      failed: those of them that raised.
    """

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self._began = time.monotonic()
        self._recent: list[float] = []  # when the last runs have ended
        self._last = 0.0
        self._under_way: dict[int, float] = {}
        self._lock = threading.Lock()

    def begin(self) -> int:
        """A run begins; its number."""
        with self._lock:
            number = self.done + len(self._under_way)
            while number in self._under_way:
                number += 1
            self._under_way[number] = time.monotonic()
            return number

    def end(self, number: int, failed: bool) -> None:
        """A run has ended."""
        now = time.monotonic()
        with self._lock:
            self._last = now - self._under_way.pop(number)
            self.done += 1
            self.failed += failed
            self._recent = [*[t for t in self._recent if t > now - 5.0], now]

    def __rich__(self) -> Table:
        now = time.monotonic()
        with self._lock:
            span = min(5.0, max(now - self._began, 1e-9))
            rate = sum(t > now - span for t in self._recent) / span
            oldest = max((now - t for t in self._under_way.values()), default=0.0)
        made = Table.grid(padding=(0, 2))
        state = f"[red]waiting for {oldest:.0f} s[/red]" if oldest > LATE else "running"
        made.add_row(
            f"{self.done} runs",
            f"{rate:.1f}/s",
            f"last {seconds(self._last)}",
            f"{self.failed} failed" if self.failed else "",
            state,
            f"{now - self._began:.0f} s",
        )
        return made


@contextmanager
def progress(console: Console | None = None) -> Iterator[Counter]:
    """Show the runs of the sessions inside, on standard error."""
    counter = Counter()

    @contextmanager
    def counted(call: Call) -> Iterator[Call]:
        number = counter.begin()
        failed = True
        try:
            yield call
            failed = False
        finally:
            counter.end(number, failed)

    with (
        watched_by(counted),
        Live(counter, console=console or Console(stderr=True), refresh_per_second=REFRESH),
    ):
        yield counter
