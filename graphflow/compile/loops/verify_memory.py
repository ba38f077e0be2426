"""The verifier of the arena: nothing is overwritten that is still read, by no worker.

It knows nothing of how places were chosen: it follows a plan's units and asks where values lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from graphflow.compile.loops.nests import Nest, Unit
from graphflow.compile.loops.overlay import may_overwrite
from graphflow.compile.loops.shares import Range, Share, touched
from graphflow.compile.loops.strips import reductions, values_of
from graphflow.compile.loops.values import Value

Place: TypeAlias = Callable[[Value], tuple[Any, int]]  # memory, first byte
_Touched: TypeAlias = tuple[list[Range], list[Range]]


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
        since: list[tuple[Unit, list[_Touched]]] = []
        for unit, cut, meet in zip(units, cuts, meets, strict=True):
            self.read(loaded(unit), unit.name)
            self._write(unit)
            if workers == 1:
                continue
            mine = [touched(unit, cut, worker, self.place) for worker in range(workers)]
            since = [] if meet else since
            for other, theirs in since:
                if _clash(mine, theirs):
                    raise ValueError(
                        f"{unit.name}: a worker touches what another one's {other.name} touches, "
                        "and none of them writes it before they meet"
                    )
            since.append((unit, mine))

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
                if not (
                    isinstance(unit, Nest) and first == begin and may_overwrite(unit, value, old)
                ):
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


def _clash(mine: Sequence[_Touched], theirs: Sequence[_Touched]) -> bool:
    """Does a worker touch what another one writes?"""
    return any(
        _meet(my_reads, writes) or _meet(my_writes, writes) or _meet(my_writes, reads)
        for i, (my_reads, my_writes) in enumerate(mine)
        for j, (reads, writes) in enumerate(theirs)
        if i != j
    )


def _meet(some: Iterable[Range], others: Sequence[Range]) -> bool:
    return any(m == n and a < d and c < b for m, a, b in some for n, c, d in others)
