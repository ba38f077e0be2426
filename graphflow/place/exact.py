"""The best plan, proven: the mixed-integer program of `program.py`, solved by HiGHS."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphflow.place.problem import Problem
from graphflow.place.program import Program
from graphflow.place.program_memory import fit_into_memory
from graphflow.place.program_prompt import is_prompt, start_at_once
from graphflow.place.simulate import Schedule

GROUPS = 20  # larger problems are not tried
NODES = 1000  # of the search tree, some 10 ms each: a bound that is the same on every machine
GAP = 1e-4  # relative; below it a plan counts as optimal


class Proof(NamedTuple):
    """What the exact search found.

    Attributes:
      schedule: the best plan found, or None.
      bound: no plan takes less than that.
      proven: the bound is tight: the search was not cut off.
    """

    schedule: Schedule | None
    bound: float
    proven: bool


def solve(
    problem: Problem, upper: Schedule, nodes: int | None = NODES, seconds: float | None = None
) -> Proof:
    """The shortest schedule.

    Args:
      problem: of few tasks: the number of variables grows with their square.
      upper: a schedule that is known; better ones are searched for.
      nodes: of the search tree, at most.
      seconds: a limit by the clock, for benchmarks; results then depend on the machine.
    """
    limit = upper.makespan if not upper.overflow else _serial_bound(problem)
    if limit <= 0:
        return Proof(upper, 0.0, True)
    proof = _solved(_program(problem, limit, False), nodes, seconds)
    if proof.schedule is None or not proof.schedule.overflow:
        return proof
    # What is on its way decides, or a delay: more variables, which most problems do not need.
    second = _solved(_program(problem, limit, True), nodes, seconds)
    return second._replace(bound=max(proof.bound, second.bound))


def _program(problem: Problem, limit: float, flights: bool) -> Program:
    program = Program(problem, limit)
    fit_into_memory(program, flights)
    if flights and is_prompt(problem):
        start_at_once(program)
    return program


def _solved(program: Program, nodes: int | None, seconds: float | None) -> Proof:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    n = len(program.low)
    rows = program.rows
    matrix = csr_matrix(
        (
            [c for row, _ in rows for c in row.values()],
            (
                [i for i, (row, _) in enumerate(rows) for _ in row],
                [v for row, _ in rows for v in row],
            ),
        ),
        shape=(len(rows), n),
    )
    goal = np.zeros(n)
    goal[program.end] = 1.0
    options: dict[str, Any] = {"mip_rel_gap": GAP}
    if nodes is not None:
        options["node_limit"] = nodes
    if seconds is not None:
        options["time_limit"] = seconds
    result = milp(
        goal,
        constraints=LinearConstraint(matrix, -np.inf, np.array([most for _, most in rows])),
        bounds=Bounds(np.array(program.low), np.array(program.high)),
        integrality=np.array(program.integral),
        options=options,
    )
    if result.status == 2:  # nothing is shorter than the given one
        return Proof(None, program.limit, True)
    bound = program.limit * float(
        result.mip_dual_bound if result.mip_dual_bound is not None else 0.0
    )
    if result.x is None:
        return Proof(None, bound, False)
    return Proof(program.schedule(result.x), bound, result.status == 0)


def _serial_bound(problem: Problem) -> float:
    """No sensible plan is longer: one task or transfer at a time, each on its slowest way."""
    slowest = sum(map(max, problem.seconds))
    alpha, per_byte = max(map(max, problem.alpha)), max(map(max, problem.per_byte))
    hops = len(problem.topology.devices) - 1
    return slowest + hops * sum([alpha + size * per_byte for size in problem.sizes])
