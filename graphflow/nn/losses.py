"""`tf.losses`: weighted losses that are collected, and their total.

Each function weighs its losses, reduces them as `Reduction` says, adds the result to a
collection (by default `GraphKeys.LOSSES`) and returns it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import CLASH, format_dims, merged
from graphflow.build import as_tensor
from graphflow.build.default_graph import add_to_collection, get_collection
from graphflow.build.keys import GraphKeys
from graphflow.build.tensor import Tensor
from graphflow.nn import entropies
from graphflow.ops.public import composite, renamed

__all__ = [
    "Reduction",
    "absolute_difference",
    "add_loss",
    "compute_weighted_loss",
    "cosine_distance",
    "get_losses",
    "get_regularization_loss",
    "get_regularization_losses",
    "get_total_loss",
    "hinge_loss",
    "huber_loss",
    "log_loss",
    "mean_pairwise_squared_error",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


class Reduction:
    """How a loss becomes one number.

    NONE: it does not. SUM: the weighted sum. MEAN: that divided by the sum of the weights.
    SUM_OVER_BATCH_SIZE: divided by the number of losses. SUM_BY_NONZERO_WEIGHTS: divided by the
    number of losses whose weight is not 0.
    """

    NONE = "none"
    SUM = "weighted_sum"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    MEAN = "weighted_mean"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[str, ...]:
        return (
            cls.NONE,
            cls.SUM,
            cls.MEAN,
            cls.SUM_OVER_BATCH_SIZE,
            cls.SUM_OVER_NONZERO_WEIGHTS,
            cls.SUM_BY_NONZERO_WEIGHTS,
        )

    @classmethod
    def validate(cls, key: str) -> None:
        """Raises:
        ValueError: it is no reduction.
        """
        if key not in cls.all():
            raise GraphError(f"{key!r} is no reduction: use one of {sorted(set(cls.all()))}")


BY_WEIGHTS = Reduction.SUM_BY_NONZERO_WEIGHTS


# ---- collecting


def add_loss(loss: Any, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Add a loss to a collection; None: to none."""
    if loss_collection:
        add_to_collection(loss_collection, loss)


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Any]:
    """The losses collected so far, by name scope."""
    return get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[Any]:
    """The regularisation losses collected so far, by name scope."""
    return get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_regularization_loss(
    scope: str | None = None, name: str = "total_regularization_loss"
) -> Tensor:
    """The sum of the regularisation losses; 0 where there are none."""
    losses = get_regularization_losses(scope)
    return ops.add_n(losses, name=name) if losses else ops.constant(0.0)


def get_total_loss(
    add_regularization_losses: bool = True, name: str = "total_loss", scope: str | None = None
) -> Tensor:
    """The sum of all collected losses.

    Raises:
      ValueError: there are none.
    """
    losses = get_losses(scope)
    if add_regularization_losses:
        losses += get_regularization_losses(scope)
    if not losses:
        raise GraphError("no losses have been added: call one of tf.losses first")
    return ops.add_n(losses, name=name)


# ---- weights


def compute_weighted_loss(
    losses: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
) -> Tensor:
    """The weighted and reduced losses.

    Args:
      losses: [d0, ... dn].
      weights: a number, or a tensor of the rank of the losses whose sizes are theirs or 1.
      scope: name scope of the operations.
      loss_collection: the collection to add the result to, or None.
      reduction: one of `Reduction`.

    Returns:
      A scalar; for `Reduction.NONE` the shape of the losses. float16 losses are added in
      float32.

    Raises:
      ValueError: the weights do not fit, or the reduction is none.
    """
    Reduction.validate(reduction)
    with composite(scope, "weighted_loss", losses, weights):
        values = as_tensor(losses)
        dtype = values.dtype
        values = ops.cast(values, dtypes.float32)
        factors = ops.cast(as_tensor(weights), dtypes.float32)
        check_weights(factors, values)
        values = ops.multiply(values, factors)
        result = ops.cast(_reduced(values, factors, reduction), dtype)
        add_loss(result, loss_collection)
    return result


def _reduced(values: Tensor, factors: Tensor, reduction: str) -> Tensor:
    if reduction == Reduction.NONE:
        return values
    total = ops.reduce_sum(values)
    if reduction == Reduction.SUM:
        return total
    if reduction == Reduction.MEAN:
        count = ops.reduce_sum(ops.ones_like(values) * factors)
    elif reduction == Reduction.SUM_OVER_BATCH_SIZE:
        count = ops.cast(ops.size(values), dtypes.float32)
    else:
        count = present(values, factors)
    return ops.div_no_nan(total, count, name="value")


