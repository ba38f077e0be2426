"""LLVM IR of one row of a nest: what is one value per row, and what each column has of its own."""

from __future__ import annotations

from typing import Any

from graphflow.compile.loops.nests import Access, Nest
from graphflow.compile.native.elements import Elements
from graphflow.compile.native.scalars import Name
from graphflow.ops.expression import Node


class Row:
    """Computes what does not change along a row once, before its columns are walked.

    Attributes:
      known: values of the row, by identity of the node.
      registers: results of reductions, by their number.
      bases: where a gather finds its first column, by identity of the node; those whose index is
        one per row.
    """

    def __init__(self, nest: Nest, elements: Elements, row: str, cut: bool):
        """Args:
        row: its number.
        cut: the columns begin at `%left`.
        """
        self.nest = nest
        self.elements = elements
        self.e = elements.e
        self._cut = cut
        self._indices = self._unravelled(row)
        self._starts: dict[Access, str] = {}
        self.known: dict[int, Name] = {}
        self.registers: dict[int, Name] = {}
        self.bases: dict[int, str] = {}

    def _unravelled(self, row: str) -> list[str]:
        sizes = self.nest.shape[:-1]
        found = []
        for n in reversed(sizes[1:]):
            found.append(self.e.emit("i64", f"urem i64 {row}, {n}").text)
            row = self.e.emit("i64", f"udiv i64 {row}, {n}").text
        return [row, *reversed(found)]

    # ---- places

    def start(self, access: Access) -> str:
        """Of the row's first element."""
        if access not in self._starts:
            at: Any = str(access.offset - self.elements.first(access.value))
            for index, stride, n in zip(
                self._indices, access.strides, self.nest.shape, strict=False
            ):
                if stride and n != 1:
                    move = self.e.emit("i64", f"mul nsw i64 {index}, {stride}").text
                    at = self.e.emit("i64", f"add nsw i64 {at}, {move}").text
            if self._cut and access.strides[-1]:
                move = self.e.emit("i64", f"mul nsw i64 %left, {access.strides[-1]}").text
                at = self.e.emit("i64", f"add nsw i64 {at}, {move}").text
            self._starts[access] = at
        return self._starts[access]

    def at(self, access: Access, column: str) -> str:
        return self.moved(self.start(access), access, column)

    def moved(self, start: str, access: Access, column: str) -> str:
        step = access.strides[-1]
        if step != 1:
            column = self.e.emit("i64", f"mul nsw i64 {column}, {step}").text
        return self.e.emit("i64", f"add nsw i64 {start}, {column}").text

    def gathered(self, node: Node, index: Name) -> str:
        """Where a gather finds the first column; an index out of range is a fault."""
        stride, limit = node.value
        safe = self.elements.safe(index, node.args[1].dtype, limit)
        move = self.e.emit("i64", f"mul nsw i64 {safe.text}, {stride}")
        start = self.start(self.nest.loads[node.args[0].value])
        return self.e.emit("i64", f"add nsw i64 {start}, {move.text}").text

    # ---- values

    def value(self, node: Node) -> Name:
        """Of an expression that is one per row."""
        return self.e.expression(node, self._leaf, self.known)

    def _leaf(self, node: Node) -> Name:
        if node.op == "gather":
            access = self.nest.loads[node.args[0].value]
            place = self.gathered(node, self.value(node.args[1]))
            return self.elements.load(access.value, place)
        if node.op == "row":
            return self.registers[node.value]
        if node.op == "arg":
            access = self.nest.loads[node.value]
            return self.elements.load(access.value, self.start(access))
        return self._pick(node)

    def _pick(self, node: Node) -> Name:
        """An element of the row at an index that memory holds; outside it is a fault."""
        source, index = [self.nest.loads[i] for i in node.value]
        found = self.elements.load(index.value, self.start(index))
        safe = self.elements.safe(found, index.value.dtype, self.nest.shape[-1])
        step = self.e.emit("i64", f"mul nsw i64 {safe.text}, {source.strides[-1]}")
        place = self.e.emit("i64", f"add nsw i64 {self.start(source)}, {step.text}")
        return self.elements.load(source.value, place.text)

    # ---- what is computed before the walk

    def hoist(self, node: Node) -> None:
        """Compute the parts of an expression that are one value per row."""
        self._hoisted(node, {})

    def _hoisted(self, node: Node, seen: dict[int, bool]) -> bool:
        """Is all of it one value per row?"""
        if id(node) in self.known or node.op == "const":
            return True
        if id(node) in seen:
            return seen[id(node)]
        if node.op == "gather":
            constant = self._hoisted_gather(node, seen)
        elif node.args:
            constant = all([self._hoisted(a, seen) for a in node.args])
            if constant:
                self.value(node)
        elif node.op == "arg":
            access = self.nest.loads[node.value]
            constant = access.strides[-1] == 0
            self.start(access)
            if constant:
                self.known[id(node)] = self._leaf(node)
        else:
            constant = True
            self.known[id(node)] = self._leaf(node)
        seen[id(node)] = constant
        return constant

    def _hoisted_gather(self, node: Node, seen: dict[int, bool]) -> bool:
        """Where the index is one per row, so is the place; the columns may still be walked."""
        access = self.nest.loads[node.args[0].value]
        self.start(access)
        if not self._hoisted(node.args[1], seen):
            return False
        self.bases[id(node)] = self.gathered(node, self.value(node.args[1]))
        if access.strides[-1]:
            return False
        self.known[id(node)] = self.elements.load(access.value, self.bases[id(node)])
        return True


class Column:
    """Values of one column of a row, each loaded once."""

    def __init__(self, row: Row, index: str):
        self._row = row
        self._index = index
        self._known = dict(row.known)
        self._loaded: dict[Access, Name] = {}

    def value(self, node: Node) -> Name:
        return self._row.e.expression(node, self._leaf, self._known)

    def _leaf(self, node: Node) -> Name:
        row = self._row
        if node.op == "gather":
            base = row.bases.get(id(node))
            if base is None:
                base = row.gathered(node, self.value(node.args[1]))
            access = row.nest.loads[node.args[0].value]
            return row.elements.load(access.value, row.moved(base, access, self._index))
        access = row.nest.loads[node.value]
        if access not in self._loaded:
            place = row.at(access, self._index)
            self._loaded[access] = row.elements.load(access.value, place)
        return self._loaded[access]
