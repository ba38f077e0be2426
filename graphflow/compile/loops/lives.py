"""From where to where the values of a step are needed, and where they lie in its arena."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from graphflow.compile.loops.memory import Arena, Interval, arrange
from graphflow.compile.loops.values import Value

_LOOSE = 1.1  # of what is alive at once: an arena that takes more is worth further meetings
_MEETINGS = 8  # at most
_TRIED = 8  # places for each


class Lives:
    """Collects uses of values, position by position."""

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

    def drop(self, value: Value) -> None:
        """Forget a value that lies elsewhere after all."""
        del self.values[id(value)], self._found[id(value)]

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
        return best

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
