"""Shape rules that many ops share.  Each returns [(dims, dtype)], one pair per output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.base import dtypes, shapes
from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import CLASH, Dims, format_dims
from graphflow.build.opdef import Specs
from graphflow.build.tensor import Tensor


def same(x: Tensor, *_: Tensor, **__: Any) -> Specs:
    """The first input's shape and dtype."""
    return [(x.dims, x.dtype)]


def as_bool(x: Tensor, **_: Any) -> Specs:
    """The input's shape, in bool."""
    return [(x.dims, dtypes.bool_)]


def nothing(*_: Tensor, **__: Any) -> Specs:
    """No outputs."""
    return []


def broadcast(a: Tensor, b: Tensor, **_: Any) -> Specs:
    """NumPy's broadcast of two inputs of one dtype."""
    return [(broadcast_dims(a.dims, b.dims), a.dtype)]


def compare(a: Tensor, b: Tensor, **_: Any) -> Specs:
    """NumPy's broadcast of two inputs, in bool."""
    return [(broadcast_dims(a.dims, b.dims), dtypes.bool_)]


def broadcast_dims(a: Dims, b: Dims) -> Dims:
    """Raises:
    ShapeError: the shapes do not broadcast.
    """
    dims: Dims = shapes.broadcast(a, b)
    if dims is CLASH:
        raise ShapeError(f"shapes {format_dims(a)} and {format_dims(b)} do not broadcast")
    return dims


def merge_dims(a: Dims, b: Dims, what: str) -> Dims:
    """The shape that both describe.

    Raises:
      ShapeError: they contradict each other.
    """
    dims: Dims = shapes.merged(a, b)
    if dims is CLASH:
        raise ShapeError(f"{what}: {format_dims(a)} and {format_dims(b)} must be equal")
    return dims


def rank_is(x: Tensor, rank: int, what: str) -> tuple[int | None, ...]:
    """The sizes of an input that must have a rank; all unknown where the rank is.

    Raises:
      ShapeError: it has another rank.
    """
    if x.dims is None:
        return (None,) * rank
    if len(x.dims) != rank:
        raise ShapeError(f"{what} must have rank {rank}, not shape {format_dims(x.dims)}")
    return x.dims


def axis_in(axis: Any, rank: int | None, what: str = "axis") -> int:
    """A negative axis counted from the front, where the rank is known.

    Raises:
      GraphError: it is out of range.
      DTypeError: it is no integer.
    """
    if not hasattr(axis, "__index__"):
        raise DTypeError(f"{what} must be an integer, not {axis!r}")
    axis = axis.__index__()
    if rank is None:
        return int(axis)
    if not -rank <= axis < rank:
        raise GraphError(f"{what} {axis} is out of range for rank {rank}")
    return int(axis % rank)


def whole(value: Any, what: str) -> int:
    """An integer that a program gave; what is nearly one is refused, never rounded.

    Raises:
      DTypeError: it is no integer.
    """
    if not hasattr(value, "__index__"):
        raise DTypeError(f"{what} must be an integer, not {value!r}")
    return int(value.__index__())


def axes_in(axis: Any, rank: int | None) -> tuple[int, ...] | None:
    """Axes of a reduction, sorted and counted from the front; None: all of them.

    Raises:
      GraphError: one is out of range or given twice.
    """
    if axis is None:
        return None if rank is None else tuple(range(rank))
    axes: Sequence[Any] = axis if isinstance(axis, (tuple, list)) else (axis,)
    found = [axis_in(a, rank) for a in axes]
    if len(set(found)) != len(found):
        raise GraphError(f"axes {tuple(axes)} name an axis twice")
    return tuple(sorted(found))


MAX_OUTPUTS = 1 << 20


def output_count(num: Any) -> int:
    """An attribute that tells how many outputs an op has.

    Raises:
      DTypeError: it is no integer.
      GraphError: it is negative, or more than any program means.
    """
    if not hasattr(num, "__index__"):
        raise DTypeError(f"the number of outputs must be an integer, not {num!r}")
    if not 0 <= num <= MAX_OUTPUTS:
        raise GraphError(f"an op cannot have {num} outputs (at most {MAX_OUTPUTS})")
    return int(num)


def spec(dims: Dims, dtype: DType) -> Specs:
    """One output."""
    return [(dims, dtype)]