def present(values: Tensor, factors: Tensor) -> Tensor:
    """float32 []: how many values have a weight other than 0."""
    counted = ops.cast(ops.not_equal(factors, 0.0), dtypes.float32)
    return ops.reduce_sum(ops.ones_like(values) * counted)


def check_weights(weights: Tensor, values: Tensor) -> None:
    """Raises:
    ShapeError: weights are neither a scalar nor of the rank of the values with sizes 1 or equal.
    """
    if weights.dims is None or values.dims is None or weights.dims == ():
        return
    fits = len(weights.dims) == len(values.dims) and all(
        w == 1 or w is None or v is None or w == v
        for w, v in zip(weights.dims, values.dims, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"weights of shape {format_dims(weights.dims)} do not fit to values of shape "
            f"{format_dims(values.dims)}: they must be a scalar, or have the same rank with sizes "
            "equal or 1"
        )


def squeezed(labels: Tensor, predictions: Tensor, difference: int = 0) -> tuple[Tensor, Tensor]:
    """Labels and predictions, where one has a last axis of size 1 too many without it.

    Args:
      difference: by how much the rank of the predictions exceeds that of the labels.
    """
    if labels.dims is None or predictions.dims is None:
        return labels, predictions
    off = len(predictions.dims) - len(labels.dims) - difference
    if off == 1 and predictions.dims[-1] in (1, None):
        return labels, ops.squeeze(predictions, [-1])
    if off == -1 and labels.dims and labels.dims[-1] in (1, None):
        return ops.squeeze(labels, [-1]), predictions
    return labels, predictions


@contextmanager
def _pair(
    scope: str | None, default: str, labels: Any, predictions: Any, weights: Any
) -> Iterator[tuple[Tensor, Tensor, str]]:
    """Labels and predictions as tensors of one dtype and shape.

    As TensorFlow's, all but the cross-entropies compute in float32 whatever they are given.
    """
    if labels is None or predictions is None:
        raise GraphError(f"{default} needs both labels and predictions")
    with composite(scope, default, predictions, labels, weights) as inner:
        p = as_tensor(predictions)
        if "entropy" not in default:
            p = ops.cast(p, dtypes.float32)
        z = ops.cast(as_tensor(labels), p.dtype)
        if merged(p.dims, z.dims) is CLASH:
            raise ShapeError(
                f"labels have shape {format_dims(z.dims)}, predictions {format_dims(p.dims)}"
            )
        yield z, p, inner


# ---- losses


def absolute_difference(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
) -> Tensor:
    """|predictions - labels|; see `compute_weighted_loss` for the arguments."""
    with _pair(scope, "absolute_difference", labels, predictions, weights) as (z, p, inner):
        losses = ops.abs(ops.subtract(p, z))
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
) -> Tensor:
    """(predictions - labels) ** 2; see `compute_weighted_loss` for the arguments."""
    with _pair(scope, "mean_squared_error", labels, predictions, weights) as (z, p, inner):
        losses = ops.squared_difference(p, z)
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def huber_loss(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    delta: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
) -> Tensor:
    """Half the squared error up to `delta`, and a line from there on."""
    with _pair(scope, "huber_loss", labels, predictions, weights) as (z, p, inner):
        error = ops.abs(ops.subtract(p, z))
        quadratic = ops.minimum(error, delta)
        losses = 0.5 * quadratic * quadratic + delta * (error - quadratic)
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def log_loss(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    epsilon: float = 1e-7,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
) -> Tensor:
    """-labels * log(predictions) - (1 - labels) * log(1 - predictions), epsilon inside the logs."""
    with _pair(scope, "log_loss", labels, predictions, weights) as (z, p, inner):
        losses = -z * ops.log(p + epsilon) - (1 - z) * ops.log(1 - p + epsilon)
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def hinge_loss(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
) -> Tensor:
    """max(0, 1 - s * logits), where s is -1 for the label 0 and 1 for the label 1."""
    with _pair(scope, "hinge_loss", labels, logits, weights) as (z, x, inner):
        losses = ops.relu(1 - (2 * z - 1) * x)
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def cosine_distance(
    labels: Any,
    predictions: Any,
    axis: Any = None,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
    dim: Any = None,
) -> Tensor:
    """1 - sum(labels * predictions) along an axis, which stays with size 1.

    Both must have Euclidean norm 1 along it already.
    """
    axis = renamed(axis, dim, "axis", "dim")
    if axis is None:
        raise GraphError("cosine_distance needs the axis to sum over")
    with _pair(scope, "cosine_distance_loss", labels, predictions, weights) as (z, p, inner):
        losses = 1 - ops.reduce_sum(p * z, axis=axis, keepdims=True)
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def mean_pairwise_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
) -> Tensor:
    """Mean over the pairs of elements of each example of their squared difference in error.

    Args:
      labels, predictions: [batch, ...].
      weights: a number, or one per example.
    """
    with _pair(scope, "mean_pairwise_squared_error", labels, predictions, weights) as (z, p, _):
        factors = ops.cast(as_tensor(weights), dtypes.float32)
        error = ops.cast(p - z, dtypes.float32)
        if error.dims is None:
            raise GraphError("mean_pairwise_squared_error needs a known rank")
        axes = list(range(1, len(error.dims)))
        squares = ops.reduce_sum(ops.square(error), axis=axes, keepdims=True)
        sums = ops.reduce_sum(error, axis=axes, keepdims=True)
        each = ops.ones_like(error) * ops.cast(ops.not_equal(factors, 0.0), dtypes.float32)
        count = ops.reduce_sum(each, axis=axes, keepdims=True)
        first = 2.0 * ops.div_no_nan(squares, ops.maximum(count - 1, 0))
        second = 2.0 * ops.div_no_nan(ops.square(sums), ops.maximum(count * (count - 1), 0))
        total = ops.reduce_sum((first - second) * factors)
        missing = ops.equal(ops.reduce_sum(each), 0.0)
        result = ops.where(missing, ops.zeros_like(total), total, name="value")
        add_loss(result, loss_collection)
        return result


