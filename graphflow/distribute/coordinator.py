"""The coordinator of a session as a pure state machine: events in, commands out, no I/O.

A run is an attempt on each worker that has a part in its plan.  Where all have prepared, it is
committed; where one refuses, all undo it.  A decision is made here, at one moment; workers learn
of it with the next message they get.

            Begin            all Prepared, no output to release
    (new) ────────► running ─────────────────────────────────────► (committed)
                    ▲     │ all Prepared, output waits                  ▲
       Woken, or    │     ├──────────────────────────► committing ──────┘
       at once      │     │ conflict                               all Applied
                    │     ▼
                    resting          error, Lost, Expired, Closed: ───► (aborted)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graphflow.base.errors import (
    CancelledError,
    DeadlineExceededError,
    OpError,
    UnavailableError,
)
from graphflow.distribute.messages import (
    Applied,
    Decision,
    Feeds,
    Message,
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


# ---- events


class Begin(NamedTuple):
    """A new run.

    Attributes:
      run: its number, higher than those before.
      plan: what to execute.
      feeds: worker -> values; its keys are the workers that take part.
      traced: ask for the time of each kernel.
    """

    run: int
    plan: int
    feeds: Feeds
    traced: bool = False


class Answered(NamedTuple):
    """A worker has answered a message."""

    worker: str
    reply: Prepared | Refused | Applied


class Lost(NamedTuple):
    """A worker is gone, or frozen: it has not given a sign of life within the deadline."""

    worker: str
    reason: str
    frozen: bool = False


class Expired(NamedTuple):
    """The time that the user gave a run is over."""

    run: int
    seconds: float


class Woken(NamedTuple):
    """A run has rested."""

    run: int


class Closed(NamedTuple):
    """The session ends."""


Event = Begin | Answered | Lost | Expired | Woken | Closed


# ---- commands


class Send(NamedTuple):
    """Send a message to a worker."""

    worker: str
    message: Message


class Wake(NamedTuple):
    """Report `Woken(run)` after so many seconds."""

    run: int
    seconds: float


class Finish(NamedTuple):
    """A run has ended.

    Attributes:
      run: its number.
      answers: worker -> what it prepared; empty where the run failed.
      error: why it failed, or None.
    """

    run: int
    answers: Mapping[str, Prepared]
    error: OpError | None


Command = Send | Wake | Finish


# ---- the machine


@dataclass
class _Run:
    number: int
    plan: int
    feeds: Feeds
    traced: bool
    ticket: Ticket
    state: str = "running"
    losses: int = 0
    missing: set[str] = field(default_factory=set)  # whose answer is awaited
    answers: dict[str, Prepared] = field(default_factory=dict)
    failure: OpError | None = None  # of output, once it is committed


@dataclass
class _Peer:
    """What is known of a worker."""

    sequence: int = 0  # messages sent
    decided: int = 0  # decisions made
    told: int = 0  # number of the last decision that a message has carried
    pending: list[Decision] = field(default_factory=list)  # not known to be applied


class Coordinator:
    """Decides on the runs of one session.

    Attributes:
      generation: number of workers lost so far.
      lost: worker -> how it was lost.
    """

    def __init__(self, workers: Iterable[str]):
        """Args:
        workers: their names.
        """
        self.generation = 0
        self.lost: dict[str, Lost] = {}
        self._during: dict[str, int] = {}  # lost worker -> run that found out
        self._serial = 0
        self._peers = {worker: _Peer() for worker in workers}
        self._runs: dict[int, _Run] = {}
        self._current: dict[Ticket, _Run] = {}  # undecided attempts, and those committing
        self._closed = False

    def handle(self, event: Event) -> list[Command]:
        """What is to be done about an event, in this order."""
        if isinstance(event, Begin):
            return self._begin(event)
        if isinstance(event, Lost):
            return self._lose(event)
        if isinstance(event, Closed):
            return self._close()
        if isinstance(event, Answered):
            self._acknowledge(event.worker, event.reply.applied)
            if isinstance(event.reply, Applied):
                for ticket, error in event.reply.failures:
                    if ticket in self._current:
                        self._current[ticket].failure = error
                return self._settle()
            run = self._current.get(event.reply.ticket)
        else:
            run = self._runs.get(event.run)
        if run is None:
            return []  # it was decided on in the meantime
        what: Any = event.reply if isinstance(event, Answered) else event
        rule = TABLE.get((run.state, type(what)))
        return rule(self, run, event) if rule else []

    @property
    def running(self) -> bool:
        """Is a run under way?"""
        return bool(self._runs)

    @property
    def failure(self) -> OpError | None:
        """Why no run can succeed any more; None: they can."""
        return next((self._loss(lost) for lost in self.lost.values()), None)

    def awaited(self) -> set[str]:
        """Workers whose answer a run waits for."""
        return {worker for run in self._runs.values() for worker in run.missing}

    # ---- beginning

    def _begin(self, event: Begin) -> list[Command]:
        refusal = self._refusal()
        if refusal is not None:
            return [Finish(event.run, {}, refusal)]
        run = _Run(event.run, event.plan, event.feeds, event.traced, Ticket(0, 0, 0))
        self._runs[event.run] = run
        commands = self._start(run)
        for worker in self._peers:  # who has no part in this run has no other way to learn
            if worker not in run.feeds:
                commands += self._tell(worker)
        return commands

    def _refusal(self) -> OpError | None:
        if self._closed:
            return CancelledError(None, None, "the session is closed")
        return self.failure

    def _start(self, run: _Run) -> list[Command]:
        """A new attempt, on all its workers."""
        self._serial += 1
        run.ticket = Ticket(self.generation, run.number, self._serial)
        run.state = "running"
        run.missing = set(run.feeds)
        run.answers = {}
        self._current[run.ticket] = run
        commands: list[Command] = []
        for worker, feeds in run.feeds.items():
            sequence, decisions = self._envelope(worker)
            step = Step(sequence, decisions, run.ticket, run.plan, feeds, run.traced)
            commands.append(Send(worker, step))
        return commands

    def _envelope(self, worker: str) -> tuple[int, tuple[Decision, ...]]:
        peer = self._peers[worker]
        peer.sequence += 1
        peer.told = peer.decided
        return peer.sequence, tuple(peer.pending)

    def _tell(self, worker: str) -> list[Command]:
        """A notice, where there is a decision that no message has carried."""
        peer = self._peers[worker]
        if worker in self.lost or peer.told == peer.decided:
            return []
        return [Send(worker, Notice(*self._envelope(worker)))]

    # ---- answers

    def _prepared(self, run: _Run, event: Answered) -> list[Command]:
        assert isinstance(event.reply, Prepared)
        run.missing.discard(event.worker)
        run.answers[event.worker] = event.reply
        if run.missing:
            return []
        self._decide(run, Verdict.COMMIT)
        releasing = [w for w, answer in run.answers.items() if answer.releases]
        if not releasing:
            return self._finish(run, None)
        run.state = "committing"
        run.missing = set(releasing)
        self._current[run.ticket] = run
        return [command for worker in releasing for command in self._tell(worker)]

    def _refused(self, run: _Run, event: Answered) -> list[Command]:
        assert isinstance(event.reply, Refused)
        run.missing.discard(event.worker)
        if event.reply.error is not None:
            return self._abort(run, event.reply.error)
        run.losses += 1
        rival = self._rival(event.reply.holder)
        if rival is None:  # the other one has committed, so there was progress
            return [*self._undo(run, Verdict.RETRY), *self._start(run)]
        if rival.ticket != event.reply.holder:  # it lost, too: the older goes first
            if rival.number < run.number:
                return self._rest(run)
            return [*self._undo(run, Verdict.RETRY), *self._start(run)]
        if run.losses <= PATIENCE:
            return self._rest(run)
        # The other one may wait for input; nobody waits for that.
        rival.losses += 1
        return [*self._undo(run, Verdict.RETRY), *self._rest(rival), *self._start(run)]

    def _rival(self, holder: Ticket | None) -> _Run | None:
        """The run of an attempt that is in the way, unless it is committed or over."""
        run = self._runs.get(holder.run) if holder else None
        return run if run is not None and run.state != "committing" else None

    def _rest(self, run: _Run) -> list[Command]:
        commands = self._undo(run, Verdict.RETRY)
        run.state = "resting"
        run.missing = set()
        seconds = min(LONGEST_REST, REST * 2.0 ** (run.losses - 1))
        # Two that lost to each other must not meet again and again.
        return [*commands, Wake(run.number, seconds * (1 + run.number % 8 / 8))]

    def _wake(self, run: _Run, event: Event) -> list[Command]:
        return self._start(run)

    def _expire(self, run: _Run, event: Event) -> list[Command]:
        assert isinstance(event, Expired)
        if run.state == "resting":
            where = "other runs kept writing what it writes"
        else:
            where = f"no answer from {', '.join(sorted(run.missing))}"
        message = f"run {run.number} did not finish within {event.seconds:g} s: {where}"
        return self._abort(run, DeadlineExceededError(None, None, message))

    def _late(self, run: _Run, event: Event) -> list[Command]:
        """It is committed, and the workers that hold output will release it: an error would say
        that nothing was changed."""
        return self._finish(run, None)

    def _acknowledge(self, worker: str, applied: int) -> None:
        peer = self._peers[worker]
        peer.pending = [d for d in peer.pending if d.number > applied]

    def _settle(self) -> list[Command]:
        """Finish committed runs whose output has been released."""
        commands: list[Command] = []
        for run in list(self._runs.values()):
            if run.state == "committing":
                run.missing = {w for w in run.missing if self._owes(w, run.ticket)}
                if not run.missing:
                    commands += self._finish(run, run.failure)
        return commands

    def _owes(self, worker: str, ticket: Ticket) -> bool:
        if worker in self.lost:
            return False
        return any(d.ticket == ticket for d in self._peers[worker].pending)

    # ---- deciding

    def _decide(self, run: _Run, verdict: Verdict) -> None:
        self._current.pop(run.ticket, None)
        for worker in run.feeds:
            if worker not in self.lost:
                peer = self._peers[worker]
                peer.decided += 1
                peer.pending.append(Decision(peer.decided, run.ticket, verdict))

    def _undo(self, run: _Run, verdict: Verdict) -> list[Command]:
        """Undo an attempt; those who still work on it, or wait, are told at once."""
        if run.state != "running":
            return []
        self._decide(run, verdict)
        return [c for worker in sorted(run.missing) for c in self._tell(worker)]

    def _abort(self, run: _Run, error: OpError) -> list[Command]:
        return [*self._undo(run, Verdict.ABORT), *self._finish(run, error)]

    def _finish(self, run: _Run, error: OpError | None) -> list[Command]:
        self._current.pop(run.ticket, None)
        del self._runs[run.number]
        return [Finish(run.number, {} if error else run.answers, error)]

    # ---- losses and the end

    def _lose(self, event: Lost) -> list[Command]:
        if event.worker in self.lost:
            return []
        self.lost[event.worker] = event
        self.generation += 1
        commands: list[Command] = []
        hit = [run for run in self._runs.values() if event.worker in run.feeds]
        self._during[event.worker] = hit[0].number if hit else 0
        for run in hit:
            run.missing.discard(event.worker)
            if run.state != "committing":
                commands += self._abort(run, self._loss(event, run.number))
        return commands + self._settle()

    def _loss(self, lost: Lost, run: int = 0) -> OpError:
        """The error for a run that is hit by the loss, or comes after it."""
        during = run or self._during.get(lost.worker, 0)
        kind = DeadlineExceededError if lost.frozen else UnavailableError
        when = f" in run {during}" if during else ""
        return kind(
            None,
            None,
            f"worker {lost.worker} was lost{when}: {lost.reason}. The variables that it held are "
            "lost with it; open a new session on a new cluster and restore or initialise them",
        )

    def _close(self) -> list[Command]:
        self._closed = True
        commands: list[Command] = []
        for run in list(self._runs.values()):
            if run.state == "committing":
                commands += self._finish(run, None)
            else:
                error = CancelledError(None, None, f"run {run.number}: the session was closed")
                commands += self._abort(run, error)
        return commands + [c for worker in self._peers for c in self._tell(worker)]


Rule = Callable[[Coordinator, _Run, Any], Sequence[Command]]

# What is not in the table is late, and changes nothing.
TABLE: Mapping[tuple[str, type], Callable[[Coordinator, _Run, Any], list[Command]]] = {
    ("running", Prepared): Coordinator._prepared,
    ("running", Refused): Coordinator._refused,
    ("running", Expired): Coordinator._expire,
    ("resting", Expired): Coordinator._expire,
    ("resting", Woken): Coordinator._wake,
    ("committing", Expired): Coordinator._late,
}
