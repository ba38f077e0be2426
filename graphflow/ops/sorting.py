"""Order and identity of elements: top_k, sort, unique, searches, permutations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Index, Integer, Real, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case
from graphflow.ops.gathering import gather
from graphflow.ops.joining import concat
from graphflow.ops.known import constant_value, static_ints
from graphflow.ops.rules import axis_in
from graphflow.ops.shape_ops import reshape, shape

# ---- top_k and sort


def stable_order(xp: Any, x: Array, descending: bool) -> Array:
    """Indices that sort the last axis; among equals the lower index comes first.

    CuPy always sorts stably, but refuses to be asked.
    """
    kind = {"kind": "stable"} if xp is np else {}
    if not descending:
        return xp.argsort(x, axis=-1, **kind)
    flipped = xp.argsort(x[..., ::-1], axis=-1, **kind)
    return x.shape[-1] - 1 - flipped[..., ::-1]


def _top_spec(x: Tensor, k: Tensor, *, sorted: bool) -> Specs:
    found = constant_value(k)
    n = None if found is None else int(found)
    if x.dims is None:
        return [(None, x.dtype), (None, dtypes.int32)]
    if not x.dims:
        raise ShapeError("top_k needs a tensor of rank 1 or more")
    last = x.dims[-1]
    if n is not None and (n < 0 or (last is not None and n > last)):
        raise ShapeError(f"an axis of {last} entries has no {n} largest")
    return [((*x.dims[:-1], n), x.dtype), ((*x.dims[:-1], n), dtypes.int32)]


def _top_grad(g: Any, y: Any, x: Tensor, k: Tensor, **_: Any) -> Any:
    return _placed(g[0], y[1], x), None


def _placed(g: Tensor | None, indices: Tensor, x: Tensor) -> Tensor | None:
    """Zeros of the shape of x with g at the indices along the last axis."""
    if g is None:
        return None
    sizes = shape(x)
    rows = concat([OPS["Prod"](sizes[:-1], axis=None)[None], sizes[-1:]], 0)
    count = concat([rows[:1], shape(indices)[-1:]], 0)
    flat = OPS["GatherGrad"](reshape(g, count), reshape(indices, count), rows, axis=1, batch_dims=1)
    return reshape(flat, sizes)


@op(
    "TopKV2",
    infer=_top_spec,
    grad=_top_grad,
    host=("k",),
    cases=lambda s: [
        Case((s.distinct(2, 4), np.array(2, np.int32))),
        Case((s.distinct(3), np.array(3, np.int32)), {"sorted": False}),
        Case((s.distinct(2, 3), np.array(0, np.int32))),
    ],
)
def _top_k(xp: Any, x: Real, k: Index, *, sorted: Any = True) -> tuple[Array, Array]:
    """The k largest entries of each row, largest first, and their places (int32)."""
    n = int(k)
    if not 0 <= n <= x.shape[-1]:
        raise InvalidArgumentError(
            None, None, f"an axis of {x.shape[-1]} entries has no {n} largest"
        )
    order = stable_order(xp, x, descending=True)[..., :n]
    return xp.take_along_axis(x, order, axis=-1), order.astype(np.int32)


def _sort_spec(x: Tensor, *, descending: bool) -> Specs:
    if x.dims == ():
        raise ShapeError("a scalar cannot be sorted")
    return [(x.dims, x.dtype), (x.dims, dtypes.int32)]


@op(
    "Sort",
    infer=_sort_spec,
    grad=lambda g, y, x, **_: _placed(g[0], y[1], x),
    cases=lambda s: [
        Case((s.distinct(2, 4),)),
        Case((s.distinct(5),), {"descending": True}),
        Case((s.distinct(2, 0),)),
    ],
)
def _sort(xp: Any, x: Real, *, descending: Any = False) -> tuple[Array, Array]:
    """The last axis in order, and the places where the entries were (int32)."""
    order = stable_order(xp, x, descending)
    return xp.take_along_axis(x, order, axis=-1), order.astype(np.int32)


# ---- unique


def _unique_spec(x: Tensor, *, out_idx: Any) -> Specs:
    return [((None,), x.dtype), (_vector(x, "unique").dims, out_idx)]


def _vector(x: Tensor, what: str) -> Tensor:
    if x.dims is not None and len(x.dims) != 1:
        raise ShapeError(f"{what} takes a vector, not shape {format_dims(x.dims)}")
    return x


def _distinct(xp: Any, x: Array) -> tuple[Array, Array, Array]:
    """Distinct elements in order of their first occurrence, the place of each, how many."""
    values, first, inverse, counts = xp.unique(
        x, return_index=True, return_inverse=True, return_counts=True
    )
    order = xp.argsort(first)
    rank = xp.argsort(order)  # the inverse of a permutation
    return values[order], rank[inverse.reshape(-1)], counts[order]


@op(
    "Unique",
    infer=_unique_spec,
    grad=None,
    dynamic=True,
    cases=lambda s: [Case((np.array([3, 1, 3, 2, 1]),)), Case((np.zeros(0),))],
)
def _unique(xp: Any, x: T, *, out_idx: Any = dtypes.int32) -> tuple[Array, Array]:
    """The distinct elements of a vector, in order of their first occurrence, and which of them
    each element is."""
    values, places, _ = _distinct(xp, x)
    return values, places.astype(out_idx.np)


@op(
    "UniqueWithCounts",
    infer=lambda x, out_idx: [*_unique_spec(x, out_idx=out_idx), ((None,), out_idx)],
    grad=None,
    dynamic=True,
    cases=lambda s: [Case((np.array([3, 1, 3, 2, 1]),))],
)
def _unique_counts(xp: Any, x: T, *, out_idx: Any = dtypes.int32) -> tuple[Array, Array, Array]:
    """As Unique, and how often each distinct element occurs."""
    values, places, counts = _distinct(xp, x)
    return values, places.astype(out_idx.np), counts.astype(out_idx.np)


def _difference_spec(x: Tensor, y: Tensor, *, out_idx: Any) -> Specs:
    _vector(x, "setdiff1d"), _vector(y, "setdiff1d")
    return [((None,), x.dtype), ((None,), out_idx)]


@op(
    "ListDiff",
    infer=_difference_spec,
    grad=None,
    dynamic=True,
    cases=lambda s: [Case((np.array([1, 2, 2, 3, 5]), np.array([2, 4, 5])))],
)
def _difference(xp: Any, x: T, y: T, *, out_idx: Any = dtypes.int32) -> tuple[Array, Array]:
    """The elements of x that are not in y, in order, and their places."""
    if x.ndim != 1 or y.ndim != 1:
        raise InvalidArgumentError(None, None, f"{x.shape} and {y.shape} must be vectors")
    left = xp.nonzero(~xp.isin(x, y))[0]
    return x[left], left.astype(out_idx.np)


# ---- searches and permutations


def _search_spec(rows: Tensor, values: Tensor, *, side: str, out_type: Any) -> Specs:
    return [(values.dims, out_type)]


@op(
    "SearchSorted",
    infer=_search_spec,
    grad=None,
    cases=lambda s: [
        Case((np.array([[1.0, 3, 5], [0, 0, 2]]), np.array([[3.0, 9], [0, -1]]))),
        Case((np.array([[1.0, 3, 3]]), np.array([[3.0]])), {"side": "right"}),
    ],
)
def _search(
    xp: Any, rows: Real, values: Real, *, side: Any = "left", out_type: Any = dtypes.int32
) -> Array:
    """Where each value would be inserted into its sorted row."""
    if rows.shape[0] != values.shape[0]:
        raise InvalidArgumentError(
            None, None, f"{rows.shape[0]} rows are searched for {values.shape[0]} rows of values"
        )
    result = xp.zeros(values.shape, out_type.np)
    for i in range(len(rows)):
        result[i] = xp.searchsorted(rows[i], values[i], side=side)
    return result


def _inverse_spec(x: Tensor) -> Specs:
    return [(_vector(x, "invert_permutation").dims, x.dtype)]


@op(
    "InvertPermutation",
    infer=_inverse_spec,
    grad=None,
    cases=lambda s: [Case((np.array([2, 0, 1], np.int32),)), Case((np.zeros(0, np.int64),))],
)
def _invert(xp: Any, x: Integer) -> Array:
    """The permutation that undoes x."""
    n = x.shape[0]
    if xp is np and not np.array_equal(np.sort(x), np.arange(n)):
        raise InvalidArgumentError(None, None, f"{x.tolist()} is no permutation of 0..{n - 1}")
    return xp.argsort(x).astype(x.dtype)


# ---- TensorFlow's functions


class TopKV2(NamedTuple):
    """What `top_k` returns."""

    values: Tensor
    indices: Tensor


class Unique(NamedTuple):
    """What `unique` returns."""

    y: Tensor
    idx: Tensor


class UniqueWithCounts(NamedTuple):
    """What `unique_with_counts` returns."""

    y: Tensor
    idx: Tensor
    count: Tensor  # type: ignore[assignment]  # TensorFlow's name, a method of tuples


class ListDiff(NamedTuple):
    """What `setdiff1d` returns."""

    out: Tensor
    idx: Tensor


def top_k(input: Any, k: Any = 1, sorted: bool = True, name: str | None = None) -> TopKV2:
    """The k largest entries of the last axis, largest first, and their indices (int32).

    Among equals the lower index comes first.  NaN counts as larger than any number: TensorFlow
    compares with < alone, so that where there are NaNs its order is that of no rule.

    Raises:
      ValueError, InvalidArgumentError: there are fewer than k.
    """
    values, indices = _top_k(input, k, sorted=sorted, name=name)
    return TopKV2(values, indices)


def sort(
    values: Any, axis: Any = -1, direction: str = "ASCENDING", name: str | None = None
) -> Tensor:
    """A tensor with its entries along an axis in order; NaN after all numbers, as `top_k` says.

    Args:
      values: a real tensor.
      axis: the axis.
      direction: "ASCENDING" or "DESCENDING".
      name: its name.
    """
    return _sorted(values, axis, direction, name or "sort", 0)


def argsort(
    values: Any,
    axis: Any = -1,
    direction: str = "ASCENDING",
    stable: bool = False,
    name: str | None = None,
) -> Tensor:
    """The indices (int32) that sort a tensor along an axis; always stable."""
    return _sorted(values, axis, direction, name or "argsort", 1)


def _sorted(values: Any, axis: Any, direction: str, name: str, which: int) -> Tensor:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise GraphError(f"direction must be ASCENDING or DESCENDING, not {direction!r}")
    from graphflow.ops.public import composite

    with composite(name, name, values):
        x = as_tensor(values)
        at = static_ints(axis, "axis")
        rank = None if x.dims is None else len(x.dims)
        if rank == 0:
            raise ShapeError("a scalar cannot be sorted")
        if at != -1 and rank is None:
            raise GraphError("sorting along another axis than the last needs a known rank")
        at = axis_in(at, rank) if rank else at
        if rank is None or at == rank - 1:
            return _sort(x, descending=direction == "DESCENDING")[which]
        perm = list(range(rank))
        perm[at], perm[-1] = rank - 1, at
        swapped = OPS["Transpose"](x, perm=perm)
        found = _sort(swapped, descending=direction == "DESCENDING")[which]
        return OPS["Transpose"](found, perm=perm)


def unique(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Unique:
    """The distinct elements of a vector, in order of their first occurrence, and for each
    element which of them it is: a pair (y, idx)."""
    return Unique(*_unique(x, out_idx=as_dtype(out_idx), name=name))


def unique_with_counts(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Any:
    """As `unique`, with how often each occurs: (y, idx, count)."""
    found = _unique_counts(x, out_idx=as_dtype(out_idx), name=name)
    return UniqueWithCounts(*found)


def setdiff1d(x: Any, y: Any, index_dtype: Any = dtypes.int32, name: str | None = None) -> Any:
    """The elements of x that are not in y, in order, and their indices: (out, idx)."""
    found = _difference(x, y, out_idx=as_dtype(index_dtype), name=name)
    return ListDiff(*found)


def searchsorted(
    sorted_sequence: Any,
    values: Any,
    side: str = "left",
    out_type: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """Where each value would be inserted into the sorted last axis to keep its order.

    Args:
      sorted_sequence: [..., n], sorted along the last axis.
      values: [..., m], equal in the leading sizes.
      side: "left": before equal entries; "right": after them.
      out_type: int32 or int64.
      name: its name.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', not {side!r}")
    rows, wanted = as_tensor(sorted_sequence), as_tensor(values)
    flat_rows = reshape(rows, concat([[-1], shape(rows)[-1:]], 0))
    flat = reshape(wanted, concat([[-1], shape(wanted)[-1:]], 0))
    found = _search(flat_rows, flat, side=side, out_type=as_dtype(out_type), name=name)
    return reshape(found, shape(wanted))


def invert_permutation(x: Any, name: str | None = None) -> Tensor:
    """The permutation that undoes another one.

    Raises:
      InvalidArgumentError: it is no permutation of 0..n-1.
    """
    return _invert(x, name=name)


def batch_gather(params: Any, indices: Any, name: str | None = None) -> Tensor:
    """`gather` along the last axis of the indices, all axes before it going together."""
    rows = as_tensor(indices)
    if rows.dims is None:
        raise GraphError("batch_gather needs indices of known rank")
    return gather(params, rows, name=name, batch_dims=len(rows.dims) - 1)
