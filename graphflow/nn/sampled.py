"""Losses over a sample of many classes: noise-contrastive estimation and sampled softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.nn.embedding import embedding_lookup
from graphflow.nn.entropies import (
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits_v2,
)
from graphflow.ops.candidates import log_uniform_candidate_sampler
from graphflow.ops.public import composite


def nce_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = False,
    partition_strategy: str = "mod",
    name: str = "nce_loss",
) -> Tensor:
    """Noise-contrastive estimation: logistic losses of the true classes and of sampled ones.

    Args:
      weights: [num_classes, d], a tensor or variable, or a list of parts of it.
      biases: [num_classes].
      labels: int64 [batch, num_true], the true classes.
      inputs: [batch, d].
      num_sampled: how many classes to draw for the batch.
      num_classes: how many there are.
      num_true: how many are true for each example.
      sampled_values: what a candidate sampler returned; by default log-uniform and unique.
      remove_accidental_hits: do not count sampled classes that are true ones.
      partition_strategy: as of `embedding_lookup`.
      name: name scope of the operations.

    Returns:
      [batch], one loss per example.
    """
    with composite(name, "nce_loss", inputs):
        logits, targets = _sampled_logits(
            weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values,
            remove_accidental_hits, partition_strategy, None,
        )  # fmt: skip
        losses = sigmoid_cross_entropy_with_logits(
            labels=targets, logits=logits, name="sampled_losses"
        )
        return ops.reduce_sum(losses, axis=1)


def sampled_softmax_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = True,
    partition_strategy: str = "mod",
    name: str = "sampled_softmax_loss",
    seed: int | None = None,
) -> Tensor:
    """Softmax cross-entropy over the true classes and sampled ones.

    For training: it is, in general, less than the full softmax loss.

    Args:
      seed: of the default sampler; the others are those of `nce_loss`.

    Returns:
      [batch], one loss per example.
    """
    with composite(name, "sampled_softmax_loss", inputs):
        logits, targets = _sampled_logits(
            weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values,
            remove_accidental_hits, partition_strategy, seed,
        )  # fmt: skip
        return softmax_cross_entropy_with_logits_v2(
            labels=ops.stop_gradient(targets), logits=logits
        )


def _sampled_logits(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int,
    sampled_values: Any,
    remove_hits: bool,
    strategy: str,
    seed: int | None,
) -> tuple[Tensor, Tensor]:
    """Logits [batch, num_true + num_sampled], less the logs of how often classes are drawn; and
    their targets, which sum to 1 per example."""
    if num_true < 1:
        raise GraphError(f"num_true must be >= 1, not {num_true}")
    true = as_tensor(labels)
    true = true if true.dtype is dtypes.int64 else ops.cast(true, dtypes.int64)
    flat = ops.reshape(true, [-1])
    if sampled_values is None:
        sampled_values = log_uniform_candidate_sampler(
            true, num_true, num_sampled, True, num_classes, seed
        )
    sampled, of_true, of_sampled = [ops.stop_gradient(v) for v in sampled_values]
    sampled = ops.cast(sampled, dtypes.int64)
    x = as_tensor(inputs)
    ids = ops.concat([flat, sampled], 0)
    rows = ops.cast(embedding_lookup(weights, ids, strategy), x.dtype)
    offsets = ops.cast(embedding_lookup(biases, ids, strategy), x.dtype)
    count = ops.shape(flat)[0]
    own = ops.reshape(rows[:count], ops.concat([[-1, num_true], ops.shape(rows)[1:2]], 0))
    true_logits = ops.reduce_sum(ops.expand_dims(x, 1) * own, axis=2)
    true_logits += ops.reshape(offsets[:count], [-1, num_true])
    logits = ops.matmul(x, rows[count:], transpose_b=True) + offsets[count:]
    if remove_hits:
        hits = ops.reduce_any(ops.equal(ops.expand_dims(true, 2), sampled), axis=1)
        lowest = np.asarray(-np.finfo(np.float32).max, x.dtype.np)
        logits += ops.cast(hits, x.dtype) * lowest
    true_logits -= ops.log(ops.cast(of_true, x.dtype))
    logits -= ops.log(ops.cast(of_sampled, x.dtype))
    targets = [ops.ones_like(true_logits) / num_true, ops.zeros_like(logits)]
    return ops.concat([true_logits, logits], 1), ops.concat(targets, 1)
