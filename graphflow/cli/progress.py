"""`graphflow run --progress`: how a program gets on, while it does.

Here that is a line which changes; of a program of several tasks, each prints one now and then.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from graphflow.cli import run
from graphflow.place.units import seconds
from graphflow.session.watching import Call, watched_by

REFRESH = 4  # times a second
LATE = 5.0  # seconds after which a run that is under way is shown as late
EVERY = 5.0  # seconds between the lines of a task


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

    def columns(self) -> list[str]:
        """How it gets on, in words."""
        now = time.monotonic()
        with self._lock:
            span = min(5.0, max(now - self._began, 1e-9))
            rate = sum(t > now - span for t in self._recent) / span
            oldest = max((now - t for t in self._under_way.values()), default=0.0)
        return [
            f"{self.done} runs",
            f"{rate:.1f}/s",
            f"last {seconds(self._last)}",
            f"{self.failed} failed" if self.failed else "",
            f"waiting for {oldest:.0f} s" if oldest > LATE else "running",
            f"{now - self._began:.0f} s",
        ]

    def __rich__(self) -> Table:
        made = Table.grid(padding=(0, 2))
        *others, state, age = self.columns()
        made.add_row(*others, f"[red]{state}[/red]" if state != "running" else state, age)
        return made

    def __str__(self) -> str:
        return ", ".join(filter(None, self.columns()))

    @property
    def busy(self) -> bool:
        """Has a run begun?"""
        return bool(self.done or self._under_way)


@contextmanager
def counting() -> Iterator[Counter]:
    """Count the runs of the sessions inside."""
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

    with watched_by(counted):
        yield counter


@contextmanager
def progress(console: Console | None = None) -> Iterator[Counter]:
    """Show the runs of the sessions inside, on standard error."""
    screen = console or Console(stderr=True)
    with counting() as counter, Live(counter, console=screen, refresh_per_second=REFRESH):
        yield counter


def in_task(script: str, arguments: Sequence[str]) -> int:
    """Run the program in a task's process, which prints how its sessions get on; the exit status.
    Ray writes the task's name before what it prints."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(EVERY):
            if counter.busy:  # a server that serves others has no runs of its own
                print(counter, file=sys.stderr, flush=True)

    with counting() as counter:
        thread = threading.Thread(target=tell, name="graphflow-progress", daemon=True)
        thread.start()
        try:
            return run.in_task(script, arguments)
        finally:
            ended.set()
            thread.join()
            if counter.busy:
                print(counter, file=sys.stderr, flush=True)
