"""What the coordinator keeps so that workers may be lost, and how it gets back what they held.

Every so many runs there is a cut: all workers keep their state at one moment.  What is committed
afterwards is in the journal.  After a loss, all workers go back to the last cut, and the journal is
done again in its order; `coordinator` draws the phases.

Each worker hands a copy to its buddy, and at some cuts to the driver.  Who takes the place of a
lost worker gets its copy from the buddy.  Where that one was lost, too, all go back to the cut of
which the driver has the copies, and more is done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from graphflow.base.errors import (
    DeadlineExceededError,
    InternalError,
    OpError,
    UnavailableError,
)
from graphflow.distribute.events import (
    Answered,
    Capture,
    Command,
    Irreplaceable,
    Lost,
    Replace,
    Replaced,
    Restore,
    Send,
)
from graphflow.distribute.messages import (
    Copying,
    Rebuild,
    Rebuilt,
    Refused,
    Save,
    Saved,
    Ticket,
    Verdict,
)
from graphflow.distribute.runs import Peer, Run
from graphflow.distribute.series import DECIDED, Series
from graphflow.distribute.snapshot import EMPTY

_LONGEST = 6  # doublings of the distance of cuts, for the sake of long runs
_FED = 256 << 20  # bytes of feeds that the journal holds, more or less
_DEADLY = 3  # workers that are lost for a run before it is given up
_HOPELESS = 8  # workers of one name that are lost before the state is back


@dataclass
class _Cut:
    """A cut that is being made."""

    number: int
    missing: set[str]
    whole: bool  # the copies go to the driver
    snapshots: dict[str, Any] = field(default_factory=dict)


class Recovery(Series):
    """Makes cuts, and decides on what happens when workers are lost.

    Attributes:
      lost: worker -> how it was lost; those that have not been replaced.
      phase: of the session; see `coordinator`.
      recoveries: how many there were.
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
        self._buddies = dict(buddies or {})
        self._backup_every = backup_every if self._buddies else 1
        self._copied: set[str] = set()  # workers whose buddy has the copy of the last cut
        self.lost: dict[str, Lost] = {}
        self.phase = "serving"
        self.recoveries = 0
        self.unsaved: OpError | None = None
        self._every = every
        self._logs = every is not None
        self._during: dict[str, int] = {}  # lost worker -> run that found out
        self._end: Callable[[int], OpError] | None = None  # why nothing can succeed any more
        self._closed = False
        self._cuts = 0
        self._cut: _Cut | None = None
        self._blank: set[str] = set()  # replaced, and not given its state yet
        self._rebuilding: set[str] = set()
        self._position = 0  # in the journal, while it is done again
        self._again: dict[int, Run] = {}  # by the number of the run
        self._losses: Counter[str] = Counter()  # by name, since the state was whole

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

    def _reachable(self, worker: str) -> bool:
        return worker not in self.lost

    @property
    def _begins(self) -> bool:
        return self.phase == "serving" and not self._closed and self._end is None

    def _base(self, run: Run) -> Ticket | None:
        if run.state != "replaying":
            return super()._base(run)
        before = self._again.get(run.before)
        return before.ticket if before is not None else None

    # ---- cuts

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
            self._journal.complete(cut.number, cut.snapshots if cut.whole else None)
            self._copied = set() if cut.whole else set(self._peers)
            self._cut = None
        return []

    # ---- losses

    def _lose(self, event: Lost) -> list[Command]:
        if event.worker in self.lost:
            return []
        self.lost[event.worker] = event
        self.generation += 1
        hit = [run for run in self._runs.values() if event.worker in run.feeds]
        self._during[event.worker] = hit[0].number if hit else 0
        if self._end is not None or self._closed:
            return []
        if self._every is None:
            return self._give_up(event, hit)
        if self.phase == "serving":
            self.recoveries += 1
            self._losses.clear()
        self._losses[event.worker] += 1
        if self._losses[event.worker] >= _HOPELESS:
            more = f"; {_HOPELESS} of that name in a row, before its state was back"
            return self._fail(partial(self._loss, event, more=more))
        self.phase = "replacing"
        self._valid = self.generation
        self._cut = None
        self._rebuilding.clear()
        self._blank.discard(event.worker)
        self._copied -= {w for w, buddy in self._buddies.items() if buddy == event.worker}
        self._current.clear()
        self._outgoing.clear()
        self._again.clear()
        commands: list[Command] = []
        for run in list(self._runs.values()):
            run.deaths += run.state == "running" and event.worker in run.missing
            run.state = "interrupted" if run.state in DECIDED else "suspended"
            run.missing = set()
            if run.deaths >= _DEADLY:
                commands += self._abort(run, self._deadly(run, event))
        self._journal.interrupt()
        return [*commands, Replace(event.worker)]

    def _deadly(self, run: Run, lost: Lost) -> OpError:
        """The error for a run that takes its workers with it, again and again."""
        kind = DeadlineExceededError if lost.frozen else UnavailableError
        return kind(
            None,
            None,
            f"run {run.number} is given up: {run.deaths} times a worker was lost that worked on "
            f"it, the last time {lost.worker}: {lost.reason}. Nothing was changed.  Does it need "
            "more memory than there is, or does a kernel keep the worker from giving a sign of "
            "life (Cluster(deadline=...))?",
        )

    def _give_up(self, event: Lost, hit: Sequence[Run]) -> list[Command]:
        """Without recovery: what the worker has a part in fails, and all that comes later."""
        self._end = partial(self._loss, event)
        commands: list[Command] = []
        for run in hit:
            run.missing.discard(event.worker)
            if run.state != "committing":
                commands += self._abort(run, self._loss(event, run.number))
        return commands + self._settle()

    def _loss(self, lost: Lost, run: int = 0, more: str = "") -> OpError:
        """The error for a run that is hit by the loss, or comes after it."""
        during = run or self._during.get(lost.worker, 0)
        kind = DeadlineExceededError if lost.frozen else UnavailableError
        when = f" in run {during}" if during else ""
        return kind(
            None,
            None,
            f"worker {lost.worker} was lost{when}: {lost.reason}{more}. The variables that it "
            "held are lost with it; open a new session on a new cluster and restore or "
            "initialise them",
        )

    def _irreplaceable(self, event: Irreplaceable) -> list[Command]:
        lost = self.lost[event.worker]
        more = f"; no other worker can take its place: {event.reason}"
        return self._fail(partial(self._loss, lost, more=more))

    def _fail(self, error: Callable[[int], OpError]) -> list[Command]:
        """The session is over."""
        self._end = error
        self.phase = "ended"
        self._rebuilding.clear()
        self._current.clear()
        commands: list[Command] = []
        for run in list(self._runs.values()):
            failure = None if run.state in DECIDED else error(run.number)
            commands += self._finish(run, failure)
        return commands

    # ---- recovery

    def _replaced(self, event: Replaced) -> list[Command]:
        self.lost.pop(event.worker, None)
        self._blank.add(event.worker)
        if self.lost or self._closed or self.phase != "replacing":
            return []
        return self._rebuild()

    def _restore(self, event: Restore) -> list[Command]:
        self.generation += 1
        self._valid = self.generation
        self._journal.restart(event.snapshots)
        self._cuts = max(self._cuts, self._journal.cut)
        self._blank = set(self._peers)
        self._copied = set()
        return self._rebuild()

    def _rebuild(self) -> list[Command]:
        """Have all workers go back to the last cut."""
        self.phase = "restoring"
        self._rebuilding = set(self._peers)
        journal = self._journal
        if journal.cut != journal.archive and not self._blank <= self._copied:
            journal.fall_back()
            self._blank = set(self._peers)  # none has kept its state for so long
            self._copied = set()
        commands: list[Command] = []
        for worker in self._peers:
            self._peers[worker] = Peer()
            rebuild = Rebuild(self.generation, journal.cut)
            if journal.cut != journal.archive:
                wards = [w for w in sorted(self._blank) if self._buddies[w] == worker]
                own = worker if worker in self._blank else ""
                rebuild = rebuild._replace(worker=own, wards=tuple(wards))
            elif worker in self._blank:
                rebuild = rebuild._replace(snapshot=journal.snapshots.get(worker, EMPTY))
            commands.append(Send(worker, rebuild))
        return commands

    def _rebuilt(self, worker: str, reply: Rebuilt) -> list[Command]:
        if self.phase != "restoring" or reply.generation != self.generation:
            return []
        if reply.missing:
            self._copied.discard(worker)
            self.generation += 1
            self._valid = self.generation
            return self._rebuild()
        self._blank.discard(worker)
        self._rebuilding.discard(worker)
        if self._rebuilding:
            return []
        self.phase, self._position = "replaying", self._journal.start
        return self._advance()

    def _advance(self) -> list[Command]:
        """Do again what can be done now."""
        commands: list[Command] = []
        while self._position < len(self._journal):
            record, commit = self._journal[self._position]
            if not commit:
                run = Run(record.run, record.plan, record.feeds, False, Ticket(0, 0, 0))
                run.state, run.record = "replaying", record
                run.before = record.after
                self._again[record.run] = run
                commands += self._start(run)
            elif self._again[record.run].missing:
                return commands
            else:
                run = self._again[record.run]
                self._decide(run, Verdict.COMMIT)
                if record.releases:
                    self._outgoing[run.ticket] = record
            self._position += 1
        return commands + self._resume()

    def _replayed(self, run: Run, event: Answered) -> list[Command]:
        run.missing.discard(event.worker)
        return self._advance() if not run.missing else []

    def _diverged(self, run: Run, event: Answered) -> list[Command]:
        """What was done once cannot be done again."""
        assert isinstance(event.reply, Refused)
        cause = event.reply.error or "another run was in its way"
        message = (
            f"run {run.number} was committed, and failed when it was done again to get back what "
            f"a lost worker held: {cause}. Its operations depend on more than feeds, variables and "
            "logged input; open a new session on a new cluster"
        )
        return self._fail(partial(_diverged, message))

    def _resume(self) -> list[Command]:
        """All is as it was before the loss."""
        self.phase = "serving"
        commands = self._save() if self._uncopied() else []
        for run in sorted(self._runs.values(), key=lambda run: run.number):
            if run.state == "suspended":
                commands += self._follow(run)
            elif run.state == "interrupted":
                commands += self._release(run)
        self._again.clear()
        return [*commands, *self._settle()]

    def _release(self, run: Run) -> list[Command]:
        """The loss came between a commit and the word that all output is out."""
        assert run.record is not None
        run.ticket = self._again[run.number].ticket
        run.state = "committing"
        run.missing = {w for w, answer in run.answers.items() if answer.releases}
        self._current[run.ticket] = run
        return [command for worker in sorted(run.missing) for command in self._tell(worker)]


def _diverged(message: str, run: int) -> OpError:
    return InternalError(None, None, message)
