"""Programs that tests run in one process and on workers, to compare."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any
from unittest import mock

import numpy as np

import graphflow as tf
from graphflow.ops.collectives import all_reduce


def train(
    cluster: Any,
    steps: int,
    scopes: tuple[str | None, str | None] = (None, None),
    on_step: Any = None,
    tier: str = "reference",
) -> tuple[list[Any], list[Any]]:
    """Losses and weights of a small network, trained by Adam with dropout.

    Args:
      cluster: where to run; None: in this process.
      scopes: devices of the first and the second layer; ignored without a cluster.
      on_step: called with the session after each step.
      tier: that of all steps; the clock may not decide.
    """
    here = scopes if cluster is not None else (None, None)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(steps, 16, 20)).astype(np.float32)
    labels = rng.integers(0, 5, size=(steps, 16)).astype(np.int32)
    tf.set_random_seed(7)
    x = tf.placeholder(tf.float32, [None, 20])
    y = tf.placeholder(tf.int32, [None])
    with _device(here[0]):
        w1 = tf.Variable(rng.normal(size=(20, 32)).astype(np.float32), name="w1")
        b1 = tf.Variable(np.zeros(32, np.float32), name="b1")
        hidden = tf.nn.dropout(tf.nn.relu(tf.matmul(x, w1) + b1), keep_prob=0.8, seed=3)
    with _device(here[1]):
        w2 = tf.Variable(rng.normal(size=(32, 5)).astype(np.float32), name="w2")
        logits = tf.matmul(hidden, w2)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        )
    step = tf.train.AdamOptimizer(0.01).minimize(loss)
    variables = [w1, b1, w2]
    losses = []
    config = tf.ConfigProto(deterministic=True, intra_op_parallelism_threads=1)
    with mock.patch.dict(os.environ, GRAPHFLOW_TIER=tier):
        session = tf.Session(cluster=cluster, seed=11, config=config)
    with session:
        session.run(tf.global_variables_initializer())
        for image, label in zip(images, labels, strict=True):
            losses.append(session.run([loss, step], {x: image, y: label})[0])
            if on_step is not None:
                on_step(session)
        return losses, session.run(variables)


def summed(
    cluster: Any, steps: int, on_step: Any = None, size: int = 7
) -> tuple[list[Any], list[Any]]:
    """Losses and weights of two replicas that sum their gradients in each step.

    Args:
      cluster, steps, on_step: as for `train`.
      size: of the weights.
    """
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(steps, 2, size)).astype(np.float32)
    start = rng.normal(size=size).astype(np.float32)
    x = tf.placeholder(tf.float32, [2, size])
    scopes = [f"/job:worker/task:{i}" if cluster is not None else None for i in range(2)]
    copies, gradients, losses = [], [], []
    for i, scope in enumerate(scopes):
        with _device(scope):
            copies.append(tf.Variable(start))
            error = tf.tanh(copies[i] * x[i]) - 0.3
            losses.append(tf.reduce_sum(error * error))
            gradients.append(tf.gradients(losses[i], copies[i])[0])
    updates = []
    for i, total in enumerate(all_reduce(gradients)):
        with _device(scopes[i]):
            updates.append(copies[i].assign_sub(total * 0.1).op)
    found = []
    with mock.patch.dict(os.environ, GRAPHFLOW_TIER="reference"):
        session = tf.Session(cluster=cluster, seed=11)
    with session:
        session.run(tf.global_variables_initializer())
        for given in inputs:
            found += session.run([*losses, *updates], {x: given})[:2]
            if on_step is not None:
                on_step(session)
        return found, session.run(copies)


def same(found: tuple[list[Any], list[Any]], wanted: tuple[list[Any], list[Any]]) -> None:
    """Two such results have the same bits."""
    np.testing.assert_array_equal(found[0], wanted[0])
    for one, other in zip(found[1], wanted[1], strict=True):
        np.testing.assert_array_equal(one, other)


def impatient(session: Any, seconds: float) -> None:
    """Have a session take workers for frozen after so many seconds from its next run on: it was
    opened with more patience, as it takes longer on a busy machine."""
    conductor = session.target.conductor
    conductor._deadline = conductor._watch.deadline = seconds
    conductor._stalls.patience = seconds / 2


def _device(name: str | None) -> Any:
    return tf.device(name) if name is not None else nullcontext()
