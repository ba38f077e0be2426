"""Reductions over segments: rows of data that bear the same number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, Dims, format_dims, merged, size_of
from graphflow.build import OPS, OpDef, as_tensor, op
from graphflow.build.opdef import Array, Index, Num, Real, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.casting import cast
from graphflow.ops.compare import equal, greater_equal, not_equal
from graphflow.ops.elementary import sqrt
from graphflow.ops.known import constant_value
from graphflow.ops.public import composite, function
from graphflow.ops.rules import rank_is
from graphflow.ops.select import keep

# ---- kernels: rows of `data` go into rows `ids` of the result


def _sum_into(xp: Any, data: Any, ids: Any, count: int) -> Any:
    result = xp.zeros((count, *data.shape[1:]), data.dtype)
    xp.add.at(result, ids, data)
    return result


def _counts(xp: Any, ids: Any, count: int, like: Any) -> Any:
    """Rows per segment, 1 where there is none, to divide by."""
    number = _sum_into(xp, xp.ones(ids.shape, like.dtype), ids, count)
    return xp.maximum(number, 1).reshape((count, *(1,) * (like.ndim - 1)))


def _mean_into(xp: Any, data: Any, ids: Any, count: int) -> Any:
    total, number = _sum_into(xp, data, ids, count), _counts(xp, ids, count, data)
    if data.dtype.kind in "iu":  # rounded towards zero
        return xp.sign(total) * (xp.abs(total) // number)
    return total / number


def _extreme_into(xp: Any, ufunc: Any, data: Any, ids: Any, count: int, start: Any) -> Any:
    result = xp.full((count, *data.shape[1:]), start, data.dtype)
    ufunc.at(result, ids, data)
    return result


def _max_into(xp: Any, data: Any, ids: Any, count: int) -> Any:
    return _extreme_into(xp, xp.maximum, data, ids, count, dtypes.as_dtype(data.dtype).min)


def _min_into(xp: Any, data: Any, ids: Any, count: int) -> Any:
    return _extreme_into(xp, xp.minimum, data, ids, count, dtypes.as_dtype(data.dtype).max)


def _prod_into(xp: Any, data: Any, ids: Any, count: int) -> Any:
    """The k-th rows of all segments at once: CuPy has no multiply.at."""
    result = xp.ones((count, *data.shape[1:]), data.dtype)
    order = xp.argsort(ids)
    ids, data = ids[order], data[order]
    rank = xp.arange(ids.size) - xp.searchsorted(ids, ids)
    for k in range(int(rank.max()) + 1 if ids.size else 0):
        chosen = rank == k
        result[ids[chosen]] = result[ids[chosen]] * data[chosen]
    return result


def _emptied(xp: Any, result: Any, ids: Any) -> Any:
    """Segments without rows are 0."""
    filled = _sum_into(xp, xp.ones(ids.shape, np.int32), ids, len(result)) > 0
    return xp.where(filled.reshape(-1, *(1,) * (result.ndim - 1)), result, 0).astype(result.dtype)


# ---- sorted segments


def _sorted_spec(data: Tensor, segment_ids: Tensor) -> Specs:
    (n,) = rank_is(segment_ids, 1, "segment_ids")
    if data.dims is None:
        return [(None, data.dtype)]
    if not data.dims:
        raise ShapeError("data must have rank at least 1")
    if merged((n,), data.dims[:1]) is CLASH:
        raise ShapeError(
            f"segment_ids {format_dims(segment_ids.dims)} must have one number per row of data "
            f"{format_dims(data.dims)}"
        )
    ids = constant_value(segment_ids)
    count = None if ids is None else int(ids[-1]) + 1 if ids.size else 0
    return [((count, *data.dims[1:]), data.dtype)]


def _sorted(xp: Any, data: Any, ids: Any) -> int:
    """The number of segments.

    Raises:
      InvalidArgumentError: the numbers do not fit the data, are negative or not sorted.
    """
    if ids.shape != data.shape[:1]:
        _refuse(f"segment_ids {ids.shape} must have one number per row of data {data.shape}")
    if not ids.size:
        return 0
    if int(ids[0]) < 0:
        _refuse(f"segment_ids must be >= 0, not {int(ids[0])}")
    if bool(xp.any(ids[1:] < ids[:-1])):
        _refuse("segment_ids must be sorted; the unsorted_segment functions take any order")
    return int(ids[-1]) + 1


def _refuse(message: str) -> None:
    raise InvalidArgumentError(None, None, message)


def _sorted_cases(s: Sampler) -> list[Case]:
    ids = np.asarray([0, 0, 1, 3], np.int32)
    return [
        Case((s.distinct(4, 2), ids)),
        Case((s.distinct(4), ids.astype(np.int64))),
        Case((s.normal(0, 2), np.zeros(0, np.int32))),
    ]


def _rows(x: Tensor, ids: Tensor) -> Tensor:
    return OPS["GatherV2"](x, ids)


def _sum_grad(g: Any, y: Any, data: Any, ids: Any, *_: Any) -> Any:
    return (_rows_kept(g, data, ids, len(_)), None, *[None] * len(_))


def _rows_kept(g: Any, data: Any, ids: Any, unsorted: int) -> Any:
    """The gradient of each row; rows with a negative number were dropped."""
    if not unsorted:
        return _rows(g, ids)
    picked = greater_equal(ids, 0)
    return keep(_like_rows(picked, ids, data), _rows(g, keep(picked, ids)))


def _like_rows(x: Any, ids: Any, data: Any) -> Any:
    """x, one per row, with axes of size 1 to broadcast over the rest of the rows."""
    if data.dims is None or ids.dims is None:
        missing = OPS["Rank"](data) - OPS["Rank"](ids)
        tail = OPS["Fill"](OPS["Reshape"](missing, np.asarray([1], np.int32)), 1)
        return OPS["Reshape"](x, OPS["ConcatV2"](OPS["Shape"](ids), tail, axis=0))
    for _ in range(len(data.dims) - len(ids.dims)):
        x = OPS["ExpandDims"](x, axis=-1)
    return x


def _sized(data: Any, ids: Any) -> Any:
    """Rows per segment, at each row."""
    ones = OPS["OnesLike"](cast(ids, data.dtype))
    return _like_rows(_rows(_segment_sum(ones, ids), ids), ids, data)


def _mean_grad(g: Any, y: Any, data: Any, ids: Any) -> Any:
    return _rows(g, ids) / _sized(data, ids), None


def _extreme_grad(total: Callable[..., Any]) -> Callable[..., Any]:
    """Equal shares for the rows that equal the extreme one."""

    def grad(g: Any, y: Any, data: Any, ids: Any, *more: Any) -> Any:
        chosen = equal(data, _rows_kept(y, data, ids, len(more)))
        ties = total(cast(chosen, data.dtype), ids, *more)
        share = _rows_kept(g / keep(not_equal(ties, 0), ties, other=1), data, ids, len(more))
        return (keep(chosen, share), None, *[None] * len(more))

    return grad


def _prod_grad(g: Any, y: Any, data: Any, ids: Any, *more: Any) -> Any:
    """The product of the other rows: y / x, and where x is 0, the product of those that are
    not, unless a second one is 0, too."""
    product, total = (_unsorted_prod, _unsorted_sum) if more else (_segment_prod, _segment_sum)
    some = not_equal(data, 0)
    factors = keep(some, data, other=1)
    zeros = total(cast(equal(data, 0), data.dtype), ids, *more)
    zeros = _rows_kept(zeros, data, ids, len(more))
    rest = _rows_kept(product(factors, ids, *more), data, ids, len(more)) / factors
    others = zeros - cast(equal(data, 0), data.dtype)
    picked = keep(equal(others, 0), rest)
    return (picked * _rows_kept(g, data, ids, len(more)), None, *[None] * len(more))


def _size(data: Tensor, *_: Any) -> float:
    return float(size_of(data.dims) or 0)


@function
@op("SegmentSum", infer=_sorted_spec, grad=_sum_grad, dynamic=True, cost=_size, cases=_sorted_cases)
def _segment_sum(xp: Any, data: Num, segment_ids: Index) -> Array:
    """Sums of the rows with the same number; the numbers are sorted.  0 where there are none.

    Raises:
      InvalidArgumentError: the numbers are negative or not sorted.
    """
    return _sum_into(xp, data, segment_ids, _sorted(xp, data, segment_ids))


@function
@op(
    "SegmentMean", infer=_sorted_spec, grad=_mean_grad, dynamic=True, cost=_size,
    cases=_sorted_cases,
)  # fmt: skip
def _segment_mean(xp: Any, data: Num, segment_ids: Index) -> Array:
    """Means of the rows with the same number; as `segment_sum`."""
    return _mean_into(xp, data, segment_ids, _sorted(xp, data, segment_ids))


@function
@op(
    "SegmentMax", infer=_sorted_spec, grad=_extreme_grad(lambda *a: _segment_sum(*a)),
    dynamic=True, cost=_size, cases=_sorted_cases,
)  # fmt: skip
def _segment_max(xp: Any, data: Real, segment_ids: Index) -> Array:
    """The largest elements of the rows with the same number; as `segment_sum`."""
    count = _sorted(xp, data, segment_ids)
    return _emptied(xp, _max_into(xp, data, segment_ids, count), segment_ids)


@function
@op(
    "SegmentMin", infer=_sorted_spec, grad=_extreme_grad(lambda *a: _segment_sum(*a)),
    dynamic=True, cost=_size, cases=_sorted_cases,
)  # fmt: skip
def _segment_min(xp: Any, data: Real, segment_ids: Index) -> Array:
    """The least elements of the rows with the same number; as `segment_sum`."""
    count = _sorted(xp, data, segment_ids)
    return _emptied(xp, _min_into(xp, data, segment_ids, count), segment_ids)


def _with_zeros(cases: Callable[[Sampler], list[Case]]) -> Callable[[Sampler], list[Case]]:
    """At zeros only the first order: the second one is that of a quotient, without them."""

    def more(s: Sampler) -> list[Case]:
        found = cases(s)
        x = found[0].inputs[0].copy()
        x[0, 0] = x[2, 1] = x[3, 1] = 0.0
        return [*found, Case((x, *found[0].inputs[1:]), second=False)]

    return more


@function
@op(
    "SegmentProd", infer=_sorted_spec, grad=_prod_grad, dynamic=True, cost=_size,
    cases=_with_zeros(_sorted_cases),
)  # fmt: skip
def _segment_prod(xp: Any, data: Num, segment_ids: Index) -> Array:
    """Products of the rows with the same number, 1 where there are none; as `segment_sum`."""
    return _prod_into(xp, data, segment_ids, _sorted(xp, data, segment_ids))


# ---- segments in any order


def _covered_cases(s: Sampler) -> list[Case]:
    """Every segment has rows: differences of the dtype's limits overflow."""
    n = np.asarray(3, np.int32)
    found = [Case(c.inputs, grad=False) for c in _unsorted_cases(s)]
    ids = np.asarray([2, 0, 1, 2, -1], np.int32)
    return [*found, Case((s.distinct(5, 2), ids, n)), Case((s.distinct(5), ids, n))]


