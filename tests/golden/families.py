"""Programs of what completes the families of ops: sparse tensors, histograms, patches, edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal, uniform, with_gradients

PROGRAMS = Programs()
program = PROGRAMS.register


def _parts(x: Any) -> list[Any]:
    return [x.indices, x.values, x.dense_shape]


def _a(tf: Any, values: Any = None) -> Any:
    values = np.array([1.0, -2.0, 3.0, 4.0]) if values is None else values
    return tf.SparseTensor([[0, 0], [0, 3], [1, 1], [3, 2]], values, [4, 5])


@program
def sparse_tensors(tf: Any) -> list[Any]:
    a = _a(tf)
    b = tf.SparseTensor([[0, 1], [0, 3], [3, 2]], np.array([5.0, 2.0, 1.0]), [4, 5])
    ids = tf.SparseTensor([[0, 0], [0, 1], [2, 0]], np.array([3, 1, 0]), [3, 2])
    filled, empty = tf.sparse_fill_empty_rows(a, -1.0)
    found = [
        *_parts(tf.sparse_add(a, b)),
        tf.sparse_add(a, tf.ones([4, 5], tf.float64)),
        *_parts(tf.sparse_retain(a, [True, False, False, True])),
        *_parts(tf.sparse_slice(a, [0, 1], [2, 9])),
        *_parts(tf.sparse_transpose(a)),
        *_parts(tf.sparse_reset_shape(a)),
        *_parts(tf.sparse_reset_shape(a, [7, 8])),
        *_parts(filled),
        empty,
        *_parts(tf.sparse_softmax(a)),
        tf.sparse_to_indicator(ids, 4),
        *_parts(tf.sparse_merge(ids, tf.SparseTensor(ids.indices, [1.0, 2.0, 3.0], [3, 2]), 4)),
        *_parts(tf.sparse.from_dense([[0, 1], [2, 0]])),
        *_parts(tf.sparse.eye(2, 3)),
    ]
    for part in tf.sparse_split(sp_input=a, num_split=2, axis=1):
        found += _parts(part)
    found += with_gradients(
        tf, lambda v: tf.sparse_tensor_to_dense(tf.sparse_add(_a(tf, v), b)), np.arange(1.0, 5.0)
    )[:1]
    return found


@program
def sparse_segments(tf: Any) -> list[Any]:
    data, rows, ids = normal(5, 2), [4, 0, 0, 2], [0, 0, 2, 2]
    found = []
    for name in ("sum", "mean", "sqrt_n"):
        function = getattr(tf, f"sparse_segment_{name}")
        found += with_gradients(tf, lambda x, f=function: f(x, rows, ids), data)
        found.append(function(data, rows, ids, num_segments=4))
    return found


@program
def histograms(tf: Any) -> list[Any]:
    values = np.array([-1.0, 0.0, 1.5, 2.0, 5.0, 15.0])
    return [
        tf.histogram_fixed_width(values, np.array([0.0, 5.0]), 5),
        tf.histogram_fixed_width(values.astype(np.float32), [0.0, 5.0], 7, tf.int64),
        tf.histogram_fixed_width_bins(values.reshape(2, 3), np.array([0.0, 5.0]), 5),
        tf.histogram_fixed_width(np.array([1, 4, 9, 9]), np.array([0, 10]), 4),
    ]


@program
def products(tf: Any) -> list[Any]:
    a, z = normal(2, 3, 4), normal(2, 3) + 1j * normal(2, 3, seed=1)
    low, coefficients = normal(4, 2) @ normal(2, 3), [np.float64(c) for c in (2, 0, -1)]
    return [
        *with_gradients(tf, tf.linalg.matvec, a, normal(2, 4)),
        tf.linalg.matvec(a, normal(2, 3), transpose_a=True),
        tf.linalg.adjoint(z),
        *tf.linalg.normalize(a, axis=1),
        tf.linalg.pinv(a),
        tf.linalg.pinv(low),
        *with_gradients(tf, lambda x: tf.math.polyval(coefficients, x), normal(5)),
        tf.math.reciprocal_no_nan(np.array([2.0, 0.0, -4.0])),
        tf.math.multiply_no_nan(np.array([np.nan, np.inf, 2.0]), np.array([0.0, 0.0, 3.0])),
    ]


@program
def patches(tf: Any) -> list[Any]:
    x = normal(2, 6, 7, 3)
    found = []
    for padding in ("SAME", "VALID"):
        for size, step, rate in (((3, 2), (1, 1), (1, 1)), ((2, 3), (2, 3), (1, 2))):
            window = [1, *size, 1], [1, *step, 1], [1, *rate, 1], padding
            found += with_gradients(tf, lambda v, w=window: tf.extract_image_patches(v, *w), x)
    return found


@program
def edges(tf: Any) -> list[Any]:
    x = uniform(2, 5, 6, 3)
    found = with_gradients(tf, tf.image.sobel_edges, x)
    found += tf.image.image_gradients(tf.constant(x))
    for name in ("rgb_to_yiq", "yiq_to_rgb", "rgb_to_yuv", "yuv_to_rgb"):
        found += with_gradients(tf, getattr(tf.image, name), x)
    return found


@program
def boxes(tf: Any) -> list[Any]:
    corners = np.array(
        [[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1],
         [1, 101, 0, 100], [0, 0, 0, 0]], np.float32,
    )  # fmt: skip
    scores = np.array([0.9, 0.75, 0.6, 0.95, 0.5, 0.3, 0.2], np.float32)
    return [
        tf.image.non_max_suppression(corners, scores, 9, 0.5),
        tf.image.non_max_suppression(corners, scores, 2, 0.5),
        tf.image.non_max_suppression(corners, scores, 9, 0.9, 0.55),
        tf.image.non_max_suppression(corners[:0], scores[:0], 9),
    ]


@program
def templates(tf: Any) -> list[Any]:
    def affine(x: Any, name: str) -> Any:
        w = tf.get_variable(name, initializer=[2.0, 3.0], use_resource=True)
        return x * w

    first = tf.make_template("affine", affine, name="w")
    second = tf.make_template("affine", affine, name="w")
    total = first(1.0) + first(10.0) + second(100.0)
    return [total, tf.constant([v.name for v in tf.global_variables()])]


@program
def questions(tf: Any) -> list[Any]:
    table = tf.constant(normal(6, 2))
    ids = tf.SparseTensor([[0, 0], [0, 1], [2, 0], [3, 0]], np.array([1, 5, -1, 2]), [5, 2])
    weights = tf.SparseTensor(ids.indices, np.array([1.0, 2.0, 1.0, 0.0]), [5, 2])
    safe = tf.nn.safe_embedding_lookup_sparse
    return [
        safe(table, ids),
        safe(table, ids, default_id=3),
        safe(table, ids, weights, "sqrtn"),
        safe(table, ids, weights, "sum"),
        tf.is_non_decreasing([1, 1, 3]),
        tf.is_strictly_increasing([1, 1, 3]),
        tf.verify_tensor_all_finite(tf.constant([1.0]), "finite"),
        tf.nn.silu(normal(4)),
    ]


@program
def kinds(tf: Any) -> list[Any]:
    """Dtypes and values at the edge of what an op takes."""
    x = np.array([[1.0, np.nan, 3.0], [np.nan, 2.0, -1.0], [np.nan, np.nan, np.nan]])
    truth = np.array([[True, False, True], [True, True, False]])
    short = tf.cast(np.array([[-1.5, 0.25], [2.0, -0.5]]), tf.bfloat16)
    return [
        tf.argmax(x, 1),
        tf.argmin(x, 1),
        tf.argmax(x.astype(np.float16), 0),
        tf.argmax(truth, 1),
        tf.matrix_band_part(truth, 0, 0),
        tf.matrix_diag(truth),
        tf.matrix_diag_part(truth),
        tf.eye(2, dtype=tf.bool),
        tf.pad([["a"], ["b"]], [[1, 0], [0, 1]]),
        tf.imag(np.array([1, 2])),
        tf.cast(tf.nn.leaky_relu(short), tf.float32),
        tf.cast(tf.matmul(short, short), tf.float32),
    ]
