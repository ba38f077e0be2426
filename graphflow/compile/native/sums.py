"""LLVM IR of reductions: what is begun before a row is walked, done per column, and ended behind.

Over a row, a sum goes through the walk in a register (`Carried`), or its terms are put aside and
added up in pairs (`Aside`); over columns, each has a cell of its own (`InCells`).
"""

from __future__ import annotations

from typing import Protocol

from graphflow.compile.loops.nests import LANES, Nest, Reduction
from graphflow.compile.native.blocks import Blocks
from graphflow.compile.native.elements import Elements
from graphflow.compile.native.scalars import TYPES, Name, literal

_INITIAL = {"add": 0.0, "maximum": float("-inf"), "minimum": float("inf")}


class Sum(Protocol):
    """A reduction within the walk of a row."""

    def begin(self, came: str, head: str) -> None:
        """At the head of the walk, which is reached from these blocks."""

    def add(self, index: str, value: Name) -> None:
        """The value of a column."""

    def end(self) -> Name | None:
        """Behind the walk: the result, where it is one for the row."""


class Carried:
    """The order is the compiler's: sums may be reordered into lanes."""

    def __init__(self, e: Blocks, reduction: Reduction):
        self._e = e
        self._op = reduction.op
        self._kind = TYPES[reduction.body.dtype.name]

    def begin(self, came: str, head: str) -> None:
        now, self._next = self._e.fresh("s"), self._e.fresh("s")
        start = literal(_INITIAL[self._op], self._kind)
        self._e.line(f"{now} = phi {self._kind} [{start}, %{came}], [{self._next}, %{head}]")
        self._now = Name(now, self._kind)

    def add(self, index: str, value: Name) -> None:
        _combined(self._e, self._op, self._now, value, self._next)

    def end(self) -> Name:
        return Name(self._next, self._kind)


class Aside:
    """Added up one after the other, in the walk, few terms would keep all of it from being
    vectorised: a softmax over 10 columns took 1.75 times as long."""

    def __init__(self, e: Blocks, reduction: Reduction, columns: int):
        self._e = e
        self._op = reduction.op
        self._kind = TYPES[reduction.body.dtype.name]
        self._columns = columns
        self._room = e.room(columns, self._kind)

    def begin(self, came: str, head: str) -> None:
        pass

    def add(self, index: str, value: Name) -> None:
        self._e.line(f"store {self._kind} {value.text}, ptr {self._term(index).text}")

    def end(self) -> Name:
        terms = []
        for i in range(self._columns):
            at = self._term(str(i))
            terms.append(self._e.emit(self._kind, f"load {self._kind}, ptr {at.text}"))
        result = _in_pairs(self._e, self._op, terms)
        if self._op != "add":
            return result
        return self._e.emit(self._kind, f"fadd {self._kind} {result.text}, 0.0")  # if all are -0.0

    def _term(self, index: str) -> Name:
        return self._e.emit("ptr", f"getelementptr {self._kind}, ptr {self._room}, i64 {index}")


class InCells:
    """Columns added up in the partial results of a chunk, or in its lanes first."""

    def __init__(self, nest: Nest, elements: Elements, reduction: Reduction):
        assert reduction.partial is not None
        self._e = elements.e
        self._elements = elements
        self._columns = nest.shape[-1]
        self._op = reduction.op
        self._kind = TYPES[reduction.partial.dtype.name]
        self._partial, self._lanes = reduction.partial, reduction.lanes
        for value in (self._partial, self._lanes):
            if value is not None:
                elements.add(value)

    # ---- per chunk

    def clear(self, chunk: str) -> None:
        self._chunk = chunk
        first = literal(_INITIAL[self._op], self._kind)

        def one(column: str) -> None:
            if self._lanes is None:
                at = self._cell(self._partial, chunk, column)
            else:
                at = self._elements.pointer(self._lanes, column)
            self._e.line(f"store {self._kind} {first}, ptr {at.text}")

        count = self._columns if self._lanes is None else self._lanes.size
        self._e.loop("0", str(count), one)

    def join(self) -> None:
        """Add up the lanes of the chunk."""
        if self._lanes is None:
            return

        def one(column: str) -> None:
            cells = [self._cell(self._lanes, str(lane), column) for lane in range(LANES)]
            terms = [self._e.emit(self._kind, f"load {self._kind}, ptr {c.text}") for c in cells]
            total = _in_pairs(self._e, self._op, terms)
            at = self._cell(self._partial, self._chunk, column)
            self._e.line(f"store {self._kind} {total.text}, ptr {at.text}")

        self._e.loop("0", str(self._columns), one)

    # ---- per row

    def take_up(self, lane: str) -> None:
        """A row, which goes to that lane, if there are any."""
        self._lane = lane

    def begin(self, came: str, head: str) -> None:
        pass

    def add(self, index: str, value: Name) -> None:
        if self._lanes is None:
            at = self._cell(self._partial, self._chunk, index)
        else:
            at = self._cell(self._lanes, self._lane, index)
        old = self._e.emit(value.type, f"load {value.type}, ptr {at.text}")
        new = _combined(self._e, self._op, old, value)
        self._e.line(f"store {value.type} {new.text}, ptr {at.text}")

    def end(self) -> None:
        pass

    def _cell(self, value: object, row: str, column: str) -> Name:
        start = self._e.emit("i64", f"mul nsw i64 {row}, {self._columns}")
        at = self._e.emit("i64", f"add nsw i64 {start.text}, {column}")
        return self._elements.pointer(value, at.text)


def _in_pairs(e: Blocks, op: str, terms: list[Name]) -> Name:
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        last = terms[-1:] if len(terms) % 2 else []
        terms = [*[_combined(e, op, a, b) for a, b in pairs], *last]
    return terms[0]


def _combined(e: Blocks, op: str, a: Name, b: Name, carried: str = "") -> Name:
    """One step of a reduction.

    Args:
      carried: the name of the result, which goes through a loop.
    """
    name = carried or e.fresh()
    if op == "add":
        flags = "reassoc " if carried else ""
        e.line(f"{name} = fadd {flags}{a.type} {a.text}, {b.text}")
    else:
        suffix = "f32" if a.type == "float" else "f64"
        e.declared.add(f"declare {a.type} @llvm.{op}.{suffix}({a.type}, {a.type})")
        e.line(f"{name} = call {a.type} @llvm.{op}.{suffix}({a.type} {a.text}, {a.type} {b.text})")
    return Name(name, a.type)
