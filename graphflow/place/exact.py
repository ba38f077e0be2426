"""The best plan, proven: mixed-integer programming by HiGHS.

The variables say where each group goes, when each task starts, which of two tasks of one device
comes first, and when each value arrives.  Values leave a device in the order in which they are
made, as in the simulator.  Live memory is bounded from below: what stays on a device, and what
each task holds at its end, must fit.  So the optimum of the program is never longer than that of
the simulator, and where the simulator reaches it, the plan is proven.

Sources: Baechi (Jeon et al., "Baechi: fast device placement of machine learning graphs", 2020)
for the constraints on memory; Pinedo, "Scheduling", 2016, for disjunctions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from graphflow.place.problem import Problem
from graphflow.place.simulate import Schedule, judge, simulate

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
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    limit = upper.makespan if not upper.overflow else _serial_bound(problem)
    if limit <= 0:
        return Proof(upper, 0.0, True)
    program = _Program(problem, limit)
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
        return Proof(None, limit, True)
    bound = limit * float(result.mip_dual_bound if result.mip_dual_bound is not None else 0.0)
    if result.x is None:
        return Proof(None, bound, False)
    return Proof(program.schedule(result.x), bound, result.status == 0)


def _serial_bound(problem: Problem) -> float:
    """No sensible plan is longer: one task or transfer at a time, each on its slowest way."""
    slowest = sum(map(max, problem.seconds))
    alpha, per_byte = max(map(max, problem.alpha)), max(map(max, problem.per_byte))
    hops = len(problem.topology.devices) - 1
    return slowest + hops * sum([alpha + size * per_byte for size in problem.sizes])


class _Program:
    """Rows `coefficients @ variables <= most`.  Times are in units of `limit`."""

    def __init__(self, problem: Problem, limit: float):
        self.problem = problem
        self.limit = limit
        self.low: list[float] = []
        self.high: list[float] = []
        self.integral: list[int] = []
        self.rows: list[tuple[dict[int, float], float]] = []
        self.devices = range(len(problem.topology.devices))
        self.seconds = [[s / limit for s in row] for row in problem.seconds]
        self.end = self._variable(1.0)
        self.home = [self._binaries(allowed) for allowed in problem.allowed]
        self.start = [self._variable(1.0) for _ in range(problem.tasks)]
        self.sent: list[dict[int, int]] = []
        self.leave: list[dict[int, int]] = []
        self.arrive: list[dict[int, int]] = []
        self.before: dict[tuple[int, int], int] = {}
        self.reach = _reachable(problem)
        self._placing()
        self._paths()
        self._moving()
        self._order()
        self._memory()

    def _variable(self, high: float, integral: bool = False) -> int:
        self.low.append(0.0)
        self.high.append(high)
        self.integral.append(int(integral))
        return len(self.low) - 1

    def _binaries(self, allowed: Sequence[int]) -> dict[int, int]:
        return {d: self._variable(1.0, True) for d in allowed}

    def _row(self, most: float, *terms: tuple[int | None, float]) -> None:
        row: dict[int, float] = {}
        for variable, factor in terms:
            if variable is not None and factor:
                row[variable] = row.get(variable, 0.0) + factor
        self.rows.append((row, most))

    def _at(self, task: int, device: int) -> int | None:
        """The variable that is 1 where the task is on the device; None: it may not go there."""
        return self.home[self.problem.group[task]].get(device)

    def _length(self, task: int, factor: float = 1.0) -> list[tuple[int, float]]:
        homes = self.home[self.problem.group[task]]
        return [(x, factor * self.seconds[task][d]) for d, x in homes.items()]

    def _placing(self) -> None:
        for homes in self.home:
            self._row(1.0, *[(x, 1.0) for x in homes.values()])
            self._row(-1.0, *[(x, -1.0) for x in homes.values()])
        for d in self.devices:  # what a device does takes less than the step
            work = [(self._at(t, d), self.seconds[t][d]) for t in range(self.problem.tasks)]
            self._row(0.0, *work, (self.end, -1.0))
        for task in range(self.problem.tasks):
            self._row(0.0, (self.start[task], 1.0), *self._length(task), (self.end, -1.0))
        if self.problem.alike:  # else each plan is there once per numbering of the devices
            heaviest = max(range(self.problem.tasks), key=lambda t: self.problem.seconds[t][0])
            for d, x in self.home[self.problem.group[heaviest]].items():
                self.high[x] = float(d == 0)

    def _paths(self) -> None:
        """Nothing starts before what it needs can be done, or so late that the rest is late."""
        tail = [0.0] * self.problem.tasks
        fastest = [
            min([self.seconds[t][d] for d in self.problem.allowed[self.problem.group[t]]])
            for t in range(self.problem.tasks)
        ]
        for task in reversed(range(self.problem.tasks)):
            users = [u for v in self.problem.makes[task] for u in self.problem.users[v]]
            tail[task] = max([tail[u] + fastest[u] for u in users], default=0.0)
            self._row(-tail[task], (self.start[task], 1.0), *self._length(task), (self.end, -1.0))

    def _moving(self) -> None:
        problem = self.problem
        for value, task in enumerate(problem.producer):
            users = problem.users[value]
            targets = sorted({d for u in users for d in problem.allowed[problem.group[u]]})
            self.sent.append(self._numbers(targets, True))
            self.leave.append(self._numbers(targets))
            self.arrive.append(self._numbers(targets))
            for user in users:
                self._row(
                    0.0, (self.start[task], 1.0), *self._length(task), (self.start[user], -1.0)
                )
            for d in targets:
                self._transfer(value, task, d, [u for u in users if self._at(u, d) is not None])

    def _numbers(self, devices: Sequence[int], integral: bool = False) -> dict[int, int]:
        return {d: self._variable(1.0, integral) for d in devices}

    def _transfer(self, value: int, task: int, d: int, users: list[int]) -> None:
        sent, leave, arrive = self.sent[value][d], self.leave[value][d], self.arrive[value][d]
        here = self._at(task, d)
        for user in {self.problem.group[u]: u for u in users}.values():
            there = self._at(user, d)
            self._row(0.0, (there, 1.0), (here, -1.0), (sent, -1.0))
        self._row(1.0, (sent, 1.0), (here, 1.0))  # what is made there is not sent there
        # leave >= end of the task, where it is sent
        self._row(1.0, (self.start[task], 1.0), *self._length(task), (leave, -1.0), (sent, 1.0))
        least = float("inf")
        for source, x in self.home[self.problem.group[task]].items():
            if source != d:  # arrive >= leave + time, where it is made there and sent
                time = self.time(value, source, d)
                self._row(time, (leave, 1.0), (arrive, -1.0), (x, time), (sent, time))
                least = min(least, time)
        self._row(0.0, (leave, 1.0), (arrive, -1.0), (sent, least if np.isfinite(least) else 0.0))
        for user in users:
            there = self._at(user, d)
            self._row(2.0, (arrive, 1.0), (self.start[user], -1.0), (there, 1.0), (sent, 1.0))
            self._shortest(value, task, user, d)

    def _shortest(self, value: int, task: int, user: int, d: int) -> None:
        """A bound that needs no big number: start >= end + time, less what being here saves."""
        ways = [
            (x, self.time(value, source, d))
            for source, x in self.home[self.problem.group[task]].items()
            if source != d
        ]
        if not ways:
            return
        least = min(time for _, time in ways)
        self._row(
            least,
            (self.start[task], 1.0),
            *self._length(task),
            (self.start[user], -1.0),
            (self._at(user, d), least),
            *[(x, least) for x, _ in ways],
        )

    def time(self, value: int, source: int, target: int) -> float:
        problem = self.problem
        size = problem.sizes[value]
        return (
            problem.alpha[source][target] + size * problem.per_byte[source][target]
        ) / self.limit

    def _order(self) -> None:
        """Of two tasks on one device, one is first; so are the values they send to another."""
        for made in self.problem.makes:
            for v, w in combinations(made, 2):
                self._after_sibling(v, w)
        for i, j in combinations(range(self.problem.tasks), 2):
            if self.reach[i] >> j & 1:
                self._same_way(i, j, None)
                continue
            if not any(
                self._at(i, d) is not None and self._at(j, d) is not None for d in self.devices
            ):
                continue
            first = self.before[i, j] = self._variable(1.0, True)
            for d in self.devices:
                a, b = self._at(i, d), self._at(j, d)
                if a is None or b is None:
                    continue
                here = ((a, 1.0), (b, 1.0))
                starts = (self.start[i], 1.0), (self.start[j], -1.0)
                self._row(3.0, *starts, *self._length(i), (first, 1.0), *here)
                starts = (self.start[j], 1.0), (self.start[i], -1.0)
                self._row(2.0, *starts, *self._length(j), (first, -1.0), *here)
            self._same_way(i, j, first)

    def _same_way(self, i: int, j: int, first: int | None) -> None:
        """Values that take the same way go one after the other.  `first`: 1 where i is first;
        None: it always is."""
        for d in self.devices:
            for e in self.devices:
                a, b = self._at(i, d), self._at(j, d)
                if d == e or a is None or b is None:
                    continue
                for v in self.problem.makes[i]:
                    for w in self.problem.makes[j]:
                        if e in self.arrive[v] and e in self.arrive[w]:
                            self._after(v, w, e, a, b, first)

    def _after(self, v: int, w: int, e: int, a: int, b: int, first: int | None) -> None:
        both = ((a, 1.0), (b, 1.0), (self.sent[v][e], 1.0), (self.sent[w][e], 1.0))
        forth = (self.arrive[v][e], 1.0), (self.leave[w][e], -1.0)
        self._row(4.0 + (first is not None), *forth, *both, (first, 1.0))
        if first is not None:
            back = (self.arrive[w][e], 1.0), (self.leave[v][e], -1.0)
            self._row(4.0, *back, *both, (first, -1.0))

    def _after_sibling(self, v: int, w: int) -> None:
        """Values of one task go in their order."""
        for e in self.arrive[v].keys() & self.arrive[w].keys():
            self._row(
                2.0,
                (self.arrive[v][e], 1.0),
                (self.leave[w][e], -1.0),
                (self.sent[v][e], 1.0),
                (self.sent[w][e], 1.0),
            )

    def _memory(self) -> None:
        problem = self.problem
        for d, device in enumerate(problem.topology.devices):
            stays = [(self._at(t, d), size / device.memory) for t, size in problem.resident.items()]
            # A fetched value stays where it is made, to the end.
            stays += [
                (self._at(problem.producer[v], d), problem.sizes[v] / device.memory)
                for v in problem.kept - problem.views
            ]
            self._row(1.0, *stays)
            for task in range(problem.tasks):
                held = [v for v in problem.makes[task] if v not in problem.views | problem.kept]
                # Inputs are there, too: made here or received.  Views take memory if received.
                for v in problem.needs[task]:
                    if v not in problem.views and v not in problem.kept:
                        held.append(v)
                size = sum([problem.sizes[v] for v in held]) / device.memory
                x = self._at(task, d)
                if size and x is not None:
                    self._row(1.0, *stays, (x, size))

    def schedule(self, x: Any) -> Schedule:
        problem = self.problem
        group = [max(homes, key=lambda d: x[homes[d]]) for homes in self.home]
        where = [group[g] for g in problem.group]
        rank = [-float(x[s]) for s in self.start]
        # Tasks that take no time start with what they wait for: then the order decides.
        order = sorted(range(problem.tasks), key=lambda t: (round(-rank[t], 9), t))
        ranks = [0.0] * problem.tasks
        for position, task in enumerate(order):
            ranks[task] = -float(position)
        found = [simulate(problem, where, ranks, strict=strict) for strict in (True, False)]
        return min(found, key=judge)


def _reachable(problem: Problem) -> list[int]:
    """Task -> the tasks after it, as bits."""
    reach = [0] * problem.tasks
    for task in reversed(range(problem.tasks)):
        for value in problem.makes[task]:
            for user in problem.users[value]:
                reach[task] |= reach[user] | 1 << user
    return reach
