"""CUDA C++ of nests: the second printer of the loop IR; `graphflow.compile.native` is the first.

A block of threads walks a chunk of rows, one after the other; its threads share the columns of
each pass.  A row's reduction is a tree in shared memory over the block's threads, and sums of
columns belong to one thread each: the bits depend on `BLOCK` alone, not on the grid or the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from graphflow.compile.cuda import MOST_ELEMENTS, Emitter, NoSource, literal, type_name
from graphflow.compile.loops.nests import Access, Nest, Pass, Reduction, Scatter, Store
from graphflow.compile.loops.values import Value
from graphflow.ops.expression import Node, apply

BLOCK: Final = 256  # threads: a power of two
_INITIAL: Final = {"add": 0.0, "maximum": float("-inf"), "minimum": float("inf")}


@dataclass(frozen=True)
class CudaKernel:
    """Source of a nest.

    Attributes:
      name: of the kernel.
      source: it takes the buffers, and an int that counts indices which are out of range.
      values: the buffers, in the order of its parameters.
      grid: blocks at most that find work; each has `BLOCK` threads.
    """

    name: str
    source: str
    values: tuple[Value, ...]
    grid: int


def cuda_kernel(nest: Nest, name: str) -> CudaKernel:
    """CUDA C++ of a nest.

    Raises:
      NoSource: a dtype or a function has no equal in CUDA C++, or an index needs 64 bits.
    """
    return _Printer(nest, name).kernel()


class _Printer:
    def __init__(self, nest: Nest, name: str):
        self.nest = nest
        self.name = name
        self.values: list[Value] = []
        self.number: dict[int, int] = {}
        self.lines: list[str] = []
        self.depth = 1

    def kernel(self) -> CudaKernel:
        nest = self.nest
        partials = [r.partial for p in nest.passes for r in p.reductions if r.partial is not None]
        for value in (*[a.value for a, _ in nest.accesses], *partials):
            if value.size > MOST_ELEMENTS:
                raise NoSource(f"{value.size} elements need 64-bit indices")
            self._buffer(value)
        self._chunks(bool(partials))
        stored = {id(a.value) for a, stores in nest.accesses if stores} | {id(p) for p in partials}
        parameters = [
            f"{'' if id(v) in stored else 'const '}{type_name(v.dtype)}* __restrict__ p{i}"
            for i, v in enumerate(self.values)
        ]
        head = f'extern "C" __global__ void {self.name}({", ".join([*parameters, "int* faults"])})'
        source = "\n".join([head + " {", *self.lines, "}\n"])
        return CudaKernel(self.name, source, tuple(self.values), max(1, nest.chunks))

    def _buffer(self, value: Value) -> str:
        if value.kind == "index":
            return ""
        if id(value) not in self.number:
            self.number[id(value)] = len(self.values)
            self.values.append(value)
        return f"p{self.number[id(value)]}"

    def _line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def _open(self, text: str) -> None:
        self._line(text + " {")
        self.depth += 1

    def _close(self) -> None:
        self.depth -= 1
        self._line("}")

    # ---- loops

    def _chunks(self, partial: bool) -> None:
        rows, chunks = self.nest.rows, self.nest.chunks
        if any(r.partial is None for p in self.nest.passes for r in p.reductions):
            self._line(f"__shared__ double tree[{BLOCK}];")
        self._open(f"for (long long chunk = blockIdx.x; chunk < {chunks}; chunk += gridDim.x)")
        if partial:
            for walk in self.nest.passes:
                for reduction in walk.reductions:
                    if reduction.partial is not None:
                        self._clear(reduction)
        self._line(f"const long long last = (chunk + 1) * {rows} / {chunks};")
        self._open(f"for (long long row = chunk * {rows} / {chunks}; row < last; row++)")
        self._row()
        self._close()
        self._close()

    def _columns(self, count: str) -> None:
        self._open(f"for (int j = threadIdx.x; j < {count}; j += {BLOCK})")

    def _clear(self, reduction: Reduction) -> None:
        assert reduction.partial is not None
        columns = self.nest.shape[-1]
        first = Node("const", (), reduction.partial.dtype, _INITIAL[reduction.op])
        self._columns(str(columns))
        self._line(f"{self._buffer(reduction.partial)}[chunk * {columns} + j] = {literal(first)};")
        self._close()

    def _row(self) -> None:
        sizes = self.nest.shape[:-1]
        self._line("long long rest = row;")
        for axis in range(len(sizes) - 1, 0, -1):
            self._line(f"const int i{axis} = rest % {sizes[axis]};")
            self._line(f"rest /= {sizes[axis]};")
        self._line("const int i0 = rest;")
        columns = self.nest.shape[-1]
        count = str(columns)
        if self.nest.length is not None:
            self._line(f"const long long left = {self.nest.length} - row * {columns};")
            self._line(f"const int count = left < {columns} ? left : {columns};")
            count = "count"
        for number, walk in enumerate(self.nest.passes):
            self._pass(walk, count)
            if number + 1 < len(self.nest.passes):
                self._line("__syncthreads();  // what is stored is read by the next pass")
        if len(self.nest.passes) > 1 or any(p.after for p in self.nest.passes):
            self._line("__syncthreads();")

    # ---- a pass

    def _pass(self, walk: Pass, count: str) -> None:
        summed = [r for r in walk.reductions if r.partial is None]
        for reduction in summed:
            first = Node("const", (), reduction.body.dtype, _INITIAL[reduction.op])
            kind = type_name(reduction.body.dtype)
            self._line(f"{kind} s{reduction.register} = {literal(first)};")
        if walk.stores or walk.reductions:
            self._columns(count)
            self._walk(walk)
            self._close()
        for reduction in summed:
            self._tree(reduction)
        for scatter in walk.scatters:
            self._scatter(scatter)
        if walk.after:
            if walk.stores:
                self._line("__syncthreads();  // they may pick from what is stored")
            self._after(walk.after)

    def _walk(self, walk: Pass) -> None:
        emitter = _Bodies(self, "j")
        bodies = [s.body for s in walk.stores] + [r.body for r in walk.reductions]
        results = [emitter.emit(body) for body in bodies]
        for text in emitter.lines:
            self._line(text)
        for store, result in zip(walk.stores, results, strict=False):
            self._line(f"{self._element(store.access, 'j')} = {result};")
        for reduction, result in zip(walk.reductions, results[len(walk.stores) :], strict=True):
            if reduction.partial is None:
                into = f"s{reduction.register}"
            else:
                into = f"{self._buffer(reduction.partial)}[chunk * {self.nest.shape[-1]} + j]"
            self._line(f"{into} = {_combined(reduction, into, result)};")

    def _tree(self, reduction: Reduction) -> None:
        """Add up the threads' parts, in pairs: every thread gets the result."""
        name, kind = f"r{reduction.register}", type_name(reduction.body.dtype)
        tree = f"reinterpret_cast<{kind}*>(tree)"
        self._line(f"{kind}* const t{name} = {tree};")
        self._line(f"t{name}[threadIdx.x] = s{reduction.register};")
        self._open(f"for (int half = {BLOCK // 2}; half > 0; half /= 2)")
        self._line("__syncthreads();")
        into, other = f"t{name}[threadIdx.x]", f"t{name}[threadIdx.x + half]"
        both = _combined(reduction, into, other)
        self._line(f"if (threadIdx.x < half) {into} = {both};")
        self._close()
        self._line("__syncthreads();")
        self._line(f"const {kind} {name} = t{name}[0];")
        self._line("__syncthreads();")

    def _after(self, stores: tuple[Store, ...]) -> None:
        self._open("if (threadIdx.x == 0)")
        emitter = _Bodies(self, "0")
        results = [emitter.emit(store.body) for store in stores]
        for text in emitter.lines:
            self._line(text)
        for store, result in zip(stores, results, strict=True):
            self._line(f"{self._element(store.access, '0')} = {result};")
        self._close()

    def _scatter(self, scatter: Scatter) -> None:
        """Add a row; each column belongs to one thread, and rows come in order."""
        emitter = _Bodies(self, "0")
        index = emitter.emit(scatter.index)
        for text in emitter.lines:
            self._line(text)
        at = "target"
        self._line(f"const long long {at} = {index};")
        below = "" if scatter.drops else f"{at} < 0 || "
        self._line(f"if ({below}{at} >= {scatter.limit}) *faults = 1;")
        self._open(f"if ({at} >= 0 && {at} < {scatter.limit})")
        self._columns(str(self.nest.shape[-1]))
        emitter = _Bodies(self, "j")
        value = emitter.emit(scatter.body)
        for text in emitter.lines:
            self._line(text)
        sign = {"add": "+", "subtract": "-"}[scatter.op]
        place = f"{self.place(scatter.access, 'j')} + {at} * {scatter.stride}"
        self._line(f"{self._buffer(scatter.access.value)}[{place}] {sign}= {value};")
        self._close()
        self._close()

    # ---- elements

    def place(self, access: Access, column: str) -> str:
        """The offset of an element in its buffer."""
        terms = [str(access.offset)] if access.offset else []
        for axis, stride in enumerate(access.strides[:-1]):
            if stride and self.nest.shape[axis] != 1:
                terms.append(f"i{axis} * {stride}" if stride != 1 else f"i{axis}")
        if access.strides and access.strides[-1] and column != "0":
            stride = access.strides[-1]
            terms.append(f"{column} * {stride}" if stride != 1 else column)
        return " + ".join(terms) or "0"

    def _element(self, access: Access, column: str) -> str:
        return f"{self._buffer(access.value)}[{self.place(access, column)}]"

    def load(self, number: int, column: str) -> str:
        """A load: of memory, or of an index, which is its own place."""
        access = self.nest.loads[number]
        if access.value.kind == "index":
            return f"(long long)({self.place(access, column)})"
        return self._element(access, column)


