"""LLVM IR of a nest: a function of its buffers and the range of chunks to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphflow.compile.loops.nests import LANES, Access, Nest, Pass, Reduction, Scatter
from graphflow.compile.loops.strips import reductions
from graphflow.compile.native.scalars import TYPES, Emitter, Name, literal, storage
from graphflow.ops.expression import Node

_VECTOR = 16  # columns from which a walk is vectorised: LLVM must not unroll it before; and lanes
_INITIAL = {"add": 0.0, "maximum": float("-inf"), "minimum": float("inf")}


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
        self.place = place
        self.e = Emitter(contracts)
        self.exact = not contracts
        self.values: list[Any] = []
        self.number: dict[Any, int] = {}  # place -> number of the parameter
        self.first: dict[Any, int] = {}  # place -> element that it points to
        self.block = "entry"
        self.labels = 0
        self.rooms: list[str] = []

    def kernel(self) -> Kernel:
        for access, _ in self.nest.accesses:
            self._buffer(access.value)
            if access.value.kind != "index":  # there, the place itself is the value
                place = self.place(access.value)
                self.first[place] = min(access.offset, self.first.get(place, access.offset))
        self.columns = [r for r in reductions(self.nest) if r.partial is not None]
        for reduction in self.columns:
            for value in (reduction.partial, reduction.lanes):
                if value is not None:
                    self._buffer(value)
        self._chunks(bool(self.columns) or any(p.scatters for p in self.nest.passes))
        parameters = ", ".join(f"ptr noalias %p{i}" for i in range(len(self.values)))
        body = "\n".join([*self.rooms, *self.e.lines])
        text = (
            f"define internal void @{self.name}({parameters + ', ' if parameters else ''}"
            f"i64 %begin, i64 %end{', i64 %left, i64 %count' if self.cut else ''}, "
            f"ptr noalias %status) #0 {{\nentry:\n{body}\n  ret void\n}}\n"
        )
        buffers = [(v, self.first.get(self.place(v), 0)) for v in self.values]
        return Kernel(self.name, buffers, text, self.e.declared)

    def _buffer(self, value: Any) -> str:
        place = self.place(value)
        if place not in self.number:
            self.number[place] = len(self.values)
            self.values.append(value)
        return f"%p{self.number[place]}"

    # ---- loops

    def _label(self, name: str) -> str:
        self.labels += 1
        return f"{name}{self.labels}"

    def _start(self, label: str) -> None:
        self.e.label(label)
        self.block = label

    def _loop(self, first: str, last: str, body: Any, simple: bool = False) -> None:
        """for i in first..last: body(i)."""
        head, inside, step, done = [self._label(n) for n in ("head", "body", "next", "done")]
        e = self.e
        index = e.fresh("i")
        came = self.block
        e.line(f"br label %{head}")
        self._start(head)
        following = e.fresh("n")
        e.line(f"{index} = phi i64 [{first}, %{came}], [{following}, %{step}]")
        more = e.emit("i1", f"icmp slt i64 {index}, {last}")
        e.line(f"br i1 {more.text}, label %{inside}, label %{done}")
        self._start(inside)
        body(index)
        e.line(f"br label %{step}")
        self._start(step)
        e.line(f"{following} = add nsw nuw i64 {index}, 1")
        e.line(f"br label %{head}")
        self._start(done)

    def _chunks(self, partial: bool) -> None:
        rows, chunks = self.nest.rows, self.nest.chunks
        if not partial:
            self._loop("%begin", "%end", self._row)
            return

        def chunk(index: str) -> None:
            e = self.e
            self.chunk = index
            for reduction in self.columns:
                self._clear(reduction)
            scaled = e.emit("i64", f"mul i64 {index}, {rows}")
            first = e.emit("i64", f"udiv i64 {scaled.text}, {chunks}")
            beyond = e.emit("i64", f"add i64 {scaled.text}, {rows}")
            last = e.emit("i64", f"udiv i64 {beyond.text}, {chunks}")
            self._loop(first.text, last.text, self._row)
            for reduction in self.columns:
                if reduction.lanes is not None:
                    self._join(reduction)

        self._loop("%begin", "%end", chunk)

    def _partial_at(self, reduction: Reduction, column: str) -> Name:
        return self._cell(reduction.partial, self.chunk, column)

    def _cell(self, value: Any, row: str, column: str) -> Name:
        e = self.e
        start = e.emit("i64", f"mul nsw i64 {row}, {self.nest.shape[-1]}")
        at = e.emit("i64", f"add nsw i64 {start.text}, {column}")
        return self._element(value, at.text)

    def _clear(self, reduction: Reduction) -> None:
        assert reduction.partial is not None
        kind = TYPES[reduction.partial.dtype.name]
        first = literal(_INITIAL[reduction.op], kind)

        def one(column: str) -> None:
            if reduction.lanes is None:
                at = self._partial_at(reduction, column)
            else:
                at = self._element(reduction.lanes, column)
            self.e.line(f"store {kind} {first}, ptr {at.text}")

        count = self.nest.shape[-1] if reduction.lanes is None else reduction.lanes.size
        self._loop("0", str(count), one)

    def _join(self, reduction: Reduction) -> None:
        """Add up the lanes of a chunk."""
        assert reduction.partial is not None
        kind = TYPES[reduction.partial.dtype.name]

        def one(column: str) -> None:
            e = self.e
            cells = [self._cell(reduction.lanes, str(lane), column) for lane in range(LANES)]
            terms = [e.emit(kind, f"load {kind}, ptr {cell.text}") for cell in cells]
            while len(terms) > 1:
                pairs = zip(terms[::2], terms[1::2], strict=True)
                terms = [self._combined(reduction.op, a, b, "") for a, b in pairs]
            at = self._partial_at(reduction, column)
            e.line(f"store {kind} {terms[0].text}, ptr {at.text}")

        self._loop("0", str(self.nest.shape[-1]), one)

    # ---- a row

    def _row(self, row: str) -> None:
        e = self.e
        self.row_index = self._indices(row)
        self.known: dict[int, Name] = {}  # row values, by identity of the node
        self.registers: dict[int, Name] = {}
        self.starts: dict[Access, str] = {}
        self.bases: dict[int, str] = {}  # of gathers whose index is one per row
        columns = self.nest.shape[-1]
        count = "%count" if self.cut else str(columns)
        if self.nest.length is not None:
            left = e.emit("i64", f"mul nsw i64 {row}, -{columns}")
            left = e.emit("i64", f"add nsw i64 {left.text}, {self.nest.length}")
            count = e.call("smin", "i64", left, columns).text
        self.lane = e.emit("i64", f"urem i64 {row}, {LANES}").text if self.columns else ""
        for walk in self.nest.passes:
            self._pass(walk, count)

    def _indices(self, row: str) -> list[str]:
        sizes = self.nest.shape[:-1]
        found = []
        for n in reversed(sizes[1:]):
            found.append(self.e.emit("i64", f"urem i64 {row}, {n}").text)
            row = self.e.emit("i64", f"udiv i64 {row}, {n}").text
        return [row, *reversed(found)]

    def _start_of(self, access: Access) -> str:
        """Offset of a row's first element."""
        key = access
        if key not in self.starts:
            at: Any = str(access.offset - self.first.get(self.place(access.value), 0))
            for index, stride, n in zip(
                self.row_index, access.strides, self.nest.shape, strict=False
            ):
                if stride and n != 1:
                    move = self.e.emit("i64", f"mul nsw i64 {index}, {stride}").text
                    at = self.e.emit("i64", f"add nsw i64 {at}, {move}").text
            if self.cut and access.strides[-1]:
                move = self.e.emit("i64", f"mul nsw i64 %left, {access.strides[-1]}").text
                at = self.e.emit("i64", f"add nsw i64 {at}, {move}").text
            self.starts[key] = at
        return self.starts[key]

    def _element(self, value: Any, at: str) -> Name:
        kind = storage(value.dtype)
        return self.e.emit("ptr", f"getelementptr {kind}, ptr {self._buffer(value)}, i64 {at}")

    def _load(self, value: Any, at: str) -> Name:
        if value.kind == "index":
            return Name(at, "i64")
        pointer = self._element(value, at)
        kind = storage(value.dtype)
        found = self.e.emit(kind, f"load {kind}, ptr {pointer.text}")
        if value.dtype.name == "bool":
            return self.e.emit("i1", f"icmp ne i8 {found.text}, 0")
        return found

    def _store(self, value: Any, at: str, what: Name) -> None:
        pointer = self._element(value, at)
        if value.dtype.name == "bool":
            what = self.e.emit("i8", f"zext i1 {what.text} to i8")
        self.e.line(f"store {what.type} {what.text}, ptr {pointer.text}")

    # ---- a pass

    def _pass(self, walk: Pass, count: str) -> None:
        if walk.stores or walk.reductions:
            self._walk(walk, count)
        for scatter in walk.scatters:
            self._scatter(scatter)
        for store in walk.after:
            value = self.e.expression(store.body, self._row_leaf, self.known)
            self._store(store.access.value, self._start_of(store.access), value)

    def _walk(self, walk: Pass, count: str) -> None:
        e = self.e
        bodies = [s.body for s in walk.stores] + [r.body for r in walk.reductions]
        for body in bodies:
            self._hoist(body, {})
        for store in walk.stores:
            self._start_of(store.access)
        aside = {id(r): self._room(r) for r in walk.reductions if self._is_short(r)}
        summed = [r for r in walk.reductions if r.partial is None and id(r) not in aside]
        head, came = self._label("walk"), self.block
        done = self._label("walked")
        index, following = e.fresh("j"), e.fresh("n")
        e.line(f"br label %{head}")
        self._start(head)
        e.line(f"{index} = phi i64 [0, %{came}], [{following}, %{head}]")
        sums, nexts = [], []
        for reduction in summed:
            kind = TYPES[reduction.body.dtype.name]
            name, following_sum = e.fresh("s"), e.fresh("s")
            start = literal(_INITIAL[reduction.op], kind)
            e.line(f"{name} = phi {kind} [{start}, %{came}], [{following_sum}, %{head}]")
            sums.append(Name(name, kind))
            nexts.append(following_sum)
        local = dict(self.known)
        loaded: dict[Any, Name] = {}

        def leaf(node: Node) -> Name:
            if node.op == "gather":
                base = self.bases.get(id(node))
                if base is None:
                    base = self._gathered(node, e.expression(node.args[1], leaf, local))
                access = self.nest.loads[node.args[0].value]
                return self._load(access.value, self._moved(base, access, index))
            access = self.nest.loads[node.value]
            if access not in loaded:
                loaded[access] = self._load(access.value, self._at(access, index))
            return loaded[access]

        # All is loaded before anything is stored: it may lie in the same place.
        values = [e.expression(body, leaf, local) for body in bodies]
        for store, value in zip(walk.stores, values, strict=False):
            self._store(store.access.value, self._at(store.access, index), value)
        reduced = values[len(walk.stores) :]
        for reduction, value in zip(walk.reductions, reduced, strict=True):
            if id(reduction) in aside:
                room = aside[id(reduction)]
                at = e.emit("ptr", f"getelementptr {value.type}, ptr {room}, i64 {index}")
                e.line(f"store {value.type} {value.text}, ptr {at.text}")
            elif reduction.partial is not None:
                if reduction.lanes is None:
                    at = self._partial_at(reduction, index)
                else:
                    at = self._cell(reduction.lanes, self.lane, index)
                kind = value.type
                old = e.emit(kind, f"load {kind}, ptr {at.text}")
                new = self._combined(reduction.op, old, value, "")
                e.line(f"store {kind} {new.text}, ptr {at.text}")
            else:
                at_sum = summed.index(reduction)
                self._combined(reduction.op, sums[at_sum], value, nexts[at_sum])
        e.line(f"{following} = add nsw nuw i64 {index}, 1")
        more = e.emit("i1", f"icmp slt i64 {following}, {count}")
        whole = ", !llvm.loop !0" if self.nest.shape[-1] >= _VECTOR else ""
        if summed and self.exact and self.nest.shape[-1] >= _VECTOR:
            whole = ", !llvm.loop !2"  # as many lanes whatever else the loop does
        e.line(f"br i1 {more.text}, label %{head}, label %{done}{whole}")
        self._start(done)
        for reduction, name in zip(summed, nexts, strict=True):
            self.registers[reduction.register] = Name(name, TYPES[reduction.body.dtype.name])
        for reduction in walk.reductions:
            if id(reduction) in aside:
                self.registers[reduction.register] = self._pairs(reduction, aside[id(reduction)])

    def _is_short(self, reduction: Reduction) -> bool:
        """Is it a sum in an order of its own, of fewer terms than there are lanes?

        Added up one after the other, in the walk, they would keep all of it from being vectorised:
        a softmax over 10 columns took 1.75 times as long.
        """
        row = reduction.partial is None and reduction.op == "add"
        return row and self.exact and self.nest.shape[-1] < _VECTOR

    def _room(self, reduction: Reduction) -> str:
        """Memory for the terms of a row."""
        name = self.e.fresh("room")
        kind = TYPES[reduction.body.dtype.name]
        self.rooms.append(f"{name} = alloca [{self.nest.shape[-1]} x {kind}], align 64")
        return name

    def _pairs(self, reduction: Reduction, room: str) -> Name:
        """The sum of a row's terms, in pairs."""
        e, kind = self.e, TYPES[reduction.body.dtype.name]
        terms = []
        for i in range(self.nest.shape[-1]):
            at = e.emit("ptr", f"getelementptr {kind}, ptr {room}, i64 {i}")
            terms.append(e.emit(kind, f"load {kind}, ptr {at.text}"))
        while len(terms) > 1:
            last = terms[-1:] if len(terms) % 2 else []
            terms = [
                self._combined("add", a, b, "")
                for a, b in zip(terms[::2], terms[1::2], strict=False)
            ] + last
        return terms[0]

    def _combined(self, op: str, a: Name, b: Name, result: str) -> Name:
        """One step of a reduction; sums may be reordered into lanes."""
        e = self.e
        name = result or e.fresh()
        if op == "add":
            flags = "reassoc " if result else ""
            e.line(f"{name} = fadd {flags}{a.type} {a.text}, {b.text}")
        else:
            suffix = "f32" if a.type == "float" else "f64"
            e.declared.add(f"declare {a.type} @llvm.{op}.{suffix}({a.type}, {a.type})")
            e.line(
                f"{name} = call {a.type} @llvm.{op}.{suffix}({a.type} {a.text}, {a.type} {b.text})"
            )
        return Name(name, a.type)

    def _at(self, access: Access, index: str) -> str:
        return self._moved(self._start_of(access), access, index)

    def _moved(self, start: str, access: Access, index: str) -> str:
        step = access.strides[-1]
        if step != 1:
            index = self.e.emit("i64", f"mul nsw i64 {index}, {step}").text
        return self.e.emit("i64", f"add nsw i64 {start}, {index}").text

    # ---- what does not change along a row

    def _hoist(self, node: Node, seen: dict[int, bool]) -> bool:
        """Compute parts that are one value per row before the walk; is all of it one?"""
        if id(node) in self.known:
            return True
        if id(node) in seen:
            return seen[id(node)]
        if node.op == "const":
            return True
        if node.op == "gather":
            constant = self._hoist_gather(node, seen)
        elif node.args:
            constant = all([self._hoist(a, seen) for a in node.args])
            if constant:
                self.e.expression(node, self._row_leaf, self.known)
        elif node.op == "arg":
            access = self.nest.loads[node.value]
            constant = access.strides[-1] == 0
            self._start_of(access)
            if constant:
                self.known[id(node)] = self._row_leaf(node)
        else:
            constant = True
            self.known[id(node)] = self._row_leaf(node)
        seen[id(node)] = constant
        return constant

    def _hoist_gather(self, node: Node, seen: dict[int, bool]) -> bool:
        """Where the index is one per row, so is the place; the columns may still be walked."""
        access = self.nest.loads[node.args[0].value]
        self._start_of(access)
        if not self._hoist(node.args[1], seen):
            return False
        self.bases[id(node)] = self._gathered(node, self._row_value(node.args[1]))
        if access.strides[-1]:
            return False
        self.known[id(node)] = self._load(access.value, self.bases[id(node)])
        return True

    def _row_value(self, node: Node) -> Name:
        return self.e.expression(node, self._row_leaf, self.known)

    def _gathered(self, node: Node, index: Name) -> str:
        """Where a gather finds the first column; an index out of range is a fault."""
        stride, limit = node.value
        at, good = self._checked(index, node.args[1].dtype, limit)
        self._fault(good)
        safe = self.e.emit("i64", f"select i1 {good.text}, i64 {at.text}, i64 0")
        move = self.e.emit("i64", f"mul nsw i64 {safe.text}, {stride}")
        start = self._start_of(self.nest.loads[node.args[0].value])
        return self.e.emit("i64", f"add nsw i64 {start}, {move.text}").text

    def _checked(self, index: Name, dtype: Any, limit: int) -> tuple[Name, Name]:
        """An index in 64 bits, and whether it is in range."""
        if index.type != "i64":
            op = "sext" if dtype.kind == "i" else "zext"
            index = self.e.emit("i64", f"{op} {index.type} {index.text} to i64")
        return index, self.e.emit("i1", f"icmp ult i64 {index.text}, {limit}")

    def _fault(self, good: Name) -> None:
        e = self.e
        bad = e.emit("i64", f"select i1 {good.text}, i64 0, i64 1")
        old = e.emit("i64", "load i64, ptr %status")
        new = e.emit("i64", f"or i64 {old.text}, {bad.text}")
        e.line(f"store i64 {new.text}, ptr %status")

    def _scatter(self, scatter: Scatter) -> None:
        """Add a row to the row of the target that the index tells."""
        e = self.e
        self._hoist(scatter.index, {})
        dtype = scatter.index.dtype
        at, good = self._checked(self._row_value(scatter.index), dtype, scatter.limit)
        allowed = good
        if scatter.drops:
            negative = e.emit("i1", f"icmp slt i64 {at.text}, 0")
            allowed = e.binary("or", good, negative, "i1")
        self._fault(allowed)
        work, done = self._label("add"), self._label("added")
        e.line(f"br i1 {good.text}, label %{work}, label %{done}")
        self._start(work)
        move = e.emit("i64", f"mul nsw i64 {at.text}, {scatter.stride}")
        start = e.emit("i64", f"add nsw i64 {self._start_of(scatter.access)}, {move.text}").text
        self._hoist(scatter.body, {})

        def column(index: str) -> None:
            def leaf(node: Node) -> Name:
                access = self.nest.loads[node.value]
                return self._load(access.value, self._at(access, index))

            value = e.expression(scatter.body, leaf, dict(self.known))
            place = self._moved(start, scatter.access, index)
            old = self._load(scatter.access.value, place)
            op = {"add": "fadd", "subtract": "fsub"}[scatter.op]
            self._store(scatter.access.value, place, e.binary(op, old, value, old.type))

        self._loop("0", str(self.nest.shape[-1]), column)
        e.line(f"br label %{done}")
        self._start(done)

    def _row_leaf(self, node: Node) -> Name:
        if node.op == "gather":
            access = self.nest.loads[node.args[0].value]
            return self._load(access.value, self._gathered(node, self._row_value(node.args[1])))
        if node.op == "row":
            return self.registers[node.value]
        if node.op == "arg":
            access = self.nest.loads[node.value]
            return self._load(access.value, self._start_of(access))
        return self._pick(node)

    def _pick(self, node: Node) -> Name:
        """An element of the row at an index that memory holds; outside it is a fault."""
        e = self.e
        source, index = [self.nest.loads[i] for i in node.value]
        found = self._load(index.value, self._start_of(index))
        at, good = self._checked(found, index.value.dtype, self.nest.shape[-1])
        self._fault(good)
        safe = e.emit("i64", f"select i1 {good.text}, i64 {at.text}, i64 0")
        step = e.emit("i64", f"mul nsw i64 {safe.text}, {source.strides[-1]}")
        place = e.emit("i64", f"add nsw i64 {self._start_of(source)}, {step.text}")
        return self._load(source.value, place.text)
