"""Improve a schedule step by step: simulated annealing over orders and devices.

A step moves a group to another device or a task to another place in the order.  What a step
costs is found by going once through the order (a serial schedule), about 1 us per task, where
the simulator with its events takes ten times that.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from graphflow.place.problem import Problem
from graphflow.place.simulate import Schedule, judge, simulate

STEPS = 12_000
TASKS = 150_000  # steps x tasks at most: about 0.2 seconds
SHORT = 50e-6  # seconds; where less can be gained per step, no search is worth its time
ROUNDS = 4
HOT, COLD = 0.05, 0.02  # temperatures, as shares of the makespan


def improve(problem: Problem, schedule: Schedule, steps: int = STEPS) -> Schedule:
    """The best schedule found, or the given one.  The same input gives the same result.

    Source of the method: Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated
    annealing", 1983.
    """
    steps = min(steps, TASKS // max(1, problem.tasks))
    free = [g for g, allowed in enumerate(problem.allowed) if len(allowed) > 1]
    gap = schedule.makespan - problem.lower_bound()
    if (
        not free
        or steps < 10 * math.log2(problem.tasks + 2)
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
        self.cost = self.best = serial(problem, self.order, self.home, self.routes)
        self._moves = (self._move_group, self._move_task, self._move_both)
        self.before = [{problem.producer[v] for v in values} for values in problem.needs]
        self.after: list[set[int]] = [set() for _ in self.before]
        for task, earlier in enumerate(self.before):
            for other in earlier:
                self.after[other].add(task)

    def run(self, steps: int) -> None:
        self.order, self.home = list(self.best_order), list(self.best_home)
        self.cost = self.best
        temperature = HOT * self.cost
        cooling = (COLD / HOT) ** (1.0 / steps)
        draw = self.random.random
        for _ in range(steps):
            undo = self._moves[int(draw() * len(self._moves))]()
            cost = serial(self.problem, self.order, self.home, self.routes)
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
        order.insert(to, order.pop(at))
        return (("task", to, at),)

    def _undo(self, steps: tuple[_Undo, ...]) -> None:
        for kind, first, second in steps:
            if kind == "group":
                self.home[first] = second
            else:
                self.order.insert(second, self.order.pop(first))


Routes = list[list[tuple[tuple[int, ...], float, float]]]


def routes_of(problem: Problem) -> Routes:
    """Device -> device -> channels as numbers, alpha, seconds per byte."""
    numbers: dict[str, int] = {}
    names = [d.name for d in problem.topology.devices]
    return [
        [
            (
                tuple(numbers.setdefault(c, len(numbers)) for c in problem.topology.channels(a, b)),
                problem.alpha[i][j],
                problem.per_byte[i][j],
            )
            for j, b in enumerate(names)
        ]
        for i, a in enumerate(names)
    ]


def serial(problem: Problem, order: Sequence[int], home: Sequence[int], routes: Routes) -> float:
    """Makespan where devices and channels serve tasks in the given order."""
    free = [0.0] * len(routes)
    channels = [0.0] * (len(routes) * len(routes) + 2 * len(routes))
    arrival: dict[tuple[int, int], float] = {}
    group, needs, makes, users = problem.group, problem.needs, problem.makes, problem.users
    longest = 0.0
    for task in order:
        device = home[group[task]]
        start = free[device]
        for value in needs[task]:
            at = arrival[value, device]
            if at > start:
                start = at
        end = start + problem.seconds[task][device]
        free[device] = end
        if end > longest:
            longest = end
        for value in makes[task]:
            arrival[value, device] = end
            for user in users[value]:
                target = home[group[user]]
                if (value, target) in arrival:
                    continue
                ways, alpha, per_byte = routes[device][target]
                begin = end
                for way in ways:
                    if channels[way] > begin:
                        begin = channels[way]
                arrived = begin + alpha + problem.sizes[value] * per_byte
                for way in ways:
                    channels[way] = arrived
                arrival[value, target] = arrived
    return longest
