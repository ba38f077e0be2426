"""Move whole layers between devices as long as that helps, judged by the simulator itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from graphflow.place.candidates import by_vote, layers
from graphflow.place.problem import Problem
from graphflow.place.simulate import Schedule, judge

UNITS = 40  # more layers are not tried
SIMULATED = 250_000  # tasks, over all simulations: about a second

Judged = Callable[[Sequence[int]], Schedule]


def climb(problem: Problem, start: Schedule, simulated: Judged) -> Schedule | None:
    """Hill climbing over the devices of layers: move one, or exchange two.

    A layer is what depends on the same last parameter (see `candidates.layers`).

    Args:
      problem: the tasks.
      start: each layer begins where most of its work is in this schedule.
      simulated: devices of all tasks -> their schedule.

    Returns:
      The best schedule found; None where there are too many layers, or one.
    """
    key = layers(problem)
    count = max(key, default=0) + 1
    units = sorted(set(key) - {-1})
    if not 1 < len(units) <= UNITS:
        return None
    devices = len(problem.topology.devices)
    votes = [[0.0] * devices for _ in range(count)]
    work = [0.0] * count
    for task, unit in enumerate(key):
        if unit < 0:
            continue
        votes[unit][start.where[task]] += start.end[task] - start.start[task]
        work[unit] += min(problem.seconds[task])
    home = [row.index(max(row)) for row in votes]
    units.sort(key=lambda u: (-work[u], u))
    best = simulated(by_vote(problem, [home[u] if u >= 0 else -1 for u in key]))
    left = SIMULATED // max(1, problem.tasks)
    improved = True
    while improved:
        improved = False
        for moved in _moves(home, units, devices):
            if left <= 0:
                return best
            left -= 1
            found = simulated(by_vote(problem, [moved[u] if u >= 0 else -1 for u in key]))
            if judge(found) < judge(best):
                best, improved = found, True
                home[:] = moved
    return best


def _moves(home: list[int], units: Sequence[int], devices: int) -> Iterator[list[int]]:
    """The neighbours of the current homes; heavy layers first."""
    for unit in units:
        for device in range(devices):
            if device != home[unit]:
                yield [device if u == unit else d for u, d in enumerate(home)]
    for i, a in enumerate(units):
        for b in units[:i]:
            if home[a] != home[b]:
                moved = list(home)
                moved[a], moved[b] = home[b], home[a]
                yield moved
