"""Cross-entropies and other losses, one number per example."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.activations import relu
from graphflow.ops.casting import cast
from graphflow.ops.compare import greater_equal, less_equal, logical_and
from graphflow.ops.conditions import where
from graphflow.ops.elementary import exp, log, log1p
from graphflow.ops.filling import zeros_like
from graphflow.ops.joining import concat
from graphflow.ops.math import abs as absolute
from graphflow.ops.public import composite, renamed
from graphflow.ops.rules import axis_in, merge_dims
from graphflow.ops.shape_ops import reshape, shape, transpose
from graphflow.ops.sources import identity, stop_gradient


def softmax_cross_entropy_with_logits_v2(
    labels: Any,
    logits: Any,
    axis: Any = None,
    name: str | None = None,
    dim: Any = None,
) -> Tensor:
    """-sum(labels * log(softmax(logits))) along an axis, without overflow.

    Args:
      labels: probabilities, of the shape of the logits; they must sum to 1 along the axis.
        Gradients flow into them.
      logits: floating; float16 and bfloat16 are computed in float32.
      axis: that of the classes, by default the last.

    Returns:
      The losses: the shape of the logits without that axis.
    """
    axis = renamed(axis, dim, "axis", "dim", -1)
    with composite(name, "softmax_cross_entropy_with_logits", logits, labels) as scope:
        logits = as_tensor(logits, name="logits")
        labels = as_tensor(labels, None if hasattr(labels, "dtype") else logits.dtype, "labels")
        if _rank(logits) == _rank(labels):  # else, as in TensorFlow, only the rows must agree
            merge_dims(logits.dims, labels.dims, "logits and labels")
        wide = _classes_last(_wide(logits), axis)
        labels = _classes_last(cast(labels, wide.dtype), axis)
        losses = OPS["SoftmaxCrossEntropyWithLogits"](_rows(wide), _rows(labels), name=scope)[0]
        return cast(_like_outer(losses, wide), logits.dtype)


def softmax_cross_entropy_with_logits(
    _sentinel: Any = None,
    labels: Any = None,
    logits: Any = None,
    dim: Any = -1,
    name: str | None = None,
    axis: Any = None,
) -> Tensor:
    """As `softmax_cross_entropy_with_logits_v2`, with no gradient into the labels."""
    _named_only("softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    with composite(name, "softmax_cross_entropy_with_logits_sg", logits, labels):
        logits = as_tensor(logits, name="logits")
        labels = as_tensor(labels, None if hasattr(labels, "dtype") else logits.dtype, "labels")
        return softmax_cross_entropy_with_logits_v2(
            stop_gradient(labels, name="labels_stop_gradient"),
            logits,
            dim if axis is None else axis,
        )


def sparse_softmax_cross_entropy_with_logits(
    _sentinel: Any = None,
    labels: Any = None,
    logits: Any = None,
    name: str | None = None,
) -> Tensor:
    """-log(softmax(logits)[label]) per example, without overflow.

    Args:
      labels: the class of each example, int32 or int64, of the shape of the logits without
        their last axis.
      logits: floating; float16 and bfloat16 are computed in float32.

    Returns:
      The losses, of the shape of the labels.

    Raises:
      ValueError: the ranks do not fit. InvalidArgumentError when run: a label is out of range.
    """
    _named_only("sparse_softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    with composite(name, "SparseSoftmaxCrossEntropyWithLogits", logits, labels):
        logits, labels = as_tensor(logits), as_tensor(labels)
        if logits.dims is not None and labels.dims is not None:
            if len(logits.dims) != len(labels.dims) + 1:
                raise ShapeError(
                    "logits need one axis more than labels, the classes: logits "
                    f"{format_dims(logits.dims)}, labels {format_dims(labels.dims)}"
                )
            merge_dims(logits.dims[:-1], labels.dims, "logits without classes, and labels")
        wide = _wide(logits)
        flat = labels if _rank(labels) == 1 else reshape(labels, [-1])
        losses = OPS["SparseSoftmaxCrossEntropyWithLogits"](_rows(wide), flat, name=name)[0]
        if _rank(labels) != 1:
            losses = reshape(losses, shape(labels))
        return cast(losses, logits.dtype)


def _named_only(function: str, sentinel: Any, labels: Any, logits: Any) -> None:
    if sentinel is not None:
        raise GraphError(f"{function} takes its arguments by name: labels=..., logits=...")
    if labels is None or logits is None:
        raise GraphError(f"{function} needs both labels and logits")


def _rank(x: Tensor) -> int | None:
    return None if x.dims is None else len(x.dims)


def _wide(x: Tensor) -> Tensor:
    """Half precision in float32: sums of exponentials overflow there."""
    return cast(x, dtypes.float32) if x.dtype.size == 2 else x


def _to_end(x: Tensor, axis: Any) -> tuple[int, ...] | None:
    """The permutation that brings an axis to the end; None where it is there."""
    rank = _rank(x)
    if rank is None:
        if axis != -1:
            raise GraphError("the axis of logits of unknown rank must be -1")
        return None
    at = axis_in(axis, rank)
    if at == rank - 1:
        return None
    return (*range(at), *range(at + 1, rank), at)


def _classes_last(x: Tensor, axis: Any) -> Tensor:
    perm = _to_end(x, axis)
    return x if perm is None else transpose(x, perm)


def _rows(x: Tensor) -> Tensor:
    """All axes but the last as one."""
    if _rank(x) == 2:
        return x
    if x.dims is not None and x.dims and x.dims[-1] is not None:
        return reshape(x, [-1, x.dims[-1]])
    return reshape(x, concat([np.array([-1], np.int32), shape(x)[-1:]], 0))


def _like_outer(losses: Tensor, x: Tensor) -> Tensor:
    """The losses in the shape of x without its last axis."""
    return losses if _rank(x) == 2 else reshape(losses, shape(x)[:-1])


def sigmoid_cross_entropy_with_logits(
    _sentinel: Any = None,
    labels: Any = None,
    logits: Any = None,
    name: str | None = None,
) -> Tensor:
    """-labels * log(sigmoid(logits)) - (1 - labels) * log(1 - sigmoid(logits)), elementwise.

    Computed as max(x, 0) - x * z + log(1 + exp(-abs(x))), which does not overflow.

    Args:
      labels: floating, of the shape and dtype of the logits.
      logits: floating.
    """
    _named_only("sigmoid_cross_entropy_with_logits", _sentinel, labels, logits)
    with composite(name, "logistic_loss", logits, labels) as scope:
        x = as_tensor(logits, name="logits")
        z = as_tensor(labels, x.dtype, "labels")
        merge_dims(x.dims, z.dims, "logits and labels")
        # where, not max and abs: at 0 their gradients would not be those of the formula.
        zeros = zeros_like(x)
        positive = greater_equal(x, zeros)
        return OPS["Add"](
            where(positive, x, zeros) - x * z, log1p(exp(where(positive, -x, x))), name=scope
        )


def weighted_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    pos_weight: Any = None,
    name: str | None = None,
    targets: Any = None,
) -> Tensor:
    """Sigmoid cross-entropy whose positive term counts `pos_weight` times, elementwise.

    Args:
      labels: floating, of the shape of the logits; `targets` is its old name.
      logits: floating.
      pos_weight: a number or a tensor that broadcasts.
    """
    labels = renamed(labels, targets, "labels", "targets")
    _named_only("weighted_cross_entropy_with_logits", None, labels, logits)
    with composite(name, "logistic_loss", logits, labels) as scope:
        x = as_tensor(logits, name="logits")
        z = as_tensor(labels, x.dtype, "labels")
        merge_dims(x.dims, z.dims, "logits and labels")
        weight = 1 + (as_tensor(pos_weight, x.dtype) - 1) * z
        return OPS["Add"]((1 - z) * x, weight * (log1p(exp(-absolute(x))) + relu(-x)), name=scope)


def log_poisson_loss(
    targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None
) -> Tensor:
    """exp(log_input) - log_input * targets: minus the log likelihood of Poisson counts.

    Args:
      targets: counts, floating.
      log_input: logarithm of the rate, of the same shape and dtype.
      compute_full_loss: add Stirling's approximation of log(targets!).
    """
    with composite(name, "log_poisson_loss", log_input, targets) as scope:
        c = as_tensor(log_input, name="log_input")
        z = as_tensor(targets, c.dtype, "targets")
        merge_dims(c.dims, z.dims, "log_input and targets")
        result = exp(c) - c * z
        if compute_full_loss:
            # Where Stirling does not hold it is not computed either: no NaN in the gradient.
            small = logical_and(greater_equal(z, zeros_like(z)), less_equal(z, z * 0 + 1))
            safe = where(small, z * 0 + 2, z)
            stirling = safe * log(safe) - safe + 0.5 * log(2 * math.pi * safe)
            result = result + where(small, zeros_like(z), stirling)
        return identity(result, name=scope)


def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """sum(t ** 2) / 2, a scalar."""
    return OPS["L2Loss"](t, name=name)
