"""Products, einsum, diagonals, decompositions and segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphflow import ops as tf
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.build import OPS, Graph, as_tensor
from graphflow.differentiate import gradients
from graphflow.ops.sources import placeholder
from tests.ops.values import fed, grads, value

RNG = np.random.default_rng(7)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape)


def test_matmul_chooses_by_rank() -> None:
    with Graph().as_default():
        a, b = as_tensor(normal(2, 3)), as_tensor(normal(4, 3, 2))
        assert tf.matmul(a, a, transpose_b=True).op.type == "MatMul"
        assert tf.matmul(a, b).op.type == "BatchMatMul"
        assert tf.matmul(a, b).dims == (4, 2, 2)
        unknown = placeholder("float64")
        assert tf.matmul(unknown, unknown).op.type == "BatchMatMul"


def test_matmul_of_adjoints() -> None:
    a = normal(2, 3) + 1j * normal(2, 3)
    np.testing.assert_allclose(value(lambda x: tf.matmul(x, x, adjoint_a=True), a), a.conj().T @ a)
    with Graph().as_default(), pytest.raises(ValueError, match="not for both"):
        tf.matmul(a, a, transpose_a=True, adjoint_a=True)


def test_gradient_of_batches_of_unknown_shape() -> None:
    a, b = normal(4, 1, 2, 3), normal(5, 3, 2)
    want = grads(tf.matmul, a, b)
    for i in range(2):
        got = fed(lambda x, y, i=i: gradients(tf.matmul(x, y), [x, y])[i], a, b)
        np.testing.assert_allclose(got, want[i])


def test_matmul_refuses() -> None:
    with Graph().as_default():
        with pytest.raises(ShapeError, match="inner sizes differ: 3 and 2"):
            tf.matmul(normal(2, 3), normal(2, 3))
        with pytest.raises(ShapeError, match="rank"):
            tf.matmul(normal(3), normal(3, 2))
    with pytest.raises(InvalidArgumentError, match="inner sizes differ: 3 and 2"):
        fed(tf.matmul, normal(2, 3), normal(2, 3))


def test_cost_of_products() -> None:
    with Graph().as_default():
        a, b = as_tensor(normal(2, 3)), as_tensor(normal(5, 3))
        cost = OPS["MatMul"].cost
        assert cost is not None
        assert cost(a, b, transpose_b=True) == 2 * 2 * 3 * 5
        cost = OPS["Einsum"].cost
        assert cost is not None
        assert cost(a, b, equation="ij,kj->ik") == 2 * 2 * 3 * 5


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk", ((2, 3), (3, 4))),
        ("ij,jk->ki", ((2, 3), (3, 4))),
        ("ii", ((3, 3),)),
        ("ii->i", ((3, 3),)),
        ("iji->j", ((3, 2, 3),)),
        ("ij->j", ((2, 3),)),
        ("ij,k->", ((2, 3), (4,))),
        ("...ij,...jk->...ik", ((5, 1, 2, 3), (4, 3, 2))),
        ("...ij,jk", ((5, 2, 3), (3, 2))),
        ("b...,b...->...", ((2, 3, 4), (2, 3, 4))),
        ("ab,bc,cd->ad", ((2, 3), (3, 4), (4, 2))),
    ],
)
def test_einsum(equation: str, shapes: Any) -> None:
    arrays = [normal(*shape) for shape in shapes]
    found = value(lambda *x: tf.einsum(equation, *x), *arrays)
    np.testing.assert_allclose(found, np.einsum(equation, *arrays))
    slopes = grads(lambda *x: tf.einsum(equation, *x), *arrays)
    for i, x in enumerate(arrays):  # it is linear in each input
        step = normal(*x.shape)
        moved = [*arrays[:i], step, *arrays[i + 1 :]]
        want = np.einsum(equation, *moved).sum()
        np.testing.assert_allclose((slopes[i] * step).sum(), want, rtol=1e-9, atol=1e-9)


def test_einsum_refuses() -> None:
    x = normal(2, 3)
    with Graph().as_default():
        for equation, error in (
            ("ij,jk", GraphError), ("ijk->i", ShapeError), ("ij->ii", GraphError),
            ("ij->k", GraphError), ("i...->i", GraphError), ("i1->i", GraphError),
            ("ii->i", ShapeError),
        ):  # fmt: skip
            with pytest.raises(error):
                tf.einsum(equation, x)
        with pytest.raises(ShapeError, match="rank"):
            tf.einsum("ij->ji", placeholder("float32"))
    with pytest.raises(InvalidArgumentError):
        fed(lambda a, b: tf.einsum("ij,jk", a, b), x, x, dims=[(None, None)] * 2)


@pytest.mark.parametrize("axes", [0, 1, 2, [[1], [0]], [[0, 1], [1, 0]], [1, 0]])
def test_tensordot(axes: Any) -> None:
    a, b = normal(3, 3), normal(3, 3)
    found = value(lambda x, y: tf.tensordot(x, y, axes), a, b)
    np.testing.assert_allclose(found, np.tensordot(a, b, axes))
    with Graph().as_default(), pytest.raises(GraphError):
        tf.tensordot(a, b, 3)


def test_diagonals() -> None:
    ones = np.ones((3, 4))
    np.testing.assert_array_equal(
        value(lambda x: tf.matrix_band_part(x, 1, 0), ones), np.tril(np.triu(ones, -1))
    )
    np.testing.assert_array_equal(value(tf.diag, np.int32([1, 2])), [[1, 0], [0, 2]])
    x = normal(2, 3)
    assert value(tf.diag, x).shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(value(lambda v: tf.diag_part(tf.diag(v)), x), x)
    np.testing.assert_allclose(value(tf.trace, normal(2, 3, 3) * 0 + 2), [6, 6])
    assert np.isfinite(value(tf.matrix_diag, np.float32([np.inf, 1]))[0, 1])
    np.testing.assert_array_equal(value(tf.matrix_transpose, x), x.T)
    np.testing.assert_array_equal(fed(tf.matrix_transpose, x), x.T)


def test_cholesky_and_its_gradient() -> None:
    m = np.float64([[4, 1], [1, 3]])
    np.testing.assert_allclose(value(tf.cholesky, m), [[2, 0], [0.5, 1.6583124]], rtol=1e-7)
    want = [[0.20634446, 0.17462218], [0.17462218, 0.30151134]]  # TensorFlow's
    np.testing.assert_allclose(grads(tf.cholesky, m)[0], want, rtol=1e-6)
    np.testing.assert_allclose(value(tf.logdet, m), np.log(11))
    rhs = normal(2, 1)
    found = value(lambda a, b: tf.cholesky_solve(tf.cholesky(a), b), m, rhs)
    np.testing.assert_allclose(found, np.linalg.solve(m, rhs))
    with pytest.raises(InvalidArgumentError, match="not positive definite"):
        value(tf.cholesky, -m)


def test_decompositions() -> None:
    x = normal(2, 4, 3)
    for full in (False, True):
        q = value(lambda v, f=full: tf.qr(v, f)[0], x)
        r = value(lambda v, f=full: tf.qr(v, f)[1], x)
        np.testing.assert_allclose(q @ r, x)
    s, u, v = [value(lambda t, i=i: tf.svd(t)[i], x) for i in range(3)]
    np.testing.assert_allclose((u * s[:, None]) @ np.swapaxes(v, 1, 2), x)
    np.testing.assert_allclose(value(lambda t: tf.svd(t, compute_uv=False), x), s)
    square = x[:, :3] + np.swapaxes(x[:, :3], 1, 2)
    np.testing.assert_allclose(value(tf.self_adjoint_eigvals, square), np.linalg.eigvalsh(square))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("shape", [(4, 2), (2, 4)])
def test_least_squares(shape: Any, fast: bool) -> None:
    a, b = normal(*shape), normal(shape[0], 2)
    found = value(lambda x, y: tf.matrix_solve_ls(x, y, fast=fast), a, b)
    np.testing.assert_allclose(found, np.linalg.lstsq(a, b)[0], rtol=1e-8)


def test_matrices_that_do_not_fit() -> None:
    singular = np.zeros((2, 2))
    for f in (tf.matrix_inverse, lambda x: tf.matrix_solve(x, x)):
        with pytest.raises(InvalidArgumentError, match="ingular"):
            value(f, singular)
    for f in (tf.matrix_inverse, tf.cholesky, tf.matrix_determinant, tf.self_adjoint_eigvals):
        with Graph().as_default(), pytest.raises(ShapeError, match="square"):
            f(normal(2, 3))
        with pytest.raises(InvalidArgumentError, match="square"):
            fed(f, normal(2, 3))


DATA = np.float32([[1, 2], [3, 4], [5, 6], [7, 8]])
SORTED = [
    (tf.segment_sum, [[4, 6], [5, 6], [0, 0], [7, 8]]),
    (tf.segment_mean, [[2, 3], [5, 6], [0, 0], [7, 8]]),
    (tf.segment_max, [[3, 4], [5, 6], [0, 0], [7, 8]]),
    (tf.segment_min, [[1, 2], [5, 6], [0, 0], [7, 8]]),
    (tf.segment_prod, [[3, 8], [5, 6], [1, 1], [7, 8]]),
]
LIMIT = np.finfo(np.float32).max
UNSORTED = [
    (tf.unsorted_segment_sum, [[3, 4], [0, 0], [8, 10], [0, 0]]),
    (tf.unsorted_segment_mean, [[3, 4], [0, 0], [4, 5], [0, 0]]),
    (tf.unsorted_segment_sqrt_n, [[3, 4], [0, 0], [8 / 2**0.5, 10 / 2**0.5], [0, 0]]),
    (tf.unsorted_segment_max, [[3, 4], [-LIMIT] * 2, [7, 8], [-LIMIT] * 2]),
    (tf.unsorted_segment_min, [[3, 4], [LIMIT] * 2, [1, 2], [LIMIT] * 2]),
    (tf.unsorted_segment_prod, [[3, 4], [1, 1], [7, 16], [1, 1]]),
]


@pytest.mark.parametrize(("f", "want"), SORTED)
def test_sorted_segments(f: Any, want: Any) -> None:
    np.testing.assert_allclose(value(f, DATA, np.int32([0, 0, 1, 3])), want)
    for ids, message in (([1, 0, 2, 3], "sorted"), ([-1, 0, 1, 2], ">= 0")):
        with pytest.raises(InvalidArgumentError, match=message):
            value(f, DATA, np.int32(ids))
    with Graph().as_default(), pytest.raises(ShapeError, match="one number per row"):
        f(DATA, np.int32([0, 1]))


@pytest.mark.parametrize(("f", "want"), UNSORTED)
def test_unsorted_segments(f: Any, want: Any) -> None:
    ids = np.int32([2, 0, -1, 2])
    np.testing.assert_allclose(value(lambda x, i: f(x, i, 4), DATA, ids), want, rtol=1e-6)
    with pytest.raises(InvalidArgumentError, match="not below"):
        value(lambda x, i: f(x, i, 2), DATA, ids)
    with Graph().as_default(), pytest.raises(ShapeError, match="prefix"):
        f(DATA, np.int32([0, 1]), 4)


@pytest.mark.parametrize("f", [tf.unsorted_segment_sum, tf.unsorted_segment_max])
def test_gradient_of_segments_of_unknown_rank(f: Any) -> None:
    ids = np.int32([2, 0, -1, 2])
    found = fed(lambda x, i: gradients(f(x, i, 4), x)[0], DATA, ids)
    np.testing.assert_array_equal(found, grads(lambda x: f(x, ids, 4), DATA)[0])
