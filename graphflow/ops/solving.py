"""Inverses, determinants and solutions of linear systems, for matrices in the last two axes.

Gradients: Giles, Collected matrix derivative results (2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, op
from graphflow.build.opdef import Array, Float, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.complexes import conjugate
from graphflow.ops.diagonal import (
    matrix_band_part,
    matrix_dims,
    matrix_transpose,
)
from graphflow.ops.matmul import matmul
from graphflow.ops.rules import merge_dims


def square_dims(x: Tensor) -> Any:
    """The shape of square matrices, or None where the rank is unknown.

    Raises:
      ShapeError: they are not square.
    """
    dims = matrix_dims(x)
    if dims is not None and None not in dims[-2:] and dims[-2] != dims[-1]:
        raise ShapeError(f"matrices must be square, not of shape {format_dims(dims)}")
    return dims


def _square(x: Tensor, **_: Any) -> Specs:
    return [(square_dims(x), x.dtype)]


def _cube(x: Any, *_: Any, **__: Any) -> float:
    """n**3 for each matrix."""
    if x.dims is None:
        return 0.0
    return float(np.prod([n or 1 for n in x.dims]) * (x.dims[-1] or 1))


def _solid(s: Sampler, *shape: int) -> Any:
    """Square matrices far from singular."""
    return s.normal(*shape) * 0.3 + 2 * np.eye(shape[-1])


def _solid_cases(s: Sampler) -> list[Case]:
    return [Case((_solid(s, *d),)) for d in ((1, 1), (3, 3), (2, 2, 2), (0, 0), (0, 2, 2))]


def _check_square(x: Any) -> None:
    if x.shape[-1] != x.shape[-2]:
        raise InvalidArgumentError(None, None, f"matrices must be square, not {x.shape}")


def factored(call: Any, *arrays: Any) -> Any:
    """A function of NumPy's linear algebra, which knows no 16-bit floats: those go through
    float32."""
    dtype = arrays[0].dtype
    if dtype.itemsize > 2:
        return call(*arrays)
    found = call(*[a.astype(np.dtype(np.float32)) for a in arrays])
    several = isinstance(found, tuple)
    return tuple([y.astype(dtype) for y in found]) if several else found.astype(dtype)


def _checked(what: str, call: Any, *arrays: Any) -> Any:
    """NumPy's error as graphflow's; CuPy gives NaN instead."""
    _check_square(arrays[0])
    try:
        return factored(call, *arrays)
    except np.linalg.LinAlgError as error:
        raise InvalidArgumentError(None, None, f"{what}: {error}") from None


def _adjoint(x: Any) -> Any:
    return conjugate(matrix_transpose(x))


# ---- inverse, determinants, solving


def _inverse_grad(g: Any, y: Any, x: Any, *, adjoint: bool) -> Any:
    inner = matmul(matmul(y, g, adjoint_a=True), y, adjoint_b=True)
    return -(_adjoint(inner) if adjoint else inner)


@op(
    "MatrixInverse", infer=_square, grad=_inverse_grad, cost=_cube,
    cases=lambda s: [*_solid_cases(s), Case((_solid(s, 2, 2),), {"adjoint": True})],
)  # fmt: skip
def _inverse(xp: Any, input: Float, *, adjoint: bool = False) -> Array:
    """Inverses of square matrices, or of their adjoints.

    Raises:
      InvalidArgumentError: a matrix is singular.
    """
    y = _checked("cannot be inverted", xp.linalg.inv, input)
    return xp.conj(xp.swapaxes(y, -1, -2)) if adjoint else y


def _det_spec(x: Tensor) -> Specs:
    dims = square_dims(x)
    return [(None if dims is None else dims[:-2], x.dtype)]


def _expanded(x: Any) -> Any:
    return OPS["ExpandDims"](OPS["ExpandDims"](x, axis=-1), axis=-1)


def _det_grad(g: Any, y: Any, x: Any) -> Any:
    return _expanded(g * conjugate(y)) * _inverse(x, adjoint=True)


@op("MatrixDeterminant", infer=_det_spec, grad=_det_grad, cost=_cube, cases=_solid_cases)
def _determinant(xp: Any, input: Float) -> Array:
    """Determinants of square matrices; the gradient needs them to be invertible."""
    return xp.asarray(_checked("has no determinant", xp.linalg.det, input)).astype(input.dtype)


def _logdet_spec(x: Tensor) -> Specs:
    dims = square_dims(x)
    batch = None if dims is None else dims[:-2]
    return [(batch, x.dtype), (batch, x.dtype)]


def _logdet_grad(g: Any, y: Any, x: Any) -> Any:
    return _expanded(g[1]) * _inverse(x, adjoint=True)


@op("LogMatrixDeterminant", infer=_logdet_spec, grad=_logdet_grad, cost=_cube, cases=_solid_cases)
def _slogdet(xp: Any, input: RealFloat) -> tuple[Array, Array]:
    """Signs and logarithms of the absolute values of determinants."""
    sign, logarithm = _checked("has no determinant", xp.linalg.slogdet, input)
    return xp.asarray(sign).astype(input.dtype), xp.asarray(logarithm).astype(input.dtype)


def _solve_spec(matrix: Tensor, rhs: Tensor, **_: Any) -> Specs:
    dims, right = square_dims(matrix), matrix_dims(rhs)
    if dims is None or right is None:
        return [(right, rhs.dtype)]
    merged = merge_dims((*dims[:-1],), right[:-1], "batch and rows of matrix and rhs")
    assert merged is not None
    return [((*merged, right[-1]), rhs.dtype)]


def _solve_grad(g: Any, x: Any, a: Any, b: Any, *, adjoint: bool) -> Any:
    by_b = _solve(a, g, adjoint=not adjoint)
    outer = matmul(x, by_b, adjoint_b=True) if adjoint else matmul(by_b, x, adjoint_b=True)
    return -outer, by_b


def _solve_cases(s: Sampler) -> list[Case]:
    shapes = (((3, 3), (3, 2)), ((2, 2, 2), (2, 2, 1)), ((0, 0), (0, 2)))
    return [
        Case((_solid(s, *a), s.normal(*b)), {"adjoint": adjoint})
        for a, b in shapes
        for adjoint in (False, True)
    ]


@op("MatrixSolve", infer=_solve_spec, grad=_solve_grad, cost=_cube, cases=_solve_cases)
def _solve(xp: Any, matrix: Float, rhs: Float, *, adjoint: bool = False) -> Array:
    """Solutions x of matrix x = rhs, or of adjoint(matrix) x = rhs.

    Raises:
      InvalidArgumentError: a matrix is singular.
    """
    if adjoint:
        matrix = xp.conj(xp.swapaxes(matrix, -1, -2))
    return _checked("cannot be solved", xp.linalg.solve, matrix, rhs)


def _triangle(x: Any, lower: bool) -> Any:
    return matrix_band_part(x, -1, 0) if lower else matrix_band_part(x, 0, -1)


def _triangular_grad(g: Any, x: Any, a: Any, b: Any, *, lower: bool, adjoint: bool) -> Any:
    by_b = _triangular(a, g, lower=lower, adjoint=not adjoint)
    outer = matmul(x, by_b, adjoint_b=True) if adjoint else matmul(by_b, x, adjoint_b=True)
    return _triangle(-outer, lower), by_b


def _triangular_cases(s: Sampler) -> list[Case]:
    return [
        Case((_solid(s, *a), s.normal(*b)), {"lower": lower, "adjoint": adjoint})
        for a, b in (((3, 3), (3, 2)), ((2, 2, 2), (2, 2, 1)))
        for lower in (False, True)
        for adjoint in (False, True)
    ]


@op(
    "MatrixTriangularSolve", infer=_solve_spec, grad=_triangular_grad, cost=_cube,
    cases=_triangular_cases,
)  # fmt: skip
def _triangular(
    xp: Any, matrix: Float, rhs: Float, *, lower: bool = True, adjoint: bool = False
) -> Array:
    """Solutions of triangular systems; the other triangle of the matrix is not read.

    Raises:
      InvalidArgumentError: there is a zero on a diagonal.
    """
    matrix = xp.tril(matrix) if lower else xp.triu(matrix)
    if adjoint:
        matrix = xp.conj(xp.swapaxes(matrix, -1, -2))
    return _checked("cannot be solved", xp.linalg.solve, matrix, rhs)
