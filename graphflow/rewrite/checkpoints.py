"""Which values of a chain to keep and which to compute again, under a limit of memory.

A chain computes a_1 .. a_n, each from the one before; then n backward steps follow, from the last
to the first, and step i needs a_(i-1) and a_i.  The solution is exact among persistent schedules
(what is kept stays until its own backward step): the recurrences of Griewank and Walther,
"Algorithm 799: revolve", 2000, for sizes and costs that differ, after Beaumont et al., "Optimal
checkpointing for heterogeneous chains", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Literal, NamedTuple


class Event(NamedTuple):
    """A step of the schedule.

    Attributes:
      kind: "forward" computes a_stage, "backward" is backward step `stage`.
    """

    kind: Literal["forward", "backward"]
    stage: int


class Schedule(NamedTuple):
    """What to do, in order.

    Attributes:
      events: each stage forward at least once, backward once.
      cost: of all forward steps.
    """

    events: tuple[Event, ...]
    cost: float


def schedule(sizes: Sequence[int], costs: Sequence[float], limit: int) -> Schedule | None:
    """The cheapest schedule that never holds more than the limit; None: there is none.

    Args:
      sizes: of a_1 .. a_n, in whole units (the work grows with limit * n^3); a_0 is always there.
      costs: of computing each.
      limit: units that may be held at once.
    """
    solver = _Solver(tuple(sizes), tuple(costs), limit)
    cost = solver.open(0, len(sizes), limit)
    if math.isinf(cost):
        return None
    events: list[Event] = []
    solver.write(events, 0, len(sizes), limit, False)
    return Schedule(tuple(events), cost)


class _Solver:
    """`open(i, j, m)`: cost of the backward steps j .. i + 1 where a_i is kept, and m is free.

    `closed(i, j, m)` is the same where a_j is there, too, and counted.
    """

    def __init__(self, sizes: tuple[int, ...], costs: tuple[float, ...], limit: int):
        self.size = (0, *sizes)
        self.total = (0.0, *accumulate(costs))
        self.limit = limit
        self.open = cache(self._open)
        self.closed = cache(self._closed)

    def _open(self, i: int, j: int, free: int) -> float:
        if i == j:
            return 0.0
        return min((self._split(i, k, j, free, False) for k in range(i + 1, j + 1)), default=0.0)

    def _closed(self, i: int, j: int, free: int) -> float:
        if j == i + 1:
            return 0.0  # both ends are there: backward step j, and it is done
        return min(self._split(i, k, j, *how) for k, how in self._ways(i, j, free))

    def _ways(self, i: int, j: int, free: int) -> Iterator[tuple[int, tuple[int, bool]]]:
        """What may come next where both ends are there: keep a_j, or drop it and make it again."""
        for k in range(i + 1, j):
            yield k, (free, True)
            yield k, (free + self.size[j], False)

    def _split(self, i: int, k: int, j: int, free: int, closed: bool) -> float:
        """Go forward from a_i to a_k and keep it; then backward to k, then from k to i."""
        rest = free - self.size[k]
        if rest < 0 or free < self._passing(i, k):
            return math.inf
        cost = self.total[k] - self.total[i]
        cost += self.closed(k, j, rest) if closed else self.open(k, j, rest)
        if math.isinf(cost):
            return cost
        return cost + self.closed(i, k, rest + (self.size[j] if closed else 0))

    def _passing(self, i: int, k: int) -> int:
        """Units that going forward holds at the worst moment, what is kept of it included."""
        pairs = [self.size[x] + self.size[x + 1] for x in range(i + 1, k)]
        return max([self.size[i + 1], *pairs])

    # ---- the way back

    def write(self, events: list[Event], i: int, j: int, free: int, closed: bool) -> None:
        """Append the events of `open` or `closed`."""
        if i == j:
            return
        if closed and j == i + 1:
            events.append(Event("backward", j))
            return
        ways: Iterable[tuple[int, tuple[int, bool]]] = self._ways(i, j, free)
        if closed:
            wanted = self.closed(i, j, free)
        else:
            ways = [(k, (free, False)) for k in range(i + 1, j + 1)]
            wanted = self.open(i, j, free)
        k, (free, closed) = next(
            way for way in ways if self._split(i, way[0], j, *way[1]) == wanted
        )
        events += [Event("forward", x) for x in range(i + 1, k + 1)]
        rest = free - self.size[k]
        self.write(events, k, j, rest, closed)
        self.write(events, i, k, rest + (self.size[j] if closed else 0), True)
