"""Programs of special functions, morphology and grouped convolution; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal, uniform, with_gradients

PROGRAMS = Programs()
program = PROGRAMS.register


@program
def bessel(tf: Any) -> list[Any]:
    x = np.concatenate([normal(2, 9).ravel() * 4, [80.0, -80.0]])
    found = []
    for name in ("bessel_i0", "bessel_i0e", "bessel_i1", "bessel_i1e"):
        function = getattr(tf.math, name)
        found += with_gradients(tf, function, x)
        found.append(function(x.astype(np.float32)[:18]))
    return found


@program
def incomplete_gamma(tf: Any) -> list[Any]:
    a = np.array([0.1, 0.1, 1.0, 2.0, 5.0, 50.0, 50.0, 0.01, 3.0, 1.5])
    x = np.array([0.05, 2.0, 1.0, 2.1, 11.0, 40.0, 60.0, 1e-5, 1.5, 9.0])
    found = with_gradients(tf, tf.igamma, a, x) + with_gradients(tf, tf.igammac, a, x)
    found += with_gradients(tf, lambda p, q: tf.igamma(p[:, None], q), a, x)
    return [*found, tf.igamma(a.astype(np.float32), x.astype(np.float32))]


@program
def inverses(tf: Any) -> list[Any]:
    p = np.array([0.001, 0.2, 0.5, 0.7, 0.99])
    x, y = np.array([0.0, 1.0, -2.0, 0.0]), np.array([3.0, 0.5, 2.0, np.inf])
    return [
        *with_gradients(tf, tf.math.ndtri, p),
        *with_gradients(tf, tf.math.erfcinv, 2 * p),
        *with_gradients(tf, tf.math.xlog1py, x[:3], y[:3]),
        tf.math.xlog1py(x, y),
    ]


@program
def morphology(tf: Any) -> list[Any]:
    x, kernel = normal(2, 6, 5, 3), normal(3, 2, 3, seed=1)
    found = []
    for padding in ("SAME", "VALID"):
        for strides, rates in (((1, 1), (1, 1)), ((2, 1), (1, 2))):
            window = [1, *strides, 1], [1, *rates, 1], padding
            for function in (tf.nn.dilation2d, tf.nn.erosion2d):
                found += with_gradients(
                    tf, lambda a, b, f=function, w=window: f(a, b, *w), x, kernel
                )
    ties = np.zeros([1, 3, 3, 1])
    return [
        *found,
        *with_gradients(
            tf, lambda a: tf.nn.dilation2d(a, np.zeros([2, 2, 1]), [1] * 4, [1] * 4, "SAME"), ties
        ),
    ]


@program
def grouped_convolution(tf: Any) -> list[Any]:
    x, w = uniform(2, 5, 6, 6), uniform(3, 2, 2, 9, seed=1)
    found = []
    for options in (
        {"strides": 1, "padding": "SAME"},
        {"strides": [1, 2, 1, 1], "padding": "VALID"},
        {"strides": 1, "padding": [[0, 0], [1, 0], [2, 1], [0, 0]]},
    ):
        found.append(tf.nn.conv2d(x, w, **options))
    return found


@program
def identities(tf: Any) -> list[Any]:
    return [
        tf.eye(3),
        tf.eye(2, 4, dtype=tf.int64),
        tf.eye(2, num_columns=1, batch_shape=[2, 1], dtype=tf.complex64),
        tf.get_variable("v", [3, 2], initializer=tf.initializers.identity(2.0)).initial_value,
    ]
