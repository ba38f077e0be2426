"""Writes down what chance decides on a server, see `decision_log`."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from graphflow.base.errors import AlreadyExistsError, OpError
from graphflow.checkpoint import files
from graphflow.distribute.decisions import Part, Place, Take, at_once, log_of

_log = logging.getLogger("graphflow")


class Recorder:
    """Decides nothing, and writes down what chance has decided."""

    replays = False

    def __init__(self, path: str):
        """Begin a log.

        Raises:
          AlreadyExistsError: there is one.
          OpError: the disk fails.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if Path(path).exists():
            raise AlreadyExistsError(
                None, None, f"{path} has the decisions of another run: replay it, or take another "
                "folder"
            )  # fmt: skip
        self._lock = threading.RLock()
        self._commits = 0
        self._failed: deque[tuple[Part, int, Iterable[Take]]] = deque()  # yet to be written down
        self._broken = False
        self._file = log_of(path)
        try:
            self._file.open()
        except OpError:
            files.remove_file(path)  # else it would be in the way once there is room
            raise

    def begin(
        self, part: Part, changes: bool, snapshot: Callable[..., Any], cancelled: threading.Event
    ) -> Place:
        with self._lock:
            snapshot()
            if changes:
                return _Recorded(self, part, self._commits)
            self._write("read", part, self._commits)
            return _RecordedRead(self, part, 0)

    def _write(self, kind: str, part: Part, seen: int, takes: Iterable[Take] = ()) -> None:
        self._write_failed()
        self._enter(kind, part, seen, takes)

    def _enter(self, kind: str, part: Part, seen: int, takes: Iterable[Take]) -> None:
        for take in takes:
            self.dequeued(part, take)
        self._append([kind, list(part), seen])

    def _append(self, record: list[Any]) -> None:
        """Add to the log.  Where that fails it ends, and what is logged goes on: it is applied."""
        if self._broken:
            return
        try:
            self._file.append(record)
        except OpError as error:
            self._broken = True
            _log.error("no more decisions are logged: %s", error.message)

    def _write_failed(self) -> None:
        while self._failed:
            self._enter("failed", *self._failed.popleft())

    def committed(
        self, part: Part, seen: int, takes: Iterable[Take], apply: Callable[[], None]
    ) -> None:
        """Apply a part's effects, and write that down."""
        with self._lock:
            apply()
            self._commits += 1
            self._write("part", part, seen, takes)

    def failed(self, part: Part, seen: int, takes: Iterable[Take]) -> None:
        """Have it written down that a run has failed.  Later: whoever says so holds its session's
        lock, and who writes here may want that."""
        self._failed.append((part, seen, takes))

    def dequeued(self, part: Part, take: Take) -> None:
        """Write down which elements a part has taken."""
        with self._lock:
            self._append(["dequeued", list(part), take.queue, list(take.numbers)])

    def wanted(self, accumulator: str) -> None:
        return None

    def taken(self, accumulator: str, given: Iterable[tuple[int, int]]) -> None:
        with self._lock:
            self._append(["taken", accumulator, [list(each) for each in given]])

    def step(self, gate: str, rank: int) -> None:
        return None

    def passed(self, gate: str, rank: int, step: int) -> None:
        with self._lock:
            self._append(["passed", gate, rank, step])

    def close(self) -> None:
        """Make the log durable."""
        with self._lock:
            self._write_failed()
            try:
                self._file.sync()
            finally:
                self._file.close()


class _Recorded:
    """The place of a part that changes something."""

    def __init__(self, recorder: Recorder, part: Part, seen: int):
        self._recorder = recorder
        self._part = part
        self._seen = seen
        self._takes: list[Take] = []

    def commit(self, apply: Callable[[], None]) -> threading.Event:
        self._recorder.committed(self._part, self._seen, self._takes, apply)
        return at_once()

    def abandon(self) -> None:
        """Nobody needs to know, unless its run fails."""

    def fail(self) -> None:
        self._recorder.failed(self._part, self._seen, self._takes)

    def wanted(self, queue: str) -> None:
        return None

    def of_others(self, queue: str) -> Collection[int]:
        return ()

    def took(self, queue: str, numbers: Sequence[int]) -> None:
        self._takes.append(Take(queue, numbers))


class _RecordedRead(_Recorded):
    """That of one that only takes input: its commit may never come."""

    def commit(self, apply: Callable[[], None]) -> threading.Event:
        apply()
        return at_once()

    def fail(self) -> None:
        """It was written down when it began."""

    def took(self, queue: str, numbers: Sequence[int]) -> None:
        self._recorder.dequeued(self._part, Take(queue, numbers))
