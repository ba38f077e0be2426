"""How the coordinator decides on runs: attempts, votes, decisions, rivals.

A run is an attempt on each worker that has a part in its plan.  Where all have prepared, it is
committed; where one refuses, all undo it.  A decision is made here, at one moment; workers learn
of it with the next message they get.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from graphflow.base.errors import DeadlineExceededError, OpError
from graphflow.distribute.events import (
    Answered,
    Command,
    Event,
    Expired,
    Finish,
    Release,
    Send,
    Wake,
)
from graphflow.distribute.journal import Journal, Record
from graphflow.distribute.messages import (
    Decision,
    Feeds,
    Notice,
    Prepared,
    Refused,
    Step,
    Ticket,
    Verdict,
)

# After as many lost races a run makes an undecided one in its way give way.
PATIENCE = 2
# Seconds that a run which gave way rests, doubled each time: it gets out of the way of a run of
# any length, and neither starves.
REST = 0.002
LONGEST_REST = 16.0


@dataclass(eq=False, slots=True)
class Run:
    """A run under way."""

    number: int
    plan: int
    feeds: Feeds
    traced: bool
    ticket: Ticket
    state: str = "running"
    losses: int = 0
    cut_short: int = 0  # attempts that were undone for a cut
    deaths: int = 0  # workers that were lost while they worked on it
    missing: set[str] = field(default_factory=set)  # whose answer is awaited
    answers: dict[str, Prepared] = field(default_factory=dict)
    record: Record | None = None  # of the attempt
    failure: OpError | None = None  # of output, once it is committed
    # See `series`: numbers of the undecided runs before and after it, or 0.
    before: int = 0
    next: int = 0
    ahead: bool = False  # nobody has claimed it
    parked: Answered | None = None  # a refusal that may not count


@dataclass(slots=True)
class Peer:
    """What is known of a worker."""

    sequence: int = 0  # messages sent
    decided: int = 0  # decisions made
    told: int = 0  # number of the last decision that a message has carried
    pending: list[Decision] = field(default_factory=list)  # not known to be applied


class Runs:
    """Decides on runs, as long as no worker is lost.

    Attributes:
      generation: number of workers lost so far.
    """

    def __init__(self, workers: Iterable[str]):
        """Args:
        workers: their names.
        """
        self.generation = 0
        self._valid = 0  # generation: what was sent under lower ones is void
        self._serial = 0
        self._peers = {worker: Peer() for worker in workers}
        self._runs: dict[int, Run] = {}
        self._current: dict[Ticket, Run] = {}  # undecided attempts, and those committing
        self._journal = Journal()
        self._logs = True  # is the journal wanted?
        self._outgoing: dict[Ticket, Record] = {}  # committed, output not known to be released

    def _reachable(self, worker: str) -> bool:
        """May messages be sent to that worker?"""
        raise NotImplementedError

    # ---- sending

    def _start(self, run: Run) -> list[Command]:
        """A new attempt, on all its workers."""
        self._serial += 1
        run.ticket = Ticket(self.generation, run.number, self._serial)
        run.missing = set(run.feeds)
        run.answers = {}
        run.parked = None
        self._current[run.ticket] = run
        again = run.record if run.state == "replaying" else None
        base = self._base(run)
        if again is None:
            run.state = "running"
            if self._logs:
                run.record = self._journal.begin(run.number, run.plan, run.feeds, run.before)
        commands: list[Command] = []
        for worker, feeds in run.feeds.items():
            sequence, decisions = self._envelope(worker)
            replay = again.replay(worker) if again else None
            step = Step(sequence, decisions, run.ticket, run.plan, feeds, run.traced, replay, base)
            commands.append(Send(worker, step))
        return commands

    def _base(self, run: Run) -> Ticket | None:
        """The undecided attempt on whose effects a run builds."""
        before = self._runs.get(run.before)
        return before.ticket if before is not None else None

    def _envelope(self, worker: str) -> tuple[int, tuple[Decision, ...]]:
        peer = self._peers[worker]
        peer.sequence += 1
        peer.told = peer.decided
        return peer.sequence, tuple(peer.pending)

    def _tell(self, worker: str) -> list[Command]:
        """A notice, where there is a decision that no message has carried."""
        peer = self._peers[worker]
        if not self._reachable(worker) or peer.told == peer.decided:
            return []
        return [Send(worker, Notice(*self._envelope(worker), self._valid))]

    # ---- answers

    def _prepared(self, run: Run, event: Answered) -> list[Command]:
        assert isinstance(event.reply, Prepared)
        run.missing.discard(event.worker)
        run.answers[event.worker] = event.reply
        return [] if run.missing else self._commit(run)

    def _commit(self, run: Run) -> list[Command]:
        """All have prepared."""
        self._decide(run, Verdict.COMMIT)
        self._note(run)
        releasing = [w for w, answer in run.answers.items() if answer.releases]
        self._write_down(run, bool(releasing))
        commands = self._hand_over(run)
        if not releasing:
            return commands + self._finish(run, None)
        run.state = "committing"
        run.missing = set(releasing)
        self._current[run.ticket] = run
        return commands + [command for worker in releasing for command in self._tell(worker)]

    def _hand_over(self, run: Run) -> list[Command]:
        """Let out what the workers of a run that is committed have handed over."""
        answers = run.answers
        handed = [output for worker in sorted(answers) for output in answers[worker].outputs]
        return [Release(run.number, handed)] if handed else []

    def _note(self, run: Run) -> None:
        """Note what a run that is committed has told."""

    def _write_down(self, run: Run, releases: bool) -> None:
        """Log a run that is committed, where it has changed anything."""
        if run.record is None:
            return
        if not any(answer.changes for answer in run.answers.values()):
            self._journal.drop(run.record)
            return
        run.record.inputs = {w: a.inputs for w, a in run.answers.items() if a.inputs}
        run.record.releases = releases
        self._journal.commit(run.record)
        if releases:
            self._outgoing[run.ticket] = run.record

    def _refused(self, run: Run, event: Answered) -> list[Command]:
        assert isinstance(event.reply, Refused)
        run.missing.discard(event.worker)
        if event.reply.error is not None:
            return self._abort(run, event.reply.error)
        run.losses += 1
        rival = self._rival(event.reply.holder)
        if rival is None:  # the other one has committed, so there was progress
            return [*self._undo(run, Verdict.RETRY), *self._start(run)]
        if rival.ahead and not run.ahead:
            return [*self._yield(rival), *self._undo(run, Verdict.RETRY), *self._start(run)]
        if rival.ticket != event.reply.holder:  # it lost, too: the older goes first
            if self._rank(rival) < run.number:
                return self._rest(run)
            return [*self._undo(run, Verdict.RETRY), *self._start(run)]
        if run.losses <= PATIENCE:
            return self._rest(run)
        # The other one may wait for input; nobody waits for that.
        rival.losses += 1
        return [*self._undo(run, Verdict.RETRY), *self._rest(rival), *self._start(run)]

    def _rival(self, holder: Ticket | None) -> Run | None:
        """The run of an attempt that is in the way, unless it is committed or over."""
        run = self._runs.get(holder.run) if holder else None
        return run if run is not None and run.state != "committing" else None

    def _rank(self, run: Run) -> int:
        """Of two runs that lost to each other, the one of the lower rank goes first."""
        return run.number

    def _yield(self, run: Run) -> list[Command]:
        """Take back a run that has begun ahead."""
        raise NotImplementedError

    def _rest(self, run: Run) -> list[Command]:
        commands = self._undo(run, Verdict.RETRY)
        run.state = "resting"
        run.missing = set()
        seconds = min(LONGEST_REST, REST * 2.0 ** (run.losses - 1))
        # Two that lost to each other must not meet again and again.
        return [*commands, Wake(run.number, seconds * (1 + run.number % 8 / 8))]

    def _wake(self, run: Run, event: Event) -> list[Command]:
        return self._start(run)

    def _expire(self, run: Run, event: Event) -> list[Command]:
        assert isinstance(event, Expired)
        where = {
            "resting": "other runs kept writing what it writes",
            "suspended": "a worker that was lost is being replaced",
            "following": "the run before it is not through",
            "yielding": "other runs keep changing what it works on",
        }.get(run.state, f"no answer from {', '.join(sorted(run.missing))}")
        message = f"run {run.number} did not finish within {event.seconds:g} s: {where}"
        return self._abort(run, DeadlineExceededError(None, None, message))

    def _late(self, run: Run, event: Event) -> list[Command]:
        """It is committed, and the workers that hold output will release it: an error would say
        that nothing was changed."""
        return self._finish(run, None)

    def _acknowledge(self, worker: str, applied: int) -> None:
        peer = self._peers[worker]
        if self._outgoing:
            for decision in peer.pending:
                record = self._outgoing.get(decision.ticket)
                if record is not None and decision.number <= applied:
                    record.released.add(worker)
                    if record.released >= record.feeds.keys():
                        del self._outgoing[decision.ticket]
        if peer.pending and peer.pending[-1].number <= applied:  # all
            peer.pending = []
        else:
            peer.pending = [d for d in peer.pending if d.number > applied]

    def _settle(self) -> list[Command]:
        """Finish committed runs whose output has been released."""
        commands: list[Command] = []
        for run in [run for run in self._runs.values() if run.state == "committing"]:
            run.missing = {w for w in run.missing if self._owes(w, run.ticket)}
            if not run.missing:
                commands += self._finish(run, run.failure)
        return commands

    def _owes(self, worker: str, ticket: Ticket) -> bool:
        if not self._reachable(worker):
            return False
        return any(d.ticket == ticket for d in self._peers[worker].pending)

    # ---- deciding

    def _decide(self, run: Run, verdict: Verdict) -> None:
        self._current.pop(run.ticket, None)
        if verdict is not Verdict.COMMIT and run.record is not None:
            self._journal.drop(run.record)
            run.record = None
        for worker in run.feeds:
            if self._reachable(worker):
                peer = self._peers[worker]
                peer.decided += 1
                peer.pending.append(Decision(peer.decided, run.ticket, verdict))

    def _undo(self, run: Run, verdict: Verdict) -> list[Command]:
        """Undo an attempt; those who still work on it, or wait, are told at once."""
        if run.state != "running":
            return []
        self._decide(run, verdict)
        return [c for worker in sorted(run.missing) for c in self._tell(worker)]

    def _abort(self, run: Run, error: OpError) -> list[Command]:
        return [*self._give_back(run), *self._finish(run, error)]

    def _give_back(self, run: Run) -> list[Command]:
        """Undo a run that fails; others may wait for what its workers have taken for it."""
        if run.state == "resting":  # after an attempt that may have taken something
            self._decide(run, Verdict.ABORT)
            return [c for worker in sorted(run.feeds) for c in self._tell(worker)]
        commands = self._undo(run, Verdict.ABORT)
        if run.state == "running":
            prepared = sorted(w for w, answer in run.answers.items() if answer.changes)
            commands += [c for worker in prepared for c in self._tell(worker)]
        return commands

    def _finish(self, run: Run, error: OpError | None) -> list[Command]:
        self._current.pop(run.ticket, None)
        del self._runs[run.number]
        return [Finish(run.number, {} if error else run.answers, error)]
