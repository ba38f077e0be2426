"""Programs of `tf.layers` that run under TensorFlow and under graphflow: name -> program.

As in `tests/nn/rnn_table.py`: a program takes the module `tf` and returns tensors.
"""

from __future__ import annotations

from typing import Any

from tests.nn.rnn_table import Program, normal, weighted, with_gradients

PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    PROGRAMS[function.__name__] = function
    return function


@program
def dense(tf: Any) -> list[Any]:
    x, cube = tf.constant(normal(3, 4)), tf.constant(normal(2, 3, 4))
    layers = tf.layers
    with weighted(tf):
        y = layers.dense(x, 5, tf.nn.relu)
        y = layers.dense(y, 3, use_bias=False, kernel_initializer=tf.ones_initializer())
        layer = layers.Dense(2, activation="tanh", name="twice")
        with tf.variable_scope("inner", reuse=tf.AUTO_REUSE):
            shared = [layers.dense(cube, 2, name="again") for _ in range(2)]
            more = layers.dense(x, 2)
        with tf.variable_scope("inner", reuse=True):
            again = layers.dense(x * 2, 2)
        results = [y, layer(x), layer(x * 2), *shared, more, again]
        return with_gradients(tf, results, [x, cube])


@program
def regularised(tf: Any) -> list[Any]:
    x = tf.constant(normal(3, 4))
    with weighted(tf):
        y = tf.layers.dense(
            x,
            2,
            kernel_regularizer=lambda w: 0.1 * tf.reduce_sum(w * w),
            bias_regularizer=lambda b: tf.reduce_sum(tf.abs(b)),
            activity_regularizer=lambda a: tf.reduce_sum(a),
            bias_initializer=tf.ones_initializer(),
        )
        losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        return with_gradients(tf, [y, *losses], [x])


@program
def convolutions(tf: Any) -> list[Any]:
    layers = tf.layers
    line, image = tf.constant(normal(2, 7, 3)), tf.constant(normal(2, 6, 5, 3))
    volume = tf.constant(normal(1, 4, 3, 4, 2))
    with weighted(tf):
        results = [
            layers.conv1d(line, 4, 3, padding="same"),
            layers.conv1d(line, 4, 3, strides=2, activation=tf.tanh),
            layers.conv1d(line, 2, 2, dilation_rate=2),
            layers.conv2d(image, 4, 3, activation=tf.nn.relu),
            layers.conv2d(image, 4, [3, 2], (2, 1), "SAME", use_bias=False),
            layers.conv2d(image, 2, 2, dilation_rate=(2, 1), padding="same", name="dilated"),
            layers.conv3d(volume, 3, (2, 1, 2), padding="same", strides=(1, 1, 2)),
            layers.separable_conv1d(line, 4, 3, strides=2, depth_multiplier=2),
            layers.separable_conv2d(image, 2, (2, 3), (2, 2), "valid", use_bias=False),
            layers.separable_conv2d(image, 4, 3, depth_multiplier=2, padding="same"),
            layers.conv2d_transpose(image, 2, 3, strides=2),
            layers.conv2d_transpose(image, 2, [3, 2], strides=(2, 1), padding="same"),
            layers.conv3d_transpose(volume, 2, 2, strides=(1, 2, 1), padding="same"),
        ]
        return with_gradients(tf, results, [line, image, volume])


@program
def pools(tf: Any) -> list[Any]:
    layers = tf.layers
    line, image = tf.constant(normal(2, 7, 3)), tf.constant(normal(2, 6, 5, 3))
    volume = tf.constant(normal(1, 4, 3, 4, 2).astype("float32"))
    results = [
        layers.max_pooling1d(line, 2, 2),
        layers.average_pooling1d(line, 3, 2, padding="same"),
        layers.max_pooling2d(image, 2, 2),
        layers.max_pooling2d(image, [3, 2], (2, 1), padding="same"),
        layers.average_pooling2d(image, 2, 2, "same"),
    ]
    volumes = [
        layers.max_pooling3d(volume, 2, 2, padding="same"),
        layers.average_pooling3d(volume, (2, 1, 2), 2),
    ]
    return [*with_gradients(tf, results, [line, image]), *with_gradients(tf, volumes, [volume])]


@program
def others(tf: Any) -> list[Any]:
    x, image = tf.constant(normal(4, 5), tf.float32), tf.constant(normal(2, 6, 5, 3))
    tf.set_random_seed(3)
    results = [
        tf.layers.dropout(x, 0.4, seed=1, training=True),
        tf.layers.dropout(x, 0.4, seed=1),
        tf.layers.dropout(x, 0.4, noise_shape=[4, 1], seed=2, training=tf.constant(True)),
    ]
    flat = [
        tf.layers.flatten(image),
        tf.layers.flatten(image, data_format="channels_first"),
    ]
    return [*with_gradients(tf, results, [x]), *with_gradients(tf, flat, [image])]
