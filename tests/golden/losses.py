"""Programs of `tf.losses` and `tf.metrics`; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal, uniform, with_gradients

PROGRAMS = Programs()
program = PROGRAMS.register


@program
def weighted_losses(tf: Any) -> list[Any]:
    labels, a = np.round(uniform(4, 3)), normal(4, 3, seed=1).astype(np.float32)
    w = np.array([[1.0], [0.0], [2.0], [0.5]])
    inside = uniform(4, 3, seed=2).astype(np.float32)
    found = []
    for name in [
        "absolute_difference",
        "mean_squared_error",
        "huber_loss",
        "hinge_loss",
        "sigmoid_cross_entropy",
    ]:
        function = getattr(tf.losses, name)
        found += with_gradients(tf, lambda x, f=function: f(labels, x), a)
        found += with_gradients(tf, lambda x, f=function: f(labels, x, w), a)
    found += with_gradients(tf, lambda x: tf.losses.log_loss(labels, x, w), inside)
    found += with_gradients(tf, lambda x: tf.losses.cosine_distance(inside, x, 1, w), a)
    found += with_gradients(
        tf, lambda x: tf.losses.softmax_cross_entropy(labels, x, w[:, 0], label_smoothing=0.1), a
    )
    found += with_gradients(
        tf, lambda x: tf.losses.sparse_softmax_cross_entropy([[0], [1], [2], [1]], x, w), a
    )
    found += with_gradients(tf, lambda x: tf.losses.mean_pairwise_squared_error(inside, x), a)
    found.append(tf.losses.get_total_loss())
    for reduction in sorted(set(tf.losses.Reduction.all())):
        found.append(tf.losses.absolute_difference(inside, a, w, reduction=reduction))
    return found


@program
def metrics(tf: Any) -> list[Any]:
    labels = tf.constant([0, 1, 1, 0, 1, 0], tf.int64)
    p = tf.constant([0.1, 0.7, 0.4, 0.6, 0.9, 0.2])
    w = tf.constant([1.0, 0.5, 2.0, 1.0, 0.0, 3.0])
    m, floats, hard = tf.metrics, tf.cast(labels, tf.float32), tf.cast(tf.round(p), tf.int64)
    pairs = [m.mean(p), m.mean(p, w), m.accuracy(labels, hard), m.accuracy(labels, hard, w)]
    for name in ["mean_absolute_error", "mean_squared_error", "root_mean_squared_error"]:
        pairs.append(getattr(m, name)(floats, p, w))
    for name in ["precision", "recall", "true_positives", "false_negatives", "false_positives"]:
        pairs.append(getattr(m, name)(labels, hard, w))
    pairs += [m.auc(labels, p, w), m.auc(labels, p, curve="PR"), m.mean_iou(labels, hard, 3, w)]
    pairs += [m.mean_per_class_accuracy(labels, hard, 3), m.percentage_below(p, 0.5, w)]
    pairs += [m.mean_relative_error(floats, p, p, w), m.mean_tensor(p, w)]
    pairs.append(m.mean_cosine_distance(tf.reshape(floats, [3, 2]), tf.reshape(p, [3, 2]), 1))
    return [update for _, update in pairs]
