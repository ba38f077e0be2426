"""Heuristics that say where tasks go.  The simulator judges what they propose."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

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


def single_devices(problem: Problem) -> list[tuple[str, list[int]]]:
    """For each device: everything on it that may go there, the rest where it is allowed.

    Where nothing is bound elsewhere, only the fastest device is worth a simulation.
    """
    devices = range(len(problem.topology.devices))
    if all(len(allowed) == len(devices) for allowed in problem.allowed):
        total = [sum([row[d] for row in problem.seconds]) for d in devices]
        devices = range(best := total.index(min(total)), best + 1)
    found = []
    for device in devices:
        choice = [device if device in allowed else allowed[0] for allowed in problem.allowed]
        name = f"all on {problem.topology.devices[device].name}"
        found.append((name, [choice[g] for g in problem.group]))
    return found


class Timeline:
    """The gaps of a device and its end.  Gaps too short for any task are forgotten."""

    SEARCHED = 32  # gaps; what lies behind them is as good as the end

    def __init__(self, shortest: float) -> None:
        self.shortest = shortest
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.last = 0.0

    def earliest(self, ready: float, length: float) -> float:
        """When a task of that length may start, in a gap or at the end."""
        starts, ends = self.starts, self.ends
        first = bisect_right(ends, ready)
        for i in range(first, min(first + self.SEARCHED, len(ends))):
            start = starts[i]
            if start < ready:
                start = ready
            if start + length <= ends[i]:
                return start
        return ready if ready > self.last else self.last

    def occupy(self, start: float, end: float) -> None:
        """Take the time from `start`, which `earliest` gave, to `end`."""
        if end <= start:
            return
        if start >= self.last:
            self._add(len(self.starts), self.last, start)
            self.last = end
            return
        i = bisect_right(self.ends, start)
        before, after = self.starts.pop(i), self.ends.pop(i)
        self._add(i, end, after)
        self._add(i, before, start)

    def _add(self, i: int, start: float, end: float) -> None:
        if end - start >= self.shortest and end > start:
            self.starts.insert(i, start)
            self.ends.insert(i, end)


def heft(problem: Problem, rank: list[float]) -> list[int]:
    """Place tasks by descending rank where each ends first, in gaps too (HEFT with insertion).

    The first task of a group binds the whole group; variables go only where there is room.
    Source as `upward_rank`.
    """
    n = len(problem.topology.devices)
    shortest = min([s for row in problem.seconds for s in row if s > 0], default=0.0)
    timelines = [Timeline(shortest) for _ in range(n)]
    bound: dict[int, int] = {g: a[0] for g, a in enumerate(problem.allowed) if len(a) == 1}
    room = Room(problem)
    for g, device in bound.items():
        room.take(g, device)
    where = [0] * problem.tasks
    finish = [0.0] * problem.tasks
    for task in sorted(range(problem.tasks), key=lambda t: (-rank[t], t)):
        group = problem.group[task]
        choices = [bound[group]] if group in bound else room.choices(group)
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
        if group not in bound:
            bound[group] = device
            room.take(group, device)
    return where


class Room:
    """What memory the variables of groups, and copies of these, have left."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self._left = [d.memory for d in problem.topology.devices]

    def take(self, group: int, device: int) -> None:
        """The group goes there."""
        if group in self._problem.heavy:
            for each, size in self._problem.stays(group, device).items():
                self._left[each] -= size

    def choices(self, group: int) -> Sequence[int]:
        """The devices that the group may go to where its variables still fit; all, where they fit
        nowhere."""
        problem, left = self._problem, self._left
        allowed = problem.allowed[group]
        if group not in problem.heavy or problem.roomy:
            return allowed
        taken = {d: problem.stays(group, d).items() for d in allowed}
        return [d for d in allowed if all(size <= left[e] for e, size in taken[d])] or allowed
