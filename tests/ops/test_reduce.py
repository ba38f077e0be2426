"""Reductions, scans, norms and clipping: axes, nothing, ties, zeros, unknown shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphflow import ops as tf
from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError, ShapeError
from graphflow.build import Graph, as_tensor
from graphflow.differentiate import gradients
from graphflow.ops.slices import IndexedSlices
from graphflow.ops.sources import placeholder
from tests.ops.values import fed, grads, value

X = np.arange(24, dtype=np.float64).reshape(2, 3, 4) / 7 + 1
PAIRS = [
    (tf.reduce_sum, np.sum),
    (tf.reduce_mean, np.mean),
    (tf.reduce_prod, np.prod),
    (tf.reduce_max, np.max),
    (tf.reduce_min, np.min),
    (tf.reduce_variance, np.var),
    (tf.reduce_std, np.std),
]


@pytest.mark.parametrize("axis", [None, 0, -1, [0, 2], (-1, 0)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_reductions_are_numpy_s(ours: Any, theirs: Any, axis: Any, keepdims: bool) -> None:
    want = theirs(X, axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)
    np.testing.assert_allclose(value(lambda x: ours(x, axis, keepdims=keepdims), X), want)


@pytest.mark.parametrize("f", [tf.reduce_sum, tf.reduce_mean])
def test_a_sum_of_one_negative_zero_is_negative(f: Any) -> None:
    """As TensorFlow's; of more terms it is positive."""
    row = np.full((1, 3), -0.0, np.float32)
    assert np.signbit(value(lambda x: f(x, 0), row)).tolist() == [True] * 3
    assert np.signbit(value(lambda x: f(x, 1), row)).tolist() == [False]


@pytest.mark.parametrize("axis", [None, (1,), (-1, 0)])
@pytest.mark.parametrize("f", [p[0] for p in PAIRS] + [tf.reduce_logsumexp, tf.norm])
@pytest.mark.parametrize("dims", [(None, None, None), None])
def test_gradients_of_unknown_shapes(f: Any, axis: Any, dims: Any) -> None:
    """With the sizes unknown, and, where the axes allow it, also the rank."""
    if dims is None and axis == (-1, 0):
        return
    want = grads(lambda x: f(x, axis=axis), X)[0]
    got = fed(lambda x: gradients(f(x, axis=axis), x)[0], X, dims=[dims])
    np.testing.assert_allclose(got, want)


def test_gradient_where_one_size_is_unknown_and_one_is_zero() -> None:
    nothing = np.zeros((2, 0, 3))
    found = fed(lambda x: gradients(tf.reduce_sum(x, 2), x)[0], nothing, dims=[(None, 0, 3)])
    assert found.shape == (2, 0, 3)


def test_old_names_of_arguments() -> None:
    found = value(lambda x: tf.reduce_sum(x, reduction_indices=[1], keep_dims=True), X)
    assert found.shape == (2, 1, 4)
    assert value(lambda x: tf.argmax(x, dimension=2), X).shape == (2, 3)
    with Graph().as_default(), pytest.raises(ValueError, match="keep_dims"):
        tf.reduce_sum(X, keepdims=True, keep_dims=True)


def test_axis_may_be_a_constant_tensor() -> None:
    assert value(lambda x: tf.reduce_sum(x, as_tensor([0, 1])), X).shape == (4,)
    with Graph().as_default(), pytest.raises(GraphError, match="known while the graph is built"):
        tf.reduce_sum(X, placeholder("int32", []))


def test_wrong_axes_and_dtypes() -> None:
    with Graph().as_default():
        with pytest.raises(GraphError, match="out of range"):
            tf.reduce_sum(X, 3)
        with pytest.raises(GraphError, match="twice"):
            tf.reduce_sum(X, [0, -3])
        with pytest.raises(DTypeError, match="numeric"):
            tf.reduce_sum(np.asarray([True]))
        with pytest.raises(DTypeError, match="bool"):
            tf.reduce_all(np.float32([1]))
        with pytest.raises(ShapeError, match="empty"):
            tf.argmax(np.zeros((0, 2)))
        with pytest.raises(ShapeError, match="scalar"):
            tf.argmax(1.0)
    with pytest.raises(InvalidArgumentError, match="empty"):
        fed(tf.argmax, np.zeros((0, 2)))


def test_reductions_of_nothing() -> None:
    nothing = np.zeros((0, 3), np.float32)
    for f, want in (
        (tf.reduce_sum, 0), (tf.reduce_prod, 1), (tf.reduce_mean, np.nan),
        (tf.reduce_max, -np.inf), (tf.reduce_min, np.inf), (tf.reduce_logsumexp, -np.inf),
    ):  # fmt: skip
        np.testing.assert_array_equal(value(lambda x, f=f: f(x, 0), nothing), [want] * 3)
        assert value(lambda x, f=f: f(x, 1), nothing).shape == (0,)
    assert value(tf.reduce_max, np.zeros(0, np.int32)) == np.iinfo(np.int32).min
    assert value(tf.reduce_mean, np.zeros(0, np.int32)) == 0
    assert value(tf.reduce_mean, np.zeros(0, np.complex64)) == 0


def test_integers_keep_their_dtype() -> None:
    x = np.int32([-1, -2, -2])
    assert value(tf.reduce_sum, x).dtype == np.int32
    assert value(tf.reduce_mean, x) == -1


def test_half_floats_are_averaged_in_float32() -> None:
    found = value(tf.reduce_mean, np.full(5000, 20.0, np.float16))
    assert found.dtype == np.float16
    assert found == 20  # the sum alone would be infinite


