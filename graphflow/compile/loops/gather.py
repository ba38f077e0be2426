"""Put the tasks of a group together: expressions, passes, loads and stores of one nest."""

from __future__ import annotations

import math
from typing import Any

from graphflow.compile.loops.nests import (
    LANES,
    Access,
    Nest,
    Pass,
    Reduction,
    Scatter,
    Store,
    Unit,
    access,
    canonical,
    leaf,
)
from graphflow.compile.loops.sums import replace
from graphflow.compile.loops.values import (
    Map,
    Pick,
    Reduce,
    Shape,
    Spread,
    Value,
    View,
    broadcast,
    row_major,
    squeezed,
    whole,
    writes,
)
from graphflow.ops.expression import Node, apply

_NARROW = 256  # columns up to which a row is added sooner than the row before is written
_CHUNKS = 16  # partial sums of columns: as many, whatever the number of workers
_MOST_CHUNKS = 64  # of images


class Assembler:
    """Makes the nest of a group, and the ones that finish its sums."""

    def __init__(
        self,
        space: Shape,
        tasks: list[Any],
        rows: set[int],
        escaping: set[int],
        row_buffers: bool = False,
        exact: bool = False,
    ):
        """Args:
        rows: identities of values that have one element per row.
        escaping: those of values that are used elsewhere.
        row_buffers: keep what a later pass needs of a row in a buffer of one row.
        exact: a sum over all is that of its rows, also where all could be one row.
        """
        self.exact = exact
        self.row_buffers = row_buffers
        self.escaping = escaping
        self.buffers: dict[int, Value] = {}
        self.space = space or (1,)
        self.tasks = tasks
        self.rows = rows
        self.partials: list[tuple[Reduce, Value, Value]] = []
        self.stored = set(escaping)
        self.level: dict[int, int] = {}  # value -> pass that computes it
        self.body: dict[int, Node] = {}
        self.loads: list[Access] = []
        self.load_of: dict[Any, int] = {}
        self.after: list[Unit] = []

    def units(self) -> list[Unit]:
        self._levels()
        count = 1 + max(self.level.values(), default=0)
        passes: list[Any] = [([], [], []) for _ in range(count)]
        registers = 0
        chunks = 1
        for task in self.tasks:
            (out,) = writes(task)
            stores, reductions, after = passes[self.level[id(out)]]
            if isinstance(task, Reduce):
                body = self._leaf(task.input, self.level[id(out)])
                if task.over == "columns":
                    chunks = _chunks(self.space[:-1])
                    partial = Value((chunks, self.space[-1]), out.dtype)
                    lanes = _lanes(self.space[-1], out.dtype)
                    reductions.append(Reduction(task.op, body, partial=partial, lanes=lanes))
                    self.after.append(_columns_total(task, partial))
                    continue
                reductions.append(Reduction(task.op, body, registers))
                self.body[id(out)] = leaf("row", registers, out.dtype)
                registers += 1
                if task.over == "all":
                    self._total(task, out, after)
                elif id(out) in self.stored:
                    after.append((self._place_of(out), self.body[id(out)]))
                continue
            self._map(task, out, stores, after)
        return [self._nest(passes, chunks), *self.after]

    def _map(self, task: Any, out: Value, stores: Any, after: Any) -> None:
        level = self.level[id(out)]
        if isinstance(task, Pick):
            source = self._load(self._access(task.input))
            index = self._load(access(task.index.value, self._row_view(task.index).strides,
                                      task.index.offset))  # fmt: skip
            body = leaf("pick", (source, index), out.dtype)
        else:
            leaves = {i: self._leaf(v, level, task) for i, v in enumerate(task.inputs)}
            body = replace(task.body, leaves)
        self.body[id(out)] = body
        if id(out) in self.rows:
            if id(out) in self.stored:
                after.append((self._place_of(out), body))
        elif id(out) in self.stored:
            stores.append((self._place_of(out), body))

    def _place_of(self, out: Value) -> Access:
        """Where a value is stored: of the space, or one element per row."""
        if self._in_row(out):
            return self._row_access(out)
        home = whole(out) if out.home is None or out.home.dense else out.home
        if id(out) in self.rows:
            return access(home.value, self._row_view(home).strides, home.offset)
        return _access(home, self.space)

    def _in_row(self, value: Value) -> bool:
        """Is it computed here, and used by later passes over the same row alone?"""
        return self.row_buffers and id(value) in self.level and id(value) not in self.escaping

    def _row_access(self, value: Value) -> Access:
        buffer = self.buffers.get(id(value))
        if buffer is None:
            buffer = self.buffers[id(value)] = Value(self.space[-1:], value.dtype, "row")
        return Access(buffer, (*(0 for _ in self.space[:-1]), 1))

    def _access(self, view: View) -> Access:
        return (
            self._row_access(view.value) if self._in_row(view.value) else _access(view, self.space)
        )

    # ---- passes

    def _levels(self) -> None:
        """The pass of each value; what a later pass needs is stored."""
        for task in self.tasks:
            (out,) = writes(task)
            level = 0
            for view in self._inputs(task):
                made = self.level.get(id(view.value))
                if made is not None:
                    row_to_full = id(view.value) in self.rows and id(out) not in self.rows
                    finished = isinstance(task, Reduce) and id(view.value) in self.rows
                    level = max(level, made + (row_to_full or finished))
            if isinstance(task, Pick) and id(task.input.value) in self.level:
                self.stored.add(id(task.input.value))
            self.level[id(out)] = level
        for task in self.tasks:
            (out,) = writes(task)
            for view in self._inputs(task):
                made = self.level.get(id(view.value))
                if made is None or id(view.value) in self.rows:
                    continue
                if self.level[id(out)] > made:
                    self.stored.add(id(view.value))

    def _inputs(self, task: Any) -> Any:
        return task.inputs if isinstance(task, Map) else (task.input,)

    # ---- leaves

    def _leaf(self, view: View, level: int, task: Any = None) -> Node:
        known = self.body.get(id(view.value))
        if known is not None:
            same_pass = self.level[id(view.value)] == level or id(view.value) in self.rows
            if same_pass or id(view.value) not in self.stored:
                return known
        if task is not None and id(task.out) in self.rows:
            found = access(view.value, self._row_view(view).strides, view.offset)
        else:
            found = self._access(view)
        return leaf("arg", self._load(found), view.dtype)

    def _load(self, found: Access) -> int:
        key = (id(found.value), found.strides, found.offset)
        if key not in self.load_of:
            self.load_of[key] = len(self.loads)
            self.loads.append(found)
        return self.load_of[key]

    def _row_view(self, view: View) -> View:
        """A view of one value per row, as one of the space."""
        shape, strides = squeezed(view.shape, view.strides)
        if not shape:
            return View(view.value, self.space, (0,) * len(self.space), view.offset)
        kept = list(strides)
        if len(shape) == len(self.space) - 1:
            return View(view.value, self.space, (*kept, 0), view.offset)
        raise AssertionError(view)

    # ---- sums

    def _total(self, task: Reduce, out: Value, after: Any) -> None:
        """Partial sums per row are stored; one more nest adds them up."""
        partial = Value((), out.dtype)  # its shape is known with the rows of the nest
        after.append((Access(partial, ()), self.body[id(out)]))
        self.partials.append((task, out, partial))

    def _nest(self, passes: Any, chunks: int) -> Nest:
        columns = any(r.partial is not None for _, rs, _ in passes for r in rs)
        row_values = bool(self.rows) or columns
        row_values |= self.exact and bool(self.partials) and len(self.space) > 1
        partials = {id(partial) for _, _, partial in self.partials}
        stores = [a for s, _, after in passes for a, _ in (*s, *after)]
        accesses = [*self.loads, *[a for a in stores if id(a.value) not in partials]]
        strides = [a.strides for a in accesses]
        shape, moved, length = canonical(self.space, strides, row_values)
        new = {id(a): Access(a.value, m, a.offset) for a, m in zip(accesses, moved, strict=True)}
        rows = math.prod(shape[:-1])
        for task, out, partial in self.partials:
            partial.shape = (rows,)
            self.after.append(_total(task, out, partial))

        def moved_store(where: Access, body: Node) -> Store:
            if id(where) in new:
                return Store(new[id(where)], body)
            return Store(Access(where.value, (*row_major(shape[:-1]), 0)), body)

        built = tuple(
            Pass(
                tuple([moved_store(*s) for s in stores_]),
                tuple(reductions),
                tuple([moved_store(*s) for s in after]),
            )
            for stores_, reductions, after in passes
        )
        loads = tuple([new[id(a)] for a in self.loads])
        names = tuple(dict.fromkeys(task.name for task in self.tasks))
        return Nest(names[0], shape, loads, built, length, chunks if columns else rows, names)


