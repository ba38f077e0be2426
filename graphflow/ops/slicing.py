"""Slices: `tf.slice`, `tf.strided_slice` and what Python's `[]` allows on a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import Dims, format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.known import known_dims, shape_from
from graphflow.ops.shape_ops import shape

Ints = Sequence[Any]


# ---- slice(begin, size)


def _slice_spec(x: Tensor, begin: Tensor, size: Tensor) -> Specs:
    starts, sizes = known_dims(begin), known_dims(size)
    ranks = [len(d) for d in (x.dims, starts, sizes) if d is not None]
    if not ranks:
        return [(None, x.dtype)]
    rank = ranks[0]
    if any(r != rank for r in ranks):
        raise ShapeError(f"begin and size must have one entry per axis of {format_dims(x.dims)}")
    unknown = (None,) * rank
    triples = zip(x.dims or unknown, starts or unknown, sizes or unknown, strict=True)
    return [(tuple([_part(*triple) for triple in triples]), x.dtype)]


def _part(n: int | None, start: int | None, size: int | None) -> int | None:
    if (start is not None and start < 0) or (size is not None and size < -1):
        raise ShapeError(f"a slice cannot begin at {start} with size {size}")
    if n is not None and start is not None and (start > n or start + max(size or 0, 0) > n):
        raise ShapeError(f"a slice from {start} of size {size} leaves an axis of size {n}")
    if size == -1:
        return None if n is None or start is None else n - start
    return size


def _slice_grad(g: Tensor, y: Tensor, x: Tensor, begin: Tensor, size: Tensor) -> Any:
    return _slice_back(shape(x, out_type=begin.dtype), begin, g), None, None


def _slice_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.uniform(*dims), np.array(begin, np.int32), np.array(size, np.int32)))
        for dims, begin, size in [
            ((3, 4), (1, 0), (2, -1)),
            ((3,), (3,), (0,)),
            ((), (), ()),
            ((2, 3), (0, 1), (1, 1)),
        ]
    ]


@op(
    "Slice",
    infer=_slice_spec,
    grad=_slice_grad,
    host=("begin", "size"),
    alias="x",
    cost=lambda *_: 0.0,
    cases=_slice_cases,
)
def _slice(xp: Any, x: T, begin: Index, size: Index) -> Array:
    """The part of x from `begin` with the given sizes; a size of -1 takes the rest."""
    spans = []
    for n, start, width in zip(x.shape, begin.tolist(), size.tolist(), strict=True):
        stop = n if width == -1 else start + width
        if not 0 <= start <= stop <= n:
            raise InvalidArgumentError(
                None, None, f"a slice from {start} of size {width} leaves an axis of size {n}"
            )
        spans.append(slice(start, stop))
    return x[(*spans, ...)]


def _slice_back_spec(dims: Tensor, begin: Tensor, g: Tensor) -> Specs:
    return [(shape_from(dims), g.dtype)]


@op(
    "SliceGrad",
    infer=_slice_back_spec,
    grad=lambda h, y, dims, begin, g: (None, None, slice_(h, begin, shape(g))),
    host=("dims", "begin"),
    cases=lambda s: [
        Case((np.array([3, 4], np.int32), np.array([1, 0], np.int32), s.uniform(2, 3)))
    ],
)
def _slice_back(xp: Any, dims: Index, begin: Index, g: T) -> Array:
    """Zeros of shape `dims` with g placed at `begin`."""
    result = xp.zeros(dims.tolist(), g.dtype)
    spans = zip(begin.tolist(), g.shape, strict=True)
    result[(*[slice(b, b + n) for b, n in spans], ...)] = g
    return result


# ---- slice(begin, end, strides, masks)


def numpy_index(
    begin: Ints,
    end: Ints,
    strides: Ints,
    *,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
) -> tuple[Any, ...]:
    """The NumPy index that a strided slice stands for."""
    index: list[Any] = []
    for i, (start, stop, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << i
        if ellipsis_mask & bit:
            index.append(Ellipsis)
        elif new_axis_mask & bit:
            index.append(None)
        elif shrink_axis_mask & bit:
            index.append(start)
        else:
            low = None if begin_mask & bit else start
            high = None if end_mask & bit else stop
            index.append(slice(low, high, step))
    if Ellipsis not in index:
        index.append(Ellipsis)  # a view also where integers take every axis
    return tuple(index)


def _strided_spec(x: Tensor, begin: Tensor, end: Tensor, strides: Tensor, **masks: int) -> Specs:
    spans = [known_dims(t) for t in (begin, end, strides)]
    count = next((len(s) for s in spans if s is not None), None)
    if x.dims is None or count is None:
        return [(None, x.dtype)]
    if any(s is not None and len(s) != count for s in spans):
        raise ShapeError("begin, end and strides must have the same length")
    unknown = (None,) * count
    starts, stops, steps = [s or unknown for s in spans]
    return [(_strided_dims(x.dims, starts, stops, steps, **masks), x.dtype)]


def _strided_dims(dims: Any, starts: Ints, stops: Ints, steps: Ints, **masks: int) -> Dims:
    """Sizes of a strided slice, whose bounds may be unknown."""
    if masks["ellipsis_mask"] & (masks["ellipsis_mask"] - 1):
        raise GraphError("an index may have one ellipsis")
    used = numpy_index(starts, stops, steps, **masks)
    taken = sum(1 for k in used if k is not None and k is not Ellipsis)
    # An unknown integer looks like a new axis to numpy_index; count by the masks.
    spread = masks["ellipsis_mask"]
    fresh = masks["new_axis_mask"] & ~spread
    taken = sum(1 for i in range(len(starts)) if not ((spread | fresh) >> i) & 1)
    if taken > len(dims):
        raise ShapeError(f"{taken} indices for a tensor of rank {len(dims)}")
    result: list[int | None] = []
    axis = 0
    for i, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        bit = 1 << i
        if spread & bit:
            rest = len(dims) - taken
            result += dims[axis : axis + rest]
            axis += rest
        elif fresh & bit:
            result.append(1)
        else:
            if masks["shrink_axis_mask"] & bit:
                _check_index(start, dims[axis], axis)
            else:
                free = (bool(masks["begin_mask"] & bit), bool(masks["end_mask"] & bit))
                result.append(_extent(dims[axis], start, stop, step, free))
            axis += 1
    return (*result, *dims[axis:])


def _check_index(index: int | None, n: int | None, axis: int) -> None:
    if index is not None and n is not None and not -n <= index < n:
        raise ShapeError(f"index {index} is out of bounds for axis {axis} of size {n}")


def _extent(n: Any, start: Any, stop: Any, step: Any, free: tuple[bool, bool]) -> int | None:
    """Number of entries of start:stop:step of an axis of n; `free`: without start, stop."""
    if step == 0:
        raise ShapeError("the step of a slice must not be 0")
    low = None if free[0] else start
    high = None if free[1] else stop
    if n == 0:
        return 0
    if n is None or step is None or (low is None and not free[0]) or (high is None and not free[1]):
        if step is None or not (step > 0 and high == 0 and not free[1]):
            return n if all(free) and step in (1, -1) else None
        return 0  # x[:0] is empty, whatever x is
    return len(range(*slice(low, high, step).indices(n)))


def _strided_grad(
    g: Tensor, y: Tensor, x: Tensor, begin: Tensor, end: Tensor, strides: Tensor, **masks: int
) -> Any:
    sizes = shape(x, out_type=begin.dtype)
    back = OPS["StridedSliceGrad"](sizes, begin, end, strides, g, name=None, **masks)
    return back, None, None, None


def _strided_cases(s: Sampler) -> list[Case]:
    def case(dims: Any, begin: Any, end: Any, strides: Any, **masks: int) -> Case:
        bounds = [np.array(v, np.int32) for v in (begin, end, strides)]
        return Case((s.uniform(*dims), *bounds), masks)

    return [
        case((4, 3), (1, 0), (4, 2), (2, 1)),
        case((4, 3), (0,), (0,), (-1,), begin_mask=1, end_mask=1),
        case((4, 3), (-1, 0), (0, 0), (1, 1), shrink_axis_mask=1, begin_mask=2, end_mask=2),
        case((2, 3), (0, 0, 1), (0, 0, 3), (1, 1, 1), ellipsis_mask=1, new_axis_mask=2),
        case((3,), (2,), (1,), (1,)),
        case((3,), (1,), (2,), (1,), shrink_axis_mask=1),
        case((), (0,), (0,), (1,), new_axis_mask=1),
    ]


@op(
    "StridedSlice",
    infer=_strided_spec,
    grad=_strided_grad,
    host=("begin", "end", "strides"),
    alias="x",
    cost=lambda *_, **__: 0.0,
    cases=_strided_cases,
)
def _strided(
    xp: Any,
    x: T,
    begin: Index,
    end: Index,
    strides: Index,
    *,
    begin_mask: Any = 0,
    end_mask: Any = 0,
    ellipsis_mask: Any = 0,
    new_axis_mask: Any = 0,
    shrink_axis_mask: Any = 0,
) -> Array:
    """x[begin:end:strides] per axis; bit i of a mask changes the meaning of entry i: no begin,
    no end, an ellipsis, a new axis, an integer index that removes the axis."""
    index = numpy_index(
        begin.tolist(),
        end.tolist(),
        strides.tolist(),
        begin_mask=begin_mask,
        end_mask=end_mask,
        ellipsis_mask=ellipsis_mask,
        new_axis_mask=new_axis_mask,
        shrink_axis_mask=shrink_axis_mask,
    )
    try:
        return x[index]
    except (IndexError, ValueError) as error:
        raise InvalidArgumentError(None, None, f"{error} (shape {x.shape})") from None


def _strided_back_spec(
    dims: Tensor, begin: Tensor, end: Tensor, strides: Tensor, g: Tensor, **_: int
) -> Specs:
    return [(shape_from(dims), g.dtype)]


def _strided_back_grad(
    h: Tensor,
    y: Tensor,
    dims: Tensor,
    begin: Tensor,
    end: Tensor,
    strides: Tensor,
    g: Tensor,
    **masks: int,
) -> Any:
    part = OPS["StridedSlice"](h, begin, end, strides, name=None, **masks)
    return None, None, None, None, part


@op(
    "StridedSliceGrad",
    infer=_strided_back_spec,
    grad=_strided_back_grad,
    host=("dims", "begin", "end", "strides"),
    cases=lambda s: [
        Case(
            (
                *[np.array(v, np.int32) for v in ((4, 3), (3, 0), (-5, 2), (-2, 1))],
                s.uniform(2, 2),
            )
        )
    ],
)
def _strided_back(
    xp: Any,
    dims: Index,
    begin: Index,
    end: Index,
    strides: Index,
    g: T,
    *,
    begin_mask: Any = 0,
    end_mask: Any = 0,
    ellipsis_mask: Any = 0,
    new_axis_mask: Any = 0,
    shrink_axis_mask: Any = 0,
) -> Array:
    """Zeros of shape `dims` with g in the place of the strided slice."""
    index = numpy_index(
        begin.tolist(),
        end.tolist(),
        strides.tolist(),
        begin_mask=begin_mask,
        end_mask=end_mask,
        ellipsis_mask=ellipsis_mask,
        new_axis_mask=new_axis_mask,
        shrink_axis_mask=shrink_axis_mask,
    )
    result = xp.zeros(dims.tolist(), g.dtype)
    result[index] = g
    return result


# ---- TensorFlow's functions


def slice_(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """The part of a tensor from `begin` with the given sizes; a size of -1 takes the rest.

    Raises:
      ValueError, InvalidArgumentError: it leaves the tensor.
    """
    return _slice(input_, as_tensor(begin), as_tensor(size), name=name)


def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor:
    """`input_[begin:end:strides]` along the first axes; see `tf.strided_slice` for the masks.

    Raises:
      ValueError, InvalidArgumentError: an index is out of bounds or a stride is 0.
    """
    start = as_tensor(begin)
    if strides is None:
        if not start.dims or start.dims[0] is None:
            raise GraphError("strides must be given where the length of begin is unknown")
        strides = np.ones(start.dims[0], start.dtype.np)
    return _strided(
        input_,
        start,
        as_tensor(end),
        as_tensor(strides),
        begin_mask=begin_mask,
        end_mask=end_mask,
        ellipsis_mask=ellipsis_mask,
        new_axis_mask=new_axis_mask,
        shrink_axis_mask=shrink_axis_mask,
        name=name,
    )
