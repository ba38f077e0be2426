"""The loss of sequences of logits: TensorFlow's `tf.contrib.seq2seq.sequence_loss`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow import ops
from graphflow.build import Tensor, as_tensor
from graphflow.nn.entropies import sparse_softmax_cross_entropy_with_logits
from graphflow.ops.public import composite
from graphflow.ops.rules import rank_is


def sequence_loss(
    logits: Any,
    targets: Any,
    weights: Any,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Tensor:
    """Weighted cross-entropy of sequences, divided by the weights that it is averaged over.

    Args:
      logits: [batch, time, classes].
      targets: integers [batch, time].
      weights: [batch, time]; 0 where a sequence has ended.
      average_across_timesteps, average_across_batch: what to sum and divide over.
      softmax_loss_function: in place of the cross-entropy; called with `labels` and `logits`.

    Returns:
      A scalar; [batch] or [time] where it is not averaged over that; [batch, time].

    Raises:
      ValueError: ranks differ from these.
    """
    with composite(name, "sequence_loss", logits, targets, weights):
        x, labels, w = as_tensor(logits), as_tensor(targets), as_tensor(weights)
        rank_is(x, 3, "the logits of a sequence loss")
        rank_is(labels, 2, "the targets of a sequence loss")
        rank_is(w, 2, "the weights of a sequence loss")
        flat = ops.reshape(x, [-1, ops.shape(x)[2]])
        flat.set_shape([None, x.dims[2] if x.dims else None])
        function = softmax_loss_function or sparse_softmax_cross_entropy_with_logits
        loss = ops.reshape(function(labels=ops.reshape(labels, [-1]), logits=flat), ops.shape(w))
        loss = loss * w
        pairs = ((average_across_batch, 0), (average_across_timesteps, 1))
        axes = [axis for wanted, axis in pairs if wanted]
        if not axes:
            return loss
        return ops.reduce_sum(loss, axes) / (ops.reduce_sum(w, axes) + 1e-12)
