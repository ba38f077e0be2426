"""How the coordinator gets back what lost workers held.

After a loss, all workers go back to the last cut (`cuts`), and the journal is done again in its
order; `coordinator` draws the phases.  Who takes the place of a lost worker gets its copy from the
buddy.  Where that one was lost, too, all go back to the cut of which the driver has the copies, and
more is done again.

Where other workers have copies of all that was lost (`mirrors`), nobody goes back, and nothing is
done again.  `SOURCES` has these ways in the order in which they are tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from graphflow.base.errors import (
    DeadlineExceededError,
    InternalError,
    OpError,
    UnavailableError,
)
from graphflow.distribute.cuts import Cuts
from graphflow.distribute.events import (
    Answered,
    Command,
    Irreplaceable,
    Loaded,
    Lost,
    Replace,
    Replaced,
    Restore,
    Send,
)
from graphflow.distribute.messages import (
    Decision,
    Rebuild,
    Rebuilt,
    Refused,
    Staying,
    Ticket,
    Verdict,
)
from graphflow.distribute.mirrors import Mirrors
from graphflow.distribute.runs import Peer, Run
from graphflow.distribute.series import DECIDED
from graphflow.distribute.snapshot import EMPTY

_DEADLY = 3  # workers that are lost for a run before it is given up
_HOPELESS = 8  # workers of one name that are lost before the state is back
_STAYS_AWAY = (
    "The variables that it held are lost with it; open a new session on a new cluster and restore "
    "or initialise them"
)
_RETURNS = (
    "Open a new session when it is there again, as a MonitoredTrainingSession does: if it was only "
    "stopped, its variables are as of the last run that has ended; otherwise restore or "
    "initialise them"
)


class Recovery(Cuts):
    """Decides on what happens when workers are lost.

    Attributes:
      lost: worker -> how it was lost; those that have not been replaced.
    """

    def __init__(
        self,
        workers: Iterable[str],
        every: int | None = None,
        buddies: Mapping[str, str] | None = None,
        backup_every: int = 1,
        returning: bool = False,
    ):
        """Args:
        workers, every, buddies, backup_every: as `Cuts`.
        returning: a lost worker may answer again, in another session.
        """
        super().__init__(workers, every, buddies, backup_every)
        self._returning = returning
        self.lost: dict[str, Lost] = {}
        self._during: dict[str, int] = {}  # lost worker -> run that found out
        self._end: Callable[[int], OpError] | None = None  # why nothing can succeed any more
        self._closed = ""  # why the session is
        self._blank: set[str] = set()  # replaced, and not given its state yet
        self._mirrors = Mirrors()
        self._stays = True  # those who are left have the state of the last commit
        self._owed: dict[str, tuple[Decision, ...]] = {}  # while all stay; not known to be applied
        self._rebuilding: set[str] = set()
        self._position = 0  # in the journal, while it is done again
        self._again: dict[int, Run] = {}  # by the number of the run
        self._losses: Counter[str] = Counter()  # by name, since the state was whole
        self._failed: list[Run] = []  # since then, of which the workers have not been told

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

    def _load(self, event: Loaded) -> list[Command]:
        self._mirrors.loaded(event.plan, event.holdings)
        return []

    def _note(self, run: Run) -> None:
        for worker, answer in run.answers.items():
            if answer.streams:
                self._mirrors.moved(worker, answer.streams)

    def _give_back(self, run: Run) -> list[Command]:
        if run.state == "suspended":
            self._failed.append(run)
        return super()._give_back(run)

    # ---- losses

    def _lose(self, event: Lost) -> list[Command]:
        if event.worker in self.lost:
            return []
        self.lost[event.worker] = event
        self.generation += 1
        hit = [run for run in self._runs.values() if event.worker in run.feeds]
        self._during[event.worker] = hit[0].number if hit else 0
        if self._every is None:
            return self._give_up(event, hit)
        if self._end is not None or self._closed:
            return []
        if self.phase == "serving":
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
        self._young.discard(event.worker)
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
        self._end = self._end or partial(self._loss, event)
        commands: list[Command] = []
        for run in hit:  # none, where the session is closed
            run.missing.discard(event.worker)
            if run.state != "committing":
                commands += self._abort(run, self._loss(event, run.number))
        return commands + self._settle()

    def _loss(self, lost: Lost, run: int = 0, more: str = "") -> OpError:
        """The error for a run that is hit by the loss, or comes after it."""
        during = run or self._during.get(lost.worker, 0)
        # Who can make another session takes the one for the worker's end, the other for a run's.
        late = lost.frozen and not self._returning
        kind = DeadlineExceededError if late else UnavailableError
        when = f" in run {during}" if during else ""
        advice = _RETURNS if self._returning else _STAYS_AWAY
        return kind(
            None, None, f"worker {lost.worker} was lost{when}: {lost.reason}{more}. {advice}"
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
        self._mirrors.restored(event.snapshots)
        self._stays = False
        self._cuts = max(self._cuts, self._journal.cut)
        self._blank = set(self._peers)
        self._copied = set()
        return self._rebuild()

    def _rebuild(self) -> list[Command]:
        """Get back what was lost, from the first source that has it."""
        self.phase = "restoring"
        self._rebuilding = set(self._peers)
        for worker, peer in self._peers.items():
            self._owed.setdefault(worker, tuple(peer.pending))
            self._peers[worker] = Peer()
        return next(rebuild(self) for has, rebuild in SOURCES if has(self))

    def _donors(self) -> dict[str, str]:
        """Worker without state -> another one that has copies of all that it should have."""
        left = [worker for worker in self._peers if worker not in self._blank]
        donors = {worker: self._mirrors.donor(worker, left) for worker in sorted(self._blank)}
        return {worker: donor for worker, donor in donors.items() if donor is not None}

    def _is_mirrored(self) -> bool:
        # Output that was committed is known to be out by its worker alone, and that may be lost.
        owing = any(run.state == "interrupted" for run in self._runs.values())
        return self._stays and not owing and self._donors().keys() == self._blank

    def _stay(self) -> list[Command]:
        """All keep what is committed; who has nothing gets it from one who has a copy."""
        donors = self._donors()
        commands: list[Command] = []
        for worker in self._peers:
            wards = tuple([w for w, donor in donors.items() if donor == worker])
            variables = frozenset().union(*[self._mirrors.variables(w) for w in wards])
            blank = worker in self._blank
            streams = self._mirrors.streams(worker) if blank else {}
            decisions = () if blank else self._owed[worker]
            staying = Staying(decisions, variables, streams)
            rebuild = Rebuild(
                self.generation, self._journal.cut, None, worker if blank else "", wards, staying
            )
            commands.append(Send(worker, rebuild))
        return commands

    def _is_copied(self) -> bool:
        here = self._journal.cut == self._journal.archive
        return here or self._blank | self._young <= self._copied

    def _fall_back(self) -> list[Command]:
        """Have all workers go back to the cut of which the driver has the copies."""
        self._journal.fall_back()
        self._blank = set(self._peers)  # none has kept its state for so long
        self._copied = set()
        return self._go_back()

    def _go_back(self) -> list[Command]:
        """Have all workers go back to the last cut."""
        self._stays = False
        self._owed.clear()
        self._blank |= self._young
        self._young.clear()
        journal = self._journal
        commands: list[Command] = []
        for worker in self._peers:
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
        self._owed.pop(worker, None)
        if reply.missing:
            self._stays = False
            self._copied.discard(worker)
            self.generation += 1
            self._valid = self.generation
            return self._rebuild()
        if self._stays and worker in self._blank:
            self._young.add(worker)
        self._blank.discard(worker)
        self._rebuilding.discard(worker)
        if self._rebuilding:
            return []
        if self._stays:
            return self._resume()
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
            elif self._again[record.run].missing:  # perhaps for what others have put into a queue
                return commands + [c for worker in self._peers for c in self._tell(worker)]
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
        self._stays = True
        commands = self._save() if self._uncopied() or self._young else []
        while self._failed:
            run = self._failed.pop()
            run.state, run.ticket = "resting", run.ticket._replace(run=run.number)
            commands += super()._give_back(run)
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


Source = tuple[Callable[[Recovery], bool], Callable[[Recovery], list[Command]]]

# Where what was lost comes from: whether it has that, and how to go on.  The last one has all.
SOURCES: Sequence[Source] = (
    (Recovery._is_mirrored, Recovery._stay),
    (Recovery._is_copied, Recovery._go_back),
    (lambda _: True, Recovery._fall_back),
)
