"""A discrete-event simulation of one step, in virtual time.

Each device runs one task at a time.  Transfers overlap with tasks; those that share a channel
(a link inside a machine, the way out of one or into one) follow each other in the order in which
they become ready.  Nothing is random: the same input gives the same schedule.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from graphflow.base.errors import InternalError
from graphflow.place.devices import Link
from graphflow.place.problem import Problem
from graphflow.place.sharing import Sharing

ENDS, ARRIVES, RELEASED = range(3)  # events of one moment, in this order
ROUNDING = 1e-9  # of a memory; less is not too little


class Bar(NamedTuple):
    """One bar of a Gantt chart: a task on a device, or a transfer on "source->target"."""

    device: str
    start: float
    end: float
    name: str


class Transfer(NamedTuple):
    """A value on its way to another device."""

    value: int
    source: int
    target: int
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Schedule:
    """When everything happens.

    Attributes:
      problem: what was simulated.
      where: task -> device.
      start, end: task -> seconds from the start of the step.
      transfers: in the order in which they begin to wait for their channels.
    """

    problem: Problem
    where: Sequence[int]
    start: Sequence[float]
    end: Sequence[float]
    transfers: Sequence[Transfer]

    @cached_property
    def makespan(self) -> float:
        """Seconds until the last task or transfer ends."""
        return max([*self.end, *[t.end for t in self.transfers]], default=0.0)

    @cached_property
    def starting(self) -> float:
        """Seconds that starting the parts takes, besides."""
        problem = self.problem
        used = {d for t, d in enumerate(self.where) if problem.seconds[t][d]}
        devices = problem.topology.devices
        return problem.topology.starts.seconds(len(used), len({devices[d].process for d in used}))

    @cached_property
    def load(self) -> list[float]:
        """Device -> seconds that it is busy."""
        busy = [0.0] * len(self.problem.topology.devices)
        for task, device in enumerate(self.where):
            busy[device] += self.end[task] - self.start[task]
        return busy

    @cached_property
    def idle(self) -> list[float]:
        """Device -> seconds that it waits until the step ends."""
        return [self.makespan - busy for busy in self.load]

    @cached_property
    def overflow(self) -> float:
        """Bytes by which devices lack memory, over all of them."""
        problem = self.problem
        if problem.roomy:
            return 0.0
        sizes = [d.memory for d in problem.topology.devices]
        lacks = [peak - n for peak, n in zip(self.peak, sizes, strict=True)]
        return sum([lack for lack, n in zip(lacks, sizes, strict=True) if lack > ROUNDING * n])

    @cached_property
    def order(self) -> list[int]:
        """Tasks by start: an order in which they may run, on every device and over all."""
        return sorted(range(len(self.start)), key=lambda t: (self.start[t], self.end[t], t))

    @cached_property
    def gantt(self) -> list[Bar]:
        """The bars of tasks and transfers, by start."""
        names = [d.name for d in self.problem.topology.devices]
        labels = self.problem.names
        bars = [
            Bar(names[d], self.start[t], self.end[t], labels[t]) for t, d in enumerate(self.where)
        ]
        bars += [
            Bar(
                f"{names[t.source]}->{names[t.target]}",
                t.start,
                t.end,
                labels[self.problem.producer[t.value]],
            )
            for t in self.transfers
        ]
        return sorted(bars, key=lambda bar: (bar.start, bar.end, bar.device, bar.name))

    @cached_property
    def peak(self) -> list[float]:
        """Device -> bytes live at once, at most.

        An output lives from the start of its task to the end of its last use on that device,
        sends included; a received copy from the start of its transfer; what is resident, all
        the time.
        """
        problem = self.problem
        last: dict[tuple[int, int], float] = {}
        begin: dict[tuple[int, int], float] = {}
        for value, task in enumerate(problem.producer):
            key = value, self.where[task]
            begin[key], last[key] = self.start[task], self.end[task]
        for t in self.transfers:
            begin[t.value, t.target] = t.start
            last[t.value, t.target] = t.end
            key = t.value, t.source
            last[key] = max(last[key], t.end)
        for task, values in enumerate(problem.needs):
            for value in values:
                key = value, self.where[task]
                last[key] = max(last[key], self.end[task])
        changes: list[list[tuple[float, int, float]]] = [[] for _ in problem.topology.devices]
        for (value, device), at in begin.items():
            size = problem.sizes[value]
            home = self.where[problem.producer[value]] == device
            if home and value in problem.views:
                continue
            changes[device].append((at, 1, size))
            if not (home and value in problem.kept):
                changes[device].append((last[value, device], 0, -size))
        base = problem.base(lambda group: self.where[problem.members[group][0]])
        return [_highest(b, c) for b, c in zip(base, changes, strict=True)]

    @cached_property
    def copied(self) -> list[dict[str, float]]:
        """Device -> what copies it has, by kind -> their bytes."""
        found: list[dict[str, float]] = [{} for _ in self.problem.topology.devices]
        for copies in self.problem.copies:
            for device in copies.where[self.where[copies.task]]:
                here = found[device]
                here[copies.what] = here.get(copies.what, 0.0) + copies.size
        return found


def _highest(level: float, changes: list[tuple[float, int, float]]) -> float:
    highest = level
    # What ends is freed before what starts at that moment takes its memory.
    for _, _, size in sorted(changes):
        level += size
        highest = max(highest, level)
    return highest


def judge(schedule: Schedule) -> tuple[float, float]:
    """What makes a schedule better, first to last: it fits into memory, it is short."""
    return schedule.overflow, schedule.makespan


def simulate(
    problem: Problem, where: Sequence[int], rank: Sequence[float], strict: bool = False
) -> Schedule:
    """Run the tasks on their devices.

    Args:
      problem: the tasks and devices.
      where: task -> device.
      rank: task -> urgency; of the tasks that are ready, a device takes the highest, the first
        where several are.
      strict: each device runs its tasks in descending rank, waiting where one is not ready.

    Raises:
      InternalError: the ranks of a strict run make devices wait for each other.
    """
    return _Simulation(problem, where, rank, strict).run()


class _Simulation:
    def __init__(self, problem: Problem, where: Sequence[int], rank: Sequence[float], strict: bool):
        self.problem = problem
        self.where = where
        n = problem.tasks
        keys = sorted(range(n), key=lambda t: (-rank[t], t))
        self.urgency = [0] * n  # small is urgent; distinct, so that ties cannot arise
        for position, task in enumerate(keys):
            self.urgency[task] = position
        self.by_urgency = keys
        self.waits = [len(values) for values in problem.needs]
        self.start = [0.0] * n
        self.end = [0.0] * n
        self.transfers: list[Transfer] = []
        devices = problem.topology.devices
        self.ready: list[list[int]] = [[] for _ in devices]
        self.running = [False] * len(devices)
        self.free: dict[str, float] = {}
        self.routes: dict[tuple[int, int], tuple[tuple[str, ...], Link]] = {}
        # (time, ENDS | ARRIVES | RELEASED, task or value, device)
        self.events: list[tuple[float, int, int, int]] = []
        self.sharing = Sharing(problem) if problem.loaded else None
        self.queue: list[list[int]] | None = None
        if strict:
            self.queue = [[] for _ in devices]
            for task in reversed(keys):
                self.queue[where[task]].append(task)

    def run(self) -> Schedule:
        for task, count in enumerate(self.waits):
            if not count:
                heapq.heappush(self.ready[self.where[task]], self.urgency[task])
        self._dispatch(range(len(self.ready)), 0.0)
        events = self.events
        done = 0
        while events:
            now = events[0][0]
            touched: dict[int, None] = {}
            while events and events[0][0] == now:
                _, kind, what, device = heapq.heappop(events)
                if kind == RELEASED:
                    self.running[device] = False
                elif kind == ARRIVES:
                    self._deliver(what, device)
                elif self._goes_on(what, device, now):
                    continue
                else:
                    done += 1
                    self.running[device] = False
                    held = self._finish(what, device, now)
                    if held:
                        self.running[device] = True
                        heapq.heappush(events, (now + held, RELEASED, what, device))
                touched[device] = None
            self._dispatch(touched, now)
        if done != self.problem.tasks:
            stuck = [self.problem.names[t] for t, n in enumerate(self.waits) if n][:5]
            raise InternalError(
                None, None, f"the schedule never runs {', '.join(stuck) or 'some tasks'}"
            )
        return Schedule(self.problem, self.where, self.start, self.end, self.transfers)

    def _goes_on(self, task: int, device: int, now: float) -> bool:
        """Has the task lost time that it needs now?"""
        more = self.sharing.stopped(task, device, now) if self.sharing else 0.0
        if more:
            self.end[task] = now + more
            heapq.heappush(self.events, (now + more, ENDS, task, device))
        return more > 0

    def _finish(self, task: int, device: int, now: float) -> float:
        """Hand over what a task made; for how long that holds its device."""
        held = 0.0
        problem, where = self.problem, self.where
        for value in problem.makes[task]:
            targets: dict[int, None] = {}
            for user in problem.users[value]:
                if where[user] == device:
                    self._arrived(user)
                else:
                    targets[where[user]] = None
            for target in targets:
                held += self._send(value, device, target, now)
        return held

    def _send(self, value: int, source: int, target: int, now: float) -> float:
        problem = self.problem
        pair = source, target
        route = self.routes.get(pair)
        if route is None:
            names = [problem.topology.devices[d].name for d in pair]
            channels = problem.topology.channels(*names)
            route = self.routes[pair] = channels, problem.link(source, target)
        begin = max([now, *[self.free.get(c, 0.0) for c in route[0]]])
        travel = route[1].time(problem.sizes[value])
        end = begin + travel
        for channel in route[0]:
            self.free[channel] = end
        self.transfers.append(Transfer(value, source, target, begin, end))
        heapq.heappush(self.events, (end, ARRIVES, value, target))
        return route[1].hold * travel

    def _deliver(self, value: int, device: int) -> None:
        if self.sharing:
            source = self.where[self.problem.producer[value]]
            travel = self.routes[source, device][1].time(self.problem.sizes[value])
            self.sharing.moved(source, device, travel)
        for user in self.problem.users[value]:
            if self.where[user] == device:
                self._arrived(user)

    def _arrived(self, task: int) -> None:
        self.waits[task] -= 1
        if not self.waits[task]:
            heapq.heappush(self.ready[self.where[task]], self.urgency[task])

    def _dispatch(self, devices: Sequence[int] | range | dict[int, None], now: float) -> None:
        for device in devices:
            if self.running[device] or (task := self._next(device)) is None:
                continue
            self.running[device] = True
            self.start[task] = now
            self.end[task] = end = now + self.problem.seconds[task][device]
            heapq.heappush(self.events, (end, ENDS, task, device))
            if self.sharing:
                self.sharing.started(task, device, now)

    def _next(self, device: int) -> int | None:
        if self.queue is None:
            ready = self.ready[device]
            return self.by_urgency[heapq.heappop(ready)] if ready else None
        queue = self.queue[device]
        return queue.pop() if queue and not self.waits[queue[-1]] else None
