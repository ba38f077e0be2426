"""Programs of learning rates, moving averages and losses of sequences; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal, with_gradients

PROGRAMS = Programs(runs=3)
program = PROGRAMS.register


@program
def learning_rates(tf: Any) -> list[Any]:
    found = []
    for number in (0, 1, 9, 10, 11, 25, 40):
        step = tf.constant(number, tf.int64)
        for staircase in (False, True):
            found += [
                tf.train.exponential_decay(0.1, step, 10, 0.7, staircase),
                tf.train.natural_exp_decay(0.1, step, 10, 0.7, staircase),
                tf.train.inverse_time_decay(0.1, step, 10, 0.7, staircase),
                tf.train.polynomial_decay(0.1, step, 10, 0.01, 0.5, staircase),
            ]
        found += [
            tf.train.cosine_decay(0.1, step, 20, 0.1),
            tf.train.linear_cosine_decay(0.1, step, 20),
            tf.train.piecewise_constant(step, [10, 25], [1.0, 0.5, 0.1]),
        ]
        if number not in (10, 40):  # there rounding decides which period it is
            found += [
                tf.train.cosine_decay_restarts(0.1, step, 7, 2.0, 0.9, 0.1),
                tf.train.cosine_decay_restarts(0.1, step, 7, 1.0),
            ]
    return found


@program
def moving_averages(tf: Any) -> list[Any]:
    with tf.variable_scope("s", use_resource=True):
        w = tf.get_variable("w", initializer=np.array([1.0, -2.0], np.float32))
        n = tf.get_variable("n", initializer=0.0, trainable=False)
    changed = [w.assign_add([0.5, 1.0]), n.assign_add(1.0)]
    slow = tf.train.ExponentialMovingAverage(0.9)
    fast = tf.train.ExponentialMovingAverage(0.99, num_updates=n, name="fast")
    with tf.control_dependencies(changed):
        value = w.read_value() * 2.0
        updates = [slow.apply(), fast.apply([w])]
    with tf.control_dependencies(updates):
        shadows = [slow.average(w), fast.average(w)]
        return [value, *[s.read_value() for s in shadows], tf.constant(slow.average_name(w))]


@program
def sequence_losses(tf: Any) -> list[Any]:
    if not hasattr(tf, "contrib"):  # the tables' values are those of the definition
        return _defined(tf)
    x, labels, w = _sequences()
    found = []
    for time in (True, False):
        for batch in (True, False):
            found += with_gradients(
                tf,
                lambda v, t=time, b=batch: tf.contrib.seq2seq.sequence_loss(v, labels, w, t, b),
                x,
            )
    return found


def _sequences() -> Any:
    return normal(3, 4, 5), np.arange(12).reshape(3, 4) % 5, np.tril(np.ones((3, 4)))


def _defined(tf: Any) -> list[Any]:
    x, labels, w = _sequences()
    found = []
    for time in (True, False):
        for batch in (True, False):
            axes = [i for i, on in enumerate((batch, time)) if on]

            def loss(v: Any, axes: Any = axes) -> Any:
                each = w * tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=v)
                if not axes:
                    return each
                return tf.reduce_sum(each, axes) / (np.sum(w, tuple(axes)) + 1e-12)

            found += with_gradients(tf, loss, x)
    return found


@program
def learned_candidates(tf: Any) -> list[Any]:
    true = np.array([[1, 7], [7, 0], [7, 7]])
    return [
        *tf.nn.learned_unigram_candidate_sampler(true, 2, 5, True, 9, seed=2),
        *tf.nn.learned_unigram_candidate_sampler(true, 2, 12, False, 9, seed=3),
        *tf.nn.all_candidate_sampler(true, 2, 9, True),
    ]
