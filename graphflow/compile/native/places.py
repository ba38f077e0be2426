"""Where the values of a plan lie: in the arena, in the scratch of a strip, or outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphflow.compile.loops.lives import Lives, row_bytes
from graphflow.compile.loops.memory import Arena, Interval, arrange
from graphflow.compile.loops.nests import Access, access
from graphflow.compile.loops.overlay import overlays
from graphflow.compile.loops.schedule import Schedule, Strip
from graphflow.compile.loops.strips import values_of
from graphflow.compile.loops.values import Foreign, Value, View, reads, writes
from graphflow.compile.loops.verify_memory import MemoryCheck
from graphflow.compile.native.module import ARENA, Place


class Places:
    """The memory of a plan.

    Attributes:
      arena: what is inside.
      meets: per segment and unit: do workers meet before it?
    """

    def __init__(
        self, order: Sequence[Any], segments: Sequence[Schedule], entry: Mapping[int, int]
    ):
        """Args:
        order: schedules of `segments`, kernels that are called, and other actions.
        entry: identity of a value outside of the arena -> its entry of the table.

        Raises:
          ValueError: something is overwritten that is still read.
        """
        self.entry = entry
        self.workers = len(segments[0].cuts[0].bounds) - 1
        self._private: dict[int, tuple[Strip, int, int]] = {}  # of strips: place in their scratch
        self._begins: list[int] = []  # position of the first unit of each segment
        lives = Lives(set(entry), self.workers)
        for action in order:
            if isinstance(action, Schedule):
                self._touch(action, lives)
            elif isinstance(action, Foreign):  # positions: units count one each, kernels too
                lives.touch([found(v).value for v in reads(action)], lives.position)
                lives.advance(lives.phase + 1)
        split = frozenset[int]().union(*[s.split for s in segments])
        split -= {v for s in segments for v in map(id, s.values) if v not in s.split}
        self._keep = list(lives.values.values())  # so that their identities stay unique
        lives.overlay(overlays(lives.units, lives.uses, split))
        self.arena: Arena = lives.arena(split)
        self.meets = [
            lives.meets(first, len(segment.units))
            for first, segment in zip(self._begins, segments, strict=True)
        ]
        self._verify(order)

    def __call__(self, value: Value) -> Place:
        """Where a value lies."""
        entry = self.entry.get(id(value))
        if entry is not None:
            return Place(entry, 0)
        if id(value) not in self._private:
            each = row_bytes(value) if value.kind == "row" else 0
            return Place(ARENA, self.arena.offsets[id(value)], each)
        strip, at, size = self._private[id(value)]
        at += self.arena.offsets[id(strip)]
        return Place(ARENA, at, size, -value.nbytes // (strip.parts * self.workers))

    def _touch(self, segment: Schedule, lives: Lives) -> None:
        begin, before = lives.position, lives.phase
        self._begins.append(begin)
        for number, unit in enumerate(segment.units):
            lives.advance(before + segment.phases[number])
            lives.run(unit, begin + number)
        for strip in segment.strips:
            first, last = begin + strip.first, begin + strip.last
            inner = self._scratch(segment, strip)
            for value in strip.private:
                lives.drop(value)
                at = inner.offsets[id(value)]
                self._private[id(value)] = (strip, at, inner.size)
            for number in range(strip.first, strip.last + 1):  # parts go back and forth in it
                for end in (first, last):
                    lives.touch(values_of(segment.units[number]), end, set(self._private))
            lives.hold(first, last)
            if strip.private:
                lives.reserve(id(strip), inner.size * self.workers, first, last)
        lives.advance(lives.phase + 1)

    def _scratch(self, segment: Schedule, strip: Strip) -> Arena:
        """Where the private values of a strip lie, in the memory that each worker has for it."""
        lives = Lives(set(), 1)
        for number in range(strip.first, strip.last + 1):
            lives.touch(values_of(segment.units[number]), number)
        private = {id(v) for v in strip.private}
        return arrange(
            [
                Interval(i.key, i.size // (self.workers * strip.parts), i.first, i.last)
                for i in lives.intervals(frozenset())
                if i.key in private
            ]
        )

    def _verify(self, order: Sequence[Any]) -> None:
        def where(value: Value) -> tuple[Any, int]:
            place = self(value)
            own = place.by_worker or place.by_share
            return (id(value), 0) if own else (place.entry, place.offset)

        check = MemoryCheck(where)
        meets = iter(self.meets)
        for action in order:
            if isinstance(action, Schedule):
                check.run(action.units, action.cuts, next(meets))
            elif isinstance(action, Foreign):
                inside = [found(v).value for v in reads(action)]
                check.read([v for v in inside if id(v) not in self.entry], action.name)
                for value in writes(action):
                    check.write(value)


def found(view: View) -> Access:
    """Where a view lies: its value may be part of another."""
    return access(view.value, view.strides, view.offset)
