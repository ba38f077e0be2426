"""Fusion: tasks over one space become one nest, so that values stay in registers.

Greedy, in the order of the tasks: each joins the last group over its space that it is connected
with and that can wait for its inputs.  A reduction along rows ends a pass of its nest, and what
uses its result goes into the next one, while the row is in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from graphflow.compile.loops.derive import derive
from graphflow.compile.loops.gather import Assembler, spread_nest
from graphflow.compile.loops.inline import tables
from graphflow.compile.loops.nests import Access, Nest, Pass, Product, Store, Unit, access
from graphflow.compile.loops.sums import nodes, replace
from graphflow.compile.loops.values import (
    Join,
    Map,
    Multiply,
    Pick,
    Reduce,
    Shape,
    Spread,
    Task,
    Value,
    View,
    broadcast,
    reads,
    row_major,
    squeezed,
    writes,
)
from graphflow.ops.expression import Node

_LARGEST = 60  # tasks in a group; above, compile time grows faster than what fusing saves
_INLINED = 24  # nodes of a scalar expression that is computed where it is used


class Group:
    """Tasks that become one nest.

    Attributes:
      space: sizes of the axes, without those of size 1.
      tasks: in order.
      values: what they compute.
      needs: groups and products that come before.
    """

    def __init__(self, space: Shape):
        self.space = space
        self.tasks: list[Any] = []
        self.values: set[int] = set()
        self.rows: set[int] = set()  # those of them that have one value per row
        self.read: set[tuple[int, int]] = set()
        self.needs: set[Any] = set()


def fuse(
    tasks: Sequence[Task], kept: Iterable[Value], *, row_buffers: bool = False, exact: bool = False
) -> list[Unit]:
    """Nests and products that compute the tasks, in an order that keeps caches warm.

    Args:
      tasks: none of them `Foreign` or `Write`.
      kept: values that are needed afterwards.
      row_buffers: see `Assembler`.
      exact: sums are added up in the same order, whatever else is in their nests.
    """
    return _Fusion(tasks, kept, exact).units(row_buffers)


class _Fusion:
    def __init__(self, tasks: Sequence[Task], kept: Iterable[Value], exact: bool):
        self.kept = {id(v) for v in kept}
        self.exact = exact
        self.tasks = tasks
        self.groups: list[Group] = []
        self.makers: dict[int, set[Group]] = {}  # value -> the groups that compute it
        self.scalars: dict[int, Map] = {}

    def units(self, row_buffers: bool) -> list[Unit]:
        inlined = [self._inlined(t) for t in self.tasks]
        for task in inlined:
            if _is_scalar(task):
                self.scalars[id(task.out)] = task
        wanted = set(self.kept)
        live: list[Any] = []
        for task in reversed(inlined):
            if any(id(v) in wanted and v.size for v in writes(task)):
                live.append(task)
                wanted |= {id(v.value) for v in reads(task)}
        for task in reversed(live):
            self._place(task)
        derive(self.groups, self._uses(live), self.makers)
        uses = self._uses(live)
        units: list[Unit] = []
        for group in self._ordered():
            units += _unit(group, uses, row_buffers, self.exact)
        return units

    def _uses(self, live: Sequence[Any]) -> dict[int, set[Any]]:
        """Value -> the groups that read it; None stands for those outside."""
        uses: dict[int, set[Any]] = {v: {None} for v in self.kept}
        for group in self.groups:
            for task in group.tasks:
                for view in reads(task):
                    uses.setdefault(id(view.value), set()).add(group)
        return uses

    def _inlined(self, task: Any) -> Any:
        """The task with scalars that are cheap computed in place."""
        if not isinstance(task, Map):
            return task
        if any(id(v.value) in self.scalars for v in task.inputs):
            inputs: list[View] = []
            leaves: dict[int, Node] = {}
            for i, view in enumerate(task.inputs):
                scalar = self.scalars.get(id(view.value))
                if scalar is None:
                    leaves[i] = Node("arg", (), view.dtype, len(inputs))
                    inputs.append(view)
                else:
                    shift = len(inputs)
                    stretched = [broadcast(_flat(v), task.out.shape) for v in scalar.inputs]
                    inputs += [v for v in stretched if v is not None]
                    moved = {
                        j: Node("arg", (), v.dtype, shift + j) for j, v in enumerate(scalar.inputs)
                    }
                    leaves[i] = replace(scalar.body, moved)
            task = Map(task.out, tuple(inputs), replace(task.body, leaves), task.name)
        if _is_scalar(task):
            self.scalars[id(task.out)] = task
        return task

    # ---- groups

    def _place(self, task: Any) -> None:
        if isinstance(task, Join):
            self.makers[id(task.out)] = set().union(
                *[self.makers.get(id(p), set()) for p in task.pieces]
            )
            return
        if isinstance(task, (Multiply, Spread)):
            group = Group(())
            self.groups.append(group)
        else:
            group = self._group_for(task)
        group.tasks.append(task)
        for view in reads(task):
            group.read.add(_stream(view))
            group.needs |= self.makers.get(id(view.value), set()) - {group}
        for value in writes(task):
            group.values.add(id(value))
            self.makers[id(value)] = {group}
            if not isinstance(task, Spread) and _is_row(task, group.space):
                group.rows.add(id(value))

    def _group_for(self, task: Any) -> Group:
        for group in reversed(self.groups):
            if len(group.tasks) < _LARGEST and self._fits(task, group):
                return group
        group = Group(_space(task))
        self.groups.append(group)
        return group

    def _fits(self, task: Any, group: Group) -> bool:
        if not group.tasks or isinstance(group.tasks[0], (Multiply, Spread)):
            return False
        if not self._suits_space(task, group) or (self.exact and _halves(task, group)):
            return False
        inside = [v for v in reads(task) if id(v.value) in group.values]
        shared = inside or any(_stream(v) in group.read for v in reads(task))
        if not shared and group.space:
            return False
        if not all(_aligned(v, task, group) for v in inside):
            return False
        makers: set[Group] = set()
        for view in reads(task):
            found = self.makers.get(id(view.value), set())
            if group in found and id(view.value) not in group.values:
                return False  # it stores a part of that value, which is read when all are there
            makers |= found
        makers.discard(group)
        return not self._reaches(makers, group)

    def _suits_space(self, task: Any, group: Group) -> bool:
        space = group.space
        if _space(task) == space:
            return True
        row = isinstance(task, (Map, Pick)) and len(space) > 1 and _space_of(task.out) == space[:-1]
        return row and any(id(v.value) in group.rows for v in reads(task))

    def _reaches(self, makers: set[Any], group: Group) -> bool:
        """Does one of these depend on the group?"""
        seen: set[Any] = set()
        stack = list(makers)
        while stack:
            current = stack.pop()
            if current is group:
                return True
            if current not in seen:
                seen.add(current)
                stack += current.needs
        return False

    def _ordered(self) -> list[Group]:
        """Topological; of those that are ready, what became ready last comes first."""
        waiting = {group: set(group.needs) for group in self.groups}
        users: dict[Group, list[Group]] = {}
        for group in self.groups:
            for need in group.needs:
                users.setdefault(need, []).append(group)
        ready = [g for g in reversed(self.groups) if not waiting[g]]
        order: list[Group] = []
        while ready:
            group = ready.pop()
            order.append(group)
            freed = []
            for user in users.get(group, ()):
                waiting[user].discard(group)
                if not waiting[user]:
                    freed.append(user)
            # what only finishes (an update) goes before what goes on
            freed.sort(key=lambda g: (g in users, -self.groups.index(g)))
            ready += reversed(freed)
        return order


def _stream(view: View) -> tuple[int, int]:
    """What views have in common that are read from the same rows: the slices of one array."""
    _, strides = squeezed(view.shape, view.strides)
    row = strides[-2] if len(strides) > 1 else 1
    return id(view.value), view.offset // max(1, row)


def _is_scalar(task: Any) -> bool:
    """Is it one number that is cheap, and so computed wherever it is used?"""
    return (
        isinstance(task, Map)
        and task.out.size == 1
        and task.out.home is None
        and nodes(task.body) <= _INLINED
    )


def _flat(view: View) -> View:
    return View(view.value, (), (), view.offset)


def _space_of(value: Value) -> Shape:
    return squeezed(value.shape, value.shape)[0]


def _space(task: Any) -> Shape:
    if isinstance(task, Map):
        return _space_of(task.out)
    return squeezed(task.input.shape, task.input.shape)[0]


def _is_row(task: Any, space: Shape) -> bool:
    if isinstance(task, Pick):
        return True
    if isinstance(task, Reduce):
        return task.over == "rows"
    return isinstance(task, Map) and _space_of(task.out) != space


def _aligned(view: View, task: Any, group: Group) -> bool:
    """Does the task use, at each index, what the group computes at that index?"""
    value = view.value
    row_task = _is_row(task, group.space) and isinstance(task, Map)
    maker = next(t for t in group.tasks if any(v is value for v in writes(t)))
    if isinstance(maker, Reduce) and maker.over != "rows":
        return False
    is_row = id(value) in group.rows
    if isinstance(task, Pick) and view is task.index:
        return False
    if isinstance(task, Map) and any(view is task.inputs[i] for i in tables(task.body)):
        return False  # it is read where the index says: from memory
    if view.offset or (row_task and not is_row):
        return False
    shape, strides = squeezed(view.shape, view.strides)
    if is_row and not row_task:
        return shape == group.space and strides == (*row_major(group.space[:-1]), 0)
    expected = group.space[:-1] if is_row else group.space
    return shape == expected and strides == row_major(expected)


def _halves(task: Any, group: Group) -> bool:
    """Would one axis be a row to some tasks, and to a sum over all of it something to cut?"""
    if len(group.space) > 1:
        return False
    alls = [isinstance(t, Reduce) and t.over == "all" for t in (task, *group.tasks)]
    return any(alls) and bool(group.rows or _is_row(task, group.space))


def _unit(group: Group, uses: dict[int, set[Any]], row_buffers: bool, exact: bool) -> list[Unit]:
    first = group.tasks[0]
    if isinstance(first, Spread):
        return [spread_nest(first)]
    if isinstance(first, Multiply):
        return [_product(first)]
    escaping = {v for v in group.values if uses.get(v, set()) - {group}}
    escaping |= {id(v) for t in group.tasks for v in writes(t) if v.home is not None}
    made = Assembler(group.space, group.tasks, group.rows, escaping, row_buffers, exact)
    return made.units()


def _product(task: Multiply) -> Product:
    *batch, m, _ = task.terms[0][0].shape
    n = task.terms[0][1].shape[-1]
    inner = tuple([a.shape[-1] for a, _ in task.terms])
    terms = tuple([(_as_access(a), _as_access(b)) for a, b in task.terms])
    strides = (0, *row_major((*batch[1:], m, n))) if task.summed else row_major((*batch, m, n))
    out = access(task.out, strides)
    start = None if task.start is None else _start(task.start, out, (m, n))
    return Product(
        task.name, m, n, inner, tuple(batch), terms, out, task.parts, task.factors,
        tuple([_as_access(v) for v in task.scales]), start, task.names,
    )  # fmt: skip


def _start(task: Map, out: Access, shape: Shape) -> Nest:
    loads = tuple([_as_access(view) for view in task.inputs])
    return Nest(task.name, shape, loads, (Pass((Store(out, task.body),), (), ()),), None, shape[0])


def _as_access(view: View) -> Access:
    return access(view.value, view.strides, view.offset)


def flops(unit: Unit) -> float:
    """Work of a unit, in floating-point operations or the like."""
    if isinstance(unit, Product):
        return 2.0 * unit.m * unit.n * sum(unit.inner) * math.prod(unit.batch)
    each = 1 + sum(nodes(s.body) for p in unit.passes for s in p.stores)
    return 4.0 * math.prod(unit.shape) * each