def spread_nest(task: Spread) -> Nest:
    """Rows of updates are added to rows of the result, one after the other."""
    rows, width = task.index.size, task.updates.size // task.index.size
    updates = access(task.updates.value, (width, 1), task.updates.offset)
    (step,) = task.index.strides
    loads = (updates, access(task.index.value, (step, 0), task.index.offset))
    body, index = [leaf("arg", i, load.value.dtype) for i, load in enumerate(loads)]
    limit = task.out.shape[0]
    target = access(task.out, (0, 1))
    scatter = Scatter(target, index, width, limit, task.drops, task.op, body)
    walk = Pass((), (), (), (scatter,))
    return Nest(task.name, (rows, width), loads, (walk,), None, 1, (task.name,))


def _lanes(columns: int, dtype: Any) -> Value | None:
    return Value((LANES, columns), dtype, "row") if columns <= _NARROW else None


def _chunks(rows: Shape) -> int:
    """Into how many groups of rows a sum of columns is cut: some whole images each, so that it
    goes through a batch in as small parts as products do (`loops/strips.py`)."""
    if len(rows) > 1:
        for chunks in range(min(rows[0], _MOST_CHUNKS), _CHUNKS, -1):
            if rows[0] % chunks == 0:
                return chunks
    return min(_CHUNKS, math.prod(rows))


