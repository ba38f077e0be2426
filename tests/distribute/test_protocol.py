"""Coordinator and workers together, over a network that delays, reorders and repeats, and workers
that fail and die: whatever happens, a run is applied on all its workers or on none."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from graphflow.base.errors import CancelledError, InvalidArgumentError, UnavailableError
from graphflow.distribute import coordinator as driver
from graphflow.distribute import worker as remote
from graphflow.distribute.messages import Applied, Notice, Prepared, Refused, Step
from graphflow.distribute.transactions import Ahead, Attempt, Promised, ShardStore
from graphflow.execute.context import Resources
from graphflow.execute.inputs import InputLog
from graphflow.execute.store import Conflict

WORKERS = ("a", "b", "c")
some_workers = st.sets(st.sampled_from(WORKERS), min_size=1).map(sorted)
index = st.integers(0, 1000)


class Shard:
    """A worker: the real machine and store; its program adds the run to a list that is state."""

    def __init__(self) -> None:
        self.machine = remote.Worker()
        self.store = ShardStore()
        self.attempts: dict[Any, Attempt] = {}
        self.known: dict[Any, Attempt] = {}  # also those that are over
        self.seen: dict[Any, tuple[int, ...]] = {}
        self.running: list[Any] = []
        self.mail: dict[Any, dict[str, Any]] = {}
        self.held: dict[Any, Any] = {}

    def hold(self, command: remote.Hold) -> None:
        self.held[command.ticket] = self.store.entries, command.ahead

    def begin(self, command: remote.Start) -> None:
        ticket = command.step.ticket
        store: Any = self.store
        if ticket in self.held:
            entries, ahead = self.held.pop(ticket)
            store = Ahead(self.store, entries, [self.known[t] for t in ahead])
        attempt = Attempt(ticket, store, Resources(), 0, InputLog(), threading.Event())
        self.known[ticket] = attempt
        self.attempts[ticket] = attempt
        self.mail[ticket] = dict(command.early)
        self.running.append(ticket)
        self.seen[ticket] = attempt.transaction.get("runs", ())

    def execute(self, ticket: Any, fails: bool) -> Exception | None:
        attempt = self.attempts[ticket]
        try:
            if fails:
                raise InvalidArgumentError("node", None, "bad")
            runs = attempt.transaction.get("runs", ())
            attempt.transaction.write("runs", (*runs, ticket.run))
            attempt.prepare()
        except (Conflict, InvalidArgumentError) as error:
            return error
        return None

    @property
    def runs(self) -> tuple[int, ...]:
        return self.store.begin().get("runs", ())


class Protocol(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.coordinator = driver.Coordinator(WORKERS)
        self.shards = {name: Shard() for name in WORKERS}
        self.to_workers: list[tuple[str, Any]] = []
        self.to_driver: list[tuple[str, Any]] = []
        self.values: list[tuple[str, Any, str, Any]] = []  # from worker to worker
        self.members: dict[int, list[str]] = {}
        self.ended: dict[int, driver.Finish] = {}
        self.resting: list[int] = []
        self.dead: set[str] = set()
        self.steps: Counter[Any] = Counter()
        self.unclaimed: list[int] = []  # of a series

    # ---- the rim

    def drive(self, event: Any) -> None:
        for command in self.coordinator.handle(event):
            if isinstance(command, driver.Send):
                assert command.worker not in self.coordinator.lost
                if isinstance(command.message, Step):
                    self.steps[command.worker, command.message.ticket] += 1
                self.to_workers.append((command.worker, command.message))
            elif isinstance(command, driver.Wake):
                self.resting.append(command.run)
            else:
                assert command.run not in self.ended, "a run ends once"
                self.ended[command.run] = command

    def work(self, name: str, event: Any, error: Exception | None = None) -> None:
        shard = self.shards[name]
        for command in shard.machine.handle(event):
            match command:
                case remote.Start():
                    shard.begin(command)
                    for peer in self.members[command.step.ticket.run]:
                        if peer != name:
                            ticket = command.step.ticket
                            self.values.append((peer, ticket, name, ticket))
                case remote.Hold():
                    shard.hold(command)
                case remote.Skip():
                    shard.held.pop(command.ticket, None)
                    error = CancelledError(None, None, "cancelled")
                    applied = shard.machine.applied
                    self.to_driver.append((name, Refused(command.ticket, applied, error)))
                case remote.Put() if command.ticket not in shard.mail:
                    pass  # it is held
                case remote.Put():
                    shard.mail[command.ticket][command.key] = command.value
                case remote.Commit():
                    shard.attempts.pop(command.ticket).commit()
                case remote.Rollback():
                    shard.attempts.pop(command.ticket).abort()
                case remote.Answer():
                    self.answer(name, command, error)
                case remote.Acknowledge():
                    self.to_driver.append((name, Applied(shard.machine.applied)))

    def answer(self, name: str, command: remote.Answer, error: Exception | None) -> None:
        shard = self.shards[name]
        ticket, applied = command.ticket, shard.machine.applied
        if command.outcome == "prepared":
            releases = ticket.run % 3 == 0
            reply: Any = Prepared(ticket, applied, [shard.seen[ticket]], releases)
        elif isinstance(error, Conflict):
            holder = error.holder if isinstance(error, Promised) else None
            reply = Refused(ticket, applied, None, holder)
        else:
            reply = Refused(ticket, applied, error or InvalidArgumentError(None, None, "cancelled"))
        self.to_driver.append((name, reply))

    # ---- what may happen

    @rule(workers=some_workers)
    def begin(self, workers: list[str]) -> None:
        run = len(self.members) + 1
        self.members[run] = workers
        self.drive(driver.Begin(run, 1, {w: () for w in workers}))

    @rule(workers=some_workers)
    def begin_ahead(self, workers: list[str]) -> None:
        run = len(self.members) + 1
        self.members[run] = workers
        after = self.unclaimed[-1] if self.unclaimed else 0
        self.unclaimed.append(run)
        self.drive(driver.Begin(run, 1, {w: () for w in workers}, False, True, after))

    @precondition(lambda self: self.unclaimed)
    @rule()
    def claim(self) -> None:
        self.drive(driver.Claimed(self.unclaimed.pop(0)))

    @precondition(lambda self: self.unclaimed)
    @rule()
    def withdraw(self) -> None:
        self.drive(driver.Withdrawn(self.unclaimed.pop()))

    @precondition(lambda self: self.to_workers)
    @rule(i=index, twice=st.booleans())
    def carry_message(self, i: int, twice: bool) -> None:
        i %= len(self.to_workers)
        name, message = self.to_workers[i] if twice else self.to_workers.pop(i)
        if name not in self.dead:
            self.work(name, remote.Arrived(message))

    @precondition(lambda self: self.to_driver)
    @rule(i=index)
    def carry_answer(self, i: int) -> None:
        name, reply = self.to_driver.pop(i % len(self.to_driver))
        self.drive(driver.Answered(name, reply))

    @precondition(lambda self: self.values)
    @rule(i=index)
    def carry_value(self, i: int) -> None:
        name, ticket, key, value = self.values.pop(i % len(self.values))
        if name not in self.dead:
            self.work(name, remote.Delivered(ticket, key, value))

    @precondition(lambda self: any(s.running for s in self.shards.values()))
    @rule(i=index, fails=st.sampled_from([False] * 7 + [True]))
    def execute(self, i: int, fails: bool) -> None:
        ready = [(n, t) for n, s in self.shards.items() for t in s.running if n not in self.dead]
        if ready:
            name, ticket = ready[i % len(ready)]
            shard = self.shards[name]
            shard.running.remove(ticket)
            error = shard.execute(ticket, fails)
            self.work(name, remote.Executed(ticket, error is None), error)

    @precondition(lambda self: self.resting)
    @rule(i=index)
    def wake(self, i: int) -> None:
        self.drive(driver.Woken(self.resting.pop(i % len(self.resting))))

    @precondition(lambda self: self.members)
    @rule(i=index)
    def expire(self, i: int) -> None:
        self.drive(driver.Expired(1 + i % len(self.members), 1.0))

    @precondition(lambda self: not self.dead)
    @rule(name=st.sampled_from(WORKERS), rare=st.integers(0, 9))
    def kill(self, name: str, rare: int) -> None:
        if rare == 0:
            self.dead.add(name)
            self.to_driver = [(n, r) for n, r in self.to_driver if n != name]
            self.drive(driver.Lost(name, "killed"))

    # ---- what must hold

    @invariant()
    def each_attempt_is_one_call_per_worker(self) -> None:
        assert set(self.steps.values()) <= {1}

    @invariant()
    def values_stay_in_their_attempt(self) -> None:
        for shard in self.shards.values():
            for ticket, mail in shard.mail.items():
                assert set(mail.values()) <= {ticket}

    @invariant()
    def nothing_uncommitted_is_seen(self) -> None:
        committed = {run for run, end in self.ended.items() if end.error is None}
        undecided = set(self.members) - set(self.ended)  # committed ones may await their release
        for shard in self.shards.values():
            assert set(shard.runs) <= committed | undecided
            assert set(shard.runs).isdisjoint(self.unclaimed), "not before its turn"

    def teardown(self) -> None:
        """Let everything come to its end, then look."""
        while self.unclaimed:
            self.claim()
        self.drain()
        assert set(self.ended) == set(self.members), "every run ends"
        self.drive(driver.Closed())
        self.drain()
        committed = [run for run, end in self.ended.items() if end.error is None]
        for name, shard in self.shards.items():
            if name not in self.dead:
                mine = [run for run in committed if name in self.members[run]]
                assert sorted(shard.runs) == sorted(mine), "all or nothing, and once"
                assert not shard.attempts
                assert not shard.store._promises
                assert not shard.machine.states
        self.one_serial_order(committed)

    def one_serial_order(self, committed: list[int]) -> None:
        """Workers agree on what a run came after."""
        for run in committed:
            answers = self.ended[run].answers
            for one in answers:
                for other in answers:
                    both = {r for r in committed if {one, other} <= set(self.members[r])}
                    seen = [[r for r in answers[w].values[0] if r in both] for w in (one, other)]
                    assert seen[0] == seen[1]

    def drain(self) -> None:
        for _ in range(100_000):  # fifty runs that all stand in each other's way take 10,035
            alive = [s for n, s in self.shards.items() if n not in self.dead]
            if self.to_workers:
                self.carry_message(0, False)
            elif self.values:
                self.carry_value(0)
            elif any(s.running for s in alive):
                self.execute(0, False)
            elif self.to_driver:
                self.carry_answer(0)
            elif self.resting:
                self.wake(0)
            else:
                return
        raise AssertionError("it does not come to an end")


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=50,
    stateful_step_count=50,
    deadline=None,
    # Shrinking takes minutes; seeds of the loop below are quicker to look into.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)


def test_two_runs_that_meet_on_two_workers_in_opposite_order_both_commit():
    """Each holds a promise that the other one needs: one gives way, and comes back."""
    world = Protocol()
    world.begin(["a", "b"])
    world.begin(["a", "b"])
    while world.to_workers:
        world.carry_message(0, False)
    for name, run in (("a", 1), ("b", 2), ("b", 1), ("a", 2)):
        ready = [(n, t) for n, s in world.shards.items() for t in s.running]
        i = next(i for i, (n, t) in enumerate(ready) if (n, t.run) == (name, run))
        world.execute(i, False)
    world.teardown()
    assert all(end.error is None for end in world.ended.values())
    assert len(world.shards["a"].runs) == 2


def test_many_runs_that_meet_on_all_workers_all_commit():
    """Hypothesis found that two of them could make each other give way for ever."""
    for seed in range(40):
        world, order = Protocol(), random.Random(seed)
        for _ in range(6):
            world.begin(order.sample(WORKERS, order.randint(2, 3)))
        for _ in range(80):
            moves = [world.carry_message] * bool(world.to_workers)
            moves += [world.carry_answer] * bool(world.to_driver)
            moves += [world.execute] * any(s.running for s in world.shards.values())
            if moves:
                move = order.choice(moves)
                rest = () if move == world.carry_answer else (False,)
                move(order.randrange(1000), *rest)
        world.teardown()
        assert all(end.error is None for end in world.ended.values())


def test_a_series_and_a_run_beside_it_all_commit():
    """The run met the third of the series, which met the run in its second: each began again at
    once, for ever."""
    world = Protocol()
    world.begin_ahead(["c"])
    world.begin_ahead(["a", "b", "c"])
    world.begin(["a", "b", "c"])
    world.begin_ahead(["a", "b", "c"])
    world.teardown()
    assert all(end.error is None for end in world.ended.values())


def test_a_loss_in_the_middle_fails_the_run_on_the_survivors():
    world = Protocol()
    world.begin(["a", "b"])
    while world.to_workers:
        world.carry_message(0, False)
    world.execute(0, False)
    world.kill("b", 0)
    world.teardown()
    assert isinstance(world.ended[1].error, UnavailableError)
    assert world.shards["a"].runs == ()


def test_a_notice_is_no_step():
    world = Protocol()
    world.begin(["a", "b"])
    world.drain()
    world.begin(["a"])
    assert [type(m) for _, m in world.to_workers] == [Step, Notice]
