"""Heuristics that say where tasks go.  The simulator judges what they propose."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from graphflow.place.problem import Problem


def upward_rank(problem: Problem) -> list[float]:
    """Task -> seconds from its start to the end of the step, at mean speeds.

    Source: Topcuoglu, Hariri and Wu, "Performance-effective and low-complexity task scheduling
    for heterogeneous computing", 2002.
    """
    devices = len(problem.topology.devices)
    pairs = max(1, devices * (devices - 1))
    alpha = sum(map(sum, problem.alpha)) / pairs
    per_byte = sum(map(sum, problem.per_byte)) / pairs
    rank = [0.0] * problem.tasks
    for task in reversed(range(problem.tasks)):
        longest = 0.0
        for value in problem.makes[task]:
            users = problem.users[value]
            if users:
                travel = alpha + problem.sizes[value] * per_byte
                longest = max(longest, travel + max([rank[u] for u in users]))
        row = problem.seconds[task]
        rank[task] = sum(row) / len(row) + longest
    return rank


def single_devices(problem: Problem) -> Iterable[tuple[str, list[int]]]:
    """For each device: everything on it that may go there, the rest where it is allowed."""
    for device, spec in enumerate(problem.topology.devices):
        choice = [device if device in allowed else allowed[0] for allowed in problem.allowed]
        yield f"all on {spec.name}", [choice[g] for g in problem.group]


class Timeline:
    """The busy intervals of a device: disjoint and sorted."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.ends: list[float] = []

    def earliest(self, ready: float, length: float) -> float:
        """When a task of that length may start, in a gap or at the end."""
        ends = self.ends
        if not ends or ready >= ends[-1]:
            return ready
        starts = self.starts
        for i in range(bisect_left(ends, ready), len(starts)):
            if ready + length <= starts[i]:
                return ready
            ready = max(ready, ends[i])
        return ready

    def occupy(self, start: float, end: float) -> None:
        if end > start:
            i = bisect_left(self.starts, start)
            self.starts.insert(i, start)
            self.ends.insert(i, end)


def heft(problem: Problem, rank: list[float]) -> list[int]:
    """Place tasks by descending rank where each ends first, in gaps too (HEFT with insertion).

    The first task of a group that takes time binds the whole group.  Source as `upward_rank`.
    """
    n = len(problem.topology.devices)
    timelines = [Timeline() for _ in range(n)]
    bound: dict[int, int] = {g: a[0] for g, a in enumerate(problem.allowed) if len(a) == 1}
    where = [0] * problem.tasks
    finish = [0.0] * problem.tasks
    for task in sorted(range(problem.tasks), key=lambda t: (-rank[t], t)):
        group = problem.group[task]
        choices = [bound[group]] if group in bound else problem.allowed[group]
        best = (float("inf"), 0.0, choices[0])
        for device in choices:
            ready = 0.0
            for value in problem.needs[task]:
                producer = problem.producer[value]
                source = where[producer]
                at = finish[producer]
                if source != device:
                    at += problem.alpha[source][device]
                    at += problem.sizes[value] * problem.per_byte[source][device]
                if at > ready:
                    ready = at
            length = problem.seconds[task][device]
            start = timelines[device].earliest(ready, length)
            if start + length < best[0]:
                best = (start + length, start, device)
        end, start, device = best
        timelines[device].occupy(start, end)
        where[task], finish[task] = device, end
        bound[group] = device
    return where
