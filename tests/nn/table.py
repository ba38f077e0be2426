"""Programs of `tf.nn` that run under TensorFlow and under graphflow: name -> program.

A program takes the module `tf` and returns tensors.  `record.py` keeps TensorFlow's values,
`test_against_tensorflow.py` compares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Program = Callable[[Any], list[Any]]
PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    PROGRAMS[function.__name__] = function
    return function


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def with_gradients(tf: Any, function: Callable[..., Any], *arrays: Any) -> list[Any]:
    """The result, and the gradients of a weighted sum of it."""
    inputs = [tf.constant(a) for a in arrays]
    y = function(*inputs)
    weights = tf.reshape(tf.range(1, tf.size(y) + 1), tf.shape(y))
    total = tf.reduce_sum(y * tf.cos(tf.cast(weights, y.dtype)))
    return [y, *[g for g in tf.gradients(total, inputs) if g is not None]]


@program
def softmax_losses(tf: Any) -> list[Any]:
    raw = np.abs(normal(3, 4))
    labels = raw / raw.sum(axis=1, keepdims=True)
    return [
        *with_gradients(
            tf,
            lambda x, z: tf.nn.softmax_cross_entropy_with_logits_v2(labels=z, logits=x),
            normal(3, 4, seed=1) * 5,
            labels,
        ),
        *with_gradients(
            tf,
            lambda x: tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=x),
            normal(3, 4, seed=2),
        ),
        *with_gradients(
            tf,
            lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
                labels=labels.T[:, None, :], logits=x, dim=0
            ),
            normal(4, 1, 3, seed=3),
        ),
        *with_gradients(
            tf,
            lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=np.array([[1, 0], [2, 2]]), logits=x
            ),
            normal(2, 2, 3, seed=4),
        ),
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=[0, 1], logits=tf.constant([[1e4, -1e4], [1e4, -1e4]])
        ),
    ]


@program
def softmaxes(tf: Any) -> list[Any]:
    x = normal(2, 3, 4)
    return [
        *with_gradients(tf, tf.nn.softmax, x),
        *with_gradients(tf, lambda t: tf.nn.softmax(t, axis=1), x),
        *with_gradients(tf, lambda t: tf.nn.log_softmax(t, axis=0), x),
        tf.nn.log_softmax(tf.constant([[1e4, -1e4, 0.0]])),
    ]


@program
def sigmoid_losses(tf: Any) -> list[Any]:
    x, z = normal(2, 3) * 3, np.abs(normal(2, 3, seed=1)) % 1
    x[0, 0], x[0, 1] = 1e4, -1e4
    return [
        *with_gradients(
            tf,
            lambda a, b: tf.nn.sigmoid_cross_entropy_with_logits(labels=b, logits=a),
            x,
            z,
        ),
        *with_gradients(
            tf,
            lambda a, b: tf.nn.weighted_cross_entropy_with_logits(b, a, 2.5),
            x,
            z,
        ),
        *with_gradients(tf, lambda a, b: tf.nn.log_poisson_loss(b, a), x / 9e3, z * 5),
        tf.nn.log_poisson_loss(np.array([0.5, 1.0, 3.0]), np.array([0.1, 0.2, 0.3]), True),
        *with_gradients(tf, tf.nn.l2_loss, x),
    ]


@program
def convolutions(tf: Any) -> list[Any]:
    x, w = normal(2, 5, 6, 3), normal(3, 2, 3, 4)
    pads = [[0, 0], [1, 0], [2, 1], [0, 0]]
    results = []
    for padding in ("SAME", "VALID", pads):
        for strides in ([1, 1, 1, 1], [1, 2, 2, 1], [1, 1, 3, 1]):
            results += with_gradients(
                tf,
                lambda a, b, p=padding, s=strides: tf.nn.conv2d(a, b, strides=s, padding=p),
                x,
                w,
            )
    results += [
        tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME", dilations=[1, 2, 1, 1]),
        tf.nn.atrous_conv2d(x, w, 2, "SAME"),
        tf.nn.atrous_conv2d(x, w, 2, "VALID"),
        tf.nn.convolution(x, w, "VALID", dilation_rate=[2, 1]),
        tf.nn.convolution(x[:, 0], w[0], "SAME", strides=[2]),
    ]
    results += with_gradients(
        tf,
        lambda a, b: tf.nn.conv2d_transpose(a, b, [2, 11, 11, 2], [1, 2, 2, 1], "SAME"),
        normal(2, 6, 6, 3),
        normal(3, 3, 2, 3),
    )
    return results


@program
def other_convolutions(tf: Any) -> list[Any]:
    x = normal(2, 5, 6, 3)
    ones = [1, 1, 1, 1]
    depthwise, pointwise = normal(2, 3, 3, 2), normal(1, 1, 6, 4)
    return [
        *with_gradients(
            tf, lambda a, b: tf.nn.depthwise_conv2d(a, b, [1, 2, 2, 1], "SAME"), x, depthwise
        ),
        tf.nn.depthwise_conv2d(x, depthwise, ones, "VALID", rate=[2, 1]),
        *with_gradients(
            tf,
            lambda a, b, c: tf.nn.separable_conv2d(a, b, c, ones, "SAME"),
            x,
            depthwise,
            pointwise,
        ),
        *with_gradients(
            tf,
            lambda a, b: tf.nn.conv1d(a, b, 2, "SAME"),
            normal(2, 7, 3),
            normal(3, 3, 4),
        ),
        *with_gradients(
            tf,
            lambda a, b: tf.nn.conv3d(a, b, [1, 1, 2, 1, 1], "SAME"),
            normal(1, 3, 4, 3, 2),
            normal(2, 2, 1, 2, 3),
        ),
        tf.nn.conv3d_transpose(
            normal(1, 2, 2, 2, 3), normal(2, 2, 2, 2, 3), [1, 4, 4, 4, 2], [1, 2, 2, 2, 1]
        ),
    ]


@program
def pools(tf: Any) -> list[Any]:
    x = normal(2, 5, 6, 3).round(1)  # with ties
    results = []
    for function in (tf.nn.max_pool, tf.nn.avg_pool):
        for padding in ("SAME", "VALID"):
            for size, step in ((2, 2), (3, 2), (3, 1)):
                results += with_gradients(
                    tf,
                    lambda t, f=function, k=size, s=step, p=padding: f(
                        t, [1, k, k, 1], [1, s, s, 1], p
                    ),
                    x,
                )
    small = normal(1, 4, 3, 4, 2).astype(np.float32)
    results += [
        tf.nn.max_pool3d(small, [1, 2, 2, 2, 1], [1, 2, 1, 2, 1], "SAME"),
        tf.nn.avg_pool3d(small, [1, 2, 2, 2, 1], [1, 2, 1, 2, 1], "SAME"),
        tf.nn.pool(x, [2, 3], "MAX", "VALID"),
        tf.nn.pool(x[:, 0], [2], "AVG", "SAME", strides=[2]),
        *tf.nn.max_pool_with_argmax(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"),
    ]
    return results


@program
def normalisations(tf: Any) -> list[Any]:
    x, scale, offset = normal(4, 3, 2, 5), np.abs(normal(5)), normal(5, seed=1)
    mean, variance = normal(5, seed=2), np.abs(normal(5, seed=3))
    images = x.astype(np.float32)
    single = [v.astype(np.float32) for v in (scale, offset, mean, variance)]
    return [
        *tf.nn.moments(tf.constant(x), [0, 2]),
        *tf.nn.moments(tf.constant(x), [0, 1], keep_dims=True),
        *tf.nn.weighted_moments(tf.constant(x), [0, 1], np.abs(normal(4, 3, 1, 1))),
        *with_gradients(tf, lambda t: tf.nn.moments(t, [0, 1])[1], x),
        *with_gradients(
            tf,
            lambda *t: tf.nn.batch_normalization(*t, 1e-3),
            x,
            mean,
            variance,
            offset,
            scale,
        ),
        *tf.nn.fused_batch_norm(images, single[0], single[1]),
        *tf.nn.fused_batch_norm(images, *single, is_training=False)[:1],
        *with_gradients(
            tf, lambda a, b, c: tf.nn.fused_batch_norm(a, b, c)[0], images, *single[:2]
        ),
        *with_gradients(tf, lambda t: tf.nn.l2_normalize(t, 3), x),
        *with_gradients(tf, lambda t: tf.nn.lrn(t, 1, bias=1.5, alpha=0.3, beta=0.7), images),
        tf.nn.batch_norm_with_global_normalization(
            tf.constant(x), mean, variance, offset, scale, 1e-3, True
        ),
    ]


@program
def layers(tf: Any) -> list[Any]:
    x, w, b = normal(3, 4), normal(4, 2), normal(2)
    scores = np.array([[1.0, 2.0, 2.0], [3.0, np.inf, 1.0], [0.0, 1.0, 2.0]], np.float32)
    return [
        *with_gradients(tf, tf.nn.xw_plus_b, x, w, b),
        *with_gradients(tf, tf.nn.relu_layer, x, w, b),
        *with_gradients(tf, tf.nn.crelu, x),
        tf.nn.zero_fraction(np.array([0.0, 1.0, 0.0, 2.0])),
        *[tf.nn.in_top_k(scores, t, k) for t in ([2, 0, 2], [0, 1, 7]) for k in (1, 2)],
        *with_gradients(tf, lambda t, v: tf.nn.bias_add(t, v), normal(2, 3, 2), b),
    ]


@program
def embeddings(tf: Any) -> list[Any]:
    table = normal(7, 3)
    ids = np.array([[0, 6, 3], [2, 2, 5]], np.int32)
    # TensorFlow splits 7 rows in 3 parts so that the first have one more.
    parts = {"div": np.split(table, [3, 5]), "mod": [table[i::3] for i in range(3)]}
    return [
        tf.nn.embedding_lookup(tf.constant(table), ids),
        tf.nn.embedding_lookup(tf.constant(table), ids, max_norm=1.0),
        *[
            tf.nn.embedding_lookup([tf.constant(p) for p in parts[s]], ids, s)
            for s in ("div", "mod")
        ],
    ]


@program
def random_programs(tf: Any) -> list[Any]:
    x = np.ones((3, 5), np.float32)
    tf.set_random_seed(11)
    first = [
        tf.nn.dropout(x, keep_prob=0.7, seed=1),
        tf.nn.dropout(x, rate=0.4, noise_shape=[3, 1], seed=2),
        tf.random_uniform([4], 2, 5, seed=3),
        tf.random_uniform([4], -3, 9, tf.int64, seed=4),
    ]
    tf.set_random_seed(None)
    return [*first, tf.random_uniform([4], seed=5), tf.random_shuffle(np.arange(9), seed=6)]


@program
def initializers(tf: Any) -> list[Any]:
    shape = [3, 2, 4]
    tf.set_random_seed(5)
    return [
        tf.zeros_initializer()(shape),
        tf.ones_initializer()(shape, tf.int32),
        tf.constant_initializer([1, 2, 3])([2, 2]),
        tf.random_uniform_initializer(-1, 1, seed=1)(shape),
        tf.random_normal_initializer(1.0, 2.0, seed=2)(shape),
        tf.truncated_normal_initializer(stddev=0.1, seed=3)(shape),
        tf.uniform_unit_scaling_initializer(1.5, seed=4)(shape),
        tf.variance_scaling_initializer(2.0, "fan_out", "untruncated_normal", seed=5)(shape),
        tf.glorot_uniform_initializer(seed=6)(shape),
        tf.glorot_normal_initializer(seed=7)(shape),
        tf.orthogonal_initializer(1.5, seed=8)(shape),
        tf.orthogonal_initializer(seed=9)([5, 2]),
        tf.initializers.identity(2.0)([2, 3]),
        *[
            getattr(tf.initializers, name)(seed=10)(shape)
            for name in ("he_normal", "he_uniform", "lecun_normal", "lecun_uniform")
        ],
    ]
