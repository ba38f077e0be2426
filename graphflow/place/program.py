"""Placing as a mixed-integer program.

The variables say where each group goes, when each task starts, which of two tasks of one device
comes first, and when each value arrives.  Values leave a device in the order in which they are
made, as in the simulator.  Live memory is bounded from below (`program_memory.py`); what devices
of a machine share is left out.  So the optimum of the program is never longer than that of the
simulator, and where the simulator reaches it, the plan is proven.

Source: Pinedo, "Scheduling", 2016, for disjunctions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from graphflow.place.problem import Problem
from graphflow.place.simulate import Schedule, judge, simulate

Term = tuple[int, float]  # variable and factor


class Program:
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
        self.end = self.variable(1.0)
        self.home = [self._binaries(allowed) for allowed in problem.allowed]
        self.start = [self.variable(1.0) for _ in range(problem.tasks)]
        self.sent: list[dict[int, int]] = []
        self.leave: list[dict[int, int]] = []
        self.arrive: list[dict[int, int]] = []
        self.before: dict[tuple[int, int], int] = {}
        self.reach = _reachable(problem)
        self._placing()
        self._paths()
        self._moving()
        self._order()

    def variable(self, high: float, integral: bool = False) -> int:
        self.low.append(0.0)
        self.high.append(high)
        self.integral.append(int(integral))
        return len(self.low) - 1

    def _binaries(self, allowed: Sequence[int]) -> dict[int, int]:
        return {d: self.variable(1.0, True) for d in allowed}

    def row(self, most: float, *terms: tuple[int | None, float]) -> None:
        row: dict[int, float] = {}
        for variable, factor in terms:
            if variable is not None and factor:
                row[variable] = row.get(variable, 0.0) + factor
        self.rows.append((row, most))

    def at(self, task: int, device: int) -> int | None:
        """The variable that is 1 where the task is on the device; None: it may not go there."""
        return self.home[self.problem.group[task]].get(device)

    def length(self, task: int, factor: float = 1.0) -> list[tuple[int, float]]:
        homes = self.home[self.problem.group[task]]
        return [(x, factor * self.seconds[task][d]) for d, x in homes.items()]

    def _placing(self) -> None:
        for homes in self.home:
            self.row(1.0, *[(x, 1.0) for x in homes.values()])
            self.row(-1.0, *[(x, -1.0) for x in homes.values()])
        for d in self.devices:  # what a device does takes less than the step
            work = [(self.at(t, d), self.seconds[t][d]) for t in range(self.problem.tasks)]
            self.row(0.0, *work, (self.end, -1.0))
        for task in range(self.problem.tasks):
            self.row(0.0, (self.start[task], 1.0), *self.length(task), (self.end, -1.0))
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
            self.row(-tail[task], (self.start[task], 1.0), *self.length(task), (self.end, -1.0))

    def _moving(self) -> None:
        problem = self.problem
        for value, task in enumerate(problem.producer):
            users = problem.users[value]
            targets = sorted({d for u in users for d in problem.allowed[problem.group[u]]})
            self.sent.append(self._numbers(targets, True))
            self.leave.append(self._numbers(targets))
            self.arrive.append(self._numbers(targets))
            for user in users:
                self.row(0.0, (self.start[task], 1.0), *self.length(task), (self.start[user], -1.0))
            for d in targets:
                self._transfer(value, task, d, [u for u in users if self.at(u, d) is not None])

    def _numbers(self, devices: Sequence[int], integral: bool = False) -> dict[int, int]:
        return {d: self.variable(1.0, integral) for d in devices}

    def _transfer(self, value: int, task: int, d: int, users: list[int]) -> None:
        sent, leave, arrive = self.sent[value][d], self.leave[value][d], self.arrive[value][d]
        here = self.at(task, d)
        for user in {self.problem.group[u]: u for u in users}.values():
            there = self.at(user, d)
            self.row(0.0, (there, 1.0), (here, -1.0), (sent, -1.0))
        self.row(1.0, (sent, 1.0), (here, 1.0))  # what is made there is not sent there
        # leave >= end of the task, where it is sent
        self.row(1.0, (self.start[task], 1.0), *self.length(task), (leave, -1.0), (sent, 1.0))
        least = float("inf")
        for source, x in self.home[self.problem.group[task]].items():
            if source != d:  # arrive >= leave + time, where it is made there and sent
                time = self.time(value, source, d)
                self.row(time, (leave, 1.0), (arrive, -1.0), (x, time), (sent, time))
                least = min(least, time)
        self.row(0.0, (leave, 1.0), (arrive, -1.0), (sent, least if np.isfinite(least) else 0.0))
        for user in users:
            there = self.at(user, d)
            self.row(2.0, (arrive, 1.0), (self.start[user], -1.0), (there, 1.0), (sent, 1.0))
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
        self.row(
            least,
            (self.start[task], 1.0),
            *self.length(task),
            (self.start[user], -1.0),
            (self.at(user, d), least),
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
                self.at(i, d) is not None and self.at(j, d) is not None for d in self.devices
            ):
                continue
            first = self.before[i, j] = self.variable(1.0, True)
            for d in self.devices:
                a, b = self.at(i, d), self.at(j, d)
                if a is None or b is None:
                    continue
                here = ((a, 1.0), (b, 1.0))
                starts = (self.start[i], 1.0), (self.start[j], -1.0)
                self.row(3.0, *starts, *self.length(i), (first, 1.0), *here)
                starts = (self.start[j], 1.0), (self.start[i], -1.0)
                self.row(2.0, *starts, *self.length(j), (first, -1.0), *here)
            self._same_way(i, j, first)

    def _same_way(self, i: int, j: int, first: int | None) -> None:
        """Values that take the same way go one after the other.  `first`: 1 where i is first;
        None: it always is."""
        for d in self.devices:
            for e in self.devices:
                a, b = self.at(i, d), self.at(j, d)
                if d == e or a is None or b is None:
                    continue
                for v in self.problem.makes[i]:
                    for w in self.problem.makes[j]:
                        if e in self.arrive[v] and e in self.arrive[w]:
                            self._after(v, w, e, a, b, first)

    def _after(self, v: int, w: int, e: int, a: int, b: int, first: int | None) -> None:
        both = ((a, 1.0), (b, 1.0), (self.sent[v][e], 1.0), (self.sent[w][e], 1.0))
        forth = (self.arrive[v][e], 1.0), (self.leave[w][e], -1.0)
        self.row(4.0 + (first is not None), *forth, *both, (first, 1.0))
        if first is not None:
            back = (self.arrive[w][e], 1.0), (self.leave[v][e], -1.0)
            self.row(4.0, *back, *both, (first, -1.0))

    def _after_sibling(self, v: int, w: int) -> None:
        """Values of one task go in their order."""
        for e in self.arrive[v].keys() & self.arrive[w].keys():
            self.row(
                2.0,
                (self.arrive[v][e], 1.0),
                (self.leave[w][e], -1.0),
                (self.sent[v][e], 1.0),
                (self.sent[w][e], 1.0),
            )

    def precedes(self, a: int, b: int) -> tuple[float, list[Term]] | None:
        """A constant and terms whose sum is 1 where a comes before b, if they share a device;
        None: it never does."""
        if self.reach[a] >> b & 1:
            return 1.0, []
        if (a, b) in self.before:
            return 0.0, [(self.before[a, b], 1.0)]
        if (b, a) in self.before:
            return 1.0, [(self.before[b, a], -1.0)]
        return None

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