def sigmoid_cross_entropy(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
) -> Tensor:
    """Sigmoid cross-entropy of labels in [0, 1], elementwise.

    Args:
      label_smoothing: s pulls the labels to labels * (1 - s) + s / 2.
    """
    default = "sigmoid_cross_entropy_loss"
    with _pair(scope, default, multi_class_labels, logits, weights) as (z, x, inner):
        if label_smoothing:
            z = z * (1 - label_smoothing) + 0.5 * label_smoothing
        losses = entropies.sigmoid_cross_entropy_with_logits(labels=z, logits=x, name="xentropy")
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def softmax_cross_entropy(
    onehot_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
) -> Tensor:
    """Softmax cross-entropy along the last axis; no gradient flows into the labels.

    Args:
      label_smoothing: s pulls the labels to labels * (1 - s) + s / classes.
    """
    default = "softmax_cross_entropy_loss"
    with _pair(scope, default, onehot_labels, logits, weights) as (z, x, inner):
        if label_smoothing:
            classes = ops.cast(ops.shape(z)[-1], x.dtype)
            z = z * (1 - label_smoothing) + label_smoothing / classes
        losses = entropies.softmax_cross_entropy_with_logits_v2(
            labels=ops.stop_gradient(z), logits=x, name="xentropy"
        )
        return compute_weighted_loss(losses, weights, inner, loss_collection, reduction)


def sparse_softmax_cross_entropy(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = BY_WEIGHTS,
) -> Tensor:
    """Softmax cross-entropy of integer labels, of the shape of the logits without classes.

    A last axis of size 1 of labels or weights is dropped.
    """
    if labels is None or logits is None:
        raise GraphError("sparse_softmax_cross_entropy needs both labels and logits")
    with composite(scope, "sparse_softmax_cross_entropy_loss", logits, labels, weights) as inner:
        z, x = squeezed(as_tensor(labels), as_tensor(logits), difference=1)
        w = as_tensor(weights)
        if w.dims and x.dims is not None and len(w.dims) == len(x.dims) and w.dims[-1] == 1:
            w = ops.squeeze(w, [-1])
        losses = entropies.sparse_softmax_cross_entropy_with_logits(
            labels=z, logits=x, name="xentropy"
        )
        return compute_weighted_loss(losses, w, inner, loss_collection, reduction)
