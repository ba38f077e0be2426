"""What to say where memory does not suffice: a minimal set of what cannot all fit."""

from __future__ import annotations

from collections.abc import Sequence

from graphflow.base.errors import ResourceExhaustedError
from graphflow.build.tensor import Operation
from graphflow.place.constraints import Group
from graphflow.place.problem import Problem
from graphflow.place.units import size as shown

LISTED = 12


def check_memory(problem: Problem, groups: Sequence[Group], order: Sequence[Operation]) -> None:
    """Raises:
    ResourceExhaustedError: variables bound to some devices are larger than those devices, or
      one operation needs more than any device has that it may go to.  What is told is minimal:
      without any one of it, the rest might fit.
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
    """By Hall's condition for each set of devices that some group is bound to."""
    heavy = problem.heavy
    for devices in sorted({tuple(problem.allowed[g]) for g in heavy}, key=lambda d: (len(d), d)):
        inside = [g for g in heavy if set(problem.allowed[g]) <= set(devices)]
        room = sum([rooms[d] for d in devices])
        need = sum([heavy[g] for g in inside])
        if need <= room:
            continue
        core = list(inside)
        for g in sorted(inside, key=lambda g: (heavy[g], g)):  # leave out small ones first
            if need - heavy[g] > room:
                core.remove(g)
                need -= heavy[g]
        names = ", ".join([problem.topology.devices[d].name for d in devices])
        lines = [_line(groups[g], heavy[g]) for g in core[:LISTED]]
        if len(core) > LISTED:
            lines.append(f"  and {len(core) - LISTED} more")
        first = groups[core[0]].members[0]
        raise ResourceExhaustedError(
            first.name,
            first,
            f"these need {shown(need)}, but {names} {'has' if len(devices) == 1 else 'have'} "
            f"{shown(room)}:\n" + "\n".join(lines) + "\nMove one of them, or add a device.",
        )


def _line(group: Group, size: float) -> str:
    first = group.members[0]
    why = f" ({group.reasons[0]})" if group.reasons else ""
    return f"  {first.type} {first.name!r}: {shown(size)}{why}; built at {first.site}"


def no_room(problem: Problem, peak: Sequence[float]) -> str:
    """A line for the explanation, where the best plan found does not fit."""
    lacking = [
        f"{d.name} lacks {shown(high - d.memory)}"
        for d, high in zip(problem.topology.devices, peak, strict=True)
        if high > d.memory
    ]
    return "no plan was found that fits into memory: " + ", ".join(lacking)
