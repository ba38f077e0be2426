"""The verifier of the arena: nothing is overwritten that is still read, by no worker.

It knows nothing of how places were chosen: it follows a plan's units and asks where values lie.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from graphflow.compile.loops.nests import Nest, Unit
from graphflow.compile.loops.overlay import may_overwrite
from graphflow.compile.loops.shares import Range, Share, touched
from graphflow.compile.loops.strips import reductions, values_of
from graphflow.compile.loops.values import Value

Place: TypeAlias = Callable[[Value], tuple[Any, int]]  # memory, first byte
_Touched: TypeAlias = tuple[list[Range], list[Range]]  # read, written


class MemoryCheck:
    """Follows a plan, segment by segment."""

    def __init__(self, place: Place):
        """Args:
        place: where a value lies; a memory of its own where each worker, or share, has its own.
        """
        self.place = place
        self.alive: dict[int, tuple[Any, int, int, Value]] = {}  # memory, first byte, end

    def run(self, units: Sequence[Unit], cuts: Sequence[Share], meets: Sequence[bool]) -> None:
        """Check a segment.

        Args:
          cuts: the share of each worker in each unit.
          meets: must all that comes before a unit be done before it?

        Raises:
          ValueError: a value is overwritten before it is read, or while it is; names the unit.
        """
        workers = len(cuts[0].bounds) - 1 if cuts else 1
        since = _Since(workers)
        for unit, cut, meet in zip(units, cuts, meets, strict=True):
            self.read(loaded(unit), unit.name)
            self._write(unit)
            if workers == 1:
                continue
            mine = [touched(unit, cut, worker, self.place) for worker in range(workers)]
            since = _Since(workers) if meet else since
            if since.clash(mine):
                raise ValueError(
                    f"{unit.name}: a worker writes what another one touches, or touches what "
                    "another one writes, before they meet"
                )
            since.add(mine)

    def read(self, values: Iterable[Value], name: str) -> None:
        """Check that values are as they were written."""
        for value in values:
            if value.kind == "computed" and value.size and id(value) not in self.alive:
                raise ValueError(
                    f"{name}: reads {value.dtype}{list(value.shape)}, which has been overwritten"
                )

    def write(self, value: Value) -> None:
        """Note that a value is there, and in its place no other."""
        memory, begin = self.place(value)
        end = begin + value.nbytes
        for key, (where, first, last, _) in list(self.alive.items()):
            if where == memory and first < end and begin < last:
                del self.alive[key]
        self.alive[id(value)] = memory, begin, end, value

    def _write(self, unit: Unit) -> None:
        new = stored(unit)
        ranges = [(*self.place(v), v.nbytes) for v in new]
        for (memory, begin, size), value in zip(ranges, new, strict=True):
            for old in (*loaded(unit), *new):
                where, first = self.place(old)
                apart = where != memory or first >= begin + size or begin >= first + old.nbytes
                if old is value or apart:
                    continue
                if first != begin or not may_overwrite(unit, value, old):
                    raise ValueError(
                        f"{unit.name}: {value.dtype}{list(value.shape)} is stored over "
                        f"{old.dtype}{list(old.shape)}, which it reads or stores, too"
                    )
        for value in new:
            self.write(value)


def loaded(unit: Unit) -> list[Value]:
    """Values that a unit reads and does not store."""
    own = {id(v) for v in stored(unit)}
    return [v for v in _once(values_of(unit)) if id(v) not in own]


def stored(unit: Unit) -> list[Value]:
    """Values that a unit stores; rows' buffers left out."""
    if not isinstance(unit, Nest):
        return [unit.out.value]
    found = [a.value for a, stores in unit.accesses if stores]
    found += [r.partial for r in reductions(unit) if r.partial is not None]
    return [v for v in _once(found) if v.kind != "row"]


def _once(values: Iterable[Value]) -> list[Value]:
    return list({id(v): v for v in values if v.kind != "row"}.values())


class _Since:
    """What each worker has read and written since they met."""

    def __init__(self, workers: int):
        self.found = [(_Cover(), _Cover()) for _ in range(workers)]

    def clash(self, mine: Sequence[_Touched]) -> bool:
        """Does a worker touch what another one has written, or write what it has touched?"""
        return any(
            written.meets(reads) or written.meets(writes) or read.meets(writes)
            for i, (reads, writes) in enumerate(mine)
            for j, (read, written) in enumerate(self.found)
            if i != j
        )

    def add(self, mine: Sequence[_Touched]) -> None:
        for both, covers in zip(mine, self.found, strict=True):
            for ranges, cover in zip(both, covers, strict=True):
                cover.add(ranges)


class _Cover:
    """A set of bytes: ranges that do not overlap, in order, per memory."""

    def __init__(self) -> None:
        self.begins: dict[Any, list[int]] = {}
        self.ends: dict[Any, list[int]] = {}

    def add(self, ranges: Iterable[Range]) -> None:
        for memory, begin, end in ranges:
            begins, ends = [d.setdefault(memory, []) for d in (self.begins, self.ends)]
            first, last = bisect_left(ends, begin), bisect_right(begins, end)
            if first < last:  # they become one
                begin, end = min(begin, begins[first]), max(end, ends[last - 1])
            begins[first:last], ends[first:last] = [begin], [end]

    def meets(self, ranges: Iterable[Range]) -> bool:
        for memory, begin, end in ranges:
            ends = self.ends.get(memory, ())
            at = bisect_right(ends, begin)
            if at < len(ends) and self.begins[memory][at] < end:
                return True
        return False
