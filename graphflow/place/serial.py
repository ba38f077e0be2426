"""A schedule found by going once through an order of tasks: what the search judges steps by.

What devices lose to each other and to transfers (`sharing.py`) is left to the simulator.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphflow.place.problem import Problem
from graphflow.place.simulate import ROUNDING

Routes = list[list[tuple[tuple[int, ...], float, float, float]]]


def routes_of(problem: Problem) -> Routes:
    """Device -> device -> channels as numbers, alpha, seconds per byte, share that is held."""
    numbers: dict[str, int] = {}
    names = [d.name for d in problem.topology.devices]
    return [
        [
            (
                tuple(numbers.setdefault(c, len(numbers)) for c in problem.topology.channels(a, b)),
                problem.alpha[i][j],
                problem.per_byte[i][j],
                problem.hold[i][j],
            )
            for j, b in enumerate(names)
        ]
        for i, a in enumerate(names)
    ]


def serial(
    problem: Problem,
    order: Sequence[int],
    home: Sequence[int],
    routes: Routes,
    limit: float = float("inf"),
) -> float:
    """Makespan where devices and channels serve tasks in the given order; infinite where it is
    above the limit."""
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
            if end > limit:
                return float("inf")
        for value in makes[task]:
            arrival[value, device] = end
            for user in users[value]:
                target = home[group[user]]
                if (value, target) in arrival:
                    continue
                ways, alpha, per_byte, hold = routes[device][target]
                begin = end
                for way in ways:
                    if channels[way] > begin:
                        begin = channels[way]
                travel = alpha + problem.sizes[value] * per_byte
                arrived = begin + travel
                if hold:
                    free[device] += hold * travel
                for way in ways:
                    channels[way] = arrived
                arrival[value, target] = arrived
    return longest


def serial_in_memory(
    problem: Problem,
    order: Sequence[int],
    home: Sequence[int],
    routes: Routes,
    limit: float = float("inf"),
) -> tuple[float, float]:
    """Makespan as `serial` has it, and the bytes that devices lack, as `Schedule.overflow`."""
    n = len(routes)
    free = [0.0] * n
    channels = [0.0] * (n * n + 2 * n)
    arrival: dict[tuple[int, int], float] = {}
    born: dict[tuple[int, int], float] = {}
    last: dict[tuple[int, int], float] = {}
    group, needs, makes, users = problem.group, problem.needs, problem.makes, problem.users
    sizes = problem.sizes
    unseen: set[tuple[int, int]] = set()  # take no memory where they are made
    for task in order:
        device = home[group[task]]
        start = free[device]
        for value in needs[task]:
            at = arrival[value, device]
            if at > start:
                start = at
        end = start + problem.seconds[task][device]
        if end > limit:
            return float("inf"), 0.0
        free[device] = end
        for value in needs[task]:
            key = value, device
            if end > last[key]:
                last[key] = end
        for value in makes[task]:
            here = value, device
            arrival[here] = last[here] = end
            born[here] = start
            if value in problem.views:
                unseen.add(here)
            for user in users[value]:
                key = value, home[group[user]]
                if key in arrival:
                    continue
                ways, alpha, per_byte, hold = routes[device][key[1]]
                begin = max([end, *[channels[way] for way in ways]])
                travel = alpha + sizes[value] * per_byte
                arrived = begin + travel
                if hold:
                    free[device] += hold * travel
                for way in ways:
                    channels[way] = arrived
                arrival[key] = last[key] = arrived
                born[key] = begin
                if arrived > last[here]:
                    last[here] = arrived
            if value in problem.kept:
                last[here] = float("inf")
    memory = [d.memory for d in problem.topology.devices]
    base = problem.base(home.__getitem__)
    levels = [stays - room for stays, room in zip(base, memory, strict=True)]
    changes: list[list[tuple[float, int, float]]] = [[] for _ in levels]
    for key, at in born.items():
        if key not in unseen and sizes[key[0]]:
            size = sizes[key[0]]
            changes[key[1]] += ((at, 1, size), (last[key], 0, -size))
    overflow = 0.0
    for room, level, steps in zip(memory, levels, changes, strict=True):
        highest = level
        steps.sort()
        for _, _, size in steps:
            level += size
            if level > highest:
                highest = level
        if highest > ROUNDING * room:
            overflow += highest
    return max(free, default=0.0), overflow