class _Bodies(Emitter):
    """Expressions of a nest at one column."""

    def __init__(self, printer: _Printer, column: str):
        super().__init__()
        self._printer = printer
        self._column = column
        self._loads: dict[Any, str] = {}

    def emit(self, node: Node) -> str:
        if node.op == "arg":
            return self._loaded(
                ("arg", node.value), node, self._printer.load(node.value, self._column)
            )
        if node.op == "row":
            return f"r{node.value}"
        if node.op == "pick":
            return self._pick(node)
        if node.op == "gather":
            return self._gather(node)
        return super().emit(node)

    def _loaded(self, key: Any, node: Node, text: str) -> str:
        if key not in self._loads:
            name = self._loads[key] = f"x{len(self._loads)}"
            self.lines.append(f"const {type_name(node.dtype)} {name} = {text};")
        return self._loads[key]

    def _gather(self, node: Node) -> str:
        """An element of a row that an index tells; outside it is a fault."""
        stride, limit = node.value
        key = ("gather", id(node))
        if key not in self._loads:
            place = self._printer.load(node.args[0].value, self._column)
            at = self._checked(self.emit(node.args[1]), limit)
            self._loaded(key, node, f"{place[:-1]} + {at} * {stride}]")
        return self._loads[key]

    def _checked(self, index: str, limit: int) -> str:
        """The name of an index that is in range, whatever memory holds."""
        name = f"k{len(self.lines)}"
        self.lines.append(f"long long {name} = {index};")
        self.lines.append(f"if ({name} < 0 || {name} >= {limit}) {{ *faults = 1; {name} = 0; }}")
        return name

    def _pick(self, node: Node) -> str:
        """An element of the row at an index that memory holds; outside it is a fault."""
        source, index = node.value
        columns = self._printer.nest.shape[-1]
        key = ("pick", node.value)
        if key not in self._loads:
            at = self._checked(self._printer.load(index, "0"), columns)
            self._loaded(key, node, self._printer.load(source, at))
        return self._loads[key]


class _Named(Emitter):
    """An expression of two values that have names already."""

    def __init__(self, *names: str):
        super().__init__()
        self._of = names

    def emit(self, node: Node) -> str:
        return self._of[node.value] if node.op == "arg" else super().emit(node)


def _combined(reduction: Reduction, a: str, b: str) -> str:
    """One step of a reduction, as the scalar function prints."""
    args = [Node("arg", (), reduction.body.dtype, i) for i in range(2)]
    return _Named(a, b).formula(apply(reduction.op, *args))
