"""Strings that are put together and taken apart."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, InvalidArgumentError
from graphflow.base.shapes import Dims
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Index, Specs, String
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case
from graphflow.ops.known import static_ints
from graphflow.ops.public import composite, renamed
from graphflow.ops.rules import axes_in, broadcast_dims
from graphflow.ops.shape_ops import no_cost
from graphflow.ops.sparse import SparseTensor
from graphflow.ops.text import strings


def _join_spec(*inputs: Tensor, **_: Any) -> Specs:
    dims: Dims = ()
    for x in inputs:
        dims = broadcast_dims(dims, x.dims)
    return [(dims, dtypes.string)]


@op(
    "StringJoin",
    infer=_join_spec,
    grad=None,
    cost=no_cost,
    cases=lambda s: [
        Case((np.array([b"a", b"b"], object), np.array(b"c", object)), {"separator": "-"})
    ],
)
def _join(xp: Any, *inputs: String, separator: Any = "") -> Array:
    """Strings of the same place put together, a separator in between."""
    arrays = np.broadcast_arrays(*[np.asarray(x, object) for x in inputs])
    flat = [a.reshape(-1) for a in arrays]
    result = np.empty(flat[0].size, object)
    for i, parts in enumerate(zip(*flat, strict=True)):
        result[i] = separator.encode().join(parts)
    return result.reshape(arrays[0].shape)


def _reduced_spec(x: Tensor, *, axis: Any, keepdims: bool, separator: str) -> Specs:
    if x.dims is None:
        return [(None, dtypes.string)]
    axes = axes_in(axis, len(x.dims)) or ()
    if keepdims:
        return [(tuple([1 if i in axes else n for i, n in enumerate(x.dims)]), dtypes.string)]
    return [(tuple([n for i, n in enumerate(x.dims) if i not in axes]), dtypes.string)]


@op(
    "ReduceJoin",
    infer=_reduced_spec,
    grad=None,
    cost=no_cost,
    cases=lambda s: [
        Case((texts,), {"axis": axis, "keepdims": keepdims, "separator": mark})
        for texts in strings()
        for axis, keepdims, mark in ((None, False, ""), ((), True, "-"))
    ],
)
def _reduce_join(xp: Any, x: String, *, axis: Any, keepdims: Any, separator: Any) -> Array:
    """Strings along axes put together; the first of the axes goes fastest."""
    array: Any = np.asarray(x, object)
    chosen = range(array.ndim)[::-1] if axis is None else [a % array.ndim for a in axis]
    kept = [a for a in range(array.ndim) if a not in chosen]
    moved = array.transpose(*kept, *list(chosen)[::-1])
    sizes = [array.shape[a] for a in kept]
    rows = moved.reshape(int(np.prod(sizes)), int(np.prod([array.shape[a] for a in chosen])))
    result = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        result[i] = separator.encode().join(row)
    whole = [1 if a in chosen else array.shape[a] for a in range(array.ndim)]
    return result.reshape(whole if keepdims else sizes)


def _substr_spec(x: Tensor, pos: Tensor, len: Tensor) -> Specs:
    return [(broadcast_dims(x.dims, broadcast_dims(pos.dims, len.dims)), dtypes.string)]


@op(
    "Substr",
    infer=_substr_spec,
    grad=None,
    host=("pos", "len"),
    cost=no_cost,
    cases=lambda s: [
        Case((np.array([b"abc", b"defg"], object), np.array(p, np.int32), np.array(n, np.int32)))
        for p, n in ((1, 2), (-2, 1), ([0, 3], [3, 1]))
    ],
)
def _substr(xp: Any, input: String, pos: Index, len: Index) -> Array:
    """The `len` bytes of each string from `pos` on, which may count from the end."""
    arrays = np.broadcast_arrays(np.asarray(input, object), np.asarray(pos), np.asarray(len))
    result = np.empty(arrays[0].size, object)
    for i, (text, start, count) in enumerate(
        zip(*[a.reshape(-1).tolist() for a in arrays], strict=True)
    ):
        size = text.__len__()
        if not -size <= start <= size:
            raise InvalidArgumentError(None, None, f"pos {start} out of range for string {text!r}")
        first = start % size if start < 0 else start
        result[i] = text[first : first + max(count, 0)]
    return result.reshape(arrays[0].shape)


def _split_spec(x: Tensor, **_: Any) -> Specs:
    return [((None, 2), dtypes.int64), ((None,), dtypes.string), ((2,), dtypes.int64)]


@op(
    "StringSplit",
    infer=_split_spec,
    grad=None,
    dynamic=True,
    cost=no_cost,
    cases=lambda s: [
        Case((np.array([b"a b", b"", b"c  d"], object),), {"delimiter": d, "skip_empty": skip})
        for d, skip in ((" ", True), ("b ", False), ("", True))
    ],
)
def _split(xp: Any, input: String, *, delimiter: Any, skip_empty: Any) -> tuple[Array, ...]:
    """The parts of strings [n] between any of the delimiter's bytes: a sparse matrix's parts."""
    marks = re.compile(b"[" + re.escape(delimiter.encode()) + b"]") if delimiter else None
    places, values, width = [], [], 0
    for row, text in enumerate(input.reshape(-1)):
        if not text:
            continue  # no parts, whatever skip_empty says
        parts = marks.split(text) if marks else [text[i : i + 1] for i in range(len(text))]
        parts = [p for p in parts if p] if skip_empty else parts
        places += [(row, column) for column in range(len(parts))]
        values += parts
        width = max(width, len(parts))
    found = np.empty(len(values), object)
    found[:] = values
    indices = np.array(places, np.int64).reshape(-1, 2)
    return xp.asarray(indices), found, xp.asarray(np.array([input.size, width], np.int64))


# ---- TensorFlow's functions


def string_join(inputs: Any, separator: str = "", name: str | None = None) -> Tensor:
    """Strings of several tensors, of one shape or scalars, put together place by place."""
    return _join(*inputs, separator=separator, name=name)


def reduce_join(
    inputs: Any,
    axis: Any = None,
    keep_dims: Any = None,
    separator: str = "",
    name: str | None = None,
    reduction_indices: Any = None,
    keepdims: Any = None,
) -> Tensor:
    """Strings along axes put together.

    Args:
      inputs: strings.
      axis: a number or a list; of several the first goes fastest. None: all, in reading order.
      keep_dims, keepdims: keep the axes with size 1.
      separator: what comes in between.
    """
    axis = renamed(axis, reduction_indices, "axis", "reduction_indices")
    kept = bool(renamed(keepdims, keep_dims, "keepdims", "keep_dims", False))
    axes = None if axis is None else static_ints(axis, "axis")
    axes = (axes,) if isinstance(axes, int) else axes if axes is None else tuple(axes)
    return _reduce_join(inputs, axis=axes, keepdims=kept, separator=separator, name=name)


def substr(input: Any, pos: Any, len: Any, name: str | None = None, unit: str = "BYTE") -> Tensor:
    """Parts of strings.

    Args:
      input: strings.
      pos: where they begin, in bytes; negative: from the end.
      len: how long they are at most.

    Raises:
      InvalidArgumentError: when run, a part begins outside of its string.
    """
    if unit != "BYTE":
        raise GraphError(f'substr has unit="BYTE" only, not {unit!r}')
    return _substr(input, as_tensor(pos), as_tensor(len), name=name)


def string_split(
    source: Any = None,
    sep: Any = None,
    skip_empty: bool = True,
    delimiter: Any = None,
    result_type: str = "SparseTensor",
    input: Any = None,
    name: str | None = None,
) -> SparseTensor:
    """The parts of strings as a sparse matrix of a row per string.

    Args:
      source: strings [n]; `input` is its other name.
      sep: bytes, each of which separates, " " by default; "" splits into bytes. `delimiter` is
        its old name.
      skip_empty: leave out empty parts.
    """
    if result_type != "SparseTensor":
        raise GraphError(f"string_split returns a SparseTensor, no {result_type}")
    marks = renamed(sep, delimiter, "sep", "delimiter", " ")
    texts = as_tensor(input if source is None else source)
    if texts.dims is not None and len(texts.dims) != 1:
        raise GraphError(f"string_split takes strings of rank 1, not {len(texts.dims)}")
    with composite(name, "StringSplit", texts):
        return SparseTensor(*_split(texts, delimiter=marks, skip_empty=skip_empty))
