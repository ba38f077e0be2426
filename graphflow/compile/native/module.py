"""LLVM IR of a run of units: one function per worker's share, and the step that calls them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphflow.compile.loops.nests import Access, Nest, Product, Unit, names_of
from graphflow.compile.loops.shares import Share
from graphflow.compile.native.kernels import Kernel, kernel
from graphflow.compile.native.scalars import Emitter, Name, literal
from graphflow.ops.expression import Node

# The table that a step gets: addresses.  Buffers follow; the arena holds what is not outside.
ARENA, STATUS, GEMM, FIRST = 0, 1, 2, 3
_ATTRIBUTES = (
    'attributes #0 = { nounwind noinline "prefer-vector-width"="512" }\n'
    "attributes #1 = { nounwind noinline }\n"
    '!0 = distinct !{!0, !1}\n!1 = !{!"llvm.loop.unroll.disable"}\n'
    '!2 = distinct !{!2, !1, !3, !4, !5}\n!3 = !{!"llvm.loop.vectorize.enable", i1 true}\n'
    '!4 = !{!"llvm.loop.vectorize.width", i32 16}\n'
    '!5 = !{!"llvm.loop.interleave.count", i32 1}\n'
)
_TIMES = """
@times = global [{size} x i64] zeroinitializer
declare i64 @llvm.readcyclecounter()
define internal ptr @stamps(i64 %worker, i64 %which) {{
  %row = mul i64 %worker, {row}
  %index = add i64 %row, %which
  %at = getelementptr i64, ptr @times, i64 %index
  ret ptr %at
}}
define internal void @stamp(i64 %worker, i64 %which) #1 {{
  %at = call ptr @stamps(i64 %worker, i64 %which)
  %now = call i64 @llvm.readcyclecounter()
  store i64 %now, ptr %at
  ret void
}}
define internal void @clear(i64 %worker, i64 %which) #1 {{
  %at = call ptr @stamps(i64 %worker, i64 %which)
  call void @llvm.memset.p0.i64(ptr %at, i8 0, i64 24, i1 false)
  ret void
}}
define internal void @spend(i64 %worker, i64 %which, i64 %begin) #1 {{
  %at = call ptr @stamps(i64 %worker, i64 %which)
  %now = call i64 @llvm.readcyclecounter()
  %spent = sub i64 %now, %begin
  %old = load i64, ptr %at
  %new = add i64 %old, %spent
  store i64 %new, ptr %at
  ret void
}}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""


class Place(NamedTuple):
    """Where a buffer lies.

    Attributes:
      entry: of the table.
      offset: its first byte after that address.
      by_worker, by_share: bytes that it lies further on for each worker, and for each share.
    """

    entry: int
    offset: int
    by_worker: int = 0
    by_share: int = 0


class Layout(NamedTuple):
    """How units are executed.

    Attributes:
      units: in order.
      cuts: the shares of each unit; in a strip, several per worker.
      meets: must all that comes before be done on all shares before it?
      strips: first unit, last unit and parts of what runs part by part.
      workers: how many there are.
      contracts: see `Emitter`.
    """

    units: Sequence[Unit]
    cuts: Sequence[Share]
    meets: Sequence[bool]
    strips: Sequence[tuple[int, int, int]]
    workers: int
    contracts: bool = True

    @property
    def phases(self) -> list[list[int]]:
        """Numbers of the units of each phase; a strip has that of its first unit alone."""
        inside = {n for first, last, _ in self.strips for n in range(first + 1, last + 1)}
        found: list[list[int]] = []
        for number in range(len(self.units)):
            if not found or (self.workers > 1 and self.meets[number]):
                found.append([])
            if number not in inside:
                found[-1].append(number)
        return found


def module_text(layout: Layout, place: Callable[[Any], Place], timed: bool = False) -> str:
    """IR of `step(table, share, phase)`, and of `serial(table)`, which does all of them.

    Args:
      place: value -> where it lies.
      timed: keep the CPU's clock in the global `times` [workers, units, 3]: when the share was
        done with what comes before, at the beginning of a unit, and at its end.
    """
    units, workers = layout.units, layout.workers
    parts = []
    if timed:
        parts.append(_TIMES.format(size=3 * len(units) * workers, row=3 * len(units)))
    declared: set[str] = set()
    nests: dict[str, str] = {}  # code of a nest -> the name of its function: steps repeat
    for number, (unit, cut) in enumerate(zip(units, layout.cuts, strict=True)):
        try:
            if isinstance(unit, Nest):
                text, needs = _nest(unit, cut, number, place, nests, layout.contracts)
            else:
                text, needs = _product(unit, cut, number, place, nests, layout.contracts)
        except Exception as error:
            error.add_note(f"in the code of {', '.join(names_of(unit))}")
            raise
        parts.append(text)
        declared |= needs
    parts += [_strip(*strip, timed) for strip in layout.strips]
    parts.append(_step(layout, timed))
    parts.append(_serial(layout))
    parts.append("\n".join(sorted(declared)))
    parts.append(_ATTRIBUTES)
    return "\n".join(parts)


