"""Diagonals and bands of matrices, in the last two axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Index, NumOrBool, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.complexes import conjugate
from graphflow.ops.public import composite, function
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.rules import merge_dims, rank_is

MATRICES = ((2, 2), (2, 3), (3, 2), (2, 2, 3), (0, 2), (2, 0, 3))


def _least(rows: int | None, columns: int | None) -> int | None:
    return None if rows is None or columns is None else min(rows, columns)


def matrix_dims(x: Tensor) -> Any:
    """The shape of matrices, or None where the rank is unknown.

    Raises:
      ShapeError: the rank is below 2.
    """
    if x.dims is not None and len(x.dims) < 2:
        raise ShapeError(f"matrices must have rank at least 2, not shape {format_dims(x.dims)}")
    return x.dims


def _diag_spec(diagonal: Tensor) -> Specs:
    dims = diagonal.dims
    if dims == ():
        raise ShapeError("a diagonal must have rank at least 1")
    return [(None if dims is None else (*dims, dims[-1]), diagonal.dtype)]


@function
@op(
    "MatrixDiag",
    infer=_diag_spec,
    grad=lambda g, y, x: matrix_diag_part(g),
    cases=lambda s: [Case((s.normal(*d),)) for d in ((3,), (2, 3), (0,), (2, 0))],
)
def matrix_diag(xp: Any, diagonal: NumOrBool) -> Array:
    """Square matrices with the given diagonals, which lie in the last axis, and 0 elsewhere."""
    if not diagonal.ndim:
        raise InvalidArgumentError(None, None, "a diagonal must have rank at least 1, not 0")
    n = diagonal.shape[-1]
    return xp.where(xp.eye(n, dtype=bool), diagonal[..., None], 0).astype(diagonal.dtype)


def _part_spec(input: Tensor) -> Specs:
    dims = matrix_dims(input)
    return [(None if dims is None else (*dims[:-2], _least(*dims[-2:])), input.dtype)]


@function
@op(
    "MatrixDiagPart",
    infer=_part_spec,
    grad=lambda g, y, x: matrix_set_diag(OPS["ZerosLike"](x), g),
    cases=lambda s: [Case((s.normal(*d),)) for d in MATRICES],
)
def matrix_diag_part(xp: Any, input: NumOrBool) -> Array:
    """The main diagonals of matrices, in the last axis."""
    return xp.ascontiguousarray(xp.diagonal(input, axis1=-2, axis2=-1))


def _set_spec(input: Tensor, diagonal: Tensor) -> Specs:
    dims = matrix_dims(input)
    if dims is not None:
        merge_dims((*dims[:-2], _least(*dims[-2:])), diagonal.dims, "diagonals")
    return [(dims, input.dtype)]


@function
@op(
    "MatrixSetDiag",
    infer=_set_spec,
    grad=lambda g, y, x, d: (matrix_set_diag(g, d * 0), matrix_diag_part(g)),
    cases=lambda s: [Case((s.normal(*d), s.normal(*d[:-2], min(d[-2:])))) for d in MATRICES],
)
def matrix_set_diag(xp: Any, input: NumOrBool, diagonal: NumOrBool) -> Array:
    """Matrices with their main diagonals replaced."""
    rows, columns = input.shape[-2:]
    least = min(rows, columns)
    if diagonal.shape != (*input.shape[:-2], least):
        raise InvalidArgumentError(
            None, None, f"diagonals {diagonal.shape} do not fit matrices {input.shape}"
        )
    result = input.copy()
    at = xp.arange(least)
    result[..., at, at] = diagonal
    return result


def _band_spec(input: Tensor, num_lower: Tensor, num_upper: Tensor) -> Specs:
    rank_is(num_lower, 0, "num_lower")
    rank_is(num_upper, 0, "num_upper")
    return [(matrix_dims(input), input.dtype)]


def _band_cases(s: Sampler) -> list[Case]:
    bands = [(np.asarray(a, np.int32), np.asarray(b, np.int32))
             for a, b in ((-1, 0), (0, -1), (0, 0), (1, 1), (-1, -1))]  # fmt: skip
    return [Case((s.normal(*d), *band)) for d in MATRICES for band in bands]


@function
@op(
    "MatrixBandPart",
    infer=_band_spec,
    grad=lambda g, y, x, low, high: (matrix_band_part(g, low, high), None, None),
    host=["num_lower", "num_upper"],
    cases=_band_cases,
)
def matrix_band_part(xp: Any, input: NumOrBool, num_lower: Index, num_upper: Index) -> Array:
    """Matrices with 0 outside a central band.

    num_lower and num_upper are how many diagonals are kept below and above the main one; a
    negative number keeps them all.
    """
    rows, columns = input.shape[-2:]
    distance = xp.arange(rows)[:, None] - xp.arange(columns)
    low, high = int(num_lower), int(num_upper)
    inside = (distance <= (rows if low < 0 else low)) & (
        -distance <= (columns if high < 0 else high)
    )
    return xp.where(inside, input, 0).astype(input.dtype)


def matrix_transpose(a: Any, name: str = "matrix_transpose", conjugate: bool = False) -> Tensor:
    """The last two axes swapped; complex numbers conjugated where asked for."""
    a = as_tensor(a)
    dims = matrix_dims(a)
    with composite(name, "matrix_transpose", a):
        a = _conjugate(a) if conjugate else a
        if dims is None:
            return _swap(a)
        rank = len(dims)
        return OPS["Transpose"](a, perm=(*range(rank - 2), rank - 1, rank - 2))


_conjugate = conjugate


def _swap_spec(x: Tensor) -> Specs:
    dims = matrix_dims(x)
    return [(None if dims is None else (*dims[:-2], dims[-1], dims[-2]), x.dtype)]


def _swap_grad(g: Any, y: Any, x: Any) -> Any:
    return _swap(g)


@op(
    "MatrixTranspose",
    infer=_swap_spec,
    grad=_swap_grad,
    alias="x",
    cases=lambda s: [Case((s.normal(*d),)) for d in MATRICES],
)
def _swap(xp: Any, x: T) -> Array:
    """The last two axes swapped; of a rank that need not be known when the graph is built."""
    return xp.swapaxes(x, -1, -2)


def trace(x: Any, name: str | None = None) -> Tensor:
    """The sums of the main diagonals of matrices."""
    x = as_tensor(x)
    with composite(name, "Trace", x):
        return reduce_sum(matrix_diag_part(x), -1)


def diag(diagonal: Any, name: str | None = None) -> Tensor:
    """Shape D to shape D + D, with the given elements where both halves of the index agree."""
    x = as_tensor(diagonal)
    with composite(name, "Diag", x):
        shape = OPS["Shape"](x)
        flat = OPS["Reshape"](x, np.asarray([-1], np.int32))
        return OPS["Reshape"](matrix_diag(flat), OPS["ConcatV2"](shape, shape, axis=0))


def diag_part(input: Any, name: str | None = None) -> Tensor:
    """Shape D + D to shape D: the elements where both halves of the index agree.

    Raises:
      ShapeError: the shape is not twice the same.
    """
    x = as_tensor(input)
    dims = x.dims
    if dims is None or len(dims) % 2 or not dims:
        raise ShapeError(f"an even rank is needed, not shape {format_dims(dims)}")
    half = merge_dims(dims[: len(dims) // 2], dims[len(dims) // 2 :], "both halves of the shape")
    assert half is not None
    if len(half) == 1:
        return matrix_diag_part(x, name=name)
    if None in half:
        raise ShapeError(f"the sizes must be known, not {format_dims(dims)}")
    size = int(np.prod(half, dtype=np.int64))  # type: ignore[arg-type]
    with composite(name, "DiagPart", x):
        square = OPS["Reshape"](x, np.asarray([size, size], np.int32))
        return OPS["Reshape"](matrix_diag_part(square), np.asarray(half, np.int32))
