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

STEPS = 60_000
TASKS = 800_000  # steps x tasks at most: about a second
RUNS = 1000  # the search may take as long as it can gain in so many steps of the program
SHORT = 50e-6  # seconds; where less can be gained per step, no search is worth its time
STEP_SECONDS = 0.8e-6  # of the search, per task
ROUNDS = 24
HOT, COLD = 0.1, 0.002  # temperatures, as shares of the makespan
CROWDED = 3.0  # what lacking all memory costs at first, in makespans
DEARER = 2.0  # by which it rises after each round that ends with too little


def improve(problem: Problem, schedule: Schedule, steps: int = STEPS) -> Schedule:
    """The best schedule found, or the given one.  The same input gives the same result.

    Memory is part of the objective, where it may not suffice.

    Source of the method: Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated
    annealing", 1983.  Rounds with higher prices for what does not fit: Glover, "Tabu search,
    part I", 1989, strategic oscillation.
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
    for turn in range(ROUNDS):  # reheating beats one long run: from the best, and past it
        search.run(steps // ROUNDS, from_best=turn % 2 == 0)
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
        self.lack = 0.0  # bytes, of what was judged last
        self.cost = self._cost()
        self.best = self.lack, self.cost
        self._moves = (
            self._move_group,
            self._move_task,
            self._move_task,
            self._move_both,
            self._move_both,
            self._exchange,
        )
        self.before = [{problem.producer[v] for v in values} for values in problem.needs]
        self.after: list[set[int]] = [set() for _ in self.before]
        for task, earlier in enumerate(self.before):
            for other in earlier:
                self.after[other].add(task)

    def _cost(self, limit: float = math.inf) -> float:
        """The makespan, and the price of what lacks memory; infinite where it is above the
        limit for its makespan alone."""
        self.lack = 0.0
        if self.problem.roomy:
            return serial(self.problem, self.order, self.home, self.routes, limit)
        makespan, lack = serial_in_memory(self.problem, self.order, self.home, self.routes, limit)
        if not lack:
            return makespan
        self.lack = lack
        # Not too little, either, as the least overflow is worse than any makespan.
        return makespan * 1.05 + self.price * lack

    def run(self, steps: int, from_best: bool) -> None:
        """Anneal once more.  What lacks memory is passed through, at its price, but is the best
        only as long as nothing else is known."""
        if from_best:
            self.order, self.home = list(self.best_order), list(self.best_home)
        self.cost = self._cost()
        temperature = HOT * self.cost
        cooling = (COLD / HOT) ** (1.0 / max(1, steps))
        draw = self.random.random
        for _ in range(steps):
            temperature *= cooling
            undo = self._moves[int(draw() * len(self._moves))]()
            if not undo:
                continue
            limit = self.cost - temperature * math.log(1.0 - draw())  # drawn first: a bound
            cost = self._cost(limit)
            if cost > limit:
                self._undo(undo)
                continue
            self.cost = cost
            if (self.lack, cost) < self.best:
                self.best = self.lack, cost
                self.best_order, self.best_home = list(self.order), list(self.home)
        if self.lack:
            self.price *= DEARER

    def _any_group(self) -> int:
        return self.free[int(self.random.random() * len(self.free))]

    def _move_group(self) -> tuple[_Undo, ...]:
        group = self._any_group()
        old = self.home[group]
        others = [d for d in self.problem.allowed[group] if d != old]
        self.home[group] = others[int(self.random.random() * len(others))]
        return (("group", group, old),)

    def _exchange(self) -> tuple[_Undo, ...]:
        """Two groups of different devices change places."""
        one, other = self._any_group(), self._any_group()
        a, b = self.home[one], self.home[other]
        if a == b or b not in self.problem.allowed[one] or a not in self.problem.allowed[other]:
            return ()
        self.home[one], self.home[other] = b, a
        return (("group", one, a), ("group", other, b))

    def _move_both(self) -> tuple[_Undo, ...]:
        """Take a group to another device, and one of its tasks to another place there."""
        undo = self._move_group()
        members = self.problem.members[undo[0][1]]
        task = members[int(self.random.random() * len(members))]
        return (*undo, *self._replace(self.order.index(task)))

    def _move_task(self) -> tuple[_Undo, ...]:
        return self._replace(int(self.random.random() * len(self.order)))

    def _replace(self, at: int) -> tuple[_Undo, ...]:
        """Take a task to another place between what it needs and what needs it, past one task
        of its device at least: the others do not feel it."""
        order, home, group = self.order, self.home, self.problem.group
        task = order[at]
        device = home[group[task]]
        before, after = self.before[task], self.after[task]
        places = []
        for low in range(at - 1, -1, -1):
            if order[low] in before:
                break
            if home[group[order[low]]] == device:
                places.append(low)
        for high in range(at + 1, len(order)):
            if order[high] in after:
                break
            if home[group[order[high]]] == device:
                places.append(high)
        if not places:
            return ()
        to = places[int(self.random.random() * len(places))]
        order.insert(to, order.pop(at))
        return (("task", to, at),)

    def _undo(self, steps: tuple[_Undo, ...]) -> None:
        for kind, first, second in reversed(steps):
            if kind == "group":
                self.home[first] = second
            else:
                self.order.insert(second, self.order.pop(first))
