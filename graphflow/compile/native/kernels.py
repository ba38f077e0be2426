"""LLVM IR of a nest: a function of its buffers and the range of chunks to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphflow.compile.loops.nests import LANES, Nest, Pass, Reduction, Scatter
from graphflow.compile.loops.strips import reductions
from graphflow.compile.native.blocks import Blocks
from graphflow.compile.native.elements import Elements
from graphflow.compile.native.rows import Column, Row
from graphflow.compile.native.sums import Aside, Carried, InCells, Sum

_VECTOR = 16  # columns from which a walk is vectorised: LLVM must not unroll it before; and lanes


@dataclass
class Kernel:
    """Code of a nest.

    Attributes:
      name: of the function.
      buffers: value and first element that each parameter points to; (begin, end, status) follow.
        The first is not part of the code, so that the steps of an unrolled loop share it.
      text: the definition.
      declared: what it needs.
    """

    name: str
    buffers: list[tuple[Any, int]]
    text: str
    declared: set[str] = field(default_factory=set)


def kernel(
    nest: Nest,
    name: str,
    contracts: bool = True,
    place: Callable[[Any], Any] = id,
    cut: bool = False,
) -> Kernel:
    """Code of a nest.

    Args:
      contracts: see `Emitter`.
      place: value -> where it lies: what lies in the same place is one buffer.
      cut: parameters tell the first column and how many there are, too.
    """
    return _Writer(nest, name, contracts, place, cut).kernel()


class _Writer:
    def __init__(
        self, nest: Nest, name: str, contracts: bool, place: Callable[[Any], Any], cut: bool
    ):
        self.nest = nest
        self.cut = cut
        self.name = name
        self.exact = not contracts
        self.e = Blocks(contracts)
        self.elements = Elements(self.e, [access for access, _ in nest.accesses], place)
        self.over_rows = {
            id(r): InCells(nest, self.elements, r)
            for r in reductions(nest)
            if r.partial is not None
        }

    def kernel(self) -> Kernel:
        self._chunks()
        values = self.elements.values
        parameters = ", ".join(f"ptr noalias %p{i}" for i in range(len(values)))
        body = "\n".join([*self.e.rooms, *self.e.lines])
        text = (
            f"define internal void @{self.name}({parameters + ', ' if parameters else ''}"
            f"i64 %begin, i64 %end{', i64 %left, i64 %count' if self.cut else ''}, "
            f"ptr noalias %status) #0 {{\nentry:\n{body}\n  ret void\n}}\n"
        )
        buffers = [(v, self.elements.first(v)) for v in values]
        return Kernel(self.name, buffers, text, self.e.declared)

    def _chunks(self) -> None:
        rows, chunks = self.nest.rows, self.nest.chunks
        if not (self.over_rows or any(p.scatters for p in self.nest.passes)):
            self.e.loop("%begin", "%end", self._row)
            return

        def chunk(index: str) -> None:
            e = self.e
            for cells in self.over_rows.values():
                cells.clear(index)
            scaled = e.emit("i64", f"mul i64 {index}, {rows}")
            first = e.emit("i64", f"udiv i64 {scaled.text}, {chunks}")
            beyond = e.emit("i64", f"add i64 {scaled.text}, {rows}")
            last = e.emit("i64", f"udiv i64 {beyond.text}, {chunks}")
            e.loop(first.text, last.text, self._row)
            for cells in self.over_rows.values():
                cells.join()

        self.e.loop("%begin", "%end", chunk)

    def _row(self, number: str) -> None:
        e = self.e
        row = Row(self.nest, self.elements, number, self.cut)
        columns = self.nest.shape[-1]
        count = "%count" if self.cut else str(columns)
        if self.nest.length is not None:
            left = e.emit("i64", f"mul nsw i64 {number}, -{columns}")
            left = e.emit("i64", f"add nsw i64 {left.text}, {self.nest.length}")
            count = e.call("smin", "i64", left, columns).text
        if self.over_rows:
            lane = e.emit("i64", f"urem i64 {number}, {LANES}").text
            for cells in self.over_rows.values():
                cells.take_up(lane)
        for walk in self.nest.passes:
            if walk.stores or walk.reductions:
                self._walk(walk, row, count)
            for scatter in walk.scatters:
                self._scatter(scatter, row)
            for store in walk.after:
                value = row.value(store.body)
                self.elements.store(store.access.value, row.start(store.access), value)

    def _walk(self, walk: Pass, row: Row, count: str) -> None:
        """Columns 0 to count - 1; there is at least one."""
        e = self.e
        for body in [s.body for s in walk.stores] + [r.body for r in walk.reductions]:
            row.hoist(body)
        for store in walk.stores:
            row.start(store.access)
        sums = [self._sum(reduction) for reduction in walk.reductions]
        head, came, done = e.fresh_label("walk"), e.block, e.fresh_label("walked")
        index, following = e.fresh("j"), e.fresh("n")
        e.line(f"br label %{head}")
        e.begin(head)
        e.line(f"{index} = phi i64 [0, %{came}], [{following}, %{head}]")
        for one in sums:
            one.begin(came, head)
        column = Column(row, index)
        # All is loaded before anything is stored: it may lie in the same place.
        stored = [column.value(store.body) for store in walk.stores]
        reduced = [column.value(reduction.body) for reduction in walk.reductions]
        for store, value in zip(walk.stores, stored, strict=True):
            self.elements.store(store.access.value, row.at(store.access, index), value)
        for one, value in zip(sums, reduced, strict=True):
            one.add(index, value)
        e.line(f"{following} = add nsw nuw i64 {index}, 1")
        more = e.emit("i1", f"icmp slt i64 {following}, {count}")
        e.line(f"br i1 {more.text}, label %{head}, label %{done}{self._vectorised(sums)}")
        e.begin(done)
        for reduction, one in zip(walk.reductions, sums, strict=True):
            result = one.end()
            if result is not None:
                row.registers[reduction.register] = result

    def _sum(self, reduction: Reduction) -> Sum:
        if reduction.partial is not None:
            return self.over_rows[id(reduction)]
        if self.exact and reduction.op == "add" and self.nest.shape[-1] < _VECTOR:
            return Aside(self.e, reduction, self.nest.shape[-1])
        return Carried(self.e, reduction)

    def _vectorised(self, sums: Sequence[Sum]) -> str:
        """What LLVM is told of a walk."""
        if self.nest.shape[-1] < _VECTOR:
            return ""
        if self.exact and any(isinstance(one, Carried) for one in sums):
            return ", !llvm.loop !2"  # as many lanes whatever else the loop does
        return ", !llvm.loop !0"

    def _scatter(self, scatter: Scatter, row: Row) -> None:
        """Add a row to the row of the target that the index tells."""
        e = self.e
        row.hoist(scatter.index)
        index = row.value(scatter.index)
        at, good = self.elements.checked(index, scatter.index.dtype, scatter.limit)
        allowed = good
        if scatter.drops:
            negative = e.emit("i1", f"icmp slt i64 {at.text}, 0")
            allowed = e.binary("or", good, negative, "i1")
        self.elements.fault_unless(allowed)
        target = scatter.access

        def add() -> None:
            move = e.emit("i64", f"mul nsw i64 {at.text}, {scatter.stride}")
            start = e.emit("i64", f"add nsw i64 {row.start(target)}, {move.text}").text
            row.hoist(scatter.body)

            def one(column: str) -> None:
                value = Column(row, column).value(scatter.body)
                place = row.moved(start, target, column)
                old = self.elements.load(target.value, place)
                op = {"add": "fadd", "subtract": "fsub"}[scatter.op]
                self.elements.store(target.value, place, e.binary(op, old, value, old.type))

            e.loop("0", str(self.nest.shape[-1]), one)

        e.when(good, add)
