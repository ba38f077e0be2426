"""The loop IR: nests of loops, and matrix products, over flat buffers.

A nest walks a space of rows by columns.  For each row it makes passes over the columns; a pass
stores values and adds up row sums, which the passes after it can use.  All strides count
elements.  CUDA and LLVM code are two printings of the same nests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphflow.compile.loops.values import Shape, Value
from graphflow.ops.expression import Node, subexpressions

LANES = (
    8  # sums of columns under way: one alone would wait for the memory that the row before wrote
)
BLOCK = 4096  # columns of a nest over one axis: partial sums stay in float32 within a block


@dataclass(frozen=True, slots=True)
class Access:
    """Where a nest finds an element: buffer[offset + sum(index * stride)]."""

    value: Value
    strides: Shape
    offset: int = 0


def access(value: Value, strides: Shape, offset: int = 0) -> Access:
    """An access in the memory where the value lies: blocks of another value lead there."""
    while value.home is not None and value.home.dense:
        offset += value.home.offset
        value = value.home.value
    return Access(value, strides, offset)


@dataclass(frozen=True, slots=True)
class Store:
    """buffer[...] = body."""

    access: Access
    body: Node


@dataclass(frozen=True, slots=True)
class Reduction:
    """A row's elements, or a chunk's columns, reduced by "add", "maximum" or "minimum".

    Attributes:
      body: what is reduced.
      register: number of the row value that holds the result; -1 for columns.
      partial: [chunks, columns], where columns are added up; None for rows.
      lanes: [`LANES`, columns], of each worker: row r of a chunk goes to lane r mod `LANES`, and
        in the end these are added in pairs.  None: each row goes to `partial`.
    """

    op: str
    body: Node
    register: int = -1
    partial: Value | None = None
    lanes: Value | None = None


@dataclass(frozen=True, slots=True)
class Scatter:
    """buffer[... + index * stride] += body: rows one after the other, by one worker.

    Attributes:
      access: of row 0.
      index: one per row.
      stride: elements from one row to the next.
      limit: rows; an index that is not below it is a fault.
      drops: is a negative index left out?  Else it is a fault, too.
      op: "add" or "subtract".
    """

    access: Access
    index: Node
    stride: int
    limit: int
    drops: bool
    op: str
    body: Node


@dataclass(frozen=True, slots=True)
class Pass:
    """One walk along a row.  `after`: stores of row values, once the walk has ended."""

    stores: tuple[Store, ...]
    reductions: tuple[Reduction, ...]
    after: tuple[Store, ...]
    scatters: tuple[Scatter, ...] = ()

    @property
    def bodies(self) -> list[Node]:
        """All expressions."""
        scattered = [n for s in self.scatters for n in (s.body, s.index)]
        walked = [s.body for s in (*self.stores, *self.after)]
        return [*walked, *[r.body for r in self.reductions], *scattered]


@dataclass(frozen=True, slots=True)
class Nest:
    """Loops over a space; the last axis is walked in passes, the others are rows.

    Leaves of bodies: ("arg", i) is loads[i]; ("row", k) is the row value in register k;
    ("pick", (i, j)) is loads[i] at the column that loads[j] holds.  A function of its own is
    gather(arg i, index), of value (stride, limit): loads[i] at `index` times stride further on;
    an index that is not below the limit is a fault.

    Attributes:
      name: of the first operation in it.
      names: of all.
      shape: the space.
      loads: what bodies read.
      passes: the walks.
      length: elements in all, where the rows are blocks of one axis; else None.
      chunks: into how many groups of rows the work is cut: what workers share.
    """

    name: str
    shape: Shape
    loads: tuple[Access, ...]
    passes: tuple[Pass, ...]
    length: int | None = None
    chunks: int = 1
    names: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return math.prod(self.shape[:-1])

    @property
    def accesses(self) -> list[tuple[Access, bool]]:
        """All accesses, and whether they store."""
        found = [(load, False) for load in self.loads]
        for walk in self.passes:
            found += [(store.access, True) for store in (*walk.stores, *walk.after)]
            found += [(scatter.access, True) for scatter in walk.scatters]
        return found

    @property
    def indirect(self) -> set[int]:
        """Numbers of the loads whose place depends on values: all of their buffer may be read."""
        found: set[int] = set()
        for node in subexpressions(*[body for walk in self.passes for body in walk.bodies]):
            if node.op == "pick":
                found.add(node.value[0])
            elif node.op == "gather":
                found.add(node.args[0].value)
        return found


@dataclass(frozen=True, slots=True)
class Product:
    """out[i] = the sum over terms of a[i] times b[i], for each matrix of a batch, by GEMM.

    Attributes:
      m, n: sizes of the result.
      inner: the inner size of each term.
      batch: sizes of the leading axes; where the result's stride along the first is 0, the
        products along it are summed.
      terms: accesses of a and b; their strides are (batch..., row, column).
      out: access of the result.
      parts: of a sum: how many workers add up one each; they lie one behind the other.
      factors: of the terms: numbers, or expressions whose leaves are ("arg", i), scales[i].
      scales: single numbers.
      start: what is added to: a nest over [m, n] that stores it in `out`; without a batch only.
      names: of all operations in it; none: `name` alone.
    """

    name: str
    m: int
    n: int
    inner: tuple[int, ...]
    batch: Shape
    terms: tuple[tuple[Access, Access], ...]
    out: Access
    parts: int = 1
    factors: tuple[float | Node, ...] = ()
    scales: tuple[Access, ...] = ()
    start: Nest | None = None
    names: tuple[str, ...] = ()

    @property
    def accesses(self) -> list[Access]:
        """All that is read."""
        begun = () if self.start is None else self.start.loads
        return [*begun, *self.scales, *[a for term in self.terms for a in term]]

    @property
    def summed(self) -> bool:
        """Is the first axis of the batch summed over?"""
        return bool(self.batch) and self.batch[0] > 1 and self.out.strides[0] == 0

    @property
    def part_size(self) -> int:
        """Elements of one part of a sum."""
        return self.out.value.size // self.parts


Unit: TypeAlias = Nest | Product


def names_of(unit: Unit) -> Sequence[str]:
    """The operations that a unit computes."""
    return unit.names or (unit.name,)


def canonical(
    shape: Shape, strides: Sequence[Shape], keep_last: bool
) -> tuple[Shape, list[Shape], int | None]:
    """Fewest axes for these accesses: neighbours merge; one axis becomes blocks.

    Args:
      shape: of the space.
      strides: of all accesses.
      keep_last: the last axis must stay as it is.

    Returns:
      Shape of at least two axes, strides, and the number of elements where rows are blocks.
    """
    axes = [i for i, n in enumerate(shape) if n != 1 or (keep_last and i == len(shape) - 1)]
    sizes = [shape[i] for i in axes]
    moves = [[s[i] for i in axes] for s in strides]
    at = len(sizes) - 2
    while at >= 0:
        last = at + 1 == len(sizes) - 1
        if not (last and keep_last) and all(m[at] == m[at + 1] * sizes[at + 1] for m in moves):
            sizes[at] *= sizes.pop(at + 1)
            for m in moves:
                m[at] = m.pop(at + 1)
        at -= 1
    if keep_last:
        if len(sizes) == 1:
            sizes, moves = [1, *sizes], [[0, *m] for m in moves]
        return tuple(sizes), [tuple(m) for m in moves], None
    if not sizes:
        return (1, 1), [(0, 0) for _ in moves], None
    if len(sizes) == 1:
        (length,) = sizes
        width = _block(length)
        shape = (-(-length // width), width)
        exact = None if length % width == 0 else length
        return shape, [(m[0] * width, m[0]) for m in moves], exact
    return tuple(sizes), [tuple(m) for m in moves], None


def _block(length: int) -> int:
    """Columns of a block: as many as allow equal shares, so that workers need not meet."""
    for shares in (16, 8, 4, 2):
        for width in range(BLOCK, BLOCK // 4 - 1, -16):
            if length % (width * shares) == 0:
                return width
    return min(BLOCK, length)


def leaf(kind: str, value: Any, dtype: np.dtype[Any]) -> Node:
    """A leaf of a body."""
    return Node(kind, (), dtype, value)
