"""In place: which results may take the memory of a value that the same nest reads last.

A nest may overwrite what it reads where each element is read, for the last time, in the iteration
that stores its successor, or before.  Other workers must be done with it, too.  A product may
overwrite what it begins with.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from graphflow.compile.loops.nests import Access, Nest, Product, Unit
from graphflow.compile.loops.values import Value
from graphflow.ops.expression import Node, subexpressions


class Use(NamedTuple):
    """A value's use.

    Attributes:
      position: of the unit, among all of the plan.
      phase: that the unit is in.
    """

    position: int
    phase: int


class Overlay(NamedTuple):
    """`out` takes the memory of `old`."""

    out: Value
    old: Value


def overlays(
    units: Sequence[tuple[Unit, Use]],
    uses: Callable[[Value], Sequence[Use]],
    split: Collection[int],
) -> list[Overlay]:
    """What may be computed in place.

    Args:
      units: those whose results may be, with their places, in order.
      uses: all uses of a value; none where it does not lie in the arena.
      split: see `Schedule.split`.
    """
    found: list[Overlay] = []
    taken: set[int] = set()  # memory that has its successor
    placed: set[int] = set()
    for unit, at in units:
        for out, old in _candidates(unit):
            if id(out) in placed or id(old) in taken:
                continue
            if _is_first(uses(out), at) and _is_last(uses(old), at, id(old) in split):
                found.append(Overlay(out, old))
                taken.add(id(old))
                placed.add(id(out))
    return found


def _candidates(unit: Unit) -> Iterator[tuple[Value, Value]]:
    """Pairs of what the unit stores and what it loads."""
    nest = unit if isinstance(unit, Nest) else unit.start
    if nest is None:
        return
    stores = [s.access for walk in nest.passes for s in walk.stores]
    stored, loaded = [
        {id(a.value): a.value for a in accesses if a.value.kind == "computed"}
        for accesses in (stores, nest.loads)
    ]
    for out in stored.values():
        for old in loaded.values():
            if may_overwrite(unit, out, old):
                yield out, old


def _is_first(uses: Sequence[Use], at: Use) -> bool:
    return bool(uses) and min(u.position for u in uses) == at.position


def _is_last(uses: Sequence[Use], at: Use, split: bool) -> bool:
    """Does nothing read it afterwards, nor another worker at the same time?"""
    if not uses or max(u.position for u in uses) > at.position:
        return False
    others = [u for u in uses if u.position != at.position]
    return bool(others) and (split or all(u.phase < at.phase for u in others))


def may_overwrite(unit: Unit, out: Value, old: Value) -> bool:
    """May the unit store `out` where `old` lies?

    All of `old` must be read at the element that is stored, and not behind that.
    """
    if isinstance(unit, Product):
        factors = [a.value for a in (*unit.scales, *[a for term in unit.terms for a in term])]
        return (
            unit.start is not None
            and not any(v is old for v in factors)
            and may_overwrite(unit.start, out, old)
        )
    if out is old or out.dtype != old.dtype or out.nbytes != old.nbytes:
        return False
    accesses = [a for a, stores in unit.accesses if stores and a.value is out]
    writes_old = any(stores and a.value is old for a, stores in unit.accesses)
    reads_out = any(a.value is out for a in unit.loads)
    if len(accesses) != 1 or writes_old or reads_out or any(p.scatters for p in unit.passes):
        return False
    number = next(
        (i for i, p in enumerate(unit.passes) if any(s.access is accesses[0] for s in p.stores)), -1
    )
    if number < 0:
        return False  # one value per row: those of a row behind it may come before
    loads = {i for i, load in enumerate(unit.loads) if load.value is old}
    if loads & unit.indirect or not all(_same(unit.loads[i], accesses[0]) for i in loads):
        return False
    behind = [body for p in unit.passes[number + 1 :] for body in p.bodies]
    behind += [s.body for s in unit.passes[number].after]
    return not any(_reads(body, loads) for body in behind)


def _same(load: Access, store: Access) -> bool:
    return load.strides == store.strides and load.offset == store.offset


def _reads(node: Node, loads: Collection[int]) -> bool:
    return any(n.op == "arg" and n.value in loads for n in subexpressions(node))
