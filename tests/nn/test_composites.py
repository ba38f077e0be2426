"""What `tf.nn` adds to single ops: gradients of all orders, edges, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.differentiate.check import check_gradients
from graphflow.ops.slices import IndexedSlices

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape)


def value(make: Any) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(make())


@pytest.mark.parametrize(
    ("function", "arrays"),
    [
        (lambda x: tf.nn.moments(x, [0]), [normal(4, 2)]),
        (lambda x: tf.nn.moments(x, [0, 1], keepdims=True)[1], [normal(3, 2, 2)]),
        (
            lambda x, w: tf.nn.weighted_moments(x, [0], w),
            [normal(4, 2), np.abs(normal(4, 1)) + 0.5],
        ),
        (lambda x, k, b: tf.nn.fused_batch_norm(x, k, b)[0], [normal(3, 2, 1, 2), *normal(2, 2)]),
        (
            lambda x, k, b: tf.nn.fused_batch_norm(x, k, b, data_format="NCHW")[0],
            [normal(3, 2, 2, 1), *normal(2, 2)],
        ),
        (
            lambda *t: tf.nn.batch_normalization(*t, 1e-3),
            [normal(3, 2), normal(2), np.abs(normal(2)) + 0.5, normal(2), normal(2)],
        ),
        (lambda x: tf.nn.l2_normalize(x, 1), [normal(2, 3)]),
        (lambda x: tf.nn.lrn(x, 1, 1.5, 0.3, 0.6), [normal(1, 1, 2, 4)]),
        (
            lambda x, z: tf.nn.sigmoid_cross_entropy_with_logits(labels=z, logits=x),
            [normal(2, 3), np.abs(normal(2, 3))],
        ),
        (
            lambda x, z: tf.nn.weighted_cross_entropy_with_logits(z, x, 1.7),
            [normal(2, 3), np.abs(normal(2, 3))],
        ),
        (
            lambda x, z: tf.nn.log_poisson_loss(z, x, compute_full_loss=True),
            [normal(3), np.array([0.5, 2.0, 3.5])],
        ),
        (lambda x, w: tf.nn.conv1d(x, w, 2, "SAME"), [normal(2, 5, 2), normal(3, 2, 2)]),
        (
            lambda x, w: tf.nn.conv1d(x, w, 1, "SAME", data_format="NCW"),
            [normal(1, 2, 4), normal(2, 2, 1)],
        ),
        (
            lambda x, w: tf.nn.conv2d_transpose(x, w, [1, 4, 4, 1], 2),
            [normal(1, 2, 2, 2), normal(2, 2, 1, 2)],
        ),
        (
            lambda x, d, p: tf.nn.separable_conv2d(x, d, p, [1, 1, 1, 1], "SAME"),
            [normal(1, 3, 3, 2), normal(2, 2, 2, 1), normal(1, 1, 2, 2)],
        ),
        (lambda x: tf.nn.avg_pool1d(x, 2, 1, "SAME"), [normal(1, 4, 2)]),
        (
            lambda *parts: tf.nn.embedding_lookup(list(parts), np.array([[3, 0], [4, 3]]), "div"),
            [normal(3, 2), normal(2, 2)],
        ),
        (
            lambda t: tf.nn.embedding_lookup(t, np.array([1, 0, 1]), max_norm=0.7),
            [np.array([[0.1, 0.2], [3.0, 4.0]])],
        ),
    ],
)  # fmt: skip
def test_gradients_of_both_orders(function: Any, arrays: Any) -> None:
    assert check_gradients(function, arrays).checked


@pytest.mark.parametrize("first", [(1, 4, 2), (1, 2, 4)])
def test_transposed_convolution_gives_back_the_shape(first: tuple[int, ...]) -> None:
    form = "NWC" if first[1] == 4 else "NCW"
    output = [1, 7, 3] if form == "NWC" else [1, 3, 7]
    found = value(
        lambda: tf.nn.conv1d_transpose(np.ones(first), np.ones((3, 3, 2)), output, 2, "SAME", form)
    )
    assert list(found.shape) == output


# ---- dropout


def test_dropout_scales_what_it_keeps() -> None:
    x = np.full((50, 40), 2.0, np.float32)
    kept = value(lambda: tf.nn.dropout(x, 0.8, seed=1))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(2.5)}
    assert (kept > 0).mean() == pytest.approx(0.8, abs=0.03)


def test_dropout_takes_a_probability_from_the_run() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        keep = tf.placeholder(tf.float32)
        y = tf.nn.dropout(tf.ones([4, 5]), keep, seed=1)
        assert (session.run(y, {keep: 1.0}) == 1).all()
        assert (session.run(y, {keep: 0.5}) == 0).any()


def test_dropout_passes_the_gradient_where_it_kept() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.ones([6, 7])
        y = tf.nn.dropout(x, rate=0.5, seed=1)
        kept, slope = session.run([y, tf.gradients(y, x)[0]])
    np.testing.assert_array_equal(kept, slope)
    assert 0 < (kept > 0).sum() < 42


def test_dropout_noise_may_be_shared_along_an_axis() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 9])
        y = tf.nn.dropout(x, rate=0.5, noise_shape=[None, 1], seed=1)
        kept = session.run(y, {x: np.ones((20, 9))})
    assert (kept == kept[:, :1]).all()
    assert len(np.unique(kept)) == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "needs rate"),
        ({"keep_prob": 0.5, "rate": 0.5}, "not both"),
        ({"rate": 1.0}, r"\[0, 1\)"),
        ({"keep_prob": 1.5}, r"\[0, 1\)"),
    ],
)
def test_dropout_refuses(arguments: Any, error: str) -> None:
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match=error):
            tf.nn.dropout(tf.ones([2]), **arguments)
        with pytest.raises(ValueError, match="floating"):
            tf.nn.dropout(tf.ones([2], tf.int32), 0.5)


def test_dropout_of_nothing_is_the_tensor_itself() -> None:
    with tf.Graph().as_default():
        x = tf.ones([2])
        assert tf.nn.dropout(x, rate=0) is x


def test_noisy_relu_is_relu_of_the_features_and_noise() -> None:
    x = np.linspace(-3, 3, 30_000).astype(np.float32)
    noisy = value(lambda: tf.nn.noisy_relu(x, 0.5, seed=1))
    assert noisy.min() == 0
    far = x > 2
    assert (noisy - x)[far].std() == pytest.approx(0.5, abs=0.02)
    assert (value(lambda: tf.nn.noisy_relu(x, 0.0)) == np.maximum(x, 0)).all()


# ---- embeddings


def test_the_gradient_of_an_embedding_is_sparse() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        table = tf.Variable(np.zeros((100, 3), np.float32))
        rows = tf.nn.embedding_lookup(table, [[5, 7], [5, 9]])
        slope = tf.gradients(rows, [table])[0]
        assert isinstance(slope, IndexedSlices)
        session.run(tf.global_variables_initializer())
        assert session.run(slope.indices).tolist() == [5, 7, 5, 9]
        assert session.run(slope.values).shape == (4, 3)


def test_embedding_refuses() -> None:
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="at least one"):
            tf.nn.embedding_lookup([], [0])
        with pytest.raises(ValueError, match="mod"):
            tf.nn.embedding_lookup(tf.ones([2, 2]), [0], "hash")


# ---- the rest


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda x: tf.nn.fused_batch_norm(x, [1.0], [1.0], is_training=False), "mean"),
        (lambda x: tf.nn.pool(x, [2, 2], "MIN", "SAME"), "MAX"),
        (lambda x: tf.nn.pool(x, [2, 2], "MAX", "SAME", [2, 2]), "dilation_rate"),
        (lambda x: tf.nn.pool(x[0, 0], [2], "MAX", "SAME"), "rank 3 to 5"),
        (lambda x: tf.nn.convolution(x[0, 0], x, "SAME"), "rank 3 to 5"),
        (lambda x: tf.nn.convolution(x, x, "SAME", 2, 2), "cannot both"),
        (lambda x: tf.nn.conv2d(x, x, 1), "needs padding"),
        (lambda x: tf.nn.conv2d(x, x, 1, "SAME", filters=x), "filters"),
        (lambda x: tf.nn.lrn(x[0]), "rank 4"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, error: str) -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match=error):
        make(tf.ones([1, 1, 1, 1]))


def test_zero_fraction_of_nothing_is_nan() -> None:
    assert np.isnan(value(lambda: tf.nn.zero_fraction(np.zeros(0))))


def test_every_public_name_is_documented() -> None:
    missing = [name for name in tf.nn.__all__ if not getattr(tf.nn, name).__doc__]
    assert not missing


def test_names_are_tensorflows() -> None:
    with tf.Graph().as_default():
        x, labels = tf.ones([2, 3]), tf.zeros([2], tf.int32)
        sparse = tf.nn.sparse_softmax_cross_entropy_with_logits
        assert tf.nn.dropout(x, 0.5).name == "dropout/mul_1:0"
        assert sparse(labels=labels, logits=x, name="loss").name == "loss/loss:0"
        assert tf.nn.xw_plus_b(x, tf.ones([3, 2]), tf.ones([2])).name == "xw_plus_b:0"
        assert tf.nn.conv1d(x[None], tf.ones([1, 3, 1]), 1, "SAME").name == "conv1d/Squeeze:0"
        assert tf.nn.l2_normalize(x, 1).name == "l2_normalize:0"


def test_cross_entropy_takes_labels_of_another_rank_with_as_many_rows():
    """As in TensorFlow; programs write labels=[one_hot]."""
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, [None, 3])
        labels = tf.one_hot([0, 2], 3)
        losses = [
            tf.nn.softmax_cross_entropy_with_logits_v2(labels=z, logits=logits)
            for z in (labels, [labels])
        ]
        one, other = session.run(losses, {logits: [[1, 2, 3], [3, 2, 1]]})
    np.testing.assert_array_equal(one, other)
    assert one.shape == (2,)
