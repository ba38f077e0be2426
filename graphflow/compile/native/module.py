"""LLVM IR of a run of units: one function per worker's share, and the step that calls them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from graphflow.compile.loops.nests import Access, Nest, Product, Unit
from graphflow.compile.loops.shares import Share
from graphflow.compile.native.kernels import kernel
from graphflow.compile.native.runtime import RELAX
from graphflow.compile.native.scalars import Emitter

# The table that a step gets: addresses.  Buffers follow; the arena holds what is not outside.
ARENA, STATUS, GEMM, FIRST = 0, 1, 2, 3
_ATTRIBUTES = (
    'attributes #0 = { nounwind noinline "prefer-vector-width"="512" }\n'
    "attributes #1 = { nounwind noinline }\n"
)
# Workers meet: the last to arrive turns the sense.  Words of `sync` lie on lines of their own.
BARRIER = """
define internal void @barrier(ptr %sync, i64 %workers) #1 {
entry:
  %arrived = getelementptr i64, ptr %sync, i64 48
  %sense = getelementptr i64, ptr %sync, i64 64
  %old = load atomic i64, ptr %sense acquire, align 8
  %before = atomicrmw add ptr %arrived, i64 1 acq_rel
  %count = add i64 %before, 1
  %last = icmp eq i64 %count, %workers
  br i1 %last, label %open, label %wait
open:
  store atomic i64 0, ptr %arrived monotonic, align 8
  %turned = add i64 %old, 1
  store atomic i64 %turned, ptr %sense release, align 8
  ret void
wait:
  %spins = phi i64 [0, %entry], [%more, %again]
  %now = load atomic i64, ptr %sense acquire, align 8
  %same = icmp eq i64 %now, %old
  br i1 %same, label %pause, label %out
pause:
  call void @relax()
  %more = add i64 %spins, 1
  %long = icmp ugt i64 %more, 3000
  br i1 %long, label %yield, label %again
yield:
  %at = getelementptr i64, ptr %sync, i64 112
  %function = load ptr, ptr %at
  call i32 %function()
  br label %again
again:
  br label %wait
out:
  ret void
}
"""


def module_text(
    units: Sequence[Unit],
    cuts: Sequence[Share],
    meets: Sequence[bool],
    place: Callable[[Any], tuple[int, int]],
    workers: int,
) -> str:
    """IR of `step(table, worker, sync)`, and of `serial(table)`, which does all shares.

    Args:
      place: value -> its entry of the table, and its first byte after that address.
    """
    parts = [RELAX, BARRIER] if workers > 1 else []
    declared: set[str] = set()
    nests: dict[str, str] = {}  # code of a nest -> the name of its function: steps repeat
    for number, (unit, cut) in enumerate(zip(units, cuts, strict=True)):
        if isinstance(unit, Nest):
            text, needs = _nest(unit, cut, number, place, nests)
        else:
            text, needs = _product(unit, cut, number, place)
        parts.append(text)
        declared |= needs
    parts.append(_step(len(units), meets, workers))
    parts.append(_serial(cuts, workers))
    parts.append("\n".join(sorted(declared)))
    parts.append(_ATTRIBUTES)
    return "\n".join(parts)


def _step(count: int, meets: Sequence[bool], workers: int) -> str:
    lines = ["define void @step(ptr %table, i64 %worker, ptr %sync) {"]
    for number in range(count):
        if workers > 1 and meets[number]:
            lines.append(f"  call void @barrier(ptr %sync, i64 {workers})")
        lines.append(f"  call void @unit{number}(ptr %table, i64 %worker)")
    return "\n".join([*lines, "  ret void", "}"])


def _serial(cuts: Sequence[Share], workers: int) -> str:
    lines = ["define void @serial(ptr %table) {"]
    for number, cut in enumerate(cuts):
        for worker in range(workers):
            if cut.bounds[worker] < cut.bounds[worker + 1]:
                lines.append(f"  call void @unit{number}(ptr %table, i64 {worker})")
    return "\n".join([*lines, "  ret void", "}"])


class _Unit:
    """The function of a unit: find the buffers, and the worker's share."""

    def __init__(self, cut: Share, number: int, place: Any):
        self.e = Emitter()
        self.place = place
        self.number = number
        bounds = ", ".join(f"i64 {b}" for b in cut.bounds)
        self.constant = f"@bounds{number} = private constant [{len(cut.bounds)} x i64] [{bounds}]\n"
        e = self.e
        at = e.emit("ptr", f"getelementptr i64, ptr @bounds{number}, i64 %worker")
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
        index, byte = self.place(value)
        base = self.entry(index)
        byte += offset * value.dtype.itemsize
        return self.e.emit("ptr", f"getelementptr i8, ptr {base}, i64 {byte}").text

    def text(self) -> str:
        body = "\n".join(self.e.lines)
        return (
            f"{self.constant}define internal void @unit{self.number}(ptr %table, i64 %worker) #1 "
            f"{{\n{body}\n  br label %out\nout:\n  ret void\n}}\n"
        )