def _access(view: View, space: Shape) -> Access:
    """A view in a space: axes of size 1 are left out."""
    shape, strides = squeezed(view.shape, view.strides)
    if shape == space:
        return access(view.value, strides, view.offset)
    stretched = broadcast(View(view.value, shape, strides, view.offset), space)
    assert stretched is not None, (view, space)
    return access(view.value, stretched.strides, view.offset)


def _total(task: Reduce, out: Value, partial: Value) -> Nest:
    """out = the partial results reduced: one row."""
    body = leaf("arg", 0, out.dtype)
    row = leaf("row", 0, out.dtype)
    walk = Pass((), (Reduction(task.op, body, 0),), (Store(access(out, (0, 0)), row),))
    load = Access(partial, (0, 1))
    return Nest(f"{task.name}/total", (1, partial.size), (load,), (walk,))


def _columns_total(task: Reduce, partial: Value) -> Nest:
    """out = the chunks' sums, added in pairs."""
    chunks, columns = partial.shape
    terms = [leaf("arg", i, partial.dtype) for i in range(chunks)]
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        last = terms[-1:] if len(terms) % 2 else []
        terms = [apply(task.op, a, b) for a, b in pairs] + last
    loads = tuple([Access(partial, (0, 1), i * columns) for i in range(chunks)])
    store = Store(access(task.out, (0, 1)), terms[0])
    return Nest(f"{task.name}/total", (1, columns), loads, (Pass((store,), (), ()),))
