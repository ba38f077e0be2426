"""LLVM IR that reads and writes elements of a nest's buffers, which its parameters point to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from graphflow.compile.loops.nests import Access
from graphflow.compile.native.blocks import Blocks
from graphflow.compile.native.scalars import Name, storage


class Elements:
    """The buffers of a nest.

    Attributes:
      values: one for each parameter.
    """

    def __init__(self, e: Blocks, accesses: Iterable[Access], place: Callable[[Any], Any]):
        """Args:
        accesses: all; where a parameter points to follows from them.
        place: value -> where it lies: what lies in the same place is one buffer.
        """
        self.e = e
        self.values: list[Any] = []
        self._place = place
        self._number: dict[Any, int] = {}  # place -> of the parameter
        self._first: dict[Any, int] = {}  # place -> element that the parameter points to
        for access in accesses:
            self.add(access.value)
            if access.value.kind != "index":  # there, the place itself is the value
                at = place(access.value)
                self._first[at] = min(access.offset, self._first.get(at, access.offset))

    def add(self, value: Any) -> str:
        """The parameter that points to a value."""
        place = self._place(value)
        if place not in self._number:
            self._number[place] = len(self.values)
            self.values.append(value)
        return f"%p{self._number[place]}"

    def first(self, value: Any) -> int:
        """The element to which the parameter points."""
        return self._first.get(self._place(value), 0)

    def pointer(self, value: Any, at: str) -> Name:
        kind = storage(value.dtype)
        return self.e.emit("ptr", f"getelementptr {kind}, ptr {self.add(value)}, i64 {at}")

    def load(self, value: Any, at: str) -> Name:
        if value.kind == "index":
            return Name(at, "i64")
        pointer = self.pointer(value, at)
        kind = storage(value.dtype)
        found = self.e.emit(kind, f"load {kind}, ptr {pointer.text}")
        if value.dtype.name == "bool":
            return self.e.emit("i1", f"icmp ne i8 {found.text}, 0")
        return found

    def store(self, value: Any, at: str, what: Name) -> None:
        pointer = self.pointer(value, at)
        if value.dtype.name == "bool":
            what = self.e.emit("i8", f"zext i1 {what.text} to i8")
        self.e.line(f"store {what.type} {what.text}, ptr {pointer.text}")

    # ---- indices that come from memory

    def checked(self, index: Name, dtype: Any, limit: int) -> tuple[Name, Name]:
        """An index in 64 bits, and whether it is in range."""
        if index.type != "i64":
            op = "sext" if dtype.kind == "i" else "zext"
            index = self.e.emit("i64", f"{op} {index.type} {index.text} to i64")
        return index, self.e.emit("i1", f"icmp ult i64 {index.text}, {limit}")

    def fault_unless(self, good: Name) -> None:
        e = self.e
        bad = e.emit("i64", f"select i1 {good.text}, i64 0, i64 1")
        old = e.emit("i64", "load i64, ptr %status")
        new = e.emit("i64", f"or i64 {old.text}, {bad.text}")
        e.line(f"store i64 {new.text}, ptr %status")

    def safe(self, index: Name, dtype: Any, limit: int) -> Name:
        """An index in 64 bits; one out of range is a fault, and becomes 0."""
        at, good = self.checked(index, dtype, limit)
        self.fault_unless(good)
        return self.e.emit("i64", f"select i1 {good.text}, i64 {at.text}, i64 0")
