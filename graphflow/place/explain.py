"""A placement in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphflow.place.simulate import simulate

if TYPE_CHECKING:
    from graphflow.place.placement import Placement

SHOWN = 20  # groups
TRIED = 500  # tasks; in larger graphs, trying each group elsewhere would take seconds


def explain(placement: Placement) -> str:
    """Predicted step time, bound, what each device does, and the reason per group."""
    schedule = placement.schedule
    problem = placement.problem
    bound = problem.lower_bound()
    gap = schedule.makespan / bound - 1 if bound else 0.0
    lines = [
        f"{problem.tasks} operations on {len(placement.used)} of "
        f"{len(placement.topology.devices)} devices ({placement.algorithm})",
        f"predicted step: {seconds(schedule.makespan)}; no plan can take less than "
        f"{seconds(bound)} (gap {gap:.1%})",
    ]
    where = list(schedule.where)
    for number, device in enumerate(placement.topology.devices):
        over = schedule.peak[number] > device.memory
        lines.append(
            f"  {device.name}: {where.count(number)} operations, busy "
            f"{seconds(schedule.load[number])}, idle {seconds(schedule.idle[number])}, "
            f"peak {size(schedule.peak[number])} of {size(device.memory)}"
            + (": too much" if over else "")
        )
    moved = sum(problem.sizes[t.value] for t in schedule.transfers)
    lines.append(f"  {len(schedule.transfers)} transfers, {size(moved)}")
    lines += _groups(placement)
    return "\n".join(lines)


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


def seconds(value: float) -> str:
    """A time in a unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def size(value: float) -> str:
    """Bytes in a unit that suits them."""
    if value == float("inf"):
        return "an unknown size"
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f} B"
