"""The machines' short ways come to what their rules come to, in every state that small systems
reach: the same commands, and the same state afterwards."""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from graphflow.distribute import worker
from graphflow.distribute.coordinator import Answered, Begin, Coordinator
from graphflow.distribute.messages import Notice, Prepared, Save, Verdict
from graphflow.distribute.worker import Arrived, Executed
from tests.distribute.explore import explore, frozen
from tests.distribute.test_protocol import WORKERS, Protocol
from tests.distribute.test_worker import ONE, THREE, TWO, after, decided, step
from tests.distribute.worlds import worlds

AB = ("a", "b")
SYSTEMS = {
    "a loss": {"plan": {1: AB}, "kills": 1, "every": 9},
    "cuts": {"plan": {1: AB, 2: AB}, "kills": 0},
    "overtaking messages": {"plan": {1: AB, 2: AB}, "kills": 0, "every": 9, "overtaking": True},
    "overlapping runs": {"plan": {1: AB, 2: ("a",)}, "kills": 0, "overlapping": 2, "attempts": 4},
    "a series": {"plan": {1: AB, 2: AB}, "kills": 0, "every": 9, "series": True, "overlapping": 2},
    "a failure": {
        "plan": {1: AB, 2: AB}, "kills": 0, "series": True, "overlapping": 2,
        "fails": frozenset({1}),
    },
}  # fmt: skip
SELDOM = {"a failure": {"_counted", "_as_expected"}}  # ways that are not short there
taken: Counter[tuple[str, bool]] = Counter()  # which way, whether it went the short one


class TheRules(Coordinator):
    def _alone(self, event: Any) -> None:
        return None

    def _counted(self, event: Any) -> None:
        return None


class TheWorkersRules(worker.Worker):
    def _in_turn(self, step: Any) -> None:
        return None

    def _as_expected(self, event: Any) -> None:
        return None


class _Compared:
    """Handles each event both ways."""

    rules: type
    ways: tuple[str, ...]

    def handle(self, event: Any) -> Any:
        other = pickle.loads(pickle.dumps(self))
        other.__class__ = self.rules
        commands = super().handle(event)  # type: ignore[misc]
        assert frozen(commands) == frozen(other.handle(event))
        assert frozen(self.__dict__) == frozen(other.__dict__)
        return commands


def _counting(way: str) -> Any:
    def call(self: Any, event: Any) -> Any:
        commands = getattr(super(type(self), self), way)(event)
        taken[way, commands is not None] += 1
        return commands

    return call


class Both(_Compared, Coordinator):
    rules = TheRules
    _alone, _counted = _counting("_alone"), _counting("_counted")


class BothWorkers(_Compared, worker.Worker):
    rules = TheWorkersRules
    _in_turn, _as_expected = _counting("_in_turn"), _counting("_as_expected")


@pytest.fixture(scope="module")
def machines():
    module: Any = ModuleType("compared_workers")
    vars(module).update(vars(worker), __name__="compared_workers", Worker=BothWorkers)
    sys.modules["compared_workers"] = module
    yield Both, module
    del sys.modules["compared_workers"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_short_way_is_the_rules_way(system, machines):
    taken.clear()
    for first in worlds(**SYSTEMS[system], machines=machines):
        explore(first, limit=20_000)
    ways = {"_alone", "_counted", "_in_turn", "_as_expected"}
    assert {way for way, short in taken if short} == ways - SELDOM.get(system, set())
    assert not all(short for _, short in taken)


def test_nothing_is_left_of_a_series_that_a_step_alone_commits():
    machine = BothWorkers()
    for event in (
        step(1, ONE),
        Executed(ONE, True),
        after(2, TWO, ONE),
        Executed(TWO, True),
        Arrived(Notice(3, (decided(1, ONE, Verdict.COMMIT),))),
    ):
        machine.handle(event)
    taken.clear()
    machine.handle(step(4, THREE, decided(2, TWO, Verdict.COMMIT)))
    assert taken["_in_turn", True] == 1


def test_a_step_waits_behind_a_copy_that_waits_for_an_attempt_to_end():
    machine = BothWorkers()
    machine.handle(step(1, ONE))
    machine.handle(Arrived(Save(2, (decided(1, ONE, Verdict.RETRY),), 0, 1, 0)))
    assert machine.handle(step(3, TWO)) == []
    assert machine.handle(Executed(ONE, True))[-1].step.ticket == TWO


def test_a_run_that_nobody_has_claimed_is_not_over_with_its_last_vote():
    machine = Both(AB)
    machine.handle(Begin(1, 1, dict.fromkeys(AB, ())))
    machine.handle(Begin(2, 1, dict.fromkeys(AB, ()), ahead=True, after=1))
    for ticket in (ONE, TWO):
        for name in AB:
            commands = machine.handle(Answered(name, Prepared(ticket, 0, (), 0)))
        assert bool(commands) == (ticket is ONE)


class ComparedProtocol(Protocol):
    """Values between workers and runs that begin ahead, too, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.coordinator = Both(WORKERS)
        for shard in self.shards.values():
            shard.machine = BothWorkers()


TestComparedProtocol = pytest.mark.slow(ComparedProtocol.TestCase)
TestComparedProtocol.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, derandomize=True,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
