"""From where to where the values of a step are needed, and where they lie in its arena."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace

from graphflow.compile.loops.memory import Arena, Interval, arrange
from graphflow.compile.loops.nests import Unit
from graphflow.compile.loops.overlay import Overlay, Use
from graphflow.compile.loops.strips import values_of
from graphflow.compile.loops.values import Value

_LOOSE = 1.1  # of what is alive at once: an arena that takes more is worth further meetings
_MEETINGS = 8  # at most
_TRIED = 8  # places for each


class Lives:
    """Collects uses of values, position by position.

    Attributes:
      values: those that lie in the arena.
      units: with their places, in order.
    """

    def __init__(self, outside: set[int], workers: int):
        """Args:
        outside: identities of values that lie elsewhere.
        """
        self.workers = workers
        self.outside = outside
        self.values: dict[int, Value] = {}
        self.position = self.phase = 0
        self._found: dict[int, list[int]] = {}  # positions of uses
        self._reserved: list[tuple[int, int, int, int]] = []
        self._phase_at: list[int] = []
        self._held: set[int] = set()
        self._meetings: list[int] = []
        self.units: list[tuple[Unit, Use]] = []
        self._roots: dict[int, int] = {}  # value -> the one in whose memory it lies

    def advance(self, phase: int) -> None:
        """Go on to the next position."""
        self.phase = phase
        self._phase_at.append(phase)
        self.position += 1

    def touch(self, values: Iterable[Value], at: int, but: Iterable[int] = ()) -> None:
        """Note that values are used at a position."""
        for value in values:
            if id(value) not in self.outside and id(value) not in but:
                self.values[id(value)] = value
                self._found.setdefault(id(value), []).append(at)

    def run(self, unit: Unit, at: int) -> None:
        """Note that a unit uses its values."""
        self.touch(values_of(unit), at)
        self.units.append((unit, Use(at, self._phase_of(at))))

    def drop(self, value: Value) -> None:
        """Forget a value that lies elsewhere after all."""
        del self.values[id(value)], self._found[id(value)]

    def uses(self, value: Value) -> list[Use]:
        """All uses; none where it lies elsewhere."""
        return [Use(at, self._phase_of(at)) for at in self._found.get(id(value), ())]

    def _phase_of(self, at: int) -> int:
        """To a single worker each position is a phase."""
        return self._phase_at[at] if self.workers > 1 else at

    def overlay(self, found: Iterable[Overlay]) -> None:
        """Let values take the memory of others; in the order of the units."""
        for out, old in found:
            root = self._roots.get(id(old), id(old))
            self._roots[id(out)] = root
            self._found[root] += self._found.pop(id(out))
            del self.values[id(out)]

    def reserve(self, key: int, size: int, first: int, last: int) -> None:
        """Ask for bytes that are no value's."""
        self._reserved.append((key, size, first, last))

    def hold(self, first: int, last: int) -> None:
        """Between these positions workers cannot meet."""
        self._held |= set(range(first + 1, last + 1))

    def intervals(self, split: frozenset[int], meetings: Sequence[int] = ()) -> list[Interval]:
        """Lifetimes.

        Args:
          split: see `Schedule.split`.
          meetings: positions before which workers meet, too.
        """
        found = [self._interval(*each, False, meetings) for each in self._reserved]
        for k, v in self.values.items():
            at = self._found[k]
            size = row_bytes(v) * self.workers if v.kind == "row" else v.nbytes
            found.append(self._interval(k, size, min(at), max(at), k in split, meetings))
        return found

    def _interval(
        self, key: int, size: int, first: int, last: int, split: bool, meetings: Sequence[int]
    ) -> Interval:
        if self.workers == 1:
            return Interval(key, size, first, last)
        opens, closes = [self._phase_at[at] + bisect_right(meetings, at) for at in (first, last)]
        return Interval(key, size, first, last, opens, closes, split)

    def arena(self, split: frozenset[int]) -> Arena:
        """Where all lie.

        Within a phase little memory can be used again.  Where that makes the arena much larger
        than what is alive at once, the workers meet more often.
        """
        split -= {root for value, root in self._roots.items() if value not in split}
        meetings: list[int] = []
        best = arrange(self.intervals(split))
        while best.size > _LOOSE * best.bound and len(meetings) < _MEETINGS:
            choices = []
            for at in self._places(meetings):
                tried = sorted([*meetings, at])
                choices.append((arrange(self.intervals(split, tried)), tried))
            arena, tried = min(choices, key=lambda found: found[0].size, default=(best, []))
            if arena.size >= best.size:
                break
            best, meetings = arena, tried
        self._meetings = meetings
        inside = {value: best.offsets[root] for value, root in self._roots.items()}
        return replace(best, offsets={**best.offsets, **inside}, roots=self._roots)

    def meets(self, first: int, count: int) -> list[bool]:
        """For each position from the first on: do workers meet before it?  Once all lie."""
        phases = [self._phase_at[at] + bisect_right(self._meetings, at)
                  for at in range(first, first + count)]  # fmt: skip
        return [i > 0 and phases[i] != phases[i - 1] for i in range(count)]

    def _places(self, meetings: Sequence[int]) -> list[int]:
        """Positions to try: where large values begin, and some that are evenly spread."""
        free = [i for i in range(1, self.position) if i not in self._held and i not in meetings]
        large = sorted(self.values.values(), key=lambda v: -v.nbytes)
        begin = dict.fromkeys(min(self._found[id(v)]) for v in large)
        first = [at for at in begin if at in set(free)][:_TRIED]
        return sorted({*first, *free[:: max(1, len(free) // _TRIED)]})


def row_bytes(value: Value) -> int:
    """Memory of a row's buffer: workers' lie on cache lines of their own."""
    return -(-value.nbytes // 64) * 64
