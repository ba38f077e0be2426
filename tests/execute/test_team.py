"""Threads that take the shares of a step: each once, phase by phase, whoever is there."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from graphflow.compile.native import runtime
from graphflow.compile.native.jit import Code, function, load
from graphflow.execute.team import Team

SHARES, PHASES = 4, 5
# step: note the run in which a share was done, and a fault where the phase before is not complete
STEP = f"""
define void @step(ptr %table, i64 %share, i64 %phase) {{
entry:
  %number = mul i64 %phase, {SHARES}
  %own = add i64 %number, %share
  %at = getelementptr i64, ptr %table, i64 %own
  %begun = atomicrmw add ptr %at, i64 1 seq_cst
  %first = icmp eq i64 %phase, 0
  br i1 %first, label %out, label %look
look:
  %before = sub i64 %number, {SHARES}
  br label %each
each:
  %i = phi i64 [0, %look], [%next, %each]
  %other = add i64 %before, %i
  %there = getelementptr i64, ptr %table, i64 %other
  %done = load atomic i64, ptr %there seq_cst, align 8
  %late = icmp sle i64 %done, %begun
  %fault = zext i1 %late to i64
  %faults = getelementptr i64, ptr %table, i64 {SHARES * PHASES}
  %old = atomicrmw add ptr %faults, i64 %fault seq_cst
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, {SHARES}
  br i1 %more, label %each, label %out
out:
  ret void
}}
"""


@pytest.fixture(scope="module")
def code() -> Code:
    return load(STEP)


@pytest.fixture
def teams() -> Iterator[list[Team]]:
    teams: list[Team] = []
    yield teams
    for team in teams:
        team.close()


def steps(team: Team, code: Code, count: int) -> Any:
    """How often each share of each phase was done, and the faults."""
    table = np.zeros(SHARES * PHASES + 1, np.int64)

    def alone(_: int) -> None:
        raise AssertionError("the team was busy")

    for _ in range(count):
        team.run(code.address("step"), PHASES, alone, table.ctypes.data)
    return table[:-1], table[-1]


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_each_share_is_done_once_and_after_the_phase_before(
    threads: int, code: Code, teams: list[Team]
) -> None:
    teams.append(Team(SHARES, threads))
    counts, faults = steps(teams[0], code, 3000)
    assert counts.tolist() == [3000] * (SHARES * PHASES)
    assert not faults


def test_a_step_waits_for_no_thread_that_has_not_begun(
    code: Code, teams: list[Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the helpers never come: the system does not run them."""
    kept: list[Any] = []
    monkeypatch.setattr(threading.Thread, "start", lambda self: kept.append(self))
    teams.append(Team(SHARES))
    counts, faults = steps(teams[0], code, 20)
    assert len(kept) == SHARES - 1
    assert counts.tolist() == [20] * (SHARES * PHASES)
    assert not faults


def test_who_comes_late_takes_nothing_of_a_step_that_is_over(
    code: Code, teams: list[Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has seen the turn of an earlier step, and tries to take a share with it."""
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    team = Team(SHARES)
    teams.append(team)
    steps(team, code, 2)
    late = load(runtime.TEXT.replace("define internal void @work", "define void @work"))
    number = ctypes.c_int64
    work = function(late.address("work"), ctypes.c_void_p, number, number, number)
    before = team._sync.copy()
    for turn in range(1, int(before[runtime.TURN]), 2):
        work(team._address, 1, SHARES, turn)
    np.testing.assert_array_equal(team._sync, before)
    team._pid = 0  # no thread to end
