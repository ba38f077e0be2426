"""Layers: batch normalisation against its formula, the base class, unknown shapes, errors."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        yield graph


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape)


def started() -> tf.Session:
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return session


# ---- batch normalisation


@pytest.mark.parametrize("how", ["constant", "placeholder"])
@pytest.mark.parametrize(
    ("dims", "axis", "options"),
    [
        ((6, 3), -1, {}),
        ((4, 5, 3), -1, {"center": False}),
        ((4, 5, 3), 1, {"scale": False}),
        ((4, 2, 3, 2), -1, {"fused": False}),
        ((4, 2, 3, 2), -1, {}),
        ((4, 3, 2, 2), 1, {}),
        ((4, 5, 3), [1, 2], {}),
    ],
)
def test_batch_normalisation_is_its_formula(dims: Any, axis: Any, options: Any, how: str) -> None:
    x = normal(*dims).astype(np.float32) * 3 + 2
    axes = [a % len(dims) for a in (axis if isinstance(axis, list) else [axis])]
    others = tuple(i for i in range(len(dims)) if i not in axes)
    fed = tf.placeholder(tf.float32, [None, *dims[1:]])
    mode: Any = tf.placeholder(tf.bool, []) if how == "placeholder" else True
    feeds = {fed: x} | ({mode: True} if how == "placeholder" else {})
    y = tf.layers.batch_normalization(fed, axis, 0.9, training=mode, name="bn", **options)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    variables = {v.name: v for v in tf.global_variables()}
    wanted = {"bn/moving_mean:0", "bn/moving_variance:0"}
    wanted |= {"bn/gamma:0"} if options.get("scale", True) else set()
    wanted |= {"bn/beta:0"} if options.get("center", True) else set()
    assert set(variables) == wanted
    assert {v.name for v in tf.trainable_variables()} == {n for n in wanted if "moving" not in n}
    mean, variance = x.mean(others, keepdims=True), x.var(others, keepdims=True)
    with started() as session:
        got, *_ = session.run([y, *updates], feeds)
        np.testing.assert_allclose(got, (x - mean) / np.sqrt(variance + 1e-3), rtol=2e-4, atol=2e-5)
        moving = [session.run(variables[f"bn/moving_{n}:0"]) for n in ("mean", "variance")]
        fused = len(dims) == 4 and options.get("fused", True)
        count = x.size // mean.size
        seen = variance * count / (count - 1) if fused else variance
        np.testing.assert_allclose(moving[0].ravel(), 0.1 * mean.ravel(), rtol=1e-5)
        np.testing.assert_allclose(moving[1].ravel(), 0.9 + 0.1 * seen.ravel(), rtol=1e-5)
        if how == "placeholder":
            got, *_ = session.run([y, *updates], feeds | {mode: False})
            m, v = [a.reshape(mean.shape) for a in moving]
            np.testing.assert_allclose(got, (x - m) / np.sqrt(v + 1e-3), rtol=2e-4, atol=2e-5)
            after = [session.run(variables[f"bn/moving_{n}:0"]) for n in ("mean", "variance")]
            for a, b in zip(moving, after, strict=True):
                np.testing.assert_array_equal(a, b)


def test_inference_adds_no_updates_and_uses_the_averages() -> None:
    x = tf.constant(normal(3, 2))
    y = tf.layers.batch_normalization(
        x, moving_mean_initializer=tf.constant_initializer([1.0, 2.0]), epsilon=0.0
    )
    assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == []
    with started() as session:
        np.testing.assert_allclose(session.run(y), normal(3, 2) - [1.0, 2.0], rtol=1e-14)


def test_half_precision_is_normalised_in_single() -> None:
    x = tf.constant(normal(8, 2), tf.float16)
    y = tf.layers.batch_normalization(x, training=True)
    assert y.dtype is tf.float16
    assert all(v.dtype is tf.float32 for v in tf.global_variables())
    with started() as session:
        assert abs(session.run(y).astype(np.float64).mean()) < 1e-2


# ---- the base class


class Scale(tf.layers.Layer):
    """Inputs times a trained number, plus a fixed one."""

    def build(self, input_shape: Any) -> None:
        self.factor = self.add_variable("factor", [input_shape[-1].value])
        self.shift = self.add_weight("shift", [], trainable=False, initializer="ones")

    def call(self, inputs: Any, twice: bool = False) -> Any:
        y = inputs * self.factor + self.shift
        return 2.0 * y if twice else y


def test_a_layer_builds_once_and_tells_its_variables() -> None:
    layer = Scale(name="mine")
    with pytest.raises(ValueError, match="no variables yet"):
        layer.count_params()
    with pytest.raises(ValueError, match="first called"):
        _ = layer.scope_name
    x = tf.constant(normal(2, 3))
    a, b = layer(x), layer.apply(x, twice=True)
    names = [v.name for v in layer.variables]
    assert names == ["mine/factor:0", "mine/shift:0"]
    assert [v.name for v in tf.global_variables()] == names
    assert layer.trainable_weights == [layer.factor]
    assert layer.non_trainable_variables == [layer.shift]
    assert (layer.count_params(), layer.scope_name, layer.dtype) == (4, "mine", tf.float64)
    assert a.name.startswith("mine/")
    with started() as session:
        np.testing.assert_array_equal(*session.run([2 * a, b]))


def test_names_of_layers_without_one() -> None:
    x = tf.constant(normal(2, 3))
    first, second = Scale(), Scale()
    assert (first.name, second.name) == ("scale_1", "scale_2")
    second(x)
    first(x)
    assert (second.scope_name, first.scope_name) == ("scale", "scale_1")


def test_a_layer_that_is_not_trainable_has_no_trainable_variables() -> None:
    layer = tf.layers.Dense(2, trainable=False)
    layer(tf.constant(normal(2, 3)))
    assert layer.trainable_weights == tf.trainable_variables() == []
    assert len(layer.non_trainable_weights) == 2


def test_a_copy_of_a_layer_makes_its_own_variables_and_a_built_one_shares_them() -> None:
    x = tf.constant(normal(2, 3))
    layer = tf.layers.Dense(2)
    other = copy.deepcopy(layer)
    np.testing.assert_equal(
        [v.name for v in (layer(x), other(x))], ["dense/BiasAdd:0", "dense_1/BiasAdd:0"]
    )
    assert copy.deepcopy(layer).kernel is layer.kernel


def test_layers_train() -> None:
    """Two layers learn exclusive or."""
    x = tf.constant([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    labels = tf.constant([[0.0], [1.0], [1.0], [0.0]])
    tf.set_random_seed(1)
    hidden = tf.layers.dense(x, 8, tf.nn.tanh)
    logits = tf.layers.dense(hidden, 1)
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
    step = tf.train.AdamOptimizer(0.1).minimize(loss)
    with started() as session:
        for _ in range(100):
            session.run(step)
        assert session.run(loss) < 0.05


# ---- shapes and errors


def test_unknown_batches_and_sizes() -> None:
    image = tf.placeholder(tf.float32, [None, None, None, 3])
    y = tf.layers.conv2d_transpose(image, 4, 3, strides=2, padding="same")
    assert y.shape.as_list() == [None, None, None, 4]
    flat = tf.layers.flatten(tf.placeholder(tf.float32, [None, 2, 3]))
    assert flat.shape.as_list() == [None, 6]
    assert tf.layers.flatten(image).shape.as_list() == [None, None]
    assert tf.layers.dense(tf.placeholder(tf.float32, [None, None, 3]), 2).shape.as_list() == [
        None,
        None,
        2,
    ]
    with started() as session:
        assert session.run(y, {image: np.zeros((2, 3, 4, 3))}).shape == (2, 6, 8, 4)


def test_channels_may_come_first() -> None:
    x = normal(2, 3, 6, 5)
    kernel = tf.constant_initializer(normal(3, 3, 3, 4))
    options: dict[str, Any] = {"kernel_initializer": kernel, "padding": "same"}
    last = tf.layers.conv2d(tf.constant(x.transpose(0, 2, 3, 1)), 4, 3, **options)
    first = tf.layers.conv2d(tf.constant(x), 4, 3, data_format="channels_first", **options)
    pools = [
        tf.layers.max_pooling2d(last, 2, 2),
        tf.layers.max_pooling2d(first, 2, 2, data_format="channels_first"),
    ]
    with started() as session:
        a, b = session.run(pools)
        np.testing.assert_allclose(a.transpose(0, 3, 1, 2), b, rtol=1e-12)


@pytest.mark.parametrize(
    ("words", "build"),
    [
        ("must be known", lambda t: t.dense(tf.placeholder(tf.float32, [2, None]), 2)),
        ("rank 2 to any", lambda t: t.dense(tf.zeros([3]), 2)),
        ("unknown rank", lambda t: t.dense(tf.placeholder(tf.float32), 2)),
        ("rank 4", lambda t: t.conv2d(tf.zeros([2, 3, 4]), 2, 2)),
        ("kernel_size", lambda t: t.conv2d(tf.zeros([1, 3, 3, 1]), 2, [2, 2, 2])),
        ("strides", lambda t: t.conv2d(tf.zeros([1, 3, 3, 1]), 2, 2, 0)),
        ("padding", lambda t: t.max_pooling2d(tf.zeros([1, 3, 3, 1]), 2, 2, "full")),
        ("data_format", lambda t: t.flatten(tf.zeros([1, 3]), data_format="NHWC")),
        ("channels", lambda t: t.conv1d(tf.placeholder(tf.float32, [1, 3, None]), 2, 2)),
        ("renorm", lambda t: t.batch_normalization(tf.zeros([2, 2]), renorm=True)),
        ("axes", lambda t: t.batch_normalization(tf.zeros([2, 2]), axis=2)),
        ("images", lambda t: t.batch_normalization(tf.zeros([2, 2]), fused=True)),
        ("units", lambda t: t.Dense(-1)),
        ("activation", lambda t: t.Dense(1, activation="no such")),
        ("did you mean", lambda t: [t.dense(tf.zeros([2, 2]), 2, name="d") for _ in range(2)]),
        ("exist", lambda t: t.dense(tf.zeros([2, 2]), 2, name="new", reuse=True)),
    ],
)
def test_what_does_not_fit_is_refused(words: str, build: Any) -> None:
    with pytest.raises(ValueError, match=words):
        build(tf.layers)


def test_an_input_of_another_size_is_refused_later() -> None:
    layer = tf.layers.Dense(2)
    layer(tf.zeros([2, 3]))
    with pytest.raises(ValueError, match="size 3"):
        layer(tf.zeros([2, 4]))
    with pytest.raises(TypeError, match="no argument 'bais'"):
        tf.layers.Dense(2, bais=1)
