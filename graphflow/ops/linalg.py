"""Linear algebra on matrices in the last two axes; the axes before them are a batch.

Gradients: Giles, Collected matrix derivative results (2008); Murray, Differentiation of the
Cholesky decomposition (2016); Walter and Lehmann, Algorithmic differentiation of linear algebra
functions (2010).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Float, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.compare import equal
from graphflow.ops.complexes import conjugate
from graphflow.ops.diagonal import (
    matrix_band_part,
    matrix_diag,
    matrix_diag_part,
    matrix_dims,
    matrix_set_diag,
    matrix_transpose,
)
from graphflow.ops.elementary import log
from graphflow.ops.matmul import matmul
from graphflow.ops.public import composite
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.rules import merge_dims
from graphflow.ops.select import keep


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


def _checked(what: str, call: Any, *arrays: Any) -> Any:
    """NumPy's error as graphflow's; CuPy gives NaN instead."""
    _check_square(arrays[0])
    try:
        return call(*arrays)
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


# ---- decompositions


def _cholesky_grad(g: Any, y: Any, x: Any) -> Any:
    middle = matmul(y, g, adjoint_a=True)
    middle = _triangle(matrix_set_diag(middle, 0.5 * matrix_diag_part(middle)), lower=True)
    left = _triangular(y, middle, adjoint=True)
    whole = _adjoint(_triangular(y, _adjoint(left), adjoint=True))
    return 0.5 * (whole + _adjoint(whole))


def _symmetric(xp: Any, x: Any) -> Any:
    """(x + adjoint(x)) / 2: x itself where it is symmetric, and then also in its gradient."""
    _check_square(x)
    return (x + xp.conj(xp.swapaxes(x, -1, -2))) / 2


def _definite_cases(s: Sampler) -> list[Case]:
    found = []
    for d in ((1, 1), (3, 3), (2, 2, 2)):
        x = s.normal(*d)
        found.append(Case((x @ np.swapaxes(x, -1, -2) + np.diag(np.arange(1.0, d[-1] + 1)),)))
    return found


@op("Cholesky", infer=_square, grad=_cholesky_grad, cost=_cube, cases=_definite_cases)
def _cholesky(xp: Any, input: Float) -> Array:
    """Lower triangles L of L adjoint(L) = (input + adjoint(input)) / 2.

    Raises:
      InvalidArgumentError: a matrix is not positive definite.
    """
    return _checked("is not positive definite", xp.linalg.cholesky, _symmetric(xp, input))


def _eigh_spec(x: Tensor, **_: Any) -> Specs:
    dims = square_dims(x)
    values = None if dims is None else dims[:-1]
    return [(values, x.dtype), (dims, x.dtype)]


def _eigh_grad(g: Any, y: Any, x: Any) -> Any:
    """Undefined for vectors of equal eigenvalues; there those differences count as infinite."""
    by_values, by_vectors = g
    values, vectors = y
    inner = OPS["ZerosLike"](x) if by_values is None else matrix_diag(by_values)
    if by_vectors is not None:
        gaps = OPS["ExpandDims"](values, axis=-2) - OPS["ExpandDims"](values, axis=-1)
        none = equal(gaps, 0)
        factor = keep(OPS["LogicalNot"](none), 1 / (gaps + OPS["Cast"](none, dtype=gaps.dtype)))
        inner = inner + factor * matmul(vectors, by_vectors, transpose_a=True)
    whole = matmul(vectors, matmul(inner, vectors, transpose_b=True))
    return 0.5 * (whole + matrix_transpose(whole))


@op("SelfAdjointEigV2", infer=_eigh_spec, grad=_eigh_grad, cost=_cube, cases=_definite_cases)
def _eigh(xp: Any, input: RealFloat) -> tuple[Array, Array]:
    """Eigenvalues of symmetric matrices, ascending, and eigenvectors in columns.

    The input is made symmetric first: (input + transpose) / 2.
    """
    values, vectors = _checked("has no eigenvalues", xp.linalg.eigh, _symmetric(xp, input))
    return values, vectors


def _qr_spec(x: Tensor, *, full_matrices: bool) -> Specs:
    dims = matrix_dims(x)
    if dims is None:
        return [(None, x.dtype), (None, x.dtype)]
    *batch, m, n = dims
    k = m if full_matrices else None if m is None or n is None else min(m, n)
    return [((*batch, m, k), x.dtype), ((*batch, k, n), x.dtype)]


def _qr_grad(g: Any, y: Any, x: Any, *, full_matrices: bool) -> Any:
    """Of the reduced form of matrices with at least as many rows as columns."""
    q, r = y
    dims = matrix_dims(x)
    wide = dims is not None and None not in dims[-2:] and dims[-2] < dims[-1]
    if full_matrices or wide:
        raise ShapeError(
            "qr is differentiated only in the reduced form, with at least as many rows as "
            f"columns, not for shape {format_dims(dims)} with full_matrices={full_matrices}"
        )
    by_q = OPS["ZerosLike"](q) if g[0] is None else g[0]
    by_r = OPS["ZerosLike"](r) if g[1] is None else g[1]
    middle = matmul(r, by_r, transpose_b=True) - matmul(by_q, q, transpose_a=True)
    lower = _triangle(middle, lower=True)
    symmetric = lower + matrix_transpose(lower)
    symmetric = matrix_set_diag(symmetric, matrix_diag_part(lower))
    rest = by_q + matmul(q, symmetric)
    return matrix_transpose(_triangular(r, matrix_transpose(rest), lower=False))


def _qr_cases(s: Sampler) -> list[Case]:
    tall = [Case((s.normal(*d),)) for d in ((3, 3), (4, 2))]
    values = [((2, 3), False), ((3, 2), True), ((2, 3, 2), False)]
    return tall + [Case((s.normal(*d),), {"full_matrices": f}, grad=False) for d, f in values]


@op("Qr", infer=_qr_spec, grad=_qr_grad, cost=_cube, cases=_qr_cases)
def _qr(xp: Any, input: RealFloat, *, full_matrices: bool = False) -> tuple[Array, Array]:
    """Orthogonal Q and upper triangular R with Q R = input."""
    q, r = xp.linalg.qr(input, mode="complete" if full_matrices else "reduced")
    return q, r


def _svd_spec(x: Tensor, *, full_matrices: bool) -> Specs:
    dims = matrix_dims(x)
    if dims is None:
        return [(None, x.dtype)] * 3
    *batch, m, n = dims
    k = None if m is None or n is None else min(m, n)
    rows, columns = (m, n) if full_matrices else (k, k)
    return [
        ((*batch, k), x.dtype),
        ((*batch, m, rows), x.dtype),
        ((*batch, n, columns), x.dtype),
    ]


def _svd_grad(g: Any, y: Any, x: Any, *, full_matrices: bool) -> Any:
    """Of the reduced form (Townsend, Differentiating the singular value decomposition, 2016)."""
    by_s, by_u, by_v = g
    s, u, v = y
    if full_matrices and not (by_u is None and by_v is None):
        raise ShapeError("svd is differentiated only with full_matrices=False")
    if by_u is None and by_v is None:
        k = s.dims[-1] if s.dims else None
        u, v = (u[..., :k], v[..., :k]) if full_matrices else (u, v)
        return matmul(u * OPS["ExpandDims"](by_s, axis=-2), v, transpose_b=True)
    squares = s * s
    gaps = OPS["ExpandDims"](squares, axis=-2) - OPS["ExpandDims"](squares, axis=-1)
    none = equal(gaps, 0)
    factor = keep(OPS["LogicalNot"](none), 1 / (gaps + OPS["Cast"](none, dtype=gaps.dtype)))
    row, column = OPS["ExpandDims"](s, axis=-2), OPS["ExpandDims"](s, axis=-1)
    inner = OPS["ZerosLike"](gaps) if by_s is None else matrix_diag(by_s)
    outside = []
    if by_u is not None:
        overlap = matmul(u, by_u, transpose_a=True)
        inner = inner + factor * (overlap - matrix_transpose(overlap)) * row
        outside.append(matmul((by_u - matmul(u, overlap)) / row, v, transpose_b=True))
    if by_v is not None:
        overlap = matmul(v, by_v, transpose_a=True)
        inner = inner + column * factor * (overlap - matrix_transpose(overlap))
        rest = matrix_transpose(by_v - matmul(v, overlap))
        outside.append(matmul(u, rest / column))
    total = matmul(matmul(u, inner), v, transpose_b=True)
    for part in outside:
        total = total + part
    return total


def _svd_cases(s: Sampler) -> list[Case]:
    tall = [Case((s.normal(*d),), {"full_matrices": False}) for d in ((3, 3), (4, 2), (2, 4))]
    return [*tall, Case((s.normal(2, 3, 2),), {"full_matrices": True}, grad=False)]


@op("Svd", infer=_svd_spec, grad=_svd_grad, cost=_cube, cases=_svd_cases)
def _svd(xp: Any, input: RealFloat, *, full_matrices: bool) -> tuple[Array, Array, Array]:
    """Singular values, descending, and U and V with U diag(s) V^T = input."""
    u, s, vh = xp.linalg.svd(input, full_matrices=full_matrices)
    return s, u, xp.swapaxes(vh, -1, -2)


# ---- TensorFlow's functions


def cholesky(input: Any, name: str | None = None) -> Tensor:
    """Lower triangles L of L adjoint(L) = input, for positive definite matrices."""
    return _cholesky(input, name=name)


def matrix_inverse(input: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """Inverses of square matrices, or of their adjoints."""
    return _inverse(input, adjoint=adjoint, name=name)


def matrix_determinant(input: Any, name: str | None = None) -> Tensor:
    """Determinants of square matrices."""
    return _determinant(input, name=name)


def slogdet(input: Any, name: str | None = None) -> Any:
    """Signs and logarithms of the absolute values of determinants."""
    return _slogdet(input, name=name)


def logdet(matrix: Any, name: str | None = None) -> Tensor:
    """The logarithms of the determinants of positive definite matrices."""
    x = as_tensor(matrix)
    with composite(name, "logdet", x):
        return 2.0 * reduce_sum(log(matrix_diag_part(_cholesky(x))), -1)


def matrix_solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """Solutions x of matrix x = rhs; of adjoint(matrix) x = rhs where asked for."""
    return _solve(matrix, rhs, adjoint=adjoint, name=name)


def matrix_triangular_solve(
    matrix: Any, rhs: Any, lower: bool = True, adjoint: bool = False, name: str | None = None
) -> Tensor:
    """Solutions of triangular systems; the other triangle is not read."""
    return _triangular(matrix, rhs, lower=lower, adjoint=adjoint, name=name)


def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Tensor:
    """Solutions of chol adjoint(chol) x = rhs."""
    chol = as_tensor(chol)
    with composite(name, "cholesky_solve", chol):
        return _triangular(chol, _triangular(chol, rhs), adjoint=True)


def matrix_solve_ls(
    matrix: Any, rhs: Any, l2_regularizer: Any = 0.0, fast: bool = True, name: str | None = None
) -> Tensor:
    """Least squares solutions of matrix x = rhs, of least norm where several are exact.

    Args:
      matrix, rhs: matrices of full rank and right sides of the same dtype.
      l2_regularizer: weight of |x|**2.
      fast: by the normal equations; else by QR, for tall matrices, where there is no weight.
    """
    a = as_tensor(matrix)
    dims = matrix_dims(a)
    if dims is None or None in dims[-2:]:
        raise ShapeError(f"the sizes of the matrices must be known, not {format_dims(dims)}")
    tall = dims[-2] >= dims[-1]
    with composite(name, "matrix_solve_ls", a):
        b = as_tensor(rhs, None if hasattr(rhs, "dtype") else a.dtype)
        if not fast and tall and not l2_regularizer:
            q, r = _qr(a)
            return _triangular(r, matmul(q, b, transpose_a=True), lower=False)
        unit = np.eye(min(dims[-2:]), dtype=a.dtype.np) * l2_regularizer
        if tall:
            return cholesky_solve(
                _cholesky(matmul(a, a, adjoint_a=True) + unit), matmul(a, b, adjoint_a=True)
            )
        inner = cholesky_solve(_cholesky(matmul(a, a, adjoint_b=True) + unit), b)
        return matmul(a, inner, adjoint_a=True)


def qr(input: Any, full_matrices: bool = False, name: str | None = None) -> Any:
    """Orthogonal Q and upper triangular R with Q R = input; with all columns where asked for."""
    return _qr(input, full_matrices=full_matrices, name=name)


def self_adjoint_eig(tensor: Any, name: str | None = None) -> Any:
    """Eigenvalues of symmetric matrices, ascending, and eigenvectors in columns."""
    return _eigh(tensor, name=name)


def self_adjoint_eigvals(tensor: Any, name: str | None = None) -> Tensor:
    """Eigenvalues of symmetric matrices, ascending."""
    return _eigh(tensor, name=name)[0]


def svd(
    tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None
) -> Any:
    """Singular values s, descending, and U and V with U diag(s) V^T = tensor.

    Args:
      tensor: matrices.
      full_matrices: all columns of U and V.
      compute_uv: return (s, U, V); else s alone.
    """
    found = _svd(tensor, full_matrices=full_matrices, name=name)
    return found if compute_uv else found[0]
