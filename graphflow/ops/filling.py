"""Tensors of one value or of a sequence: fill, zeros, ones, ranges, one-hot vectors."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims, is_known
from graphflow.build import OPS, as_tensor, op
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import Array, Float, Index, Num, Specs, T, U
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler, unary
from graphflow.ops.casting import cast
from graphflow.ops.known import MAX_ELEMENTS, constant_value, known_dims, shape_from, static_ints
from graphflow.ops.rules import axis_in, same
from graphflow.ops.shape_ops import reshape, shape, shape_input
from graphflow.ops.sources import constant


def _fill_spec(dims: Tensor, value: Tensor) -> Specs:
    if value.dims:
        raise ShapeError(f"the value must be a scalar, not of shape {format_dims(value.dims)}")
    if any(n is not None and n < 0 for n in known_dims(dims) or ()):
        raise ShapeError(f"sizes must not be negative: {known_dims(dims)}")
    return [(shape_from(dims), value.dtype)]


def _fill_grad(g: Tensor, y: Tensor, dims: Tensor, value: Tensor) -> Any:
    return None, OPS["Sum"](g, axis=None)


@op(
    "Fill",
    infer=_fill_spec,
    grad=_fill_grad,
    host=("dims",),
    cost=lambda *_: 0.0,
    cases=lambda s: [
        Case((np.array(dims, np.int32), s.uniform())) for dims in [(2, 3), (), (0, 2), (1,)]
    ],
)
def _fill(xp: Any, dims: Index, value: T) -> Array:
    """A tensor of the given sizes, with one value everywhere."""
    sizes = dims.tolist()
    if min(sizes, default=0) < 0:
        raise InvalidArgumentError(None, None, f"sizes must not be negative: {sizes}")
    return xp.full(sizes, value, dtype=value.dtype)


@op("ZerosLike", infer=same, grad=lambda g, y, x: None, cost=lambda x: 0.0, cases=unary())
def _zeros_like(xp: Any, x: T) -> Array:
    """Zeros of the shape and dtype of x; empty strings for strings."""
    if x.dtype == object:
        return np.full(x.shape, b"", object)
    return xp.zeros(x.shape, x.dtype)


def _ones_spec(x: Tensor) -> Specs:
    if x.dtype is dtypes.string:
        raise DTypeError("there is no string that is a one")
    return same(x)


@op("OnesLike", infer=_ones_spec, grad=lambda g, y, x: None, cost=lambda x: 0.0, cases=unary())
def _ones_like(xp: Any, x: T) -> Array:
    """Ones of the shape and dtype of x."""
    return xp.ones(x.shape, x.dtype)


# ---- sequences


def _range_spec(start: Tensor, limit: Tensor, delta: Tensor) -> Specs:
    for t in (start, limit, delta):
        if t.dims:
            raise ShapeError(f"a range takes scalars, not shape {format_dims(t.dims)}")
    a, b, d = [constant_value(t) for t in (start, limit, delta)]
    if a is None or b is None or d is None:
        return [((None,), start.dtype)]
    return [((_count(a, b, d, ShapeError),), start.dtype)]


def _count(start: Any, limit: Any, delta: Any, error: Any = None) -> int:
    """Number of entries of a range."""
    a, b, d = start.item(), limit.item(), delta.item()
    if not all(map(cmath.isfinite, (a, b, d))):
        message = f"no range goes from {a} to {b} in steps of {d}"
        raise error(message) if error else InvalidArgumentError(None, None, message)
    if d == 0 or (d > 0 and a > b) or (d < 0 and a < b):
        message = f"no range goes from {a} to {b} in steps of {d}"
        raise error(message) if error else InvalidArgumentError(None, None, message)
    return -((a - b) // d) if isinstance(a, int) else math.ceil((b - a) / d)


@op(
    "Range",
    infer=_range_spec,
    grad=None,
    host=("start", "limit", "delta"),
    cases=lambda s: [
        Case((np.array(1), np.array(7), np.array(2))),
        Case((np.array(3.0), np.array(0.0), np.array(-0.5))),
        Case((np.array(2), np.array(2), np.array(1))),
    ],
)
def _range(xp: Any, start: Num, limit: Num, delta: Num) -> Array:
    """start, start + delta, ... up to but without limit."""
    n = _count(start, limit, delta)
    if start.dtype.kind in "iu":
        return xp.arange(start.item(), limit.item(), delta.item(), start.dtype)
    steps = xp.arange(n, dtype=start.dtype)
    steps *= delta.item()  # in place: one array of this size is all that memory must have
    steps += start.item()
    return steps


def _linspace_spec(start: Tensor, stop: Tensor, num: Tensor) -> Specs:
    if start.dims or stop.dims or num.dims:
        raise ShapeError("linspace takes scalars")
    n = constant_value(num)
    if n is not None and n < 1:
        raise ShapeError(f"linspace needs num > 0, not {n}")
    return [((None if n is None else int(n),), start.dtype)]


@op(
    "LinSpace",
    infer=_linspace_spec,
    grad=None,
    host=("start", "stop", "num"),
    cases=lambda s: [
        Case((np.array(0.0), np.array(2.0), np.array(5, np.int32))),
        Case((np.array(3.0), np.array(-1.0), np.array(1, np.int32))),
    ],
)
def _linspace(xp: Any, start: Float, stop: Float, num: Index) -> Array:
    """`num` numbers at equal distances from start to stop, both included."""
    n = int(num)
    if n < 1:
        raise InvalidArgumentError(None, None, f"linspace needs num > 0, not {n}")
    step = (stop - start) / start.dtype.type(max(n - 1, 1))  # rounded as TensorFlow does
    result = xp.arange(n, dtype=start.dtype)
    result *= step.item()  # in place: one array of this size is all that memory must have
    result += start.item()
    result[-1] = stop.item() if n > 1 else start.item()
    return result


# ---- one-hot


def _one_hot_spec(indices: Tensor, depth: Tensor, on: Tensor, off: Tensor, *, axis: int) -> Specs:
    if depth.dims or on.dims or off.dims:
        raise ShapeError("depth, on_value and off_value must be scalars")
    if indices.dims is None:
        return [(None, on.dtype)]
    at = axis_in(axis, len(indices.dims) + 1)
    found = constant_value(depth)
    n = None if found is None else int(found)
    if n is not None and n < 0:
        raise ShapeError(f"depth must not be negative: {n}")
    return [((*indices.dims[:at], n, *indices.dims[at:]), on.dtype)]


def _one_hot_cases(s: Sampler) -> list[Case]:
    values = (np.array(3, np.int32), np.array(1.0), np.array(0.0))
    return [
        Case((np.array([0, 2, 1], np.int32), *values)),
        Case((np.array([[0, -1], [5, 1]]), *values), {"axis": 0}),
        Case((np.array(1, np.uint8), *values)),
        Case((np.zeros((0, 2), np.int32), *values), {"axis": 1}),
    ]


@op("OneHot", infer=_one_hot_spec, grad=None, host=("depth",), cases=_one_hot_cases)
def _one_hot(xp: Any, indices: Index, depth: Index, on: U, off: U, *, axis: Any = -1) -> Array:
    """`on` at the position of each index along a new axis, `off` elsewhere; an index out of
    range gives `off` only."""
    n = int(depth)
    if n < 0:
        raise InvalidArgumentError(None, None, f"depth must not be negative: {n}")
    hot = xp.expand_dims(indices, axis)
    at = axis % hot.ndim
    places = xp.arange(n, dtype=np.int64).reshape([-1] + [1] * (hot.ndim - 1 - at))
    return xp.where(hot == places, on, off)


# ---- identity matrices


def _eye_spec(rows: Tensor, columns: Tensor, *, dtype: DType) -> Specs:
    if rows.dims or columns.dims:
        raise ShapeError("an identity matrix takes two scalars, its rows and columns")
    if not dtype.is_numeric and not dtype.is_bool:
        raise DTypeError(f"there is no identity matrix of {dtype.name}")
    sizes = [constant_value(n) for n in (rows, columns)]
    dims = tuple([None if n is None else int(n) for n in sizes])
    if any(n is not None and n < 0 for n in dims):
        raise ShapeError(f"sizes must not be negative: {dims}")
    return [(dims, dtype)]


@op(
    "Eye",
    infer=_eye_spec,
    grad=None,
    host=("rows", "columns"),
    cost=lambda *_, **__: 0.0,
    cases=lambda s: [
        Case((np.array(n, np.int32), np.array(m, np.int32)), {"dtype": dtypes.float64})
        for n, m in [(2, 3), (3, 2), (1, 1), (0, 2)]
    ],
)
def _eye(xp: Any, rows: Index, columns: Index, *, dtype: Any) -> Array:
    """Ones on the main diagonal of a matrix, zeros elsewhere."""
    n, m = int(rows), int(columns)
    if min(n, m) < 0:
        raise InvalidArgumentError(None, None, f"sizes must not be negative: {n}, {m}")
    return xp.eye(n, m, dtype=dtype.np)


# ---- TensorFlow's functions


def fill(dims: Any, value: Any, name: str | None = None) -> Tensor:
    """A tensor of the given sizes, with one value everywhere."""
    return _fill(shape_input(dims), value, name=name)


def zeros(shape: Any, dtype: Any = dtypes.float32, name: str = "zeros") -> Tensor:
    """A tensor of zeros; False for bool, empty strings for strings."""
    return _constant_of(shape, as_dtype(dtype), 0, name)


def ones(shape: Any, dtype: Any = dtypes.float32, name: str = "ones") -> Tensor:
    """A tensor of ones; True for bool."""
    return _constant_of(shape, as_dtype(dtype), 1, name)


def _constant_of(shape: Any, dtype: DType, number: int, name: str) -> Tensor:
    value: Any = b"" if dtype is dtypes.string else dtype.np.type(number)
    if isinstance(shape, int) or (isinstance(shape, np.ndarray) and not shape.ndim):
        shape = [int(shape)]
    sizes = shape_input(shape)
    known = sizes.op.attrs["value"] if _is_const(sizes) else sizes
    if isinstance(known, np.ndarray):
        if known.size and known.min() < 0:
            raise ShapeError(f"sizes must not be negative: {known.tolist()}")
        if known.prod(dtype=np.float64) < MAX_ELEMENTS:
            return constant(np.full(known.tolist(), value, dtype.np), name=name)
    return _fill(sizes, np.asarray(value, dtype.np), name=name)


def _is_const(sizes: Any) -> bool:
    return isinstance(sizes, Tensor) and sizes.op.type == "Const"


def zeros_like(
    tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Tensor:
    """Zeros of the shape of a tensor, in its dtype or another one."""
    return _like(tensor, dtype, name or "zeros_like", optimize, 0)


def ones_like(
    tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Tensor:
    """Ones of the shape of a tensor, in its dtype or another one."""
    return _like(tensor, dtype, name or "ones_like", optimize, 1)


def _like(tensor: Any, dtype: Any, name: str, optimize: bool, number: int) -> Tensor:
    x = as_tensor(tensor)
    dtype = x.dtype if dtype is None else as_dtype(dtype)
    if optimize and is_known(x.dims):
        return _constant_of(x.dims, dtype, number, name)
    if dtype is not x.dtype:
        return _constant_of(shape(x), dtype, number, name)
    return (_ones_like if number else _zeros_like)(x, name=name)


def range(
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range"
) -> Tensor:
    """The numbers start, start + delta, ... below limit (above it for a negative delta).

    `range(limit)` starts at 0.  Without a dtype, that of the widest argument is taken.

    Raises:
      ValueError, InvalidArgumentError: delta is 0 or has the wrong sign.
    """
    if limit is None:
        start, limit = 0, start
    values = [
        v if isinstance(v, Tensor) else as_tensor(v, _wanted(v, dtype))
        for v in (start, limit, delta)
    ]
    if dtype is None:
        order = [dtypes.int32, dtypes.int64, dtypes.float32, dtypes.float64]
        found = {v.dtype for v in values}
        if not found <= set(order):
            raise DTypeError(f"range takes int32, int64, float32, float64, not {found}")
        dtype = max(found, key=order.index)
    return _range(*[cast(v, dtype) for v in values], name=name)


def _wanted(value: Any, dtype: Any) -> Any:
    return None if dtype is None or hasattr(value, "as_graph_tensor") else dtype


def linspace(start: Any, stop: Any, num: Any, name: str | None = None) -> Tensor:
    """`num` numbers at equal distances from start to stop, both included."""
    if not any(isinstance(v, Tensor) for v in (start, stop)):
        wide = np.result_type(np.asarray(start), np.asarray(stop))
        typed = any(isinstance(v, (np.ndarray, np.generic)) for v in (start, stop))
        dtype = as_dtype(wide) if typed and wide.kind == "f" else dtypes.float32
        start, stop = as_tensor(start, dtype), as_tensor(stop, dtype)
    return _linspace(start, stop, num, name=name or "LinSpace")


def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: Any = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """Vectors that are `on_value` at each index and `off_value` elsewhere.

    Args:
      indices: integers; those out of range give a vector of `off_value`.
      depth: the length of the vectors.
      on_value: 1 by default.
      off_value: 0 by default.
      axis: where the new axis goes; by default it is the last.
      dtype: by default that of the values, else float32.
      name: its name.

    Raises:
      TypeError: the values have another dtype.
    """
    given = [v for v in (on_value, off_value) if v is not None]
    dtype = None if dtype is None else as_dtype(dtype)
    found = [as_tensor(v, None if isinstance(v, Tensor) else dtype).dtype for v in given]
    wanted = dtype or (found[0] if found else dtypes.float32)
    if any(t is not wanted for t in found):
        raise DTypeError(f"on_value and off_value are {found}, the dtype is {wanted}")
    on, off = [
        as_tensor(default if v is None else v, wanted)
        for v, default in (
            (on_value, True if wanted.is_bool else 1),
            (off_value, False if wanted.is_bool else 0),
        )
    ]
    at = -1 if axis is None else static_ints(axis, "axis")
    return _one_hot(indices, depth, on, off, axis=at, name=name or "one_hot")


def eye(
    num_rows: Any,
    num_columns: Any = None,
    batch_shape: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """Identity matrices: ones on the main diagonal.

    Args:
      num_rows: their rows; a number or a scalar tensor.
      num_columns: their columns; as many as rows by default.
      batch_shape: sizes of leading axes.
      dtype: their dtype.
      name: its name.
    """
    columns = num_rows if num_columns is None else num_columns
    with get_default_graph().name_scope(name or "eye"):
        dtype = as_dtype(dtype)
        matrix = _eye(num_rows, columns, dtype=dtype)
        if batch_shape is None:
            return matrix
        from graphflow.ops.joining import concat
        from graphflow.ops.tiling import ints, tile

        batch = ints(batch_shape)
        count = batch.dims and batch.dims[0]
        if count is None:
            raise GraphError("the length of batch_shape must be known")
        lone = constant(np.ones(count, batch.dtype.np))
        wide = reshape(matrix, concat([lone, shape(matrix, out_type=batch.dtype)], 0))
        return tile(wide, concat([batch, np.ones(2, batch.dtype.np)], 0))


def sequence_mask(
    lengths: Any, maxlen: Any = None, dtype: Any = dtypes.bool_, name: str | None = None
) -> Tensor:
    """Masks that are True in the first `lengths[i, ...]` places of a new last axis.

    Args:
      lengths: integers.
      maxlen: the size of that axis; by default the largest length.
      dtype: what the masks are cast to.
      name: its name.
    """
    with get_default_graph().name_scope(name or "SequenceMask"):
        n = as_tensor(lengths)
        if maxlen is None:
            most = OPS["Max"](n, axis=None)
            maxlen = OPS["Maximum"](most, np.zeros((), n.dtype.np))
        columns = range(cast(maxlen, n.dtype))
        from graphflow.ops.shape_ops import expand_dims

        return cast(columns < expand_dims(n, -1), dtype)
