"""What to say where memory does not suffice: a minimal set of what cannot all fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphflow.base.errors import ResourceExhaustedError
from graphflow.build.tensor import Operation
from graphflow.place.constraints import Group
from graphflow.place.copies import MIRROR, Copies
from graphflow.place.problem import Problem
from graphflow.place.simulate import Schedule
from graphflow.place.units import size as shown

LISTED = 12


def check_memory(problem: Problem, groups: Sequence[Group], order: Sequence[Operation]) -> None:
    """Raises:
    ResourceExhaustedError: variables bound to some devices, with those that are mirrored there,
      are larger than those devices, or one operation needs more than any device has that it may
      go to.  What is told is minimal: without any one of it, the rest might fit.
    """
    if problem.roomy:
        return
    rooms = [d.memory for d in problem.topology.devices]
    _single_tasks(problem, order, rooms)
    _variables(problem, groups, order, rooms)


def _single_tasks(problem: Problem, order: Sequence[Operation], rooms: Sequence[float]) -> None:
    for task in range(problem.tasks):
        held = [v for v in (*problem.needs[task], *problem.makes[task]) if v not in problem.views]
        need = sum([problem.sizes[v] for v in held]) + problem.resident.get(task, 0.0)
        allowed = problem.allowed[problem.group[task]]
        room = max([rooms[d] for d in allowed])
        if need > room:
            operation = order[task]
            names = ", ".join([problem.topology.devices[d].name for d in allowed])
            raise ResourceExhaustedError(
                operation.name,
                operation,
                f"{operation.type} {operation.name!r} holds {shown(need)} (inputs, outputs and "
                f"state), but {names} {'has' if len(allowed) == 1 else 'have'} "
                f"{shown(room)} at most: use smaller batches or another device; "
                f"built at {operation.site}",
            )


def _variables(
    problem: Problem, groups: Sequence[Group], order: Sequence[Operation], rooms: Sequence[float]
) -> None:
    """By Hall's condition for each set of devices that some group is bound to, and for all."""
    needs = _Needs(problem)
    every = tuple(range(len(rooms)))
    bound = {every, *[tuple(problem.allowed[g]) for g in problem.heavy], *needs.mirroring}
    for devices in sorted(bound, key=lambda d: (len(d), d)):
        least = {g: needs.least(g, devices) for g in problem.heavy}
        room = sum([rooms[d] for d in devices])
        need = sum(least.values())
        if need <= room:
            continue
        core = [g for g, size in least.items() if size]
        for g in sorted(core, key=lambda g: (least[g], g)):  # leave out small ones first
            if need - least[g] > room:
                core.remove(g)
                need -= least[g]
        names = ", ".join([problem.topology.devices[d].name for d in devices])
        lines = [_line(groups[g], least[g]) for g in core[:LISTED]]
        if len(core) > LISTED:
            lines.append(f"  and {len(core) - LISTED} more")
        first = groups[core[0]].members[0]
        mirrored = any(needs.is_mirrored(g) for g in core)
        raise ResourceExhaustedError(
            first.name,
            first,
            f"these need {shown(need)}{', mirrors included' if mirrored else ''}, but {names} "
            f"{'has' if len(devices) == 1 else 'have'} {shown(room)}:\n"
            + "\n".join(lines)
            + ("\nMirror none of them (mirrored=False), move" if mirrored else "\nMove")
            + " one of them, or add a device.",
        )


class _Needs:
    """What variables and their mirrors take.  States of earlier steps are no part of it: how much
    of them differs from the values of now is an estimate, by which nothing is refused."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self._mirrors: dict[int, list[Copies]] = {}
        for copies in problem.copies:
            if copies.what == MIRROR:
                self._mirrors.setdefault(problem.group[copies.task], []).append(copies)
        held = [d for each in self._mirrors.values() for c in each for row in c.where for d in row]
        self.mirroring = {(device,) for device in held}

    def is_mirrored(self, group: int) -> bool:
        return group in self._mirrors

    def least(self, group: int, devices: Sequence[int]) -> float:
        """Bytes that a group takes of some devices, wherever it goes."""
        problem, inside = self._problem, set(devices)
        size, mirrors = problem.heavy[group], self._mirrors.get(group, ())
        if not mirrors:
            return size if inside.issuperset(problem.allowed[group]) else 0.0

        def taken(home: int) -> float:
            there = [c.size * sum([d in inside for d in c.where[home]]) for c in mirrors]
            return sum(there) + (size if home in inside else 0.0)

        return min([taken(home) for home in problem.allowed[group]])


def _line(group: Group, size: float) -> str:
    first = group.members[0]
    why = f" ({group.reasons[0]})" if group.reasons else ""
    return f"  {first.type} {first.name!r}: {shown(size)}{why}; built at {first.site}"


def no_room(schedule: Schedule) -> str:
    """What to say where the best plan found does not fit."""
    lacking = []
    devices = schedule.problem.topology.devices
    for device, high, copied in zip(devices, schedule.peak, schedule.copied, strict=True):
        if high > device.memory:
            more = f", where {told_copies(copied)}" if copied else ""
            lacking.append(f"{device.name} lacks {shown(high - device.memory)}{more}")
    return "no plan was found that fits into memory: " + "; ".join(lacking)


def told_copies(copied: Mapping[str, float]) -> str:
    """What copies of variables take on a device.

    Args:
      copied: what they are -> bytes.
    """
    parts = [f"{shown(size)} {what}" for what, size in copied.items()]
    return f"copies of variables are {' and '.join(parts)}"
