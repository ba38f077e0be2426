"""What the coordinator keeps so that workers may be lost.

Every so many runs there is a cut: all workers keep their state at one moment.  What is committed
afterwards is in the journal.  Each worker hands a copy to its buddy, and at some cuts to the
driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphflow.base.errors import OpError
from graphflow.distribute.events import Capture, Command, Send
from graphflow.distribute.messages import Copying, Save, Saved, Verdict
from graphflow.distribute.series import Series

_LONGEST = 6  # doublings of the distance of cuts, for the sake of long runs
_FED = 256 << 20  # bytes of feeds that the journal holds, more or less


@dataclass
class _Cut:
    """A cut that is being made."""

    number: int
    missing: set[str]
    whole: bool  # the copies go to the driver
    snapshots: dict[str, Any] = field(default_factory=dict)


class Cuts(Series):
    """Makes cuts.

    Attributes:
      phase: of the session; see `coordinator`.
      unsaved: why the last cut could not be made; None: it could.
    """

    def __init__(
        self,
        workers: Iterable[str],
        every: int | None = None,
        buddies: Mapping[str, str] | None = None,
        backup_every: int = 1,
    ):
        """Args:
        workers: their names.
        every: runs from cut to cut; None: a lost worker ends the session.
        buddies: worker -> who keeps a copy of its state; others' copies are kept here.
        backup_every: cuts from one to the next of which the copies are kept here.
        """
        super().__init__(workers)
        self.phase = "serving"
        self.unsaved: OpError | None = None
        self._buddies = dict(buddies or {})
        self._backup_every = backup_every if self._buddies else 1
        self._every = every
        self._logs = every is not None
        self._cuts = 0
        self._cut: _Cut | None = None
        self._copied: set[str] = set()  # workers whose buddy has the copy of the last cut
        self._young: set[str] = set()  # have their state from others, and were not at the last cut

    @property
    def recovers(self) -> bool:
        """Are lost workers replaced?"""
        return self._every is not None

    @property
    def saving(self) -> bool:
        """Is a cut being made?"""
        return self._cut is not None

    @property
    def archive(self) -> int:
        """Number of the last cut of which the copies are here."""
        return self._journal.archive

    @property
    def snapshots(self) -> Mapping[str, Any]:
        """Worker -> its state at that cut."""
        return self._journal.snapshots

    def _due(self) -> bool:
        if self._every is None or self._cut is not None or self.phase != "serving":
            return False
        if self._journal.commits < self._every and self._journal.bytes < _FED:
            return False
        # A run that is longer than the time from cut to cut must get through all the same.
        patience = max((run.cut_short for run in self._runs.values()), default=0)
        distance = self._every << min(patience, _LONGEST)
        return self._journal.commits >= distance or self._journal.bytes >= _FED

    def _uncopied(self) -> bool:
        """Is a copy of the last cut lost?"""
        here = self._journal.cut == self._journal.archive
        return not here and self._copied < self._peers.keys()

    def _save(self, whole: bool = False) -> list[Command]:
        """Have all workers keep their state.  What is under way begins again after that: it would
        have to be done again from a state that is older than the cut.

        Args:
          whole: the copies must come here.
        """
        hit = [run for run in self._runs.values() if run.state == "running"]
        for run in hit:
            run.cut_short += 1
            self._decide(run, Verdict.RETRY)
        self._cuts += 1
        journal = self._journal
        whole = whole or self._cuts >= journal.archive + self._backup_every or journal.bytes >= _FED
        self._cut = _Cut(self._cuts, set(self._peers), whole)
        journal.mark()
        commands: list[Command] = []
        for worker in self._peers:
            envelope = self._envelope(worker)
            copying = None if whole else self._copying(worker)
            save = Save(*envelope, self._valid, self._cuts, journal.cut, copying)
            commands.append(Send(worker, save))
        return commands + [command for run in hit for command in self._start(run)]

    def _copying(self, worker: str) -> Copying:
        wards = tuple([w for w, buddy in self._buddies.items() if buddy == worker])
        return Copying(worker, self._buddies[worker], wards, worker not in self._copied)

    def _capture(self, event: Capture) -> list[Command]:
        return self._save(True) if self.phase == "serving" and self._cut is None else []

    def _saved(self, worker: str, reply: Saved) -> list[Command]:
        cut = self._cut
        if cut is None or reply.cut != cut.number:
            return []
        self.unsaved = reply.error
        if reply.error is not None:  # the journal goes on from the cut before
            self._cut = None
            return []
        cut.missing.discard(worker)
        cut.snapshots[worker] = reply.snapshot
        if not cut.missing:
            self._young.clear()
            self._journal.complete(cut.number, cut.snapshots if cut.whole else None)
            self._copied = set() if cut.whole else set(self._peers)
            self._cut = None
        return []