def _step(layout: Layout, timed: bool) -> str:
    """A share of a phase: one unit after the other."""
    strips = {first for first, _, _ in layout.strips}
    phases = layout.phases
    cases = " ".join(f"i64 {i}, label %phase{i}" for i in range(len(phases)))
    lines = ["define void @step(ptr %table, i64 %worker, i64 %phase) #1 {",
             f"  switch i64 %phase, label %out [{cases}]"]  # fmt: skip

    def stamp(number: int, which: int) -> None:
        if timed:
            lines.append(f"  call void @stamp(i64 %worker, i64 {3 * number + which})")

    for i, phase in enumerate(phases):
        lines.append(f"phase{i}:")
        for number in phase:
            if number != phase[0] or not number:  # else the phase before has done it
                stamp(number, 0)
            stamp(number, 1)
            if number in strips:
                lines.append(f"  call void @strip{number}(ptr %table, i64 %worker)")
                continue
            lines.append(f"  call void @unit{number}(ptr %table, i64 %worker, i64 %worker)")
            stamp(number, 2)
        if i + 1 < len(phases):
            stamp(phases[i + 1][0], 0)
        lines.append("  br label %out")
    return "\n".join([*lines, "out:", "  ret void", "}"])


def _serial(layout: Layout) -> str:
    return f"""
define void @serial(ptr %table) {{
entry:
  br label %one
one:
  %n = phi i64 [0, %entry], [%next, %one]
  %phase = udiv i64 %n, {layout.workers}
  %share = urem i64 %n, {layout.workers}
  call void @step(ptr %table, i64 %share, i64 %phase)
  %next = add i64 %n, 1
  %more = icmp slt i64 %next, {len(layout.phases) * layout.workers}
  br i1 %more, label %one, label %out
out:
  ret void
}}
"""


def _strip(first: int, last: int, parts: int, timed: bool) -> str:
    """A loop over the parts of a worker's shares: all units on the first, then on the next."""
    lines = [f"define internal void @strip{first}(ptr %table, i64 %worker) #1 {{", "entry:"]
    numbers = range(first, last + 1)
    if timed:
        lines += [f"  call void @clear(i64 %worker, i64 {3 * n})" for n in numbers[1:]]
        lines += [f"  call void @stamp(i64 %worker, i64 {3 * first + 2})"]
    lines += [f"  %base = mul i64 %worker, {parts}", "  br label %part", "part:",
              "  %p = phi i64 [0, %entry], [%next, %part]",
              "  %share = add i64 %base, %p"]  # fmt: skip
    for n in numbers:
        if timed:
            lines.append(f"  %begin{n} = call i64 @llvm.readcyclecounter()")
        lines.append(f"  call void @unit{n}(ptr %table, i64 %worker, i64 %share)")
        if timed:
            which = 3 * n + 2
            lines.append(f"  call void @spend(i64 %worker, i64 {which}, i64 %begin{n})")
    lines += ["  %next = add i64 %p, 1", f"  %more = icmp slt i64 %next, {parts}",
              "  br i1 %more, label %part, label %out", "out:", "  ret void", "}"]  # fmt: skip
    return "\n".join(lines)


class _Unit:
    """The function of a unit: find the buffers, and the worker's share."""

    def __init__(self, cut: Share, number: int, place: Any):
        self.e = Emitter()
        self.place = place
        self.number = number
        bounds = ", ".join(f"i64 {b}" for b in cut.bounds)
        self.constant = f"@bounds{number} = private constant [{len(cut.bounds)} x i64] [{bounds}]\n"
        e = self.e
        at = e.emit("ptr", f"getelementptr i64, ptr @bounds{number}, i64 %share")
        self.begin = e.emit("i64", f"load i64, ptr {at.text}")
        beyond = e.emit("ptr", f"getelementptr i64, ptr {at.text}, i64 1")
        self.end = e.emit("i64", f"load i64, ptr {beyond.text}")
        some = e.emit("i1", f"icmp slt i64 {self.begin.text}, {self.end.text}")
        e.line(f"br i1 {some.text}, label %work, label %out")
        e.label("work")

    def entry(self, index: int) -> str:
        at = self.e.emit("ptr", f"getelementptr ptr, ptr %table, i64 {index}")
        return self.e.emit("ptr", f"load ptr, ptr {at.text}").text

    def buffer(self, value: Any, offset: int = 0) -> str:
        place = self.place(value)
        base = self.entry(place.entry)
        byte = place.offset + offset * value.dtype.itemsize
        found = self.e.emit("ptr", f"getelementptr i8, ptr {base}, i64 {byte}").text
        found = _moved(self.e, found, "%worker", place.by_worker, "i8")
        return _moved(self.e, found, "%share", place.by_share, "i8")

    def text(self) -> str:
        body = "\n".join(self.e.lines)
        return (
            f"{self.constant}define internal void @unit{self.number}"
            f"(ptr %table, i64 %worker, i64 %share) #1 "
            f"{{\n{body}\n  br label %out\nout:\n  ret void\n}}\n"
        )