def _unsorted_spec(data: Tensor, segment_ids: Tensor, num_segments: Tensor) -> Specs:
    rank_is(num_segments, 0, "num_segments")
    if data.dims is None or segment_ids.dims is None:
        return [(None, data.dtype)]
    if merged(segment_ids.dims, data.dims[: len(segment_ids.dims)]) is CLASH:
        raise ShapeError(
            f"the shape of segment_ids {format_dims(segment_ids.dims)} must be a prefix of that "
            f"of data {format_dims(data.dims)}"
        )
    count = constant_value(num_segments)
    rest: Dims = data.dims[len(segment_ids.dims) :]
    return [((None if count is None else int(count), *rest), data.dtype)]  # type: ignore[misc]


def _unsorted(into: Any, xp: Any, data: Any, ids: Any, count: Any) -> Any:
    count = int(count)
    if count < 0:
        _refuse(f"num_segments must be >= 0, not {count}")
    if data.shape[: ids.ndim] != ids.shape:
        _refuse(f"the shape of segment_ids {ids.shape} must be a prefix of that of {data.shape}")
    if ids.size and int(ids.max()) >= count:
        _refuse(f"segment number {int(ids.max())} is not below num_segments = {count}")
    data = data.reshape((ids.size, *data.shape[ids.ndim :]))
    ids = ids.reshape(-1)
    if ids.size and int(ids.min()) < 0:
        data, ids = data[ids >= 0], ids[ids >= 0]
    return into(xp, data, ids, count)


