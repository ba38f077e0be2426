"""Linear algebra on matrices in the last two axes; the axes before them are a batch.

Gradients: Giles, Collected matrix derivative results (2008); Murray, Differentiation of the
Cholesky decomposition (2016); Walter and Lehmann, Algorithmic differentiation of linear algebra
functions (2010).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Float, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.compare import equal
from graphflow.ops.diagonal import (
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
from graphflow.ops.select import keep
from graphflow.ops.solving import (
    _adjoint,
    _check_square,
    _checked,
    _cube,
    _determinant,
    _inverse,
    _slogdet,
    _solve,
    _square,
    _triangle,
    _triangular,
    factored,
    square_dims,
)

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
    mode = "complete" if full_matrices else "reduced"
    q, r = factored(lambda x: xp.linalg.qr(x, mode=mode), input)
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
    u, s, vh = factored(lambda x: xp.linalg.svd(x, full_matrices=full_matrices), input)
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