def _nest(
    unit: Nest, cut: Share, number: int, place: Any, nests: dict[str, str], contracts: bool
) -> tuple[str, set[str]]:
    name, code, text = _nest_code(unit, number, place, nests, contracts)
    function = _Unit(cut, number, place)
    _call_nest(function, name, code, (function.begin.text, function.end.text))
    return text + function.text(), code.declared


def _nest_code(
    nest: Nest, number: int, place: Any, nests: dict[str, str], contracts: bool, cut: bool = False
) -> tuple[str, Kernel, str]:
    """Name of the function, what it is, and its text where no unit before has the same."""
    code = kernel(nest, "nest", contracts, place, cut)
    name = nests.get(code.text)
    if name is not None:
        return name, code, ""
    name = nests[code.text] = f"nest{number}"
    return name, code, code.text.replace("@nest(", f"@{name}(", 1)


def _call_nest(function: _Unit, name: str, code: Kernel, ranges: Sequence[str]) -> None:
    arguments = [f"ptr {function.buffer(*each)}" for each in code.buffers]
    arguments += [f"i64 {bound}" for bound in ranges]
    joined = ", ".join([*arguments, f"ptr {function.entry(STATUS)}"])
    function.e.line(f"call void @{name}({joined})")


def _product(
    unit: Product, cut: Share, number: int, place: Any, nests: dict[str, str], contracts: bool
) -> tuple[str, set[str]]:
    function = _Unit(cut, number, place)
    e = function.e
    gemm = function.entry(GEMM)
    begin = function.begin.text
    count = e.emit("i64", f"sub i64 {function.end.text}, {begin}").text
    pointers = {id(a): function.buffer(a.value, a.offset) for a in (unit.out, *sum(unit.terms, ()))}
    m, n = str(unit.m), str(unit.n)
    text, needs = "", set[str]()
    factors = [_factor(function, unit, f) for f in unit.factors] or ["1.0"] * len(unit.terms)
    if unit.start is not None and not _is_there(unit.start, place):
        name, code, text = _nest_code(unit.start, number, place, nests, contracts, cut=True)
        needs = code.declared
        share = (begin, function.end.text, "0", n) if cut.axis == "rows" else ("0", m, begin, count)
        _call_nest(function, name, code, share)
    if cut.axis != "batch":
        m, n = (count, n) if cut.axis == "rows" else (m, count)
        axis = -2 if cut.axis == "rows" else -1
        pointers[id(unit.out)] = _moved(e, pointers[id(unit.out)], begin, unit.out.strides[axis])
        for term in unit.terms:
            part = term[0 if cut.axis == "rows" else 1]
            pointers[id(part)] = _moved(e, pointers[id(part)], begin, part.strides[axis])
    if unit.parts > 1:
        pointers[id(unit.out)] = _moved(e, pointers[id(unit.out)], "%worker", unit.part_size)
    if unit.batch:
        first, last = ("0", str(math.prod(unit.batch)))
        if cut.axis == "batch":
            first, last = begin, function.end.text
        if cut.axis == "batch" and unit.summed:  # shares of a sum are cut by its first axis alone
            inner = math.prod(unit.batch[1:])
            first, last = [e.emit("i64", f"mul i64 {i}, {inner}").text for i in (first, last)]
        _batch(function, unit, gemm, (m, n), pointers, (first, last), cut.each)
    else:
        out = pointers[id(unit.out)]
        for i, (a, b) in enumerate(unit.terms):
            _call(e, unit, i, gemm, (m, n), (pointers[id(a)], pointers[id(b)], out),
                  "1.0" if i or unit.start is not None else "0.0", factors[i])  # fmt: skip
    return text + function.text(), needs


