"""A placement in words and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from graphflow.place import gantt
from graphflow.place.memory import no_room, told_copies
from graphflow.place.problem import Problem
from graphflow.place.simulate import simulate
from graphflow.place.units import seconds, size

if TYPE_CHECKING:
    from graphflow.place.placement import Placement

SHOWN = 20  # groups
TRIED = 500  # tasks; in larger graphs, trying each group elsewhere would take seconds


class Explanation:
    """Why a placement is as it is.  `str` gives all of it.

    Attributes:
      placement: what is explained.
    """

    def __init__(self, placement: Placement):
        self.placement = placement

    @property
    def predicted(self) -> float:
        """Seconds of a step, without what starting it takes."""
        return self.placement.makespan

    @cached_property
    def bounds(self) -> Mapping[str, float]:
        """Seconds that no plan can be under, and why."""
        return lower_bounds(self.placement.whole.problem)

    @property
    def lower_bound(self) -> float:
        """The largest of the bounds."""
        return max(self.bounds.values())

    @property
    def gap(self) -> float:
        """By how much the prediction is above the bound, as a share of the bound."""
        bound = self.lower_bound
        return self.predicted / bound - 1 if bound else 0.0

    def svg(self) -> str:
        """A Gantt chart of the predicted step."""
        return gantt.svg(self.placement.whole.schedule)

    def png(self, path: str | Path) -> None:
        """Write the Gantt chart as a PNG.

        Raises:
          ImportError: Pillow is not installed.
        """
        gantt.png(self.placement.whole.schedule, path)

    def chrome_trace(self) -> str:
        """The predicted step as JSON for chrome://tracing and Perfetto."""
        return gantt.chrome_trace(self.placement.whole.schedule)

    def save(self, path: str | Path) -> None:
        """Write by the ending: .svg, .png, .json (Chrome trace), else the text.

        Raises:
          ImportError: a PNG is asked for, and Pillow is not installed.
        """
        path = Path(path)
        if path.suffix == ".png":
            self.png(path)
            return
        how = {".svg": self.svg, ".json": self.chrome_trace}.get(path.suffix, self.__str__)
        path.write_text(how(), encoding="utf-8")

    def __str__(self) -> str:
        return _text(self)

    __repr__ = __str__


def lower_bounds(problem: Problem) -> dict[str, float]:
    """What no plan can be under: the longest path where messages are free; the total work,
    spread evenly; and the cheapest transfer, where memory forces one."""
    fastest = [
        min([row[d] for d in problem.allowed[problem.group[task]]])
        for task, row in enumerate(problem.seconds)
    ]
    found = {
        "the critical path": problem.critical_path(),
        "the total work": sum(fastest) / len(problem.topology.devices),
    }
    cut = _forced_cut(problem, fastest)
    if cut:
        found["the cut that memory forces"] = cut
    return found


def _forced_cut(problem: Problem, fastest: list[float]) -> float:
    """Where no device holds all variables and all tasks hang together, some value travels."""
    need = sum(problem.resident.values())
    if need <= max([d.memory for d in problem.topology.devices]) or not problem.edges:
        return 0.0
    parent = list(range(problem.tasks))

    def find(task: int) -> int:
        while parent[task] != task:
            parent[task] = parent[parent[task]]
            task = parent[task]
        return task

    for a, b, _ in problem.edges:
        parent[find(a)] = find(b)
    if len({find(t) for t in problem.resident}) > 1:
        return 0.0  # parts that do not hang together may be apart for free
    every = range(len(problem.alpha))
    pairs = [(a, b) for a in every for b in every if a != b]
    least = math.inf
    for a, b, moved in problem.edges:
        if problem.group[a] != problem.group[b]:
            travel = min([problem.alpha[i][j] + moved * problem.per_byte[i][j] for i, j in pairs])
            least = min(least, fastest[a] + travel + fastest[b])
    return least if least < math.inf else 0.0


def explain(placement: Placement) -> str:
    """Predicted step time, bound, what each device does, and the reason per group."""
    return str(Explanation(placement))


def _text(explanation: Explanation) -> str:
    placement = explanation.placement
    schedule, problem = placement.whole.schedule, placement.whole.problem
    why, bound = max(explanation.bounds.items(), key=lambda item: item[1])
    lines = [
        f"{problem.tasks} operations on {len(placement.whole.used)} of "
        f"{len(placement.topology.devices)} devices ({placement.algorithm})",
        f"predicted step: {seconds(schedule.makespan)}; no plan can take less than "
        f"{seconds(bound)} (gap {explanation.gap:z.1%}), for {why}",
        f"starting it takes {seconds(schedule.starting)} more",
    ]
    where = list(schedule.where)
    for number, device in enumerate(placement.topology.devices):
        over = schedule.peak[number] > device.memory
        lines.append(
            f"  {device.name}: {where.count(number)} operations, busy "
            f"{seconds(schedule.load[number])}, idle {seconds(schedule.idle[number])}, "
            f"peak {size(schedule.peak[number])} of {size(device.memory)}"
            + (f", {told_copies(copied)}" if (copied := schedule.copied[number]) else "")
            + (": too much" if over else "")
        )
    lines += _shared(placement)
    if schedule.overflow:
        lines.append("  " + no_room(schedule))
    moved = sum(problem.sizes[t.value] for t in schedule.transfers)
    lines.append(f"  {len(schedule.transfers)} transfers, {size(moved)}")
    lines += _groups(placement)
    return "\n".join(lines)


def _shared(placement: Placement) -> list[str]:
    """What CPUs of one machine slow each other by."""
    return [
        f"  CPUs of {name}: at full speed at once, {host.compute:.2g} of them compute, and "
        f"{host.memory:.2g} of them read and write memory"
        for name, host in placement.topology.hosts.items()
    ]


def _groups(placement: Placement) -> list[str]:
    """The groups that take most time, with the reason for each one's device."""
    groups = placement.groups or ()
    where = placement.schedule.where
    weight = [
        sum([placement.problem.seconds[t][where[t]] for t in members])
        for members in placement.problem.members
    ]
    told = sorted(range(len(groups)), key=lambda g: (-weight[g], g))
    lines = []
    for number in told[:SHOWN]:
        group = groups[number]
        first = group.members[0]
        more = f" and {len(group.members) - 1} more" if len(group.members) > 1 else ""
        why = "; ".join(group.reasons[:3]) or _alternative(placement, number)
        lines.append(f"  {first.name}{more} -> {placement[first]}: {why}")
    if len(told) > SHOWN:
        lines.append(f"  and {len(told) - SHOWN} more groups, which take less time")
    return lines


def _alternative(placement: Placement, group: int) -> str:
    """What the step would take if the group were on the best other device."""
    problem, schedule = placement.problem, placement.schedule
    members = problem.members[group]
    if problem.tasks > TRIED:
        return f"chosen by {placement.algorithm}"
    rank = [0.0] * problem.tasks
    for position, task in enumerate(schedule.order):
        rank[task] = -float(position)
    best: tuple[float, str] | None = None
    for device in problem.allowed[group]:
        if device == schedule.where[members[0]]:
            continue
        moved = list(schedule.where)
        for task in members:
            moved[task] = device
        found = simulate(problem, moved, rank).makespan, problem.topology.devices[device].name
        best = found if best is None else min(best, found)
    if best is None:
        return "the only device that is allowed"
    change = best[0] - schedule.makespan
    if change < 1e-3 * schedule.makespan:
        return f"as good as on {best[1]}"
    return f"on {best[1]} the step would take {seconds(change)} more"
