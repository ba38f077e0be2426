"""Programs of Fourier transforms, counts and index arithmetic; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal, with_gradients

PROGRAMS = Programs()
program = PROGRAMS.register


@program
def spectra(tf: Any) -> list[Any]:
    x = normal(2, 4, 6)
    z = x + 1j * normal(2, 4, 6, seed=1)
    found = []
    for name in ("fft", "ifft", "fft2d", "ifft2d", "fft3d", "ifft3d"):
        transform = getattr(tf, name)
        found += with_gradients(tf, lambda v, t=transform: tf.real(t(v)) + tf.imag(t(v)), z)
        found.append(transform(z.astype(np.complex64)))
    for length in (None, [6], [5], [9]):  # TensorFlow's gradients fail where the length changes
        found += [
            tf.spectral.rfft(tf.constant(x), length),
            tf.spectral.irfft(tf.constant(z), length),
        ]
    found += with_gradients(
        tf, lambda v: tf.real(tf.spectral.rfft(v)) - tf.imag(tf.spectral.rfft(v)), x
    )
    found += with_gradients(tf, tf.spectral.irfft, z)
    return [
        *found,
        tf.spectral.rfft2d(tf.constant(x)),
        tf.spectral.irfft2d(tf.constant(z[..., :4])),
    ]


@program
def counts(tf: Any) -> list[Any]:
    numbers = np.array([3, 1, 1, 0, 5], np.int32)
    weights = np.array([1.0, 2.0, 0.5, 4.0, 8.0])
    return [
        tf.bincount(numbers),
        tf.bincount(numbers, weights),
        tf.bincount(numbers, minlength=9, dtype=tf.int64),
        tf.bincount(numbers, maxlength=3),
        tf.bincount(np.zeros(0, np.int32)),
        tf.confusion_matrix(numbers, numbers[::-1]),
        tf.confusion_matrix(numbers, numbers[::-1], 7, tf.float64, weights=weights),
        tf.unravel_index(np.array([22, 41, 37]), (7, 6)),
        tf.unravel_index(17, (2, 3, 5)),
        *with_gradients(tf, tf.cross, normal(4, 3), normal(4, 3, seed=1)),
    ]


def _sparse(tf: Any, given: Any = None) -> Any:
    values = np.array([1.0, 2.0, 3.0, 4.0]) if given is None else given
    return tf.SparseTensor([[0, 0], [0, 3], [1, 1], [2, 2]], values, [3, 4])


@program
def sparse(tf: Any) -> list[Any]:
    a, b = _sparse(tf), normal(4, 2)
    ids = tf.SparseTensor(a.indices, np.array([3, 0, 2, 2]), [3, 4])
    found = [
        tf.sparse_tensor_to_dense(a),
        tf.sparse_tensor_to_dense(a, -1.0),
        tf.sparse_to_dense([[1, 2]], [2, 3], [5]),
        tf.sparse_to_dense([0, 2], [4], 7, 1),
        tf.sparse_to_dense(1, [4], 7.5, 1.0),
        tf.sparse_tensor_dense_matmul(a, normal(3, 2), adjoint_a=True),
        tf.sparse_tensor_dense_matmul(a, normal(2, 4), adjoint_b=True),
        tf.sparse_reduce_sum(a, 1),
        tf.sparse_reduce_sum(a, 0, keepdims=True),
        *_parts(tf.sparse_reorder(tf.SparseTensor([[1, 0], [0, 2]], [5, 6], [2, 3]))),
        *_parts(tf.sparse_reshape(a, [6, -1])),
        *_parts(tf.sparse_concat(1, [a, a])),
        *with_gradients(
            tf,
            lambda v, m: tf.sparse_tensor_dense_matmul(_sparse(tf, v), m),
            np.arange(1.0, 5.0),
            b,
        ),
    ]
    for how in ("sum", "mean", "sqrtn"):
        for weights in (None, a):
            w = tf.constant(normal(5, 2))
            y = tf.nn.embedding_lookup_sparse(w, ids, weights, combiner=how)
            found += [y, tf.convert_to_tensor(tf.gradients(y, w)[0])]
    return found


def _parts(x: Any) -> list[Any]:
    return [x.indices, x.values, x.dense_shape]


@program
def slopes(tf: Any) -> list[Any]:
    """Gradients of first and second order that are made of parts TensorFlow has no ops for."""
    x, images = normal(4, 6), normal(2, 4, 6, 3).astype(np.float32)

    def squared(function: Any) -> Any:
        def both(v: Any) -> Any:
            (slope,) = tf.gradients(function(v), [v])
            return slope * slope

        return both

    unknown = tf.placeholder_with_default(x, [None, None])
    found = list(tf.gradients(tf.reduce_mean(unknown * unknown, 1), [unknown]))
    found += with_gradients(tf, squared(lambda v: tf.nn.elu(v) * tf.nn.relu(v)), x)
    found += with_gradients(tf, lambda v: tf.cumprod(v, 1, exclusive=True, reverse=True), x)
    found += with_gradients(tf, squared(lambda v: tf.cumprod(v, 0)), x)
    found += with_gradients(tf, lambda v: tf.slice(v, [1, 2], [2, -1]), x)
    found += with_gradients(tf, lambda v: tf.tile(v, [2, 3]), x)
    found += with_gradients(tf, lambda v: tf.nn.lrn(v, 1), images)
    found += with_gradients(tf, lambda v: tf.image.resize_nearest_neighbor(v, [7, 3]), images)
    return found


@program
def kinks(tf: Any) -> list[Any]:
    """Gradients where there is none, or many: which one TensorFlow takes.

    Not for cumprod, where its gradient is wrong beside a 0, nor for norms, where it is NaN at 0.
    """
    nn, x = tf.nn, np.array([-1.0, 0.0, 0.0, 1.0, 6.0, 6.0])
    y, rows = (
        np.array([0.0, 0.0, 1.0, 1.0, 6.0, -6.0]),
        np.array([[2.0, 2.0, 1.0], [0.0, 5.0, 5.0]]),
    )
    ids = np.array([0, 0, 1, 1, 1, 0])
    image = np.round(normal(1, 4, 4, 2))
    one = [
        *(nn.relu, nn.relu6, nn.elu, nn.selu, nn.crelu, nn.softsign, nn.softplus),
        *(tf.abs, tf.sign, tf.floor, tf.ceil, tf.round, tf.square, tf.reduce_prod),
        *(tf.reduce_max, tf.reduce_min, tf.nn.l2_loss, tf.sigmoid, tf.log_sigmoid),
        lambda v: nn.leaky_relu(v, 0.25),
        lambda v: tf.clip_by_value(v, 0.0, 6.0),
        lambda v: tf.maximum(v, v) + tf.minimum(v, 0.0) + tf.maximum(np.float64(6), v),
        lambda v: nn.top_k(v, 4)[0],
        lambda v: tf.segment_max(v, np.sort(ids)) - tf.segment_min(v, np.sort(ids)),
        lambda v: tf.unsorted_segment_max(v, ids, 2) - tf.unsorted_segment_min(v, ids, 2),
        lambda v: tf.unsorted_segment_prod(v, ids, 2),
        lambda v: tf.losses.huber_loss(y, v, delta=1.0),
        lambda v: tf.losses.hinge_loss(y, v),
        lambda v: tf.losses.absolute_difference(y, v),
        lambda v: tf.pow(v, 2.0) + tf.pow(v, 1.0),
        lambda v: nn.l2_normalize(v - 6.0),
        lambda v: tf.abs(tf.complex(v, v * 0.0)),
    ]
    two = [
        *(tf.maximum, tf.minimum, tf.squared_difference, tf.div_no_nan, tf.floormod),
        lambda a, b: tf.where(a > 0, a, b),
        lambda a, b: tf.atan2(a, b + 0.5),
    ]
    found = []
    for function in one:
        found += with_gradients(tf, function, x)
    for function in two:
        found += with_gradients(tf, function, x, np.where(y == 0, 2.0, y))
        found += with_gradients(tf, function, x, x + 1e-300)
    found += with_gradients(tf, lambda v: tf.reduce_max(v, 1) + tf.reduce_min(v, 1), rows)
    found += with_gradients(tf, lambda v: tf.reduce_prod(v, 1, keepdims=True), rows)
    pooled = lambda v: nn.max_pool(v, [1, 2, 2, 1], [1, 1, 1, 1], "SAME")  # noqa: E731
    return found + with_gradients(tf, pooled, image)


@program
def extremes(tf: Any) -> list[Any]:
    """Values and gradients at the ends of the range."""
    nn, x = tf.nn, np.array([-1e4, -745.0, -40.0, -1e-8, 1e-8, 40.0, 709.0, 1e4])
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]])
    labels = np.array([[0.0, 1.0, 0.0], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    cross = lambda v: nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=v)  # noqa: E731
    picked = lambda v: nn.sparse_softmax_cross_entropy_with_logits(  # noqa: E731
        labels=[1, 0, 2], logits=v
    )
    signs = np.array([0.0, 1.0] * 4)
    found = []
    for function in (cross, picked, nn.softmax, nn.log_softmax, tf.reduce_logsumexp):
        found += with_gradients(tf, function, logits)
    for function in (
        *(tf.sigmoid, tf.log_sigmoid, tf.tanh, nn.softplus, nn.elu, nn.selu, tf.erf, tf.atan),
        *(tf.asinh, nn.softsign, lambda v: tf.log1p(v * v), lambda v: tf.expm1(-v * v)),
        lambda v: nn.sigmoid_cross_entropy_with_logits(labels=signs, logits=v),
        lambda v: nn.weighted_cross_entropy_with_logits(signs, v, 3.0),
        lambda v: tf.log1p(tf.maximum(v, -1 + 1e-12)),
        lambda v: tf.where(v > 0, tf.log(tf.maximum(v, 1e-300)), v),
    ):
        found += with_gradients(tf, function, x)
    return found