def _unsorted_cases(s: Sampler) -> list[Case]:
    n = np.asarray(4, np.int32)
    return [
        Case((s.distinct(4, 2), np.asarray([2, 0, 2, 2], np.int32), n)),
        Case((s.distinct(4), np.asarray([1, -1, 0, 1], np.int32), n)),
        Case((s.distinct(2, 2, 3), np.asarray([[3, 0], [0, 3]], np.int32), n)),
        Case((s.normal(0, 2), np.zeros(0, np.int32), n)),
    ]


def _unsorted_entry(name: str, into: Any, grad: Any, cases: Any, doc: str) -> OpDef:
    def kernel(xp: Any, data: Num, segment_ids: Index, num_segments: Index) -> Array:
        return _unsorted(into, xp, data, segment_ids, num_segments)

    kernel.__doc__ = doc
    kernel.__name__ = "unsorted_segment_" + name.removeprefix("UnsortedSegment").lower()
    declare = op(
        name, infer=_unsorted_spec, grad=grad, host=["num_segments"], cost=_size, cases=cases
    )
    return declare(kernel)


_UNSORTED = """{} of the rows with the same number, in any order; {} where there are none.

segment_ids has a shape that begins that of data; rows with a negative number are dropped.

Raises:
  InvalidArgumentError: a number is not below num_segments.
"""
_unsorted_sum = _unsorted_entry(
    "UnsortedSegmentSum", _sum_into, _sum_grad, _unsorted_cases, _UNSORTED.format("Sums", 0)
)
_unsorted_max = _unsorted_entry(
    "UnsortedSegmentMax",
    _max_into,
    _extreme_grad(_unsorted_sum),
    _covered_cases,
    _UNSORTED.format("The largest elements", "the dtype's least value"),
)
_unsorted_min = _unsorted_entry(
    "UnsortedSegmentMin",
    _min_into,
    _extreme_grad(_unsorted_sum),
    _covered_cases,
    _UNSORTED.format("The least elements", "the dtype's largest value"),
)
_unsorted_prod = _unsorted_entry(
    "UnsortedSegmentProd",
    _prod_into,
    _prod_grad,
    _with_zeros(_unsorted_cases),
    _UNSORTED.format("Products", 1),
)

