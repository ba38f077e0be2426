"""Stack the terms of a sum of products, so that one product computes it.

An unrolled loop adds up one small product per step for the gradient of its weights.  Where the
factors lie one below the other in memory, their sum is a single product with a long inner size:
so the tasks that compute the factors store them there.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphflow.compile.loops.values import (
    Join,
    Map,
    Multiply,
    Task,
    Value,
    View,
    row_major,
    writes,
)

_WORTH = 3  # terms


def in_place(tasks: Sequence[Task], kept: set[int]) -> list[Task]:
    """The tasks, without copies of whole values into a piece of another: they are stored there.

    Args:
      kept: identities of values that must stay where they are.
    """
    made = {id(v) for t in tasks for v in writes(t) if isinstance(t, (Map, Join, Multiply))}
    joined = {id(p) for t in tasks if isinstance(t, Join) for p in t.pieces}
    instead: dict[int, Value] = {}  # a copy -> what was copied
    for task in tasks:
        if not isinstance(task, Map) or task.body.op != "arg" or id(task.out) not in joined:
            continue
        home, (view,) = task.out.home, task.inputs
        if home is None or not home.dense:
            continue
        value = view.value
        if view.is_whole and id(value) in made and id(value) not in kept and value.home is None:
            value.home = View(home.value, value.shape, row_major(value.shape), home.offset)
            instead[id(task.out)] = value
    result: list[Task] = []
    for task in tasks:
        if isinstance(task, Join):
            pieces = tuple([instead.get(id(p), p) for p in task.pieces])
            result.append(Join(task.out, pieces, task.name))
        elif not isinstance(task, Map) or id(task.out) not in instead:
            result.append(task)
    return result


def stack(tasks: Sequence[Task], kept: set[int]) -> list[Task]:
    """The tasks, with long sums of products stacked.

    Args:
      kept: identities of values that must stay where they are.
    """
    result: list[Task] = []
    for task in tasks:
        if isinstance(task, Multiply) and len(task.terms) >= _WORTH and not task.summed:
            result += _with_stack(task, kept)
        else:
            result.append(task)
    return result


def _with_stack(task: Multiply, kept: set[int]) -> list[Task]:
    """The product, with as many of its terms as possible in one."""
    size = task.terms[-1][0].shape[-1]
    fit: list[tuple[View, View]] = []
    seen: set[int] = set()
    for a, b in task.terms:
        found = {id(a.value), id(b.value)}
        suits = _suits(a, 1, size, kept) and _suits(b, 0, size, kept)
        if suits and len(found) == 2 and not found & seen:
            fit.append((a, b))
            seen |= found
    fit = _as_they_lie(fit)
    if len(fit) < _WORTH or not all(_may_stack([t[s].value for t in fit]) for s in (0, 1)):
        return [task]
    left, joined_left = _stacked([a.value for a, _ in fit], size, task.name)
    right, joined_right = _stacked([b.value for _, b in fit], size, task.name)
    across = View(left.value, left.shape[::-1], (1, left.shape[1]), left.offset)
    rest = tuple([term for term in task.terms if id(term[0].value) not in seen])
    product = Multiply(task.out, (*rest, (across, right)), task.name)
    return [*joined_left, *joined_right, product]


def _as_they_lie(terms: list[tuple[View, View]]) -> list[tuple[View, View]]:
    """In the order in which one of the factors lie already."""
    for side in (0, 1):
        homes = [term[side].value.home for term in terms]
        if all(h is not None for h in homes):
            return sorted(terms, key=lambda term: term[side].value.home.offset)  # type: ignore[union-attr]
    return terms


def _may_stack(values: Sequence[Value]) -> bool:
    """Do they lie nowhere yet, or one behind the other?"""
    homes = [v.home for v in values]
    if not any(homes):
        return True
    first = homes[0]
    return first is not None and all(
        h is not None and h.value is first.value and h.offset == first.offset + i * values[0].size
        for i, h in enumerate(homes)
    )


def _suits(view: View, inner: int, size: int, kept: set[int]) -> bool:
    """Is it a dense matrix, computed here, whose rows are the inner axis?"""
    value = view.value
    shape, strides = (view.shape, view.strides)
    if inner == 1:
        shape, strides = shape[::-1], strides[::-1]
    return (
        value.kind == "computed"
        and (value.home is None or value.home.dense)
        and id(value) not in kept
        and len(shape) == 2
        and shape[0] == size
        and value.size == view.size
        and view.offset == 0
        and strides == row_major(shape)
    )


def _stacked(values: Sequence[Value], rows: int, name: str) -> tuple[View, list[Join]]:
    """One value below the other, each of so many rows; the tasks that need it to be so."""
    shape = (rows * len(values), values[0].size // rows)
    homes = [v.home for v in values]
    first = homes[0]
    if first is not None:
        return View(first.value, shape, row_major(shape), first.offset), []
    out = Value(shape, values[0].dtype)
    at = 0
    for value in values:
        value.home = View(out, value.shape, row_major(value.shape), at)
        at += value.size
    return View(out, shape, row_major(shape)), [Join(out, tuple(values), name)]
