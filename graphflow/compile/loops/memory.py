"""One arena for all values of a plan: offsets by best fit over lifetimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_ALIGNED = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True, slots=True)
class Interval:
    """Bytes that are needed from one position of the plan to another, both included.

    Attributes:
      key: of the value.
      size: bytes.
      first, last: positions.
      opens, closes: the phases that these are in; workers meet between phases.  -1: each position
        is a phase of its own.
      split: each worker touches only its own, equal part.
    """

    key: int
    size: int
    first: int
    last: int
    opens: int = -1
    closes: int = -1
    split: bool = False

    def apart(self, other: Interval) -> bool:
        """Can any worker write one of the two while another one still uses the other?"""
        a, b = (self, other) if self.first <= other.first else (other, self)
        if b.first <= a.last:
            return False
        return a.closes < 0 or b.opens < 0 or a.closes < b.opens

    def may_replace(self, other: Interval) -> bool:
        """May they lie at the same place, part by part, though they are not `apart`?"""
        disjoint = self.last < other.first or other.last < self.first
        return disjoint and self.split and other.split and self.size == other.size


@dataclass(frozen=True, slots=True)
class Arena:
    """Where each value lies.

    Attributes:
      offsets: key -> byte.
      size: bytes in all.
      bound: bytes that are alive at the worst moment: no plan needs less.
      intervals: what it was made for.
      roots: value that is computed in place -> the one whose interval is its, too.
    """

    offsets: Mapping[int, int]
    size: int
    bound: int
    intervals: tuple[Interval, ...] = ()
    roots: Mapping[int, int] = field(default_factory=dict)


def arrange(intervals: list[Interval]) -> Arena:
    """Offsets such that nothing overlaps that is alive at the same time.

    The largest is placed first, each where one like it was, or else in the narrowest gap.  Within
    a phase no worker waits for another, so memory is used again only part by part.
    """
    placed: list[tuple[int, int, Interval]] = []
    offsets: dict[int, int] = {}
    top = 0
    for each in sorted(intervals, key=lambda i: (-i.size, i.first)):
        size = _rounded(each.size)
        busy = sorted(
            [(a, b, o) for a, b, o in placed if not each.apart(o)], key=lambda found: found[:2]
        )
        at = _old_place(each, busy)
        if at is None:
            at = _narrowest(size, busy)
        offsets[each.key] = at
        placed.append((at, at + size, each))
        top = max(top, at + size)
    return Arena(offsets, top, _bound(intervals), tuple(intervals))


def _old_place(each: Interval, busy: list[tuple[int, int, Interval]]) -> int | None:
    """Where only values lie that this one may replace."""
    replaced = {a for a, _, o in busy if each.may_replace(o)}
    for at in sorted(replaced):
        end = at + _rounded(each.size)
        if all(b <= at or end <= a or (a == at and each.may_replace(o)) for a, b, o in busy):
            return at
    return None


def _narrowest(size: int, busy: list[tuple[int, int, Interval]]) -> int:
    best = None
    end = 0
    for begin, stop, _ in busy:
        gap = begin - end
        if gap >= size and (best is None or gap < best[0]):
            best = (gap, end)
        end = max(end, stop)
    return end if best is None else best[1]


def _rounded(size: int) -> int:
    return -(-max(size, 1) // _ALIGNED) * _ALIGNED


def _bound(intervals: list[Interval]) -> int:
    changes: dict[int, int] = {}
    for each in intervals:
        changes[each.first] = changes.get(each.first, 0) + _rounded(each.size)
        changes[each.last + 1] = changes.get(each.last + 1, 0) - _rounded(each.size)
    now = highest = 0
    for at in sorted(changes):
        now += changes[at]
        highest = max(highest, now)
    return highest
