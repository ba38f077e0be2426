"""Graphs to write and read, for TensorFlow and for graphflow: each returns what to fetch."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal, uniform

PROGRAMS = Programs()
program = PROGRAMS.register


def _inputs(tf: Any) -> Any:
    x = tf.placeholder_with_default(normal(4, 6).astype(np.float32), [None, 6], name="x")
    return x, tf.constant(normal(6, 3).astype(np.float32), name="w")


@program
def arithmetic(tf: Any) -> list[Any]:
    x, w = _inputs(tf)
    y = tf.nn.relu(tf.matmul(x, w) + tf.constant([0.5, 1.0, -0.5]), name="hidden")
    n = tf.constant([[1, 2], [3, 4]])
    return [
        y,
        tf.reduce_sum(y, 0),
        tf.reduce_mean(y, [0, 1], keepdims=True),
        tf.reduce_max(y),
        tf.argmax(y, 1),
        tf.cumsum(y, axis=1),
        tf.nn.softmax(y),
        tf.nn.log_softmax(y),
        -tf.exp(x) / 2.0 - tf.sqrt(tf.abs(x)),
        n // 2 + n % 3,
        tf.cast(n, tf.float64) ** 2.0,
        tf.logical_xor(n > 1, n < 4),
        tf.where(y > 0.7, y, tf.zeros_like(y)),
        tf.clip_by_value(y, 0.1, 0.9),
        tf.einsum("ij,jk->ik", x, w),
        tf.reduce_any(y > 1.0, 1),
    ]


@program
def shapes(tf: Any) -> list[Any]:
    x, _ = _inputs(tf)
    a, b, c = tf.split(x, 3, axis=1)
    d, e = tf.split(x, [2, 4], axis=1)
    return [
        tf.concat([a, b], 1),
        tf.stack([a, c], axis=1),
        *tf.unstack(tf.reshape(tf.range(6), [2, 3]), axis=1),
        tf.transpose(x),
        tf.transpose(tf.reshape(x, [2, 2, 6]), [2, 0, 1]),
        tf.squeeze(tf.expand_dims(d, 1), [1]),
        e[1:3, ::-1],
        x[:, tf.newaxis, 2],
        tf.tile(b, [1, 2]),
        tf.pad(b, [[1, 0], [0, 2]]),
        tf.gather(x, [3, 0], axis=1),
        tf.gather_nd(x, [[0, 1], [3, 2]]),
        tf.one_hot([1, 0, 2], 4),
        tf.fill([2, 2], 7),
        tf.reverse(x, [1]),
        tf.shape(x),
        tf.size(x),
        tf.eye(3),
        tf.linspace(0.0, 1.0, 5),
        tf.reverse_sequence(x, [1, 2, 3, 6], seq_axis=1, batch_axis=0),
        tf.matrix_band_part(x, 1, 2),
        tf.nn.top_k(x, 2)[0],
        tf.unique([3, 1, 3])[1],
        tf.batch_to_space_nd(tf.reshape(x, [4, 2, 3, 1]), [2, 2], [[0, 0], [0, 0]]),
    ]


@program
def images(tf: Any) -> list[Any]:
    x = tf.constant(uniform(2, 6, 5, 3).astype(np.float32))
    w, v = uniform(3, 2, 3, 4).astype(np.float32), uniform(3, 2, 3, 2, seed=1).astype(np.float32)
    y = tf.nn.conv2d(x, w, [1, 2, 1, 1], "SAME")
    return [
        tf.nn.bias_add(y, [0.1, 0.2, 0.3, 0.4]),
        tf.nn.conv2d(x, w, 1, [[0, 0], [1, 1], [0, 1], [0, 0]], dilations=[1, 2, 1, 1]),
        tf.nn.depthwise_conv2d(x, v, [1, 1, 1, 1], "VALID"),
        tf.nn.conv2d_transpose(y, w, [2, 6, 5, 3], [1, 2, 1, 1]),
        tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"),
        tf.nn.avg_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], "VALID"),
        tf.nn.lrn(x, 2, 1.0, 0.1, 0.5),
        tf.image.resize_bilinear(x, [9, 8]),
        tf.nn.batch_normalization(x, *[tf.constant([n] * 3) for n in (0.5, 2.0, 0.1, 1.5)], 1e-3),
        tf.space_to_depth(x[:, :, :4], 2),
    ]


@program
def algebra(tf: Any) -> list[Any]:
    a = normal(2, 3, 3) + 4 * np.eye(3)
    x = tf.constant(a)
    return [
        tf.matmul(x, x, transpose_b=True),
        tf.matrix_inverse(x),
        tf.matrix_determinant(x),
        tf.cholesky(tf.matmul(x, x, transpose_a=True)),
        tf.matrix_solve(x, x[..., :1]),
        tf.matrix_diag_part(x),
        tf.segment_sum(x, [0, 0]),
        tf.unsorted_segment_max(x, [1, 0], 3),
        tf.dynamic_stitch([[0, 2], [1]], [a[0, :2], a[1, :1]]),
        *tf.dynamic_partition(a[0], [1, 0, 1], 2),
        tf.complex(a, a),
        tf.real(tf.fft(tf.cast(x, tf.complex128))),
        tf.lgamma(tf.abs(x)),
        tf.bitcast(tf.constant([1.0, 2.0]), tf.int32),
    ]


@program
def texts(tf: Any) -> list[Any]:
    s = tf.constant(["a b", "", "ccc"], name="text")
    return [
        tf.string_join([s, s], "-"),
        tf.strings.length(s),
        tf.regex_replace(s, "c+", "d"),
        tf.string_to_number(["1.5", "2"]),
        tf.reduce_join(s, 0),
    ]


@program
def variables(tf: Any) -> list[Any]:
    with tf.variable_scope("net", use_resource=True):
        w = tf.get_variable("w", initializer=np.arange(6.0).reshape(2, 3))
        n = tf.get_variable("n", initializer=3, trainable=False)
    with tf.control_dependencies([n.initializer, w.initializer]):
        new = w.assign_add(tf.ones([2, 3], tf.float64) * 2.0)
        with tf.control_dependencies([new]):
            return [w.read_value() * 3.0, n.read_value()]


@program
def training(tf: Any) -> list[Any]:
    """One step of gradient descent, values after it."""
    x, _ = _inputs(tf)
    with tf.variable_scope("net", use_resource=True):
        w = tf.get_variable("w", initializer=normal(6, 3, seed=5).astype(np.float32))
        b = tf.get_variable("b", initializer=np.zeros(3, np.float32))
    with tf.control_dependencies([w.initializer, b.initializer]):
        logits = tf.nn.relu(tf.matmul(x, w.read_value()) + b.read_value())
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 1, 2, 0], logits=logits)
    )
    grads = tf.gradients(loss, [logits])
    return [loss, *grads]


@program
def references(tf: Any) -> list[Any]:
    """Variables of TensorFlow's older kind, in graphs that it wrote."""
    with tf.variable_scope("net", use_resource=False):
        w = tf.get_variable("w", initializer=np.arange(4.0))
    with tf.control_dependencies([w.initializer]):
        new = tf.assign_add(w, tf.ones([4], tf.float64))
        return [tf.identity(new) * 2.0]
