"""Contrib's layers compute what their parts do, under contrib's names."""

from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def test_fully_connected():
    layers = tf.contrib.layers
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 10
    y = layers.fully_connected(x, 4, weights_regularizer=layers.l2_regularizer(0.5))
    w, b = tf.trainable_variables()
    assert [w.name, b.name] == ["fully_connected/weights:0", "fully_connected/biases:0"]
    (loss,) = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        out, weights, found = session.run([y, w, loss])
    np.testing.assert_allclose(out, np.maximum(x @ weights, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, 0.25 * (weights**2).sum(), rtol=1e-5)
    limit = np.sqrt(6 / (3 + 4))
    assert np.abs(weights).max() <= limit


def test_variables_are_shared_where_reused():
    x = tf.ones([1, 3])
    one = tf.contrib.layers.fully_connected(x, 2, scope="fc")
    two = tf.contrib.layers.fully_connected(x, 2, scope="fc", reuse=True)
    assert len(tf.global_variables()) == 2
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(*session.run([one, two]))


def test_convolution_pooling_and_normalisation():
    layers = tf.contrib.layers
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32))
    y = layers.conv2d(x, 4, 3, normalizer_fn=layers.batch_norm, scope="c")
    z = layers.flatten(layers.max_pool2d(y, 2))
    assert z.shape.as_list() == [2, 64]
    names = {v.op.name for v in tf.global_variables()}
    assert "c/weights" in names
    assert any(n.startswith("c/BatchNorm/") for n in names)
    assert tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert (session.run(z) >= 0).all()


def test_moving_averages_are_updated_at_once_where_asked():
    x = tf.constant(np.full((4, 2), 3.0, np.float32))
    y = tf.contrib.layers.batch_norm(x, decay=0.5, updates_collections=None)
    assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    mean = next(v for v in tf.global_variables() if "moving_mean" in v.name)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(y)
        np.testing.assert_allclose(session.run(mean), [1.5, 1.5])


def test_regularizers_add_up():
    layers = tf.contrib.layers
    w = tf.constant([1.0, -2.0])
    both = layers.l1_l2_regularizer(0.1, 0.2)(w)
    total = layers.apply_regularization(layers.l1_regularizer(1.0), [w, w])
    with tf.Session() as session:
        np.testing.assert_allclose(session.run([both, total]), [0.3 + 0.5, 6])
