"""Programs of random ops whose streams are TensorFlow's; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal

PROGRAMS = Programs(runs=2)
program = PROGRAMS.register

ALPHA = np.array([0.2, 0.9, 1.0, 1.5, 30.0])
RATES = np.array([0.0, 0.1, 3.0, 9.9, 10.0, 50.0, 1e5])


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


@program
def sampled_losses(tf: Any) -> list[Any]:
    weights, biases = normal(30, 4).astype(np.float32), normal(30).astype(np.float32)
    inputs, labels = normal(3, 4).astype(np.float32), np.array([[3], [0], [29]])
    w, b, x = tf.constant(weights), tf.constant(biases), tf.constant(inputs)
    drawn = tf.nn.log_uniform_candidate_sampler(labels, 1, 7, True, 30, seed=3)
    nce = tf.nn.nce_loss(w, b, labels, x, 7, 30, sampled_values=drawn)
    soft = tf.nn.sampled_softmax_loss(w, b, labels, x, 7, 30, seed=5)
    parts = tf.nn.sampled_softmax_loss(
        [w[:15], w[15:]], [b[:15], b[15:]], labels, x, 7, 30, seed=5, partition_strategy="div"
    )
    found = [nce, soft, parts]
    for y in (nce, soft):
        found += [tf.convert_to_tensor(g) for g in tf.gradients(y, [w, b, x])]
    return found
