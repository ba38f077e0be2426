"""Who does what: the share of each worker in a unit, and where workers must wait."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from graphflow.compile.loops.fuse import flops
from graphflow.compile.loops.nests import Access, Nest, Product, Unit
from graphflow.compile.loops.values import Shape

_PACKED = 160_000  # elements that GEMM need not copy: 40 us, which pays for a barrier or two
_ALONE = 60_000  # flops below which one worker does a unit faster than two that meet
_TINY = 4_000  # flops below which that holds even where equal shares spare a meeting
_GRAIN = 8  # shares are cut at multiples of it, so that they vectorise


class Share(NamedTuple):
    """How a unit is cut.

    Attributes:
      axis: "rows" of a nest or product, "columns" or "batch" of a product.
      bounds: share s is bounds[s] to bounds[s + 1].
      each: shares of a worker, one behind the other.
    """

    axis: str
    bounds: tuple[int, ...]
    each: int = 1


def share(unit: Unit, workers: int) -> Share:
    """The cut depends on the unit and the number of workers alone: so do the bits."""
    if isinstance(unit, Nest):
        return Share("rows", _bounds(unit.chunks, workers, flops(unit)))
    work = flops(unit)
    if unit.parts > 1:
        return Share("batch", _bounds(unit.batch[0], workers, math.inf))
    if unit.batch and not unit.summed:
        return Share("batch", _bounds(math.prod(unit.batch), workers, work))
    columns = unit.n >= 2 * _GRAIN * workers and _packing(unit, workers) > _PACKED
    if not columns and (unit.m >= 2 * _GRAIN * workers or unit.m >= unit.n):
        return Share("rows", _bounds(unit.m, workers, work))
    return Share("columns", _bounds(unit.n, workers, work))


def _packing(unit: Product, workers: int) -> float:
    """Elements that each worker copies more where rows are cut than where columns are.

    GEMM copies its factors into blocks: the one that is not cut is copied by every worker.
    """
    return sum(unit.inner) * (unit.n - unit.m) * (1 - 1 / workers)


def _bounds(count: int, workers: int, work: float) -> tuple[int, ...]:
    if workers == 1 or work < (_ALONE if count % workers else _TINY):
        return (0, *[count] * workers)
    # equal shares wherever it can be: those of one batch agree then, and need not meet
    grain = _GRAIN if count % workers and count >= 4 * _GRAIN * workers else 1
    inner = [-(-count * w // workers // grain) * grain for w in range(1, workers)]
    return (0, *[min(count, n) for n in inner], count)


Range = tuple[Any, int, int]  # memory, first byte, last byte + 1


def touched(unit: Unit, cut: Share, number: int, place: Callable[[Any], tuple[Any, int]]) -> Any:
    """Ranges that are read, and those that are written, in a share.

    Args:
      place: value -> the memory it lies in, and its first byte there.
    """
    begin, end = cut.bounds[number], cut.bounds[number + 1]
    if begin >= end:
        return [], []
    if isinstance(unit, Product):
        return _touched_by_product(unit, cut, number, place)
    reads: list[Range] = []
    writes: list[Range] = []
    rows_per = unit.rows / max(1, unit.chunks)
    first, last = int(begin * rows_per), math.ceil(end * rows_per)
    for access, stores in unit.accesses:
        if access.value.kind == "row":
            continue  # each worker has its own
        span = _rows_span(access, unit.shape, first, last)
        (writes if stores else reads).append(_range(access, span, place))
    for walk in unit.passes:
        for reduction in walk.reductions:
            if reduction.partial is not None:
                columns = unit.shape[-1]
                partial = Access(reduction.partial, (columns, 1))
                writes.append(_range(partial, (begin * columns, end * columns - 1), place))
    for i in unit.indirect:
        value = unit.loads[i].value
        if value.kind == "row":
            continue
        reads.append(_range(unit.loads[i], (0, value.size - 1 - unit.loads[i].offset), place))
    for scatter in [s for walk in unit.passes for s in walk.scatters]:
        value, at = scatter.access.value, scatter.access.offset
        writes.append(_range(scatter.access, (-at, value.size - 1 - at), place))
    return reads, writes


def _rows_span(access: Access, shape: Shape, first: int, last: int) -> tuple[int, int]:
    """Smallest and largest element, from the offset on, of rows first..last - 1."""
    *rows, columns = shape
    *moves, step = access.strides
    walk = (columns - 1) * abs(step)
    if min(access.strides) < 0:
        return -access.offset, access.value.size - 1 - access.offset
    linear = all(moves[i] == moves[i + 1] * rows[i + 1] for i in range(len(rows) - 1))
    if linear:
        return first * moves[-1], (last - 1) * moves[-1] + walk
    inner = math.prod(rows[1:])  # exact where shares end with an index of the first axis
    rest = sum((n - 1) * m for n, m in zip(rows[1:], moves[1:], strict=True))
    return first // inner * moves[0], (last - 1) // inner * moves[0] + rest + walk


def _touched_by_product(unit: Product, cut: Share, number: int, place: Any) -> Any:
    axis, begin, end = cut.axis, cut.bounds[number], cut.bounds[number + 1]
    inner = 1 if unit.summed else math.prod(unit.batch[1:])  # matrices per index of the cut

    def span(access: Access, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[int, int]:
        *batch, row, column = access.strides
        if min(access.strides) < 0:
            return -access.offset, access.value.size - 1 - access.offset
        low = rows[0] * row + columns[0] * column
        high = (rows[1] - 1) * row + (columns[1] - 1) * column
        if unit.batch:
            first, last = (begin, end) if axis == "batch" else (0, unit.batch[0] * inner)
            low += first // inner * batch[0]
            high += (last - 1) // inner * batch[0]
            high += sum((n - 1) * s for n, s in zip(unit.batch[1:], batch[1:], strict=True))
        return low, high

    rows = (begin, end) if axis == "rows" else (0, unit.m)
    columns = (begin, end) if axis == "columns" else (0, unit.n)
    reads = []
    for (a, b), k in zip(unit.terms, unit.inner, strict=True):
        reads.append(_range(a, span(a, rows, (0, k)), place))
        reads.append(_range(b, span(b, (0, k), columns), place))
    reads += [_range(scale, (0, 0), place) for scale in unit.scales]
    for load in () if unit.start is None else unit.start.loads:
        reads.append(_range(load, span(load, rows, columns), place))
    low, high = span(unit.out, rows, columns)
    part = number // cut.each * unit.part_size if unit.parts > 1 else 0
    return reads, [_range(unit.out, (low + part, high + part), place)]


def _range(access: Access, span: tuple[int, int], place: Any) -> Range:
    memory, at = place(access.value)
    size = access.value.dtype.itemsize
    end = min(access.offset + span[1] + 1, access.value.size)  # the last block may be shorter
    return memory, at + (access.offset + span[0]) * size, at + end * size
