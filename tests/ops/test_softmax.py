"""Softmax and cross-entropy at their extremes, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors


def value(make: Any) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(make())


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(
        value(lambda: tf.nn.softmax(logits)), [[1, 0, 0], [1 / 3] * 3], atol=1e-12
    )
    np.testing.assert_allclose(
        value(lambda: tf.nn.log_softmax(logits)), [[0, -2e4, -1e4], [-np.log(3)] * 3]
    )


def test_losses_and_gradients_at_large_logits() -> None:
    def make() -> Any:
        x = tf.constant([[1e4, -1e4]])
        loss = tf.nn.softmax_cross_entropy_with_logits(labels=[[0.0, 1.0]], logits=x)
        return loss, tf.gradients(loss, x)[0]

    loss, slope = value(make)
    np.testing.assert_allclose(loss, [2e4])
    np.testing.assert_allclose(slope, [[1, -1]])


def test_a_label_of_zero_ignores_a_logit_of_minus_infinity() -> None:
    logits, labels = np.array([[0.0, -np.inf, 0.0]]), np.array([[0.5, 0.0, 0.5]])
    found = value(lambda: tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits))
    np.testing.assert_allclose(found, [np.log(2)])


def test_half_precision_is_summed_in_single() -> None:
    logits = np.zeros((1, 3000), np.float16)
    found = value(lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, [np.log(3000)], rtol=1e-3)


def test_no_gradient_flows_into_the_labels_of_the_first_version() -> None:
    with tf.Graph().as_default():
        labels, logits = tf.ones([2, 3]) / 3, tf.ones([2, 3])
        for function, flows in (
            (tf.nn.softmax_cross_entropy_with_logits, False),
            (tf.nn.softmax_cross_entropy_with_logits_v2, True),
        ):
            loss = function(labels=labels, logits=logits)
            assert (tf.gradients(loss, labels)[0] is not None) == flows


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range_is_refused(label: int) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=rf"label value of {label} .* \[0, 3\)"):
        value(
            lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=[0, label], logits=np.zeros((2, 3))
            )
        )


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: tf.nn.softmax(1.0), "scalar"),
        (lambda: tf.nn.softmax([1.0, 2.0], axis=1), "out of range"),
        (lambda: tf.nn.softmax([1.0], axis=0, dim=0), "both axis and dim"),
        (lambda: tf.nn.softmax_cross_entropy_with_logits([[1.0]], [[1.0]]), "by name"),
        (lambda: tf.nn.softmax_cross_entropy_with_logits(logits=[[1.0]]), "both labels"),
        (
            lambda: tf.nn.softmax_cross_entropy_with_logits(
                labels=tf.zeros([2, 3]), logits=tf.zeros([2, 4])
            ),
            "must be equal",
        ),
        (
            lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=tf.zeros([2, 3], tf.int32), logits=tf.zeros([2, 3])
            ),
            "one axis more",
        ),
        (
            lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=tf.zeros([2]), logits=tf.zeros([2, 3])
            ),
            "integer",
        ),
    ],
)
def test_wrong_arguments_are_refused_when_built(make: Any, error: str) -> None:
    with tf.Graph().as_default(), pytest.raises((ValueError, TypeError), match=error):
        make()


def test_bias_must_fit_the_channels() -> None:
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="size 4 for 3 channels"):
            tf.nn.bias_add(tf.zeros([2, 3]), tf.zeros([4]))
        with pytest.raises(ValueError, match="vector"):
            tf.nn.bias_add(tf.zeros([2, 3]), tf.zeros([1, 3]))
        with pytest.raises(ValueError, match="data_format"):
            tf.nn.bias_add(tf.zeros([2, 3]), tf.zeros([3]), "NHCW")
        assert tf.nn.bias_add(tf.zeros([2, 3]), tf.zeros([3])).op.name == "BiasAdd"
