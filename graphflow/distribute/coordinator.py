"""The coordinator of a session as a pure state machine: events in, commands out, no I/O.

Of a run (`runs` tells how it is decided on):

            Begin            all Prepared, no output to release
    (new) ────────► running ─────────────────────────────────────► (committed)
                    ▲  ▲  │ all Prepared, output waits                  ▲
       Woken, or    │  │  ├──────────────────────────► committing ──────┘
       at once      │  │  │ conflict                               all Applied
                    │  │  ▼
                    │  └─ resting          error, Expired, Closed: ──► (aborted)
                    │
                suspended ◄── Lost: any that is undecided; Begin during a recovery
              interrupted ◄── Lost: any that is committing, and goes on with that afterwards
                following, yielding: runs that begin before their turn, see `series`

Of the session, where lost workers are replaced:

                 Lost              all Replaced               all Rebuilt
    serving ─────────────► replacing ─────────────► restoring ─────────────► replaying
       ▲                       ▲         Lost           │        Lost            │ │
       │                       └────────────────────────┴────────────────────────┘ │
       └────────────────────────── the journal is done again ──────────────────────┘

All workers go back to the last cut, and what was committed since is done again in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphflow.base.errors import (
    CancelledError,
    OpError,
)
from graphflow.base.tuples import made
from graphflow.distribute.events import (
    Answered,
    Begin,
    Capture,
    Claimed,
    Closed,
    Command,
    Event,
    Expired,
    Finish,
    Irreplaceable,
    Loaded,
    Lost,
    Release,
    Replace,
    Replaced,
    Restore,
    Send,
    Wake,
    Withdrawn,
    Woken,
)
from graphflow.distribute.messages import (
    Applied,
    Decision,
    Prepared,
    Rebuilt,
    Refused,
    Saved,
    Step,
    Ticket,
    Verdict,
)
from graphflow.distribute.recovery import DECIDED, Recovery
from graphflow.distribute.runs import Run

__all__ = [
    "Answered",
    "Begin",
    "Capture",
    "Claimed",
    "Closed",
    "Command",
    "Coordinator",
    "Event",
    "Expired",
    "Finish",
    "Irreplaceable",
    "Loaded",
    "Lost",
    "Release",
    "Replace",
    "Replaced",
    "Restore",
    "Send",
    "Wake",
    "Withdrawn",
    "Woken",
]


class Coordinator(Recovery):
    """Decides on the runs of one session, and on what happens when workers are lost."""

    def handle(self, event: Event) -> list[Command]:
        """What is to be done about an event, in this order."""
        if isinstance(event, Answered):
            commands = self._counted(event)
            return self._answered(event) if commands is None else commands
        if isinstance(event, Begin):
            return self._alone(event) or self._begin(event)
        if isinstance(event, (Expired, Woken, Claimed, Withdrawn)):
            return self._apply(self._runs.get(event.run), event, event)
        return SESSION[type(event)](self, event)

    # ---- the usual: what the rules come to where one run is under way, and nothing goes wrong, in
    # half of the time.  None: they are to be asked.

    def _alone(self, event: Begin) -> list[Command] | None:
        """A run on all workers, while no other one is under way."""
        peers = self._peers
        if self._runs or event.ahead or len(event.feeds) < len(peers):
            return None
        if not self._begins or self._due():
            return None
        number, plan, feeds, traced, _, _ = event
        self._serial += 1
        ticket = made(Ticket, (self.generation, number, self._serial))
        run = Run(number, plan, feeds, traced, ticket, missing=set(feeds))
        self._runs[number] = self._current[ticket] = run
        if self._logs:
            run.record = self._journal.begin(number, plan, feeds)
        commands: list[Command] = []
        for worker, fed in feeds.items():
            peer = peers[worker]
            peer.sequence += 1
            peer.told = peer.decided
            decisions = tuple(peer.pending)
            step = made(Step, (peer.sequence, decisions, ticket, plan, fed, traced, None, None))
            commands.append(made(Send, (worker, step)))
        return commands

    def _counted(self, event: Answered) -> list[Command] | None:
        """A vote for such a run, of which no worker holds output; with the last one it is committed
        and over."""
        worker, reply = event
        if type(reply) is not Prepared or len(self._runs) > 1 or reply.releases:
            return None
        run = self._current.get(reply.ticket)
        if run is None or run.state != "running" or run.ahead or run.before:
            return None
        missing, answers = run.missing, run.answers
        if missing == {worker} and any([a.releases for a in answers.values()]):
            return None
        self._acknowledge(worker, reply.applied)
        missing.discard(worker)
        answers[worker] = reply
        if missing:
            return []
        del self._current[run.ticket], self._runs[run.number]
        for each in run.feeds:
            peer = self._peers[each]
            peer.decided += 1
            peer.pending.append(made(Decision, (peer.decided, run.ticket, Verdict.COMMIT)))
        self._note(run)
        self._write_down(run, False)
        return [*self._hand_over(run), made(Finish, (run.number, answers, None))]

    @property
    def running(self) -> bool:
        """Is a run under way?"""
        return bool(self._runs)

    @property
    def committing(self) -> bool:
        """Is a run committed, and not everywhere?"""
        return any(run.state == "committing" for run in self._runs.values())

    @property
    def failure(self) -> OpError | None:
        """Why no run can succeed any more; None: they can."""
        return self._end(0) if self._end else None

    def missing(self, number: int) -> int:
        """How many answers bring a run to its next decision, if nothing goes wrong."""
        run = self._runs.get(number)
        return len(run.missing) if run is not None and run.state == "running" else 1

    def awaited(self) -> set[str]:
        """Workers whose answer something waits for."""
        waiting = {worker for run in self._current.values() for worker in run.missing}
        if self._cut is not None:
            waiting |= self._cut.missing
        if self.phase == "replacing":  # all have to meet the new one
            waiting |= self._peers.keys()
        return (waiting | self._rebuilding) - self.lost.keys()

    def waits_for(self, run: int) -> tuple[set[str], str]:
        """The workers whose answers a run waits for; and, where there is none, what for."""
        found = self._runs.get(run)
        if found is None:
            return set(), "it has ended"
        if found.state == "resting":
            return set(), "it gives way to other runs"
        if self.phase == "serving":
            return found.missing - self.lost.keys(), "its workers are lost"
        lost = [f"{w}, which was lost ({e.reason})" for w, e in sorted(self.lost.items())]
        if lost:
            return set(), f"another worker is to take the place of {'; of '.join(lost)}"
        return self.awaited(), "the state from before a loss is computed again"

    # ---- runs

    def _begin(self, event: Begin) -> list[Command]:
        refusal = self._refusal()
        if refusal is not None:
            return [Finish(event.run, {}, refusal)]
        commands = self._save() if self._due() else []
        run = self._new(event)
        if self.phase != "serving":
            run.state = "suspended"
            return []
        commands += self._follow(run)
        if len(run.feeds) < len(self._peers):
            for worker in self._peers:  # who has no part in this run has no other way to learn
                if worker not in run.feeds:
                    commands += self._tell(worker)
        return commands

    def _refusal(self) -> OpError | None:
        if self._closed:
            return CancelledError(None, None, self._closed)
        return self.failure

    def _answered(self, event: Answered) -> list[Command]:
        reply = event.reply
        generation = (
            reply.ticket.generation if isinstance(reply, (Prepared, Refused)) else reply.generation
        )
        if generation < self._valid:
            return []  # from before a loss
        if isinstance(reply, Rebuilt):
            return self._rebuilt(event.worker, reply)
        self._acknowledge(event.worker, reply.applied)
        if isinstance(reply, Applied):
            for ticket, error in reply.failures:
                if ticket in self._current:
                    self._current[ticket].failure = error
            return self._settle()
        if isinstance(reply, Saved):
            commands = self._saved(event.worker, reply)
        else:
            commands = self._apply(self._current.get(reply.ticket), reply, event)
        return commands + self._settle()

    def _apply(self, run: Run | None, what: Any, event: Event) -> list[Command]:
        """By the table; None: it was decided on in the meantime."""
        if run is None:
            return []
        rule = TABLE.get((run.state, type(what)))
        return rule(self, run, event) if rule else []

    # ---- the end

    def _close(self, event: Closed) -> list[Command]:
        self._closed = event.why
        commands: list[Command] = []
        for run in list(self._runs.values()):
            if run.state in DECIDED:
                commands += self._finish(run, None)
            else:
                error = CancelledError(None, None, f"run {run.number}: the session was closed")
                commands += self._abort(run, error)
        return commands + [c for worker in self._peers for c in self._tell(worker)]


Rule = Callable[[Coordinator, Run, Any], list[Command]]

SESSION: Mapping[type, Callable[[Coordinator, Any], list[Command]]] = {
    Begin: Coordinator._begin,
    Lost: Coordinator._lose,
    Replaced: Coordinator._replaced,
    Irreplaceable: Coordinator._irreplaceable,
    Loaded: Coordinator._load,
    Capture: Coordinator._capture,
    Restore: Coordinator._restore,
    Closed: Coordinator._close,
}

UNDECIDED = ("running", "following", "yielding", "resting", "suspended")

# What is not in the table is late, and changes nothing.
TABLE: Mapping[tuple[str, type], Rule] = {
    ("running", Prepared): Coordinator._prepared,
    ("running", Refused): Coordinator._refused,
    ("running", Expired): Coordinator._expire,
    ("resting", Expired): Coordinator._expire,
    ("resting", Woken): Coordinator._wake,
    ("suspended", Expired): Coordinator._expire,
    ("committing", Expired): Coordinator._late,
    ("interrupted", Expired): Coordinator._late,
    ("following", Expired): Coordinator._expire,
    ("yielding", Expired): Coordinator._expire,
    **{(state, Claimed): Coordinator._claim for state in UNDECIDED},
    **{(state, Withdrawn): Coordinator._withdraw for state in UNDECIDED},
    ("replaying", Prepared): Coordinator._replayed,
    ("replaying", Refused): Coordinator._diverged,
}
