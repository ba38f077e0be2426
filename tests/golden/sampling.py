"""Programs of random ops whose streams are TensorFlow's; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal

PROGRAMS = Programs(runs=3, ulp=4)
program = PROGRAMS.register

ALPHA = np.array([0.2, 0.9, 1.0, 1.5, 30.0])
RATES = np.array([0.0, 0.1, 3.0, 9.9, 10.0, 50.0, 1e5])


@program
def uniforms(tf: Any) -> list[Any]:
    return [
        tf.random_uniform([3, 5], seed=1),
        tf.random_uniform([7], -2.0, 3.0, tf.float64, seed=2),
        tf.random_uniform([9], -5, 1000, tf.int64, seed=3),
        tf.random_uniform([9], maxval=7, dtype=tf.int32, seed=4),
        tf.random_shuffle(np.arange(22).reshape(11, 2), seed=5),
    ]


@program
def normals(tf: Any) -> list[Any]:
    return [
        tf.random_normal([3, 5], 1.0, 0.5, seed=1),
        tf.random_normal([7], dtype=tf.float64, seed=2),
        tf.truncated_normal([50], seed=3),
        tf.truncated_normal([7], dtype=tf.float16, seed=4),
    ]


@program
def initializers(tf: Any) -> list[Any]:
    kinds = [
        tf.glorot_uniform_initializer(seed=2),
        tf.variance_scaling_initializer(seed=4, distribution="uniform"),
        tf.random_uniform_initializer(-1.0, 2.0, seed=5),
    ]
    return [kind([4, 6]) for kind in kinds]


@program
def dropouts(tf: Any) -> list[Any]:
    x = tf.constant(normal(6, 7).astype(np.float32))
    y = tf.nn.dropout(x, keep_prob=0.6, seed=7)
    return [
        y,
        *tf.gradients(y, [x]),
        tf.nn.dropout(x, rate=0.3, noise_shape=[6, 1], seed=8),
        tf.nn.dropout(tf.cast(x, tf.float64), rate=0.9, seed=9),
    ]


@program
def gammas(tf: Any) -> list[Any]:
    return [
        tf.random_gamma([50], ALPHA.astype(np.float32), seed=3),
        tf.random_gamma([2, 9], ALPHA, beta=ALPHA[:1] * 7, dtype=tf.float64, seed=4),
        tf.random_gamma([5], 0.5, dtype=tf.float16, seed=4),
    ]


@program
def poissons(tf: Any) -> list[Any]:
    return [
        tf.random_poisson(RATES.astype(np.float32), [50], seed=7),
        tf.random_poisson(RATES, [3, 5], dtype=tf.int64, seed=8),
    ]


@program
def categories(tf: Any) -> list[Any]:
    logits = np.array([[1.0, 2.0, 3.0, -np.inf], [0.0, 0.0, 0.0, 0.0]], np.float32)
    return [
        tf.multinomial(logits, 33, seed=9),
        tf.multinomial(normal(3, 5), 7, output_dtype=tf.int32, seed=1),
        tf.random_crop(np.arange(100).reshape(10, 10), [3, 4], seed=6),
    ]


@program
def candidates(tf: Any) -> list[Any]:
    true = np.array([[1, 4], [0, 8], [3, 3]], np.int64)
    return [
        *tf.nn.log_uniform_candidate_sampler(true, 2, 6, True, 20, seed=2),
        *tf.nn.log_uniform_candidate_sampler(true, 2, 6, False, 2000, seed=3),
        *tf.nn.uniform_candidate_sampler(true, 2, 9, True, 9, seed=4),
        *tf.nn.uniform_candidate_sampler(true, 2, 5, False, 16, seed=5),
        *tf.nn.fixed_unigram_candidate_sampler(
            true, 2, 5, True, 9, unigrams=[3, 1, 2, 2, 4, 1, 1, 2, 5], distortion=0.75, seed=6
        ),
    ]
