"""Coordinator and workers as one system with an explicit state, for exhaustive exploration.

Messages between two ends keep their order, as over a connection, or overtake each other, as calls
on threads do; everything else may happen in any order.  The program of a run appends its number to
a list that is state on each worker: so the list tells what was applied, how often and in which
order.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphflow.base.errors import CancelledError, InvalidArgumentError
from graphflow.distribute import events as e
from graphflow.distribute import worker
from graphflow.distribute.messages import (
    Applied,
    Prepared,
    Rebuild,
    Rebuilt,
    Refused,
    Saved,
    Verdict,
)
from graphflow.distribute.snapshot import Snapshot
from tests.distribute.shards import Attempt, Shard

CANCELLED = CancelledError(None, None, "cancelled")
LOST = "lost"  # stands in the queue to the coordinator where a connection ended


@dataclass
class World:
    """One state of the system.

    Attributes:
      kills: worker -> how often it may be killed.
      left: how often it still may.
      machine: the module of the workers' machines.
      waiting: runs that the user has not begun.
      ended: run -> whether it succeeded, and what its workers saw.
      printed: runs whose output the driver has let out, in order.
      out: (worker, run) whose output the worker has let out -> how many had its name before it.
      told: those of which the driver knows.
      series: each run but the first begins ahead, and is claimed when the one before has ended.
      early: or even when that is claimed.
      apart: runs that do not belong to the series.
      fails: runs whose execution fails.
      unclaimed: runs that have begun ahead.
      mirrored: each worker has copies of all that the others have.
    """

    coordinator: Any
    shards: dict[str, Shard]
    plan: Mapping[int, tuple[str, ...]]  # run -> workers that take part
    kills: Mapping[str, int]
    left: dict[str, int]
    overlapping: int
    waiting: list[int]
    spares: int = 100
    attempts: int = 100
    overtaking: bool = False
    series: bool = False
    early: bool = False
    apart: frozenset[int] = frozenset()
    fails: frozenset[int] = frozenset()
    unclaimed: list[int] = field(default_factory=list)
    mirrored: bool = False
    machine: str = worker.__name__
    ended: dict[int, Any] = field(default_factory=dict)
    printed: list[int] = field(default_factory=list)
    out: dict[tuple[str, int], int] = field(default_factory=dict)
    told: set[tuple[str, int]] = field(default_factory=set)
    to_worker: dict[str, deque[Any]] = field(default_factory=dict)
    to_driver: dict[str, deque[Any]] = field(default_factory=dict)
    to_peer: list[Any] = field(default_factory=list)  # (peer, worker, cut, copy)
    resting: list[int] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    replacing: list[str] = field(default_factory=list)

    @property
    def w(self) -> Any:
        """The module of the workers' machines."""
        return sys.modules[self.machine]

    @property
    def complete(self) -> bool:
        """Was everything that follows looked at?"""
        return self.coordinator._serial <= self.attempts

    # ---- what may happen next

    def actions(self) -> Iterator[tuple[Any, ...]]:
        """All of them."""
        if not self.complete:
            return  # runs that meet may rest any number of times
        for name in self.shards:
            yield from self._of_worker(name)
        yield from self._of_driver()

    def enough(self) -> list[tuple[Any, ...]]:
        """As few as suffice: a persistent set (Godefroid, Partial-Order Methods for the
        Verification of Concurrent Systems, 1996).

        What a worker does touches itself and the ends of two queues.  While a message waits for it,
        and messages keep their order, nothing that others do disables what it may do, enables
        anything more, or comes to another result before than after: the others can wait.  What
        each end sees, in which order, stays the same; `check` and the assertions are about that.
        """
        found = list(self.actions())
        past = self.mirrored or self.coordinator._backup_every > 1  # copies go past the queues
        if self.overtaking or past:
            return found
        # An answer that is lost with its worker is as one that the worker was killed before:
        # nobody has seen what it did in between.
        found = [a for a in found if a[0] != "kill" or not a[2]]
        own = ("to worker", "execute", "kill")
        ready = [n for n in self.shards if n not in self.dead and self.to_worker[n]]
        of = [[a for a in found if a[0] in own and a[1] == name] for name in ready]
        return min([actions for actions in of if actions], key=len, default=found)

    def _of_worker(self, name: str) -> Iterator[tuple[Any, ...]]:
        if name in self.dead:
            return
        for i in range(len(self.to_worker[name]) if self.overtaking else 1):
            if self.to_worker[name]:
                yield "to worker", name, i
        for ticket, attempt in self.shards[name].attempts.items():
            if attempt.running:
                yield "execute", name, ticket
        if self.left[name]:
            yield "kill", name, False
            if self.to_driver[name]:
                yield "kill", name, True

    def _of_driver(self) -> Iterator[tuple[Any, ...]]:
        if self.waiting and len(self.coordinator._runs) < self.overlapping:
            yield ("begin",)
        for name in self.shards:
            for i in range(len(self.to_driver[name]) if self.overtaking else 1):
                if self.to_driver[name]:
                    yield "to driver", name, i
        for name in self.replacing:
            yield "replace", name
        for run in self.resting:
            yield "wake", run
        for i in range(len(self.to_peer)):
            yield "to peer", i
        if self.unclaimed and (self.early or self._before(self.unclaimed[0]) in self.ended):
            yield ("claim",)

    def perform(self, action: tuple[Any, ...]) -> None:
        kind, *rest = action
        getattr(self, "_" + kind.replace(" ", "_"))(*rest)

    def _begin(self) -> None:
        run = self.waiting.pop(0)
        before = self._before(run)
        if not self.ended.get(before, (True, {}))[0]:
            self.ended[run] = False, {}  # who has got an error goes no further
            return
        ahead = before in self.coordinator._runs
        if ahead:
            self.unclaimed.append(run)
        after = before if ahead else 0
        self._drive(e.Begin(run, 1, dict.fromkeys(self.plan[run], ()), False, ahead, after))

    def _before(self, run: int) -> int:
        """The one before it in the series, or 0."""
        if not self.series or run in self.apart:
            return 0
        return max((r for r in self.plan if r < run and r not in self.apart), default=0)

    def _claim(self) -> None:
        run = self.unclaimed.pop(0)
        if run not in self.ended:
            self._drive(e.Claimed(run))

    def _to_worker(self, name: str, i: int) -> None:
        message = self.to_worker[name][i]
        del self.to_worker[name][i]
        shard = self.shards[name]
        if isinstance(message, Rebuild) and message.worker:
            if (name, message.copy) not in shard.copies:
                shard.rebuild = message
                return
            message = message._replace(snapshot=shard.copies[name, message.copy])
        self._work(name, self.w.Arrived(message))
        for ward in message.wards if isinstance(message, Rebuild) else ():
            copy = shard.runs if message.staying else shard.copies[ward, message.cut]
            self.to_peer.append((ward, ward, message.copy, copy))

    def _to_driver(self, name: str, i: int) -> None:
        reply = self.to_driver[name][i]
        del self.to_driver[name][i]
        if getattr(reply, "applied", 0) and _generation(reply) >= self.coordinator._valid:
            for decision in self.coordinator._peers[name].pending:
                if decision.number <= reply.applied and decision.verdict is Verdict.COMMIT:
                    self.told.add((name, decision.ticket.run))
        self._drive(e.Lost(name, "killed") if reply == LOST else e.Answered(name, reply))

    def _to_peer(self, i: int) -> None:
        peer, worker, cut, copy = self.to_peer.pop(i)
        shard = self.shards[peer]
        if peer in self.dead:
            return
        shard.copies[worker, cut] = copy
        self._answer_saved(peer, shard)
        if shard.rebuild is not None and (worker, cut) == (peer, shard.rebuild.copy):
            message, shard.rebuild = shard.rebuild._replace(snapshot=copy), None
            self._work(peer, self.w.Arrived(message))

    def _answer_saved(self, name: str, shard: Shard) -> None:
        for saved, wards in list(shard.saved):
            if all((ward, saved.cut) in shard.copies for ward in wards):
                shard.saved.remove((saved, wards))
                self.to_driver[name].append(saved)

    def _execute(self, name: str, ticket: Any) -> None:
        shard = self.shards[name]
        attempt = shard.attempts[ticket]
        holder = shard.promise(attempt)
        attempt.running = False
        ok = holder is None and attempt.base == shard.now(attempt)
        error = None
        if ticket.run in self.fails:
            ok, error = False, InvalidArgumentError("node", None, "bad")
        attempt.promised = ok
        self._work(name, self.w.Executed(ticket, ok), Refused(ticket, 0, error, holder))

    def _kill(self, name: str, at_once: bool) -> None:
        """End a worker; `at_once`: what it has sent is lost with it."""
        self.left[name] -= 1
        self.dead.add(name)
        self.to_worker[name].clear()
        if at_once:
            self.to_driver[name].clear()
        self.to_driver[name].append(LOST)

    def _replace(self, name: str) -> None:
        self.replacing.remove(name)
        self.dead.discard(name)
        self.shards[name] = Shard(self.w.Worker())
        self.to_worker[name].clear()
        self._drive(e.Replaced(name))

    def _wake(self, run: int) -> None:
        self.resting.remove(run)
        self._drive(e.Woken(run))

    # ---- the rim of both machines

    def _drive(self, event: Any) -> None:
        for command in self.coordinator.handle(event):
            match command:
                case e.Send():
                    if command.worker not in self.dead:
                        self.to_worker[command.worker].append(command.message)
                case e.Wake():
                    self.resting.append(command.run)
                case e.Release():
                    self.printed.append(command.run)
                case e.Replace():
                    self.to_driver[command.worker].clear()
                    if self.spares:
                        self.spares -= 1
                        self.replacing.append(command.worker)
                    else:
                        self._drive(e.Irreplaceable(command.worker, "there is none"))
                case e.Finish():
                    assert command.run not in self.ended, "a run ends once"
                    seen = {name: answer.values for name, answer in command.answers.items()}
                    self.ended[command.run] = command.error is None, seen

    def _work(self, name: str, event: Any, refusal: Any = None) -> None:
        shard = self.shards[name]
        for command in shard.machine.handle(event):
            self._carry_out(name, shard, command, refusal)

    def _carry_out(self, name: str, shard: Shard, command: Any, refusal: Any) -> None:
        w, machine, answers = self.w, shard.machine, self.to_driver[name]
        match command:
            case w.Start(step):
                ticket = step.ticket
                base, ahead = shard.held.pop(ticket, (shard.runs, ()))
                shard.attempts[ticket] = Attempt((*base, *[t.run for t in ahead]), ahead)
                known = ticket.run in shard.released
                if step.replay is not None and (step.replay.released or known):
                    shard.quiet.add(ticket)
            case w.Hold():
                shard.held[command.ticket] = shard.runs, command.ahead
            case w.Skip():
                shard.held.pop(command.ticket, None)
                answers.append(Refused(command.ticket, machine.applied, CANCELLED))
            case w.Commit():
                attempt = shard.attempts.pop(command.ticket)
                assert attempt.base == shard.runs, "what was prepared can be committed"
                shard.runs = (*shard.runs, command.ticket.run)
                if command.ticket.run % 2 == 0 and command.ticket not in shard.quiet:
                    self._let_out(name, shard, command.ticket.run)
            case w.Rollback():
                del shard.attempts[command.ticket]
            case w.Answer(ticket, "prepared"):
                answers.append(
                    Prepared(
                        ticket, machine.applied, shard.attempts[ticket].base,
                        releases=ticket.run % 2 == 0, outputs=["text"],
                    )
                )  # fmt: skip
            case w.Answer(ticket, "refused"):
                answers.append(refusal._replace(applied=machine.applied))
            case w.Acknowledge():
                answers.append(Applied(machine.applied, (), machine.generation))
            case w.Keep(message):
                shard.snapshots[message.cut] = shard.runs
                shard.cut = message.cut
                for cut in [c for c in shard.snapshots if c < message.last]:
                    del shard.snapshots[cut]
                shard.released = {r: c for r, c in shard.released.items() if c >= message.last}
                saved = Saved(machine.applied, message.generation, message.cut, shard.runs)
                if message.copying is None:
                    answers.append(saved)
                else:
                    to = message.copying.buddy
                    self.to_peer.append((to, name, saved.cut, shard.runs))
                    shard.saved.append((saved._replace(snapshot=None), message.copying.wards))
                    self._answer_saved(name, shard)
            case w.Recall(message) if message.staying:
                shard.cut = message.cut
                if message.snapshot is not None:
                    shard.runs, shard.snapshots = message.snapshot, {}
                answers.append(Rebuilt(message.generation))
            case w.Recall(message):
                shard.cut = message.cut
                if message.snapshot is not None:
                    copy = () if isinstance(message.snapshot, Snapshot) else message.snapshot
                    shard.snapshots = {message.cut: copy}
                shard.runs = shard.snapshots[message.cut]
                answers.append(Rebuilt(message.generation))

    def _let_out(self, name: str, shard: Shard, run: int) -> None:
        former = self.former(name)
        assert (name, run) not in self.told, "what the driver knows to be out does not go out again"
        assert self.out.get((name, run)) != former, "nor what the worker knows to be out"
        self.out[name, run] = former
        shard.released[run] = shard.cut

    def former(self, name: str) -> int:
        """How many were killed that had that name."""
        return self.kills.get(name, 0) - self.left[name]


def _generation(reply: Any) -> int:
    found: int = reply.ticket.generation if hasattr(reply, "ticket") else reply.generation
    return found