def _nest(
    unit: Nest, cut: Share, number: int, place: Any, nests: dict[str, str]
) -> tuple[str, set[str]]:
    code = kernel(unit, "nest")
    name = nests.get(code.text)
    text = ""
    if name is None:
        name = nests[code.text] = f"nest{number}"
        text = code.text.replace("@nest(", f"@{name}(", 1)
    function = _Unit(cut, number, place)
    arguments = [f"ptr {function.buffer(v)}" for v in code.values]
    status = function.entry(STATUS)
    joined = ", ".join(
        [*arguments, f"i64 {function.begin.text}", f"i64 {function.end.text}", f"ptr {status}"]
    )
    function.e.line(f"call void @{name}({joined})")
    return text + function.text(), code.declared


def _product(unit: Product, cut: Share, number: int, place: Any) -> tuple[str, set[str]]:
    function = _Unit(cut, number, place)
    e = function.e
    gemm = function.entry(GEMM)
    begin = function.begin.text
    count = e.emit("i64", f"sub i64 {function.end.text}, {begin}").text
    pointers = {id(a): function.buffer(a.value, a.offset) for a in (unit.out, *sum(unit.terms, ()))}
    m, n = str(unit.m), str(unit.n)
    if cut.axis != "batch":
        m, n = (count, n) if cut.axis == "rows" else (m, count)
        axis = -2 if cut.axis == "rows" else -1
        pointers[id(unit.out)] = _moved(e, pointers[id(unit.out)], begin, unit.out.strides[axis])
        for term in unit.terms:
            part = term[0 if cut.axis == "rows" else 1]
            pointers[id(part)] = _moved(e, pointers[id(part)], begin, part.strides[axis])
    if unit.batch:
        first, last = ("0", str(math.prod(unit.batch)))
        if cut.axis == "batch":
            first, last = begin, function.end.text
        _batch(function, unit, gemm, (m, n), pointers, (first, last))
    else:
        out = pointers[id(unit.out)]
        for i, (a, b) in enumerate(unit.terms):
            _call(e, unit, i, gemm, (m, n), (pointers[id(a)], pointers[id(b)], out),
                  "1.0" if i else "0.0")  # fmt: skip
    return function.text(), set()


def _batch(
    function: _Unit,
    unit: Product,
    gemm: str,
    sizes: tuple[str, str],
    pointers: dict[int, str],
    bounds: tuple[str, str],
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
        first = e.emit("i1", f"icmp eq i64 {indices[-1]}, 0")
        beta = e.emit("float", f"select i1 {first.text}, float 0.0, float 1.0").text
    for i, (a, b) in enumerate(unit.terms):
        _call(e, unit, i, gemm, sizes, (at(a), at(b), out), "1.0" if i else beta)
    e.line(f"{following} = add i64 {index}, 1")
    more = e.emit("i1", f"icmp slt i64 {following}, {bounds[1]}")
    e.line(f"br i1 {more.text}, label %each, label %last")
    e.label("last")


def _moved(e: Emitter, pointer: str, index: str, stride: int) -> str:
    if not stride:
        return pointer
    at = e.emit("i64", f"mul i64 {index}, {stride}").text
    return e.emit("ptr", f"getelementptr float, ptr {pointer}, i64 {at}").text


def _call(
    e: Emitter,
    unit: Product,
    number: int,
    gemm: str,
    sizes: tuple[str, str],
    pointers: tuple[str, str, str],
    beta: str,
) -> None:
    """The GEMM of a term; beta 1.0 adds to what the result holds already."""
    k = unit.inner[number]
    a, lda = _flag(unit.terms[number][0], unit.m, k)
    b, ldb = _flag(unit.terms[number][1], k, unit.n)
    m, n = sizes
    e.line(
        f"call void {gemm}(i32 101, i32 {a}, i32 {b}, i64 {m}, i64 {n}, i64 {k}, "
        f"float 1.0, ptr {pointers[0]}, i64 {lda}, ptr {pointers[1]}, i64 {ldb}, "
        f"float {beta}, ptr {pointers[2]}, i64 {unit.out.strides[-2]})"
    )


def _flag(access: Access, rows: int, columns: int) -> tuple[int, int]:
    """CblasNoTrans or CblasTrans, and the leading dimension."""
    row, column = access.strides[-2:]
    if column == 1 and (row >= columns or rows == 1):
        return 111, max(row, columns)
    return 112, max(column, rows)
