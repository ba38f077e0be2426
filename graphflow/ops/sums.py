"""Sums that undo broadcasting: the gradients of all ops whose inputs broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.shapes import Dims, is_known, size_of
from graphflow.build import OPS, op
from graphflow.build.opdef import Array, Index, Num, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.known import shape_from


def shape_of(x: Tensor) -> Any:
    """The shape of x as a host input: an array where it is known, else an op."""
    if is_known(x.dims):
        return np.asarray(x.dims, np.int32)
    return OPS["Shape"](x)


def unbroadcast(g: Tensor, x: Tensor, *others: Tensor) -> Tensor:
    """Sum g, which has the broadcast shape of x and the others, to the shape of x.

    Nothing is added to the graph where the static shapes prove that x was not stretched, also
    with an unknown batch size.
    """
    if _unstretched(x.dims, [other.dims for other in others if other is not x]):
        return g
    return _sum_to(g, shape_of(x))


def sum_batch_to(g: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """Undo the broadcast of all axes but the last two, in which g has the sizes of x."""
    known = x.dims is not None and other.dims is not None
    if known and _unstretched(x.dims[:-2], [other.dims[:-2]]):  # type: ignore[index]
        return g
    return _sum_to(g, shape_of(x))


def _unstretched(dims: Dims, others: list[Dims]) -> bool:
    if dims is None:
        return all(other == () for other in others)
    for other in others:
        if other is None or len(other) > len(dims):
            return False
        for mine, theirs in zip(reversed(dims), reversed(other), strict=False):
            if theirs != 1 and (mine is None or mine == 1):
                return False
    return True


def total(xp: Any, x: Array, axis: Any, keepdims: bool = False, dtype: Any = None) -> Array:
    """The sum over axes, a new array; a sum of one term is that term, of -0.0, too.

    So it is in TensorFlow, and where native code leaves out an axis of size 1.  NumPy begins
    with 0.0, as all do where there are more terms.
    """
    dtype = x.dtype if dtype is None else dtype
    result = xp.sum(x, axis=axis, keepdims=keepdims, dtype=dtype)
    return x.astype(dtype).reshape(result.shape) if x.size == result.size else result


def _sum_to_spec(x: Tensor, shape: Tensor) -> Specs:
    return [(shape_from(shape), x.dtype)]


def _sum_to_cases(s: Sampler) -> list[Case]:
    pairs = (((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), ()), ((2, 3), (2, 3)), ((0, 3), (1, 3)))
    return [Case((s.normal(*a), np.asarray(b, np.int32))) for a, b in pairs]


@op(
    "SumTo",
    infer=_sum_to_spec,
    grad=lambda g, y, x, shape: (OPS["BroadcastTo"](g, shape_of(x)), None),
    host=["shape"],
    alias="x",
    cost=lambda x, shape: float(size_of(x.dims) or 0),
    cases=_sum_to_cases,
)
def _sum_to(xp: Any, x: Num, shape: Index) -> Array:
    """x summed over the axes along which `shape` was broadcast to that of x."""
    target = tuple(int(n) for n in shape)
    if x.shape == target:
        return x
    lead = x.ndim - len(target)
    kept = [lead + i for i, n in enumerate(target) if n == 1 and x.shape[lead + i] != 1]
    return total(xp, x, (*range(lead), *kept)).reshape(target)
