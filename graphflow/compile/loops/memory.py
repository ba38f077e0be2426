"""One arena for all values of a plan: offsets by best fit over lifetimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_ALIGNED = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True, slots=True)
class Interval:
    """Bytes that are needed from one position of the plan to another, both included."""

    key: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Where each value lies.

    Attributes:
      offsets: key -> byte.
      size: bytes in all.
      bound: bytes that are alive at the worst moment: no plan needs less.
      intervals: what it was made for.
    """

    offsets: Mapping[int, int]
    size: int
    bound: int
    intervals: tuple[Interval, ...] = ()


def arrange(intervals: list[Interval]) -> Arena:
    """Offsets such that nothing overlaps that is alive at the same time.

    The largest is placed first, each in the narrowest gap that holds it.
    """
    placed: list[tuple[int, int, Interval]] = []
    offsets: dict[int, int] = {}
    top = 0
    for each in sorted(intervals, key=lambda i: (-i.size, i.first)):
        size = _rounded(each.size)
        busy = sorted((a, b) for a, b, o in placed
                      if o.first <= each.last and each.first <= o.last)  # fmt: skip
        best = None
        end = 0
        for begin, stop in busy:
            gap = begin - end
            if gap >= size and (best is None or gap < best[0]):
                best = (gap, end)
            end = max(end, stop)
        at = end if best is None else best[1]
        offsets[each.key] = at
        placed.append((at, at + size, each))
        top = max(top, at + size)
    return Arena(offsets, top, _bound(intervals), tuple(intervals))


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
