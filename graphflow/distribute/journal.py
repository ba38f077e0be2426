"""What was committed since the last cut, in an order in which it can be done again.

A worker's state after a run depends on what was committed before the run began, and on nothing
else: feeds, input from outside and that order are all there is to know.  So the journal holds
beginnings and commits in the order in which the coordinator made them, and doing them again in
that order gives the same bits.

At a *cut* every worker keeps its state as it is between two decisions.  When all copies are safe,
a recovery needs nothing from before.  What was committed since the last cut of which the driver has
the copies is kept all the same: other copies may be lost with a worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from graphflow.distribute.messages import Feeds, Replay


class Record:
    """One attempt.

    Attributes:
      run, plan, feeds: as in `events.Begin`.
      inputs: worker -> what it took from outside, see `InputLog.taken`.
      releases: it has output.
      released: workers known to have released that.
      state: "begun", "committed", or "void": it came to nothing, or changed nothing.
      after: the run that it built on before that was decided on; 0: there was none.
    """

    __slots__ = ("after", "feeds", "inputs", "plan", "released", "releases", "run", "state")

    def __init__(self, run: int, plan: int, feeds: Feeds, after: int = 0):
        self.run = run
        self.plan = plan
        self.feeds = feeds
        self.inputs: Mapping[str, Mapping[str, Sequence[Any]]] = {}
        self.releases = False
        self.released: set[str] = set()
        self.state = "begun"
        self.after = after

    def replay(self, worker: str) -> Replay:
        """How a worker is to do it again."""
        return Replay(self.inputs.get(worker) or {}, worker in self.released)


class Entry(NamedTuple):
    """The beginning of an attempt, or its commit."""

    record: Record
    commit: bool


_FEW = 64  # void entries that are not worth a look


class Journal:
    """Attributes:
    commits: how many since the last mark.
    bytes: how much was fed to those that are kept.
    cut: number of the last cut of which all copies are safe; 0: the state before the first run.
    start: how many entries were before that.
    archive: number of the last cut of which the copies are here.
    snapshots: worker -> its state at that cut.
    """

    def __init__(self) -> None:
        self.commits = 0
        self.bytes = 0
        self.cut = 0
        self.start = 0
        self.archive = 0
        self.snapshots: Mapping[str, Any] = {}
        self._entries: list[Entry] = []
        self._mark: int | None = None  # how many entries were before the cut that is being made
        self._void = 0

    def begin(self, run: int, plan: int, feeds: Feeds, after: int = 0) -> Record:
        """An attempt begins."""
        record = Record(run, plan, feeds, after)
        self._entries.append(Entry(record, False))
        return record

    def commit(self, record: Record) -> None:
        """It is committed, and has changed something."""
        record.state = "committed"
        self.commits += 1
        self.bytes += _fed(record)
        self._entries.append(Entry(record, True))

    def drop(self, record: Record) -> None:
        """It came to nothing, or changed nothing."""
        record.state = "void"
        self._void += 1
        if self._void > max(_FEW, len(self._entries) // 2):
            self._sweep()

    def mark(self) -> None:
        """All workers are told to keep their state as it is now.  Nothing is under way."""
        self._mark = len(self._entries)
        self.commits = 0

    def complete(self, cut: int, snapshots: Mapping[str, Any] | None) -> None:
        """All copies of a cut are safe.

        Args:
          cut: its number.
          snapshots: the copies; None: they are elsewhere.
        """
        self.cut = cut
        self.start = self._mark or 0
        self._mark = None
        if snapshots is not None:
            self.archive, self.snapshots = cut, snapshots
            del self._entries[: self.start]
            self.start = 0
            self.bytes = sum(_fed(e.record) for e in self._entries if e.commit)

    def fall_back(self) -> None:
        """The copies of the last cut are lost: go on from that of which the copies are here."""
        self.cut, self.start = self.archive, 0

    def restart(self, snapshots: Mapping[str, Any]) -> None:
        """Begin with the state of an earlier session, as if after a cut."""
        self._entries.clear()
        self.complete(self.cut + 1, snapshots)
        self.commits = 0

    def interrupt(self) -> None:
        """What is under way comes to nothing, and so does a cut that is being made."""
        self._mark = None
        for record, _ in self._entries:
            if record.state == "begun":
                record.state = "void"
        self._sweep()
        self.commits = (len(self._entries) - self.start) // 2

    def _sweep(self) -> None:
        if self._mark is not None:
            self._mark = sum(e.record.state != "void" for e in self._entries[: self._mark])
        self.start = sum(e.record.state != "void" for e in self._entries[: self.start])
        self._entries = [entry for entry in self._entries if entry.record.state != "void"]
        self._void = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, position: int) -> Entry:
        return self._entries[position]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)


def _fed(record: Record) -> int:
    """Bytes that were fed to a run."""
    return sum(getattr(v, "nbytes", 0) for fed in record.feeds.values() for v in fed)
