"""Programs of what is computed from random numbers; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal

PROGRAMS = Programs(runs=2)
program = PROGRAMS.register


@program
def losses(tf: Any) -> list[Any]:
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


@program
def orthogonal(tf: Any) -> list[Any]:
    made = tf.orthogonal_initializer(gain=2.0, seed=3)
    return [made([5, 3]), made([2, 2, 7], dtype=tf.float64)]


@program
def slopes_of_gammas(tf: Any) -> list[Any]:
    alpha, beta = tf.constant([0.3, 1.0, 2.5, 40.0], tf.float64), tf.constant(1.7, tf.float64)
    a, x = tf.constant([[0.2], [3.0], [60.0]]), tf.constant([0.1, 2.5, 70.0])
    y = tf.random_gamma([3, 2], alpha, beta, tf.float64, seed=6)
    z = tf.igamma(a, x) - 2 * tf.igammac(a, x)
    return [*tf.gradients(tf.sin(y), [alpha, beta]), *tf.gradients(z, [a, x])]
