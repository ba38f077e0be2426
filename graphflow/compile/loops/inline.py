"""Compute cheap values where they are used, also where what is read is a view of them.

Fusion joins loops over one space.  A bias that is added before an array is cut into slices, or a
rectifier before pooling, is over another space than what uses it: so its expression moves into
its users, and the array in between is never stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from graphflow.compile.loops.sums import nodes, replace
from graphflow.compile.loops.values import Map, Task, View, reads, row_major
from graphflow.ops.expression import COMPARISONS, LOGICAL, Node, subexpressions

_CHEAP = 8  # nodes, leaves included
_OFTEN = 4  # times that an element may be computed
_SMALL = 8  # an input with so many times fewer elements stays in the cache
_SIMPLE = COMPARISONS | LOGICAL | {
    "arg", "const", "add", "subtract", "multiply", "maximum", "minimum", "negative", "abs",
    "where", "cast",
}  # fmt: skip


def inline(tasks: Sequence[Task], kept: set[int]) -> list[Task]:
    """The tasks, with cheap maps computed in place.

    Args:
      kept: identities of values that must be stored.
    """
    seen: dict[int, list[View]] = {}  # value -> how maps see it
    stored = set(kept)
    for task in tasks:
        looked_up = tables(task.body) if isinstance(task, Map) else set()
        for i, view in enumerate(reads(task)):
            if isinstance(task, Map) and i not in looked_up:
                seen.setdefault(id(view.value), []).append(view)
            else:
                stored.add(id(view.value))
    moving: set[int] = set()
    for task in reversed(tasks):
        if isinstance(task, Map) and id(task.out) not in stored:
            views = seen.get(id(task.out), [])
            if _moves(task, views):
                moving.add(id(task.out))
                for source in task.inputs:
                    through = seen.get(id(source.value), [])
                    if source in through:
                        through.remove(source)
                    through += [found for v in views if (found := composed(v, source))]
    gone: dict[int, Map] = {}
    result: list[Task] = []
    for task in tasks:
        if isinstance(task, Map) and any(id(v.value) in gone for v in task.inputs):
            alone = substituted(task, gone)
            assert alone is not None  # `_moves` has tried
            task = alone
        if isinstance(task, Map) and id(task.out) in moving:
            gone[id(task.out)] = task
        else:
            result.append(task)
    return result


def tables(node: Node) -> set[int]:
    """Arguments that are read where an index puts it."""
    return {n.args[0].value for n in subexpressions(node) if n.op == "gather"}


def _moves(task: Map, views: Sequence[View]) -> bool:
    """Is it better computed where these views read it?"""
    out = task.out
    if out.home is not None or not views or out.size < 2:
        return False
    if nodes(task.body) > _CHEAP or not is_simple(task.body):
        return False
    if all(v.is_whole and v.shape == out.shape for v in views):
        return False  # fusion finds those
    wide = sum(_distinct(v) * _SMALL > out.size for v in task.inputs)
    often = sum(v.size for v in views) / out.size
    if often > (1 if wide > 1 else _OFTEN):
        return False
    return all(composed(v, source) is not None for v in views for source in task.inputs)


def is_simple(node: Node) -> bool:
    """Does it take next to no time?"""
    return node.op in _SIMPLE and all(is_simple(a) for a in node.args)


def _distinct(view: View) -> int:
    """Elements of a view that are not the same one."""
    return math.prod(n for n, s in zip(view.shape, view.strides, strict=True) if s)


def substituted(task: Map, gone: Mapping[int, Map]) -> Map | None:
    """A map with what computes its inputs in their place; None where a view prevents that.

    Args:
      gone: identity of a value -> the map that computes it.
    """
    inputs: list[View] = []
    leaves: dict[int, Node] = {}
    for i, view in enumerate(task.inputs):
        source = gone.get(id(view.value))
        if source is None:
            leaves[i] = Node("arg", (), view.dtype, len(inputs))
            inputs.append(view)
            continue
        moved = {j: Node("arg", (), v.dtype, len(inputs) + j) for j, v in enumerate(source.inputs)}
        for through in source.inputs:
            found = composed(view, through)
            if found is None:
                return None
            inputs.append(found)
        leaves[i] = replace(source.body, moved)
    return Map(task.out, tuple(inputs), replace(task.body, leaves), task.name)


def composed(view: View, source: View) -> View | None:
    """What a view of a value reads of a source that has the value's shape, element by element.

    None where an axis of the view runs through several axes of the value.
    """
    shape = view.value.shape
    steps = row_major(shape)
    starts = _index(view.offset, shape)
    reach = list(starts)
    strides = []
    for n, stride in zip(view.shape, view.strides, strict=True):
        if n == 1 or not stride:
            strides.append(0)
            continue
        axis = next(
            (i for i, (m, s) in enumerate(zip(shape, steps, strict=True))
             if m > 1 and stride >= s and stride % s == 0), None,
        )  # fmt: skip
        if axis is None or stride < 0:
            return None
        count = stride // steps[axis]
        reach[axis] += count * (n - 1)
        strides.append(count * source.strides[axis])
    if any(r >= n for r, n in zip(reach, shape, strict=True)):
        return None
    offset = source.offset + sum(a * s for a, s in zip(starts, source.strides, strict=True))
    return View(source.value, view.shape, tuple(strides), offset)


def _index(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    found = []
    for n in reversed(shape):
        found.append(flat % n)
        flat //= n
    return tuple(reversed(found))
