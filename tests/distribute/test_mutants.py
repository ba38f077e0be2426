"""The explorations and the story of losses notice each of these faults in the machines.

A fault is a change of the text of one module; the machines are built anew from what results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from graphflow.base.errors import InternalError
from tests.distribute.explore import explore
from tests.distribute.worlds import worlds

AB = ("a", "b")
PARTS = ("journal", "runs", "series", "cuts", "recovery", "coordinator", "worker")
NAME = "graphflow.distribute."

SYSTEMS = {
    "losses": {"plan": {1: AB, 2: AB}, "kills": 1},
    "many losses": {"plan": {1: AB}, "kills": 2},
    "more output": {"plan": {2: AB, 4: AB}, "kills": 1, "every": 9},
    "overtaking": {"plan": {1: AB, 2: ("a",)}, "kills": 1, "every": 9, "overtaking": True},
    "more output lost": {"plan": {2: AB}, "kills": 2, "every": 9},
    "a series": {
        "plan": {1: AB, 2: AB}, "kills": 1, "every": 9, "series": True, "overlapping": 2,
    },
    "a series that fails": {
        "plan": {1: AB, 2: AB}, "kills": 0, "series": True, "overlapping": 2,
        "fails": frozenset({1}),
    },
    "mirrors": {"plan": {1: AB, 2: AB}, "kills": 1, "every": 9, "mirrored": True},
    "mirrors of output": {"plan": {2: AB}, "kills": 1, "every": 9, "mirrored": True},
    "rivals": {
        "plan": {2: ("a",), 4: ("a",)}, "kills": 0, "overlapping": 2, "overtaking": True,
        "attempts": 4,
    },
}  # fmt: skip

# (module, what stands there, what would be wrong, the system that shows it)
FAULTS = {
    "answers from before a loss count": (
        "coordinator", "if generation < self._valid:", "if False:", "overtaking",
    ),
    "it is not kept whose output is out": (
        "runs", "record.released.add(worker)", "pass", "more output",
    ),
    "it is not written down that there is output": (
        "runs", "self._outgoing[run.ticket] = run.record", "pass", "more output",
    ),
    "it is forgotten in a replay that there is output": (
        "recovery", "if record.releases:", "if False:", "more output lost",
    ),
    "a run does not end when its output is out": (
        "coordinator", "            return self._settle()\n", "            return []\n", "losses",
    ),
    "nor when an answer to another run tells that": (
        "coordinator", "return commands + self._settle()", "return commands", "rivals",
    ),
    "decisions are applied again": (
        "worker", "if decision.number <= self.applied:", "if False:", "losses",
    ),
    "messages from before a loss are taken": (
        "worker", "if sent < self.generation:", "if False:", "overtaking",
    ),
    "messages are counted on after a loss": (
        "worker", "self._taken = self.applied = 0", "pass", "losses",
    ),
    "attempts outlive a loss": (
        "worker", "for c in self._move(ticket, BACK)", "for c in ()", "losses",
    ),
    "the driver counts on after a loss": (
        "recovery", "self._peers[worker] = Peer()", "pass", "losses",
    ),
    "what was under way is done again as if committed": (
        "recovery", "self._journal.interrupt()", "pass", "losses",
    ),
    "a replayed run is committed before all have prepared": (
        "recovery", "elif self._again[record.run].missing:", "elif False:", "losses",
    ),
    "what is committed is undone where all stay": (
        "worker", "for decision in message.staying.decisions if message.staying else ():",
        "for decision in ():", "mirrors",
    ),
    "all stay, and forget that output waits": (
        "recovery", "self._stays and not owing and", "self._stays and", "mirrors of output",
    ),
    "who replaces a lost worker gets no state": (
        "recovery", "elif worker in self._blank:", "elif False:", "losses",
    ),
    "runs go on before the state is back": (
        "recovery", "if self._rebuilding:\n            return []", "", "overtaking",
    ),
    "one of two lost workers is enough": (
        "recovery", "if self.lost or self._closed", "if self._closed", "many losses",
    ),
    "a run that began ahead is committed before its turn": (
        "series", "if run.before or run.ahead:\n", "if False:\n", "a series",
    ),
    "or before it is claimed": (
        "series", "if run.before or run.ahead:\n", "if run.before:\n", "a series",
    ),
    "it does not end when the one before it fails": (
        "series", "commands += self._finish(after, CancelledError(None, None, message))", "pass",
        "a series that fails",
    ),
    "the journal keeps what is in a copy": (
        "journal", "del self._entries[: self.start]", "pass", "losses",
    ),
    "the journal drops what came after a copy": (
        "journal", "del self._entries[: self.start]", "self._entries.clear()", "losses",
    ),
}  # fmt: skip


@pytest.fixture
def mutate() -> Iterator[Any]:
    """Machines with a fault, as modules that are gone afterwards."""

    def build(where: str, right: str, wrong: str) -> tuple[type, ModuleType]:
        for part in PARTS:
            found = find_spec(NAME + part)
            assert found is not None
            assert found.origin is not None
            text = Path(found.origin).read_text()
            if part == where:
                text = text.replace(right, wrong)
            for other in PARTS:
                text = text.replace(f"from {NAME}{other} import", f"from mutant_{other} import")
            module = sys.modules[f"mutant_{part}"] = ModuleType(f"mutant_{part}")
            exec(compile(text, f"mutant_{part}", "exec"), vars(module))
        return sys.modules["mutant_coordinator"].Coordinator, sys.modules["mutant_worker"]

    yield build
    for part in PARTS:
        sys.modules.pop(f"mutant_{part}", None)


def ends(system: Any) -> int:
    return sum(len(explore(first, limit=20_000).ends) for first in worlds(**system))


def test_the_machines_say_what_the_faults_change():
    for where, right, *_ in FAULTS.values():
        found = find_spec(NAME + where)
        assert found is not None
        assert found.origin is not None
        assert Path(found.origin).read_text().count(right) == 1, (where, right)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_noticed(mutate, fault):
    *change, system = fault
    machines = mutate(*change)
    with pytest.raises((AssertionError, InternalError, KeyError)):
        ends(SYSTEMS[system] | {"machines": machines})


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_without_a_fault_nothing_is_noticed(mutate, system):
    machines = mutate("worker", "import annotations", "import annotations")
    assert ends(system | {"machines": machines})
