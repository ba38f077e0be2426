"""Improve a schedule step by step: simulated annealing over orders and devices.

A step moves a group to another device or a task to another place in the order.  What a step
costs is found by going once through the order (`serial.py`), about 1 us per task, where the
simulator with its events takes ten times that.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from graphflow.place.problem import Problem
from graphflow.place.serial import routes_of, serial, serial_in_memory
from graphflow.place.simulate import Schedule, judge, simulate

STEPS = 30_000
TASKS = 800_000  # steps x tasks at most: about a second
RUNS = 1000  # the search may take as long as it can gain in so many steps of the program
SHORT = 50e-6  # seconds; where less can be gained per step, no search is worth its time
STEP_SECONDS = 0.8e-6  # of the search, per task
ROUNDS = 6
HOT, COLD = 0.06, 0.002  # temperatures, as shares of the makespan
CROWDED = 3.0  # what lacking all memory costs, in makespans


def improve(problem: Problem, schedule: Schedule, steps: int = STEPS) -> Schedule:
    """The best schedule found, or the given one.  The same input gives the same result.

    Memory is part of the objective, where it may not suffice.

    Source of the method: Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated
    annealing", 1983.
    """
    gap = schedule.makespan - problem.lower_bound()
    if schedule.overflow:
        gap = schedule.makespan
    n = max(1, problem.tasks)
    steps = min(steps, TASKS // n, int(gap * RUNS / (STEP_SECONDS * n)))
    free = [g for g, allowed in enumerate(problem.allowed) if len(allowed) > 1]
    # Fewer steps than half the tasks change nothing that is worth their time.
    if (
        not free
        or steps < max(10 * math.log2(n + 2), n / 2)
        or gap < max(SHORT, 1e-9 * schedule.makespan)
    ):
        return schedule
    search = _Search(problem, schedule, free)
    for _ in range(ROUNDS):  # reheating from the best beats one long run
        search.run(steps // ROUNDS)
    rank = [0.0] * problem.tasks
    for position, task in enumerate(search.best_order):
        rank[task] = -float(position)
    where = [search.best_home[g] for g in problem.group]
    found = [simulate(problem, where, rank, strict=strict) for strict in (True, False)]
    return min([schedule, *found], key=judge)


_Undo = tuple[str, int, int]


class _Search:
    def __init__(self, problem: Problem, schedule: Schedule, free: Sequence[int]):
        self.problem = problem
        self.free = free
        self.random = random.Random(0)
        self.order = list(schedule.order)
        self.home = [0] * len(problem.allowed)
        for task, device in enumerate(schedule.where):
            self.home[problem.group[task]] = device
        self.best_order, self.best_home = list(self.order), list(self.home)
        self.routes = routes_of(problem)
        self.memory = sum([d.memory for d in problem.topology.devices])
        self.price = CROWDED * schedule.makespan / self.memory
        self.cost = self.best = self._cost()
        self._moves = (self._move_group, self._move_task, self._move_task, self._move_both)
        self.before = [{problem.producer[v] for v in values} for values in problem.needs]
        self.after: list[set[int]] = [set() for _ in self.before]
        for task, earlier in enumerate(self.before):
            for other in earlier:
                self.after[other].add(task)

    def _cost(self) -> float:
        if self.problem.roomy:
            return serial(self.problem, self.order, self.home, self.routes)
        makespan, overflow = serial_in_memory(self.problem, self.order, self.home, self.routes)
        if overflow <= 1e-9 * self.memory:
            return makespan
        # Not too little, either, as the least overflow is worse than any makespan.
        return makespan * 1.05 + self.price * overflow

    def run(self, steps: int) -> None:
        self.order, self.home = list(self.best_order), list(self.best_home)
        self.cost = self.best
        temperature = HOT * self.cost
        cooling = (COLD / HOT) ** (1.0 / max(1, steps))
        draw = self.random.random
        for _ in range(steps):
            undo = self._moves[int(draw() * len(self._moves))]()
            if not undo:
                continue
            cost = self._cost()
            worse = cost - self.cost
            if worse <= 0 or draw() < math.exp(-worse / temperature):
                self.cost = cost
                if cost < self.best:
                    self.best = cost
                    self.best_order, self.best_home = list(self.order), list(self.home)
            else:
                self._undo(undo)
            temperature *= cooling

    def _move_both(self) -> tuple[_Undo, ...]:
        return (*self._move_group(), *self._move_task())

    def _move_group(self) -> tuple[_Undo, ...]:
        group = self.free[int(self.random.random() * len(self.free))]
        old = self.home[group]
        others = [d for d in self.problem.allowed[group] if d != old]
        self.home[group] = others[int(self.random.random() * len(others))]
        return (("group", group, old),)

    def _move_task(self) -> tuple[_Undo, ...]:
        """Take a task to another place between what it needs and what needs it."""
        order = self.order
        at = int(self.random.random() * len(order))
        task = order[at]
        low = at
        while low > 0 and order[low - 1] not in self.before[task]:
            low -= 1
        high = at
        while high < len(order) - 1 and order[high + 1] not in self.after[task]:
            high += 1
        to = low + int(self.random.random() * (high - low + 1))
        if to == at:
            return ()
        order.insert(to, order.pop(at))
        return (("task", to, at),)

    def _undo(self, steps: tuple[_Undo, ...]) -> None:
        for kind, first, second in reversed(steps):
            if kind == "group":
                self.home[first] = second
            else:
                self.order.insert(second, self.order.pop(first))