def _factor(function: _Unit, unit: Product, factor: float | Node) -> str:
    """GEMM leaves a product out whose factor is 0, NaN and all: it gets the least number then."""
    if not isinstance(factor, Node):
        return literal(factor, "float")
    e = function.e

    def leaf(node: Node) -> Name:
        scale = unit.scales[node.value]
        at = function.buffer(scale.value, scale.offset)
        return e.emit("float", f"load float, ptr {at}")

    found = e.expression(factor, leaf, {}).text
    zero = e.emit("i1", f"fcmp oeq float {found}, 0.0").text
    least = literal(np.finfo(np.float32).smallest_subnormal, "float")
    return e.emit("float", f"select i1 {zero}, float {least}, float {found}").text


def _is_there(start: Nest, place: Callable[[Any], Place]) -> bool:
    """Does what a product begins with lie where the result does?"""
    (store,) = start.passes[0].stores
    if store.body.op != "arg":
        return False
    load = start.loads[store.body.value]
    same = load.strides == store.access.strides and load.offset == store.access.offset
    return same and place(load.value) == place(store.access.value)


def _batch(
    function: _Unit,
    unit: Product,
    gemm: str,
    sizes: tuple[str, str],
    pointers: dict[int, str],
    bounds: tuple[str, str],
    each: int,
) -> None:
    """A loop over the matrices of a batch."""
    e = function.e
    index, following = e.fresh("b"), e.fresh("n")
    e.line("br label %each")
    e.label("each")
    e.line(f"{index} = phi i64 [{bounds[0]}, %work], [{following}, %each]")
    indices = []
    left = index
    for size in reversed(unit.batch):
        indices.append(e.emit("i64", f"urem i64 {left}, {size}").text)
        left = e.emit("i64", f"udiv i64 {left}, {size}").text
    indices.reverse()

    def at(access: Access) -> str:
        pointer = pointers[id(access)]
        for i, stride in zip(indices, access.strides, strict=False):
            pointer = _moved(e, pointer, i, stride)
        return pointer

    out = at(unit.out)
    beta = "0.0"
    if unit.summed:
        start = e.emit("i64", f"udiv i64 {bounds[0]}, {math.prod(unit.batch[1:])}")
        first = e.emit("i1", f"icmp eq i64 {indices[0]}, {start.text}")
        if each > 1:  # the first of a worker's shares sets, the others add
            within = e.emit("i64", f"urem i64 %share, {each}")
            sets = e.emit("i1", f"icmp eq i64 {within.text}, 0")
            first = e.emit("i1", f"and i1 {first.text}, {sets.text}")
        beta = e.emit("float", f"select i1 {first.text}, float 0.0, float 1.0").text
    for i, (a, b) in enumerate(unit.terms):
        _call(e, unit, i, gemm, sizes, (at(a), at(b), out), "1.0" if i else beta)
    e.line(f"{following} = add i64 {index}, 1")
    more = e.emit("i1", f"icmp slt i64 {following}, {bounds[1]}")
    e.line(f"br i1 {more.text}, label %each, label %last")
    e.label("last")


def _moved(e: Emitter, pointer: str, index: str, stride: int, kind: str = "float") -> str:
    if not stride:
        return pointer
    at = e.emit("i64", f"mul i64 {index}, {stride}").text
    return e.emit("ptr", f"getelementptr {kind}, ptr {pointer}, i64 {at}").text


def _call(
    e: Emitter,
    unit: Product,
    number: int,
    gemm: str,
    sizes: tuple[str, str],
    pointers: tuple[str, str, str],
    beta: str,
    factor: str = "1.0",
) -> None:
    """The GEMM of a term; beta 1.0 adds to what the result holds already."""
    k = unit.inner[number]
    a, lda = _flag(unit.terms[number][0], unit.m, k)
    b, ldb = _flag(unit.terms[number][1], k, unit.n)
    m, n = sizes
    e.line(
        f"call void {gemm}(i32 101, i32 {a}, i32 {b}, i64 {m}, i64 {n}, i64 {k}, "
        f"float {factor}, ptr {pointers[0]}, i64 {lda}, ptr {pointers[1]}, i64 {ldb}, "
        f"float {beta}, ptr {pointers[2]}, i64 {unit.out.strides[-2]})"
    )


def _flag(access: Access, rows: int, columns: int) -> tuple[int, int]:
    """CblasNoTrans or CblasTrans, and the leading dimension."""
    row, column = access.strides[-2:]
    if column == 1 and (row >= columns or rows == 1):
        return 111, max(row, columns)
    return 112, max(column, rows)
