"""The verifier of the loop IR: bounds, types, registers, and that no two workers write one place.

Everything that a printer takes for granted is checked here, once, for each unit that is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from graphflow.compile.loops.nests import (
    LANES,
    Access,
    Nest,
    Pass,
    Product,
    Scatter,
    Store,
    Unit,
)
from graphflow.compile.loops.values import Shape, Value
from graphflow.ops.expression import COMPARISONS, LOGICAL, PREDICATES, Node, subexpressions

_REDUCTIONS = frozenset({"add", "maximum", "minimum"})
_BOOL = np.dtype(bool)


def verify(unit: Unit) -> None:
    """Check one unit.

    Raises:
      ValueError: an access leaves its buffer, a body is not typed or uses what is not there, or
        places are written twice; names the unit.
    """
    if isinstance(unit, Product):
        _product(unit)
    else:
        _nest(unit)


class OrderCheck:
    """Follows a plan, segment by segment: what is read has been written before.

    It counts elements: a piece that is stored elsewhere than in the value whose part it is leaves
    that value with too few.
    """

    def __init__(self) -> None:
        self.written: dict[int, int] = {}  # value -> elements

    def run(self, units: Sequence[Unit], needed: Iterable[Value]) -> None:
        """Check a segment.

        Args:
          needed: values that are read behind it.

        Raises:
          ValueError: fewer elements of a value have been written than are read; names the unit.
        """
        for unit in units:
            writes = list(_writes(unit))
            own = {id(value) for value, _ in writes}
            for value, count in _reads(unit):
                if id(value) not in own:
                    self._read(value, count, unit.name)
            for value, count in writes:
                self.written[id(value)] = self.written.get(id(value), 0) + count
        for value in needed:
            size = value.size
            while value.home is not None and value.home.dense:  # it lies there, see `access`
                value = value.home.value
            self._read(value, size, "what follows")

    def _read(self, value: Value, count: int, name: str) -> None:
        there = self.written.get(id(value), 0)
        if value.kind == "computed" and there < count:
            raise ValueError(
                f"{name}: reads {count} elements of {value.dtype}{list(value.shape)}, but "
                f"{there} have been written"
            )


def _reads(unit: Unit) -> Iterator[tuple[Value, int]]:
    """What a unit loads, and how many elements at least."""
    if isinstance(unit, Nest):
        indirect = unit.indirect
        for i, load in enumerate(unit.loads):
            yield load.value, 1 if i in indirect else _distinct(load, unit.shape, unit.length)
        return
    for (a, b), k in zip(unit.terms, unit.inner, strict=True):
        yield a.value, _distinct(a, (*unit.batch, unit.m, k), None)
        yield b.value, _distinct(b, (*unit.batch, k, unit.n), None)
    for scale in unit.scales:
        yield scale.value, 1
    if unit.start is not None:
        yield from _reads(unit.start)


def _writes(unit: Unit) -> Iterator[tuple[Value, int]]:
    """What a unit stores, and how many elements."""
    if isinstance(unit, Product):
        matrices = math.prod(unit.batch[unit.summed :]) * unit.parts
        yield unit.out.value, matrices * unit.m * unit.n
        return
    for walk in unit.passes:
        for store in walk.stores:
            yield store.access.value, unit.length or math.prod(unit.shape)
        for store in walk.after:
            yield store.access.value, unit.rows
        for scatter in walk.scatters:
            yield scatter.access.value, 0  # it adds to what is there
        for reduction in walk.reductions:
            if reduction.partial is not None:
                yield reduction.partial, reduction.partial.size


def _distinct(access: Access, shape: Shape, length: int | None) -> int:
    """So many elements at least that an access leads to are different ones: windows overlap."""
    if length is not None and access.strides[-1]:
        return length
    count, reach = 1, 0
    for stride, n in sorted((abs(s), n) for s, n in zip(access.strides, shape, strict=True)):
        if stride > reach:
            count *= n
            reach += stride * (n - 1)
    return count


# ---- products


def _product(unit: Product) -> None:
    beyond = (unit.parts - 1) * unit.part_size
    last = Access(unit.out.value, unit.out.strides, unit.out.offset + beyond)
    for out in (unit.out, last):
        _within(unit.name, out, (*unit.batch, unit.m, unit.n), None)
    if len(unit.inner) != len(unit.terms):
        raise ValueError(f"{unit.name}: {len(unit.inner)} inner sizes, {len(unit.terms)} terms")
    for (a, b), k in zip(unit.terms, unit.inner, strict=True):
        _within(unit.name, a, (*unit.batch, unit.m, k), None)
        _within(unit.name, b, (*unit.batch, k, unit.n), None)
        for access, shape in ((a, (unit.m, k)), (b, (k, unit.n))):
            _leading(unit.name, access, shape)
            if access.value is unit.out.value and _meet(unit, access, shape):
                raise ValueError(f"{unit.name}: the result overwrites a factor")
    _leading(unit.name, unit.out, (unit.m, unit.n))
    if len(unit.factors or unit.terms) != len(unit.terms):
        raise ValueError(f"{unit.name}: {len(unit.factors)} factors, {len(unit.terms)} terms")
    for factor in unit.factors:
        if isinstance(factor, Node):
            _factor(unit, factor)
    if unit.start is not None:
        _start(unit, unit.start)


def _factor(unit: Product, factor: Node) -> None:
    for scale in unit.scales:
        _within(unit.name, scale, (), None)
    loads = tuple([Access(s.value, (0, 0), s.offset) for s in unit.scales])
    _body(Nest(unit.name, (1, 1), loads, ()), factor, {}, row=True)
    if factor.dtype != np.float32:
        raise ValueError(f"{unit.name}: a factor of {factor.dtype}; GEMM is of float32")


def _start(unit: Product, start: Nest) -> None:
    """What a product adds to is stored in its result, by a plain map."""
    _nest(start)
    stores = [access for access, stores in start.accesses if stores]
    plain = len(start.passes) == 1 and not start.passes[0].reductions and not start.indirect
    if unit.batch or start.shape != (unit.m, unit.n) or not plain or stores != [unit.out]:
        raise ValueError(f"{unit.name}: the start is no map to the result")
    if any(load.value is unit.out.value for load in start.loads):
        raise ValueError(f"{unit.name}: the start reads the result")


def _leading(name: str, access: Access, shape: Shape) -> None:
    """One of the axes must have stride 1, the other be a leading dimension for GEMM."""
    if access.value.dtype != np.float32:
        raise ValueError(f"{name}: a product of {access.value.dtype}; GEMM is of float32")
    (rows, columns), (row, column) = shape, access.strides[-2:]
    plain = column == 1 and (row >= columns or rows == 1)
    turned = row == 1 and (column >= rows or columns == 1)
    if not plain and not turned:
        raise ValueError(f"{name}: strides {row}, {column} of [{rows}, {columns}] suit no GEMM")


def _meet(unit: Product, access: Access, shape: Shape) -> bool:
    """May the elements of a factor and of the result be the same ones?"""
    spans = []
    for found, sizes in ((access, shape), (unit.out, (unit.m, unit.n))):
        last = sum((n - 1) * s for n, s in zip((*unit.batch, *sizes), found.strides, strict=True))
        spans.append((found.offset, found.offset + last))
    (a, b), (c, d) = spans
    return a <= d and c <= b


# ---- nests


def _nest(unit: Nest) -> None:
    scattered = {id(s.access) for walk in unit.passes for s in walk.scatters}
    for access, stores in unit.accesses:
        _within(unit.name, access, unit.shape, unit.length)
        if stores and id(access) not in scattered:
            _apart(unit, access)
    if scattered and unit.chunks != 1:
        raise ValueError(f"{unit.name}: rows are added up by several workers")
    if not 1 <= unit.chunks <= max(1, unit.rows):
        raise ValueError(f"{unit.name}: {unit.chunks} chunks of {unit.rows} rows")
    registers: dict[int, np.dtype[Any]] = {}
    for walk in unit.passes:
        found = _pass(unit, walk, registers)
        if found.keys() & registers.keys():
            raise ValueError(f"{unit.name}: a register is written twice")
        registers |= found
        for store in walk.after:
            if store.access.strides[-1]:
                raise ValueError(f"{unit.name}: a row value is stored along the columns")
            _stored(unit, store, registers, row=True)


def _pass(unit: Nest, walk: Pass, registers: dict[int, Any]) -> dict[int, Any]:
    """Check a walk; the registers that it fills."""
    for store in walk.stores:
        if not store.access.strides[-1] and unit.shape[-1] > 1:
            raise ValueError(f"{unit.name}: all columns are stored in one place")
        _stored(unit, store, registers, row=False)
    for scatter in walk.scatters:
        _scatter(unit, scatter, registers)
    found: dict[int, Any] = {}
    for reduction in walk.reductions:
        if reduction.op not in _REDUCTIONS or reduction.body.dtype.kind != "f":
            raise ValueError(f"{unit.name}: {reduction.op} of {reduction.body.dtype}")
        _body(unit, reduction.body, registers, row=False)
        if reduction.partial is None:
            found[reduction.register] = reduction.body.dtype
        elif reduction.partial.shape != (unit.chunks, unit.shape[-1]):
            raise ValueError(f"{unit.name}: sums of columns in {list(reduction.partial.shape)}")
        elif reduction.lanes is not None:
            _lanes(unit, reduction.lanes)
    return found


def _lanes(unit: Nest, lanes: Value) -> None:
    if lanes.kind != "row" or lanes.shape != (LANES, unit.shape[-1]):
        raise ValueError(f"{unit.name}: lanes of columns in {lanes.kind} {list(lanes.shape)}")


def _scatter(unit: Nest, scatter: Scatter, registers: dict[int, Any]) -> None:
    _body(unit, scatter.body, registers, row=False)
    _body(unit, scatter.index, registers, row=True)
    value = scatter.access.value
    if scatter.op not in ("add", "subtract") or scatter.body.dtype != value.dtype:
        raise ValueError(f"{unit.name}: {scatter.op} of {scatter.body.dtype} to {value.dtype}")
    if scatter.index.dtype.kind != "i":
        raise ValueError(f"{unit.name}: rows are told by {scatter.index.dtype}")
    _reach(unit, scatter.access, scatter.stride, scatter.limit)


def _reach(unit: Nest, access: Access, stride: int, limit: int) -> None:
    """Check the elements that an index can lead to."""
    low, high = _span(access, unit.shape, unit.length)
    low += min(0, (limit - 1) * stride)
    high += max(0, (limit - 1) * stride)
    if low < 0 or high >= max(1, access.value.size):
        raise ValueError(
            f"{unit.name}: an index leads to elements {low}..{high} of {access.value.size}"
        )


def _stored(unit: Nest, store: Store, registers: dict[int, Any], row: bool) -> None:
    if store.body.dtype != store.access.value.dtype:
        raise ValueError(f"{unit.name}: {store.body.dtype} stored as {store.access.value.dtype}")
    if store.access.value.kind in ("constant", "index"):
        raise ValueError(f"{unit.name}: stores into a constant")
    _body(unit, store.body, registers, row)


def _body(unit: Nest, root: Node, registers: dict[int, Any], row: bool) -> None:
    """Check an expression."""
    for node in subexpressions(root):
        _node(unit, node, registers, row)


def _node(unit: Nest, node: Node, registers: dict[int, Any], row: bool) -> None:
    if node.op == "const":
        return
    if node.op == "row":
        if registers.get(node.value) != node.dtype:
            raise ValueError(f"{unit.name}: register {node.value} holds no {node.dtype} here")
    elif node.op == "arg":
        _load(unit, node.value, node.dtype)
        if row and unit.loads[node.value].strides[-1] and unit.shape[-1] > 1:
            raise ValueError(f"{unit.name}: a row value reads along the columns")
    elif node.op == "pick":
        source, index = node.value
        _load(unit, source, node.dtype)
        if _load(unit, index, None).dtype.kind not in "iu":
            raise ValueError(f"{unit.name}: picks by an index that is no integer")
    elif node.op == "gather":
        source, index = node.args
        if source.op != "arg" or index.dtype.kind != "i" or node.dtype != source.dtype:
            raise ValueError(f"{unit.name}: a gather of {source.op} by {index.dtype}")
        _load(unit, source.value, node.dtype)
        _reach(unit, unit.loads[source.value], *node.value)
    elif node.dtype != _result(node):
        raise ValueError(f"{unit.name}: {node.op} of {node.args[0].dtype} gives no {node.dtype}")


def _load(unit: Nest, number: int, dtype: np.dtype[Any] | None) -> Value:
    if not 0 <= number < len(unit.loads):
        raise ValueError(f"{unit.name}: load {number} of {len(unit.loads)}")
    value = unit.loads[number].value
    if dtype is not None and value.dtype != dtype:
        raise ValueError(f"{unit.name}: {value.dtype} loaded as {dtype}")
    return value


def _result(node: Node) -> np.dtype[Any]:
    """The dtype that a function gives."""
    if node.op == "cast":
        return node.dtype
    if node.op in COMPARISONS or node.op in PREDICATES or node.op in LOGICAL:
        return _BOOL
    first, second = node.args[0].dtype, node.args[-1].dtype
    if node.op == "where":
        return second if first == _BOOL and node.args[1].dtype == second else np.dtype("V1")
    return first if all(a.dtype == first for a in node.args) else np.dtype("V1")


def _within(name: str, access: Access, shape: Shape, length: int | None) -> None:
    if len(access.strides) != len(shape):
        raise ValueError(f"{name}: {len(access.strides)} strides in a space of {len(shape)} axes")
    low, high = _span(access, shape, length)
    if low < 0 or high >= max(1, access.value.size):
        raise ValueError(f"{name}: elements {low}..{high} of a buffer of {access.value.size}")


def _span(access: Access, shape: Shape, length: int | None) -> tuple[int, int]:
    """First and last element; of blocks of one axis, the last may be shorter."""
    strides = access.strides
    if length is not None and strides[0] == shape[-1] * strides[1]:
        shape, strides = (length,), strides[1:]
    moves = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    return (access.offset + sum(min(0, m) for m in moves),
            access.offset + sum(max(0, m) for m in moves))  # fmt: skip


def _apart(unit: Nest, access: Access) -> None:
    """Rows must store in places of their own: workers share them, and LLVM reorders them."""
    moves = [(abs(s), n) for s, n in zip(access.strides, unit.shape, strict=True) if n > 1 and s]
    rows = math.prod(unit.shape[:-1])
    if (
        rows > 1
        and access.value.kind != "row"
        and any(not s and n > 1 for s, n in zip(access.strides[:-1], unit.shape[:-1], strict=True))
    ):
        raise ValueError(f"{unit.name}: several rows are stored in one place")
    reach = 0
    for stride, n in sorted(moves):
        if stride <= reach:
            raise ValueError(f"{unit.name}: two elements are stored in one place")
        reach += stride * (n - 1)
