"""Strips: which units of a phase run part by part.

A strip begins with a product, and takes in what is connected with it by values, as long as no part
of a unit needs what a later part of another one computes.  It is worth it where what is handed on
within it is larger than a core's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from graphflow.compile.loops.nests import Nest, Product, Reduction, Unit
from graphflow.compile.loops.shares import Range, Share, touched
from graphflow.compile.loops.values import Value

_CACHE = 512 * 1024  # bytes of a part of a strip: half of a core's second cache
_FEWEST = 4  # parts that a strip is worth
_PLENTY = 16  # parts that a unit which joins must leave possible
_THIN = 96  # rows of a product's part: with fewer, copying the other factor again costs too much
_REPACKED = 100_000  # elements of that factor at most
_LONGEST = 32  # units

Hull: TypeAlias = dict[Any, tuple[int, int]]  # memory -> first byte, end
Extents: TypeAlias = tuple[Hull, Hull]  # what is read, what is written


class Strips:
    """Finds strips.

    Attributes:
      before: per unit, those that come first.
      kept: identities of values that are used elsewhere, too.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        cuts: Sequence[Share],
        before: Sequence[set[int]],
        kept: set[int],
    ):
        self.units = units
        self.cuts = cuts
        self.before = before
        self.kept = kept
        self.workers = (len(cuts[0].bounds) - 1) if cuts else 1
        self._extents: dict[tuple[int, int], list[Extents]] = {}
        self._users: dict[int, set[int]] = {}
        for i, unit in enumerate(units):
            for value in values_of(unit):
                self._users.setdefault(id(value), set()).add(i)

    def arranged(self, phase: Sequence[int]) -> list[tuple[list[int], int]]:
        """The units of a phase in order, with the number of parts; 1 where they are no strip."""
        for seed in phase:
            if isinstance(self.units[seed], Product) and self._length(seed):
                family, parts = self._family(phase, seed)
                if family:
                    strip = [i for i in phase if i in family]
                    ahead, behind = self._around(phase, family)
                    return [*self.arranged(ahead), (strip, parts), *self.arranged(behind)]
        return [(list(phase), 1)] if phase else []

    def _length(self, i: int) -> int:
        """How often a worker's share of the unit can be cut; 0: not at all."""
        unit, cut = self.units[i], self.cuts[i]
        if isinstance(unit, Product) and cut.axis != "batch":
            copied = sum(unit.inner) * unit.n
            if cut.axis == "columns" or copied > _REPACKED or self._most(i) < _FEWEST:
                return 0  # GEMM would copy the other factor again for each part
        sizes = {b - a for a, b in zip(cut.bounds, cut.bounds[1:], strict=False)}
        return sizes.pop() if len(sizes) == 1 else 0

    def _most(self, i: int) -> int:
        """Parts in which a unit is still fast."""
        unit, cut = self.units[i], self.cuts[i]
        length = cut.bounds[1]
        return length // _THIN if isinstance(unit, Product) and cut.axis == "rows" else length

    def _family(self, phase: Sequence[int], seed: int) -> tuple[set[int], int]:
        """Units that make a strip with the seed, and its parts; none where it is not worth it."""
        found, length = self._grown(phase, seed)
        if self._handed_on(found) <= _CACHE * self.workers:
            return set(), 1
        size = sum(v.nbytes for v in self._values(found) if v.kind == "computed") / self.workers
        most = min(self._most(i) for i in found)
        choices = [p for p in range(_FEWEST, most + 1) if length % p == 0]
        if not choices:
            return set(), 1
        parts = next((p for p in choices if size / p <= _CACHE), choices[-1])
        family = self._legal(phase, found, parts)
        worth = seed in family and self._handed_on(family) > _CACHE * self.workers
        return (family, parts) if worth else (set(), 1)

    def _grown(self, phase: Sequence[int], seed: int) -> tuple[set[int], int]:
        """What is connected with the seed, and how often all of it can be cut."""
        found, length = {seed}, self._length(seed)
        at = phase.index(seed)
        for i in [*reversed(phase[:at]), *phase[at + 1 :]]:
            joint = math.gcd(length, self._length(i)) if len(found) < _LONGEST else 0
            if joint >= max(_FEWEST, min(length, _PLENTY)) and self._connected(i, found):
                order = sorted([*found, i])
                if len(self._legal(order, set(order), _FEWEST)) == len(order):
                    found.add(i)
                    length = joint
        return found, length

    def _connected(self, i: int, family: set[int]) -> bool:
        values = (v for v in values_of(self.units[i]) if v.kind == "computed")
        return any(self._users[id(v)] & family for v in values)

    def _handed_on(self, family: set[int]) -> int:
        """Bytes of values that one unit of the family writes and another one reads."""
        return sum(
            v.nbytes
            for v in self._values(family)
            if v.kind == "computed" and len(self._users[id(v)] & family) > 1
        )

    def _values(self, numbers: Iterable[int]) -> list[Value]:
        found: dict[int, Value] = {}
        for i in numbers:
            found.update({id(v): v for v in values_of(self.units[i])})
        return list(found.values())

    def _legal(self, phase: Sequence[int], found: set[int], parts: int) -> set[int]:
        """Those units whose parts need nothing of a later part of another."""
        family: set[int] = set()
        barred: set[int] = set()  # they run behind the strip
        for i in phase:
            if i in found and not self.before[i] & barred:
                extents = self.extents(i, parts)
                if not any(_backward(extents, self.extents(j, parts)) for j in family):
                    family.add(i)
                    continue
            if self.before[i] & (barred | family):
                barred.add(i)
        return family

    def extents(self, i: int, parts: int) -> list[Extents]:
        """What each part of a unit touches: the parts of one worker, then those of the next."""
        found = self._extents.get((i, parts))
        if found is None:
            fine = finer(self.cuts[i], parts)
            count = len(fine.bounds) - 1
            spans = [touched(self.units[i], fine, p, by_value) for p in range(count)]
            found = [(hull(reads), hull(writes)) for reads, writes in spans]
            self._extents[i, parts] = found
        return found

    def _around(self, phase: Sequence[int], family: set[int]) -> tuple[list[int], list[int]]:
        """What is to run before the strip, and what behind it."""
        behind: set[int] = set()
        for i in phase:
            if i not in family and self.before[i] & (family | behind):
                behind.add(i)
        ahead = [i for i in phase if i not in family and i not in behind]
        return ahead, [i for i in phase if i in behind]

    def private(self, strip: Sequence[int], parts: int) -> tuple[Value, ...]:
        """Values that only the strip uses, a part of them in each of its parts."""
        inside = set(strip)
        count = parts * self.workers
        extents = [part for i in strip for part in enumerate(self.extents(i, parts))]
        found = []
        for value in self._values(strip):
            if (
                value.kind == "computed"
                and id(value) not in self.kept
                and self._users[id(value)] <= inside
                and value.size % count == 0
                and (value.nbytes // count) % 64 == 0
                and stays(value, extents, value.nbytes // count)
            ):
                found.append(value)
        return tuple(found)


def stays(value: Value, extents: Iterable[tuple[int, Extents]], size: int) -> bool:
    """Does part p touch bytes p * size to (p + 1) * size alone?"""
    return all(
        p * size <= one[id(value)][0] and one[id(value)][1] <= (p + 1) * size
        for p, both in extents
        for one in both
        if id(value) in one
    )


def hull(ranges: Iterable[Range]) -> Hull:
    """Per memory, the first byte and the end of what is touched."""
    found: Hull = {}
    for memory, begin, end in ranges:
        low, high = found.get(memory, (begin, end))
        found[memory] = (min(low, begin), max(high, end))
    return found


def _backward(later: Sequence[Extents], earlier: Sequence[Extents]) -> bool:
    """Does a part of the later unit clash with one of the earlier that runs behind it?"""
    behind_reads: Hull = {}
    behind_writes: Hull = {}
    for p in reversed(range(len(later) - 1)):
        for behind, one in zip((behind_reads, behind_writes), earlier[p + 1], strict=True):
            for memory, (begin, end) in one.items():
                low, high = behind.get(memory, (begin, end))
                behind[memory] = (min(low, begin), max(high, end))
        reads, writes = later[p]
        if (
            _meet(reads, behind_writes)
            or _meet(writes, behind_writes)
            or _meet(writes, behind_reads)
        ):
            return True
    return False


def _meet(some: Hull, others: Hull) -> bool:
    return any(
        memory in others and begin < others[memory][1] and others[memory][0] < end
        for memory, (begin, end) in some.items()
    )


def finer(cut: Share, parts: int) -> Share:
    """Each share in so many equal parts."""
    bounds = [0]
    for begin, end in zip(cut.bounds, cut.bounds[1:], strict=False):
        bounds += [begin + (end - begin) * p // parts for p in range(1, parts + 1)]
    return Share(cut.axis, tuple(bounds), parts)


def by_value(value: Value) -> tuple[int, int]:
    """A memory of its own for each value."""
    return id(value), 0


def values_of(unit: Unit) -> list[Value]:
    """All buffers of a unit."""
    if isinstance(unit, Product):
        return [unit.out.value, *[a.value for a in unit.accesses]]
    found = [a.value for a, _ in unit.accesses]
    return found + [v for r in reductions(unit) for v in (r.partial, r.lanes) if v is not None]


def reductions(unit: Nest) -> list[Reduction]:
    """All of a nest."""
    return [r for walk in unit.passes for r in walk.reductions]
