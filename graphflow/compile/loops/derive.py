"""Compute cheap values again in another loop, instead of handing them on through memory.

What a gradient needs of the forward pass is often a few operations away from what is there
anyway: 1 + tanh(u) and 1 - tanh(u) ** 2 from tanh(u), a normalised row from the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from graphflow.compile.loops.inline import is_simple, substituted, tables
from graphflow.compile.loops.sums import nodes
from graphflow.compile.loops.values import Map, Value, reads, writes

_CHEAP = 8  # nodes of one value, leaves included
_MOST = 24  # of all that is computed again for one


def derive(
    groups: Sequence[Any], uses: Mapping[int, Set[Any]], makers: Mapping[int, Set[Any]]
) -> None:
    """Change tasks of groups, so that fewer values go from one to another.

    Args:
      groups: in an order in which they may run.
      uses: value -> groups that read it; None stands for those outside.
      makers: value -> groups that compute it.
    """
    for group in groups:
        again = _again(group, uses)
        for user in {u for v in again for u in uses[v]} - {group}:
            user.tasks = [_rewritten(t, again) for t in user.tasks]
            for task in user.tasks:
                for view in reads(task):
                    user.needs |= set(makers.get(id(view.value), ())) - {user}


def _rewritten(task: Any, again: Mapping[int, Map]) -> Any:
    found = substituted(task, again) if isinstance(task, Map) else task
    return task if found is None else found


def _again(group: Any, uses: Mapping[int, Set[Any]]) -> dict[int, Map]:
    """Values of the group that others shall compute: from values that are stored."""
    made = {id(v): v for t in group.tasks for v in writes(t)}
    escaping = {v for v in made if uses.get(v, set()) - {group}}
    derived: dict[int, Map] = {}  # value -> the same from leaves
    for task in group.tasks:
        if not isinstance(task, Map) or not _is_cheap(task, group):
            continue
        if id(task.out) in escaping and not _only_maps(task.out, group, uses):
            continue
        found = substituted(task, derived)
        if found is not None and nodes(found.body) <= _MOST:
            derived[id(task.out)] = found
    chosen = {v: m for v, m in derived.items() if v in escaping}
    leaves = {id(w.value) for m in chosen.values() for w in m.inputs}
    more = {v for v in leaves & set(made) if v not in escaping}  # stored for this alone
    if _bytes(more, made) >= _bytes(set(chosen), made):
        chosen = {v: m for v, m in chosen.items()
                  if not {id(w.value) for w in m.inputs} & more}  # fmt: skip
    return {v: m for v, m in chosen.items() if _fits(made[v], m, group, uses)}


def _bytes(values: Set[int], made: Mapping[int, Value]) -> int:
    return sum(made[v].nbytes for v in values)


def _is_cheap(task: Map, group: Any) -> bool:
    row = id(task.out) in group.rows
    return (
        not row
        and task.out.home is None
        and task.out.size > 1
        and is_simple(task.body)
        and nodes(task.body) <= _CHEAP
    )


def _only_maps(value: Value, group: Any, uses: Mapping[int, Set[Any]]) -> bool:
    """Do others read it as a map does, element by element?"""
    for user in uses[id(value)] - {group}:
        for task in () if user is None else user.tasks:
            for i, view in enumerate(reads(task)):
                if view.value is value and (not isinstance(task, Map) or i in tables(task.body)):
                    return False
    return None not in uses[id(value)]


def _fits(value: Value, derived: Map, group: Any, uses: Mapping[int, Set[Any]]) -> bool:
    """Can all that read it compute it?"""
    return all(
        substituted(task, {id(value): derived}) is not None
        for user in uses[id(value)] - {group}
        for task in user.tasks
        if isinstance(task, Map)
    )