def test_ties_share_the_gradient() -> None:
    x = np.float32([[1, 3, 3], [2, 2, 0]])
    np.testing.assert_array_equal(
        grads(lambda v: tf.reduce_max(v, 1), x)[0], [[0, 0.5, 0.5], [0.5, 0.5, 0]]
    )


@pytest.mark.parametrize("zeros", [[], [1], [0, 2]])
def test_gradient_of_products_with_zeros(zeros: Any) -> None:
    x = np.float64([2, 3, 5])
    x[zeros] = 0
    others = [x[1] * x[2], x[0] * x[2], x[0] * x[1]]
    np.testing.assert_array_equal(grads(tf.reduce_prod, x)[0], others)
    running = grads(lambda v: tf.cumprod(v)[2], x)[0]
    np.testing.assert_array_equal(running, others)


def test_arg_extremes() -> None:
    x = np.float32([[1, 3, 3], [2, 2, 0]])
    np.testing.assert_array_equal(value(lambda v: tf.argmax(v, 1), x), [1, 0])
    np.testing.assert_array_equal(value(tf.argmin, x), [0, 1, 1])
    assert value(tf.argmax, x).dtype == np.int64
    assert value(lambda v: tf.argmax(v, 1, output_type="int32"), x).dtype == np.int32


def test_scans() -> None:
    x = np.int32([1, 2, 3])
    np.testing.assert_array_equal(value(lambda v: tf.cumsum(v, exclusive=True), x), [0, 1, 3])
    np.testing.assert_array_equal(value(lambda v: tf.cumsum(v, reverse=True), x), [6, 5, 3])
    found = value(lambda v: tf.cumprod(v, exclusive=True, reverse=True), x)
    np.testing.assert_array_equal(found, [6, 3, 1])
    with Graph().as_default(), pytest.raises(GraphError, match="out of range"):
        tf.cumsum(x, axis=1)


def test_logsumexp_does_not_overflow() -> None:
    x = np.float64([[1000, 1000], [-1000, -1001], [-np.inf, -np.inf], [np.inf, 0]])
    want = [1000 + np.log(2), -1000 + np.log1p(np.exp(-1)), -np.inf, np.inf]
    np.testing.assert_allclose(value(lambda v: tf.reduce_logsumexp(v, 1), x), want)
    found = grads(lambda v: tf.reduce_logsumexp(v, 1), x[:2])[0]
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_norms() -> None:
    x = np.float64([[3, 4], [6, -8]])
    np.testing.assert_allclose(value(lambda v: tf.norm(v, axis=1), x), [5, 10])
    for ord in (1, np.inf):
        want = np.linalg.norm(x, ord)
        assert value(lambda v, o=ord: tf.norm(v, o, axis=(0, 1)), x) == want
        assert value(lambda v, o=ord: tf.norm(v, o), x) == np.linalg.norm(x.ravel(), ord)
    np.testing.assert_allclose(
        value(lambda v: tf.norm(v, 3, axis=0), x), np.linalg.norm(x, 3, axis=0)
    )
    np.testing.assert_array_equal(grads(tf.norm, np.zeros(2))[0], [0, 0])
    with Graph().as_default(), pytest.raises(GraphError, match="order"):
        tf.norm(x, "nuclear")


def test_count_nonzero() -> None:
    x = np.int32([[0, 1], [2, 0]])
    np.testing.assert_array_equal(value(lambda v: tf.count_nonzero(v, 0), x), [1, 1])
    assert value(tf.count_nonzero, np.asarray([True, False])) == 1


def test_clipping() -> None:
    x = np.float32([3, 4])
    np.testing.assert_allclose(value(lambda v: tf.clip_by_norm(v, 1.0), x), [0.6, 0.8])
    np.testing.assert_allclose(value(lambda v: tf.clip_by_norm(v, 9.0), x), x)
    np.testing.assert_allclose(value(lambda v: tf.clip_by_average_norm(v, 1.0), x), [1.2, 1.6])
    np.testing.assert_array_equal(grads(lambda v: tf.clip_by_norm(v, 1.0), x * 0)[0], [1, 1])
    with Graph().as_default(), pytest.raises(ShapeError):
        tf.clip_by_value(as_tensor(np.float32(1)), x, 5.0)


def test_clipping_by_the_global_norm() -> None:
    a, b = np.float32([3, 4]), np.float32([0, 12])
    found = value(lambda x, y: tf.clip_by_global_norm([x, None, y], 6.5)[0][2], a, b)
    np.testing.assert_allclose(found, [0, 6])
    assert value(lambda x, y: tf.clip_by_global_norm([x, y], 6.5)[1], a, b) == 13
    for bad in (np.inf, np.nan):
        worse = np.float32([3, bad])
        assert np.isnan(value(lambda x: tf.clip_by_global_norm([x], 1.0)[0][0], worse)).all()
    with pytest.raises(TypeError, match="list"):
        tf.global_norm(a)
    with pytest.raises(ValueError, match="at least one"):
        tf.global_norm([None])


def test_sparse_gradients_stay_sparse() -> None:
    with Graph().as_default():
        slices = IndexedSlices(np.float32([[3, 4]]), np.int32([7]), np.int32([9, 2]))
        clipped = tf.clip_by_norm(slices, 1.0)
        scaled = tf.scalar_mul(2.0, slices)
        (together,), _ = tf.clip_by_global_norm([slices], 1.0)
        for found in (clipped, scaled, together, tf.clip_by_value(slices, 0.0, 1.0)):
            assert isinstance(found, IndexedSlices)
            assert found.indices is slices.indices