segment_sum, segment_mean = _segment_sum, _segment_mean
segment_max, segment_min, segment_prod = _segment_max, _segment_min, _segment_prod
unsorted_segment_sum = function(_unsorted_sum)
unsorted_segment_max = function(_unsorted_max)
unsorted_segment_min = function(_unsorted_min)
unsorted_segment_prod = function(_unsorted_prod)


def unsorted_segment_mean(
    data: Any, segment_ids: Any, num_segments: Any, name: str | None = None
) -> Tensor:
    """Means of the rows with the same number, in any order; 0 where there are none."""
    data, ids = as_tensor(data), as_tensor(segment_ids)
    with composite(name, "UnsortedSegmentMean", data, ids):
        total = _unsorted_sum(data, ids, num_segments)
        return total / _sizes(data, ids, num_segments)


def unsorted_segment_sqrt_n(
    data: Any, segment_ids: Any, num_segments: Any, name: str | None = None
) -> Tensor:
    """Sums of the rows with the same number over the root of how many they are."""
    data, ids = as_tensor(data), as_tensor(segment_ids)
    with composite(name, "UnsortedSegmentSqrtN", data, ids):
        total = _unsorted_sum(data, ids, num_segments)
        return total / sqrt(_sizes(data, ids, num_segments))


def _sizes(data: Tensor, ids: Tensor, num_segments: Any) -> Tensor:
    from graphflow.ops.arithmetic import maximum

    ones = OPS["OnesLike"](cast(ids, data.dtype))
    number = maximum(_unsorted_sum(ones, ids, num_segments), 1)
    if data.dims is None or ids.dims is None:
        raise ShapeError("the ranks of data and segment_ids must be known")
    for _ in range(len(data.dims) - len(ids.dims)):
        number = OPS["ExpandDims"](number, axis=-1)
    return number
