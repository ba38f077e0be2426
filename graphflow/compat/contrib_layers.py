"""`tf.contrib.layers`: its initializers and regularizers, and its commonest layers over
`tf.layers`, with contrib's argument and variable names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import graphflow as tf


def xavier_initializer(uniform: bool = True, seed: int | None = None, dtype: Any = None) -> Any:
    """Glorot's initializer: weights whose layer keeps the scale of gradients.

    Source: Glorot, Bengio (2010).
    """
    return variance_scaling_initializer(1.0, "FAN_AVG", uniform, seed, dtype)


xavier_initializer_conv2d = xavier_initializer


def variance_scaling_initializer(
    factor: float = 2.0,
    mode: str = "FAN_IN",
    uniform: bool = False,
    seed: int | None = None,
    dtype: Any = None,
) -> Any:
    """Weights of variance factor / fan.

    Args:
      mode: which fan: "FAN_IN", "FAN_OUT" or "FAN_AVG".
      uniform: uniform numbers instead of truncated normal ones.
    """
    return tf.variance_scaling_initializer(
        scale=factor,
        mode=mode.lower(),
        distribution="uniform" if uniform else "truncated_normal",
        seed=seed,
        dtype=tf.float32 if dtype is None else dtype,
    )


def l2_regularizer(scale: float, scope: str | None = None) -> Callable[[Any], Any]:
    """A function: scale * sum(w**2) / 2."""
    return lambda weights: tf.multiply(float(scale), tf.nn.l2_loss(weights), name=scope)


def l1_regularizer(scale: float, scope: str | None = None) -> Callable[[Any], Any]:
    """A function: scale * sum(|w|)."""
    return lambda weights: tf.multiply(float(scale), tf.reduce_sum(tf.abs(weights)), name=scope)


def l1_l2_regularizer(
    scale_l1: float = 1.0, scale_l2: float = 1.0, scope: str | None = None
) -> Callable[[Any], Any]:
    """The sum of both."""
    one, two = l1_regularizer(scale_l1), l2_regularizer(scale_l2)
    return lambda weights: tf.add(one(weights), two(weights), name=scope)


def apply_regularization(regularizer: Any, weights_list: Any = None) -> Any:
    """The sum of a regularizer over weights, by default those of the collection of weights."""
    weights = weights_list or tf.get_collection(tf.GraphKeys.WEIGHTS)
    return tf.add_n([regularizer(w) for w in weights])


def flatten(inputs: Any, outputs_collections: Any = None, scope: str | None = None) -> Any:
    """[n, ...] -> [n, the rest]."""
    return tf.layers.flatten(inputs, name=scope)


def dropout(
    inputs: Any,
    keep_prob: Any = 0.5,
    noise_shape: Any = None,
    is_training: Any = True,
    outputs_collections: Any = None,
    scope: str | None = None,
    seed: int | None = None,
) -> Any:
    """Zero some elements, scaling the others by 1 / keep_prob, while training."""
    return tf.layers.dropout(
        inputs, 1 - keep_prob, noise_shape, seed, training=is_training, name=scope
    )


def fully_connected(
    inputs: Any,
    num_outputs: int,
    activation_fn: Any = tf.nn.relu,
    normalizer_fn: Any = None,
    normalizer_params: Any = None,
    weights_initializer: Any = None,
    weights_regularizer: Any = None,
    biases_initializer: Any = tf.zeros_initializer,
    biases_regularizer: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    scope: Any = None,
) -> Any:
    """A dense layer, with variables "weights" and "biases".

    Args:
      inputs: [..., n].
      num_outputs: size of the last axis of the result.
      normalizer_fn: applied in the place of biases, with `normalizer_params`.
    """
    with tf.variable_scope(scope, "fully_connected", [inputs], reuse=reuse):
        x = tf.convert_to_tensor(inputs)
        weights = tf.get_variable(
            "weights",
            [x.shape[-1].value, num_outputs],
            x.dtype,
            weights_initializer or xavier_initializer(),
            weights_regularizer,
            trainable,
        )
        flat = x if x.shape.ndims == 2 else tf.reshape(x, [-1, x.shape[-1].value])
        y = tf.matmul(flat, weights)
        if normalizer_fn is None:
            y = _biased(y, num_outputs, biases_initializer, biases_regularizer, trainable)
        if x.shape.ndims != 2:
            y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [num_outputs]], 0))
        return _finished(y, normalizer_fn, normalizer_params, activation_fn)


def conv2d(
    inputs: Any,
    num_outputs: int,
    kernel_size: Any,
    stride: Any = 1,
    padding: str = "SAME",
    data_format: str | None = None,
    rate: Any = 1,
    activation_fn: Any = tf.nn.relu,
    normalizer_fn: Any = None,
    normalizer_params: Any = None,
    weights_initializer: Any = None,
    weights_regularizer: Any = None,
    biases_initializer: Any = tf.zeros_initializer,
    biases_regularizer: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    scope: Any = None,
) -> Any:
    """A convolution of [n, height, width, channels], with variables "weights" and "biases".

    Raises:
      ValueError: the channels are not the last axis.
    """
    if data_format not in (None, "NHWC"):
        raise ValueError(f"data_format {data_format!r}: use NHWC, or tf.layers.conv2d")
    height, width = _pair(kernel_size)
    with tf.variable_scope(scope, "Conv", [inputs], reuse=reuse):
        x = tf.convert_to_tensor(inputs)
        weights = tf.get_variable(
            "weights",
            [height, width, x.shape[-1].value, num_outputs],
            x.dtype,
            weights_initializer or xavier_initializer(),
            weights_regularizer,
            trainable,
        )
        strides, dilations = [1, *_pair(stride), 1], [1, *_pair(rate), 1]
        y = tf.nn.conv2d(x, weights, strides, padding, dilations=dilations)
        if normalizer_fn is None:
            y = _biased(y, num_outputs, biases_initializer, biases_regularizer, trainable)
        return _finished(y, normalizer_fn, normalizer_params, activation_fn)


convolution2d = conv2d


def max_pool2d(
    inputs: Any, kernel_size: Any, stride: Any = 2, padding: str = "VALID", **options: Any
) -> Any:
    """The largest of each window of [n, height, width, channels]."""
    ksize, strides = [1, *_pair(kernel_size), 1], [1, *_pair(stride), 1]
    return tf.nn.max_pool(inputs, ksize, strides, padding, name=options.get("scope"))


def avg_pool2d(
    inputs: Any, kernel_size: Any, stride: Any = 2, padding: str = "VALID", **options: Any
) -> Any:
    """The mean of each window of [n, height, width, channels]."""
    ksize, strides = [1, *_pair(kernel_size), 1], [1, *_pair(stride), 1]
    return tf.nn.avg_pool(inputs, ksize, strides, padding, name=options.get("scope"))


def batch_norm(
    inputs: Any,
    decay: float = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Any = None,
    updates_collections: Any = tf.GraphKeys.UPDATE_OPS,
    is_training: Any = True,
    reuse: Any = None,
    trainable: bool = True,
    scope: Any = None,
    **options: Any,
) -> Any:
    """Batch normalisation, with its variables in a scope "BatchNorm".

    With `updates_collections=None` the moving averages are updated before the result is there.
    """
    with tf.variable_scope(scope, "BatchNorm", [inputs], reuse=reuse):
        before = len(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        y = tf.layers.batch_normalization(
            inputs,
            momentum=decay,
            epsilon=epsilon,
            center=center,
            scale=scale,
            training=is_training,
            trainable=trainable,
            reuse=reuse,
        )
        if updates_collections is None:
            updates = tf.get_collection_ref(tf.GraphKeys.UPDATE_OPS)
            mine, updates[before:] = updates[before:], []
            with tf.control_dependencies(mine):
                y = tf.identity(y)
        return y if activation_fn is None else activation_fn(y)


def _biased(y: Any, size: int, initializer: Any, regularizer: Any, trainable: bool) -> Any:
    if initializer is None:
        return y
    biases = tf.get_variable("biases", [size], y.dtype, initializer, regularizer, trainable)
    return tf.nn.bias_add(y, biases)


def _finished(y: Any, normalizer: Any, params: Any, activation: Any) -> Any:
    if normalizer is not None:
        y = normalizer(y, **(params or {}))
    return y if activation is None else activation(y)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
