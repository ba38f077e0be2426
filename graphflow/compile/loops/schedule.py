"""In which order units run, where workers meet, and what runs strip by strip.

Workers own shares of a step's batch.  As long as a unit reads what its own worker has written, no
one waits.  So units run in *phases*: a phase takes whatever needs nothing of another worker's
from the same phase, and workers meet only between phases.

Within a phase, units that go through the same batch one after the other, and whose values are
larger than a core's cache, run as a *strip*: all of them on the first images, then all on the
next.  A value that is used within the strip alone needs memory for one part of it per worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from graphflow.compile.loops.nests import Unit
from graphflow.compile.loops.shares import Share, share, touched
from graphflow.compile.loops.strips import Strips, by_value, hull, stays, values_of
from graphflow.compile.loops.values import Value

_Touch: TypeAlias = tuple[int, int, int, int]  # unit, worker, first byte, end


class Strip(NamedTuple):
    """Units that run part by part.

    Attributes:
      first, last: numbers of units, the last included.
      parts: of each worker's share.
      private: values used within it alone; each part takes the place of the one before.
    """

    first: int
    last: int
    parts: int
    private: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Units in the order of execution.

    Attributes:
      units: the units.
      cuts: the share of each worker.
      phases: per unit, the number of the phase; workers meet between phases.
      strips: what runs in strips.
      split: identities of values of which each worker touches only its own, equal part.
    """

    units: tuple[Unit, ...]
    cuts: tuple[Share, ...]
    phases: tuple[int, ...]
    strips: tuple[Strip, ...]
    split: frozenset[int]

    @property
    def values(self) -> list[Value]:
        """All buffers."""
        return [v for unit in self.units for v in values_of(unit)]


def schedule(units: Sequence[Unit], workers: int, kept: Iterable[int] = ()) -> Schedule:
    """Order units into phases, and find strips.

    Args:
      units: in an order in which they may run.
      kept: identities of values that are used elsewhere, too.
    """
    return _Scheduler(units, workers, set(kept)).schedule()


class _Scheduler:
    def __init__(self, units: Sequence[Unit], workers: int, kept: set[int]):
        self.units = units
        self.workers = workers
        self.kept = kept
        self.cuts = [share(u, workers) for u in units]
        self.spans = [
            [touched(u, cut, w, by_value) for w in range(workers)]
            for u, cut in zip(units, self.cuts, strict=True)
        ]
        self.before: list[set[int]] = [set() for _ in units]  # units that come first
        self.across: list[set[int]] = [set() for _ in units]  # of them: with a meeting in between
        self._depend()

    def schedule(self) -> Schedule:
        order: list[int] = []
        phases: list[int] = []
        strips: list[Strip] = []
        found = Strips(self.units, self.cuts, self.before, self.kept)
        for number, phase in enumerate(self._phases()):
            for run, parts in found.arranged(phase):
                if parts > 1:
                    private = found.private(run, parts)
                    strips.append(Strip(len(order), len(order) + len(run) - 1, parts, private))
                order += run
            phases += [number] * len(phase)
        return Schedule(
            tuple([self.units[i] for i in order]),
            tuple([self.cuts[i] for i in order]),
            tuple(phases),
            tuple(strips),
            self._split(),
        )

    # ---- phases

    def _depend(self) -> None:
        """What must come before what: by the ranges that each worker touches, value by value."""
        read: dict[int, list[_Touch]] = {}
        written: dict[int, list[_Touch]] = {}
        for i, spans in enumerate(self.spans):
            new: list[tuple[dict[int, list[_Touch]], int, _Touch]] = []
            for worker, (reads, writes) in enumerate(spans):
                for ranges, seen in ((reads, (written,)), (writes, (written, read))):
                    mine = read if ranges is reads else written
                    for value, begin, end in ranges:
                        touch = (i, worker, begin, end)
                        new.append((mine, value, touch))
                        for earlier in seen:
                            self._relate(touch, earlier.get(value, ()))
            for mine, value, touch in new:
                mine.setdefault(value, []).append(touch)

    def _relate(self, touch: _Touch, earlier: Iterable[_Touch]) -> None:
        i, worker, begin, end = touch
        for j, other, first, last in earlier:
            if first < end and begin < last:
                self.before[i].add(j)
                if other != worker:
                    self.across[i].add(j)

    def _phases(self) -> list[list[int]]:
        """As early as possible: the given order within a phase is kept."""
        phase_of: dict[int, int] = {}
        phases: list[list[int]] = []
        for i in range(len(self.units)):
            at = max([phase_of[j] for j in self.before[i]], default=0)
            at = max([at, *[phase_of[j] + 1 for j in self.across[i]]])
            phase_of[i] = at
            while len(phases) <= at:
                phases.append([])
            phases[at].append(i)
        return phases

    def _split(self) -> frozenset[int]:
        extents = [
            (w, (hull(reads), hull(writes)))
            for spans in self.spans
            for w, (reads, writes) in enumerate(spans)
        ]
        count = self.workers
        return frozenset(
            id(v)
            for v in {id(v): v for unit in self.units for v in values_of(unit)}.values()
            if v.nbytes % count == 0 and stays(v, extents, v.nbytes // count)
        )
