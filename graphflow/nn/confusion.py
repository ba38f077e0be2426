"""Metrics that count how predicted classes agree with labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.nn.averages import Result, collect, metric_scope, metric_variable, weigh
from graphflow.nn.losses import squeezed

THRESHOLD_MARGIN = 1e-7  # the outermost thresholds lie this far outside of [0, 1]
RATE_MARGIN = 1e-6


# ---- counts


def _count(happens: Tensor, weights: Any, name: str) -> Result:
    """(what was counted, its update) of a weighted count."""
    counted = metric_variable([], dtypes.float32, name)
    weighted, _ = weigh(ops.cast(happens, dtypes.float32), weights)
    return counted.value(), counted.assign_add(ops.reduce_sum(weighted))


def _truths(labels: Any, predictions: Any) -> tuple[Tensor, Tensor]:
    pair = [ops.cast(as_tensor(x), dtypes.bool_) for x in (labels, predictions)]
    return squeezed(*pair)


def _counter(name: str, wanted: tuple[bool, bool], what: str) -> Callable[..., Result]:
    def count(
        labels: Any,
        predictions: Any,
        weights: Any = None,
        metrics_collections: Any = None,
        updates_collections: Any = None,
        name: str | None = None,
    ) -> Result:
        with metric_scope(name, default, labels, predictions, weights):
            z, p = _truths(labels, predictions)
            value, update = _count(_both(z, p, wanted), weights, "count")
            return collect(value, update, metrics_collections, updates_collections)

    default = name
    count.__name__ = count.__qualname__ = name
    count.__doc__ = f"""The weighted number of {what}.

    Args:
      labels, predictions: bool, or what casts to it, of one shape.
      weights, metrics_collections, updates_collections, name: as of `mean`.
    """
    return count


def _both(z: Tensor, p: Tensor, wanted: tuple[bool, bool]) -> Tensor:
    pair = [x if true else ops.logical_not(x) for x, true in zip((z, p), wanted, strict=True)]
    return ops.logical_and(*pair)


true_positives = _counter("true_positives", (True, True), "labels True predicted True")
true_negatives = _counter("true_negatives", (False, False), "labels False predicted False")
false_positives = _counter("false_positives", (False, True), "labels False predicted True")
false_negatives = _counter("false_negatives", (True, False), "labels True predicted False")


def _ratio(name: str, other: tuple[bool, bool], counted: str, what: str) -> Callable[..., Result]:
    def ratio(
        labels: Any,
        predictions: Any,
        weights: Any = None,
        metrics_collections: Any = None,
        updates_collections: Any = None,
        name: str | None = None,
    ) -> Result:
        with metric_scope(name, default, labels, predictions, weights):
            z, p = _truths(labels, predictions)
            right = _count(_both(z, p, (True, True)), weights, "true_positives/count")
            wrong = _count(_both(z, p, other), weights, counted)
            value = ops.div_no_nan(right[0], right[0] + wrong[0], name="value")
            update = ops.div_no_nan(right[1], right[1] + wrong[1], name="update_op")
            return collect(value, update, metrics_collections, updates_collections)

    default = name
    ratio.__name__ = ratio.__qualname__ = name
    ratio.__doc__ = f"""The share of {what}, 0 where there are none.

    Args:
      labels, predictions: bool, or what casts to it, of one shape.
      weights, metrics_collections, updates_collections, name: as of `mean`.
    """
    return ratio


precision = _ratio(
    "precision", (False, True), "false_positives/count", "predictions True whose label is True"
)
recall = _ratio(
    "recall", (True, False), "false_negatives/count", "labels True whose prediction is True"
)


# ---- classes


def _confusion(
    labels: Any, predictions: Any, num_classes: int, weights: Any
) -> tuple[Tensor, Tensor]:
    """The confusion matrix [label, prediction] of all runs before, and its update, in float64."""
    total = metric_variable([num_classes] * 2, dtypes.float64, "total_confusion_matrix")
    z, p = [ops.reshape(ops.cast(as_tensor(x), dtypes.int64), [-1]) for x in (labels, predictions)]
    if weights is None:
        each = ops.ones_like(z, dtypes.float64)
    else:
        each = ops.reshape(ops.cast(as_tensor(weights), dtypes.float64), [-1])
    places = ops.stack([z, p], axis=1)
    sizes = ops.constant([num_classes] * 2, dtypes.int64)
    return total.value(), total.assign_add(ops.scatter_nd(places, each, sizes))


def _mean_overlap(matrix: Tensor) -> Tensor:
    """Mean over the classes that occur of right / (labelled or predicted)."""
    right = ops.diag_part(matrix)
    seen = ops.reduce_sum(matrix, 1) + ops.reduce_sum(matrix, 0) - right
    occurs = ops.reduce_sum(ops.cast(ops.not_equal(seen, 0), dtypes.float64))
    mean_of = ops.div_no_nan(ops.reduce_sum(ops.div_no_nan(right, seen)), occurs)
    return ops.cast(mean_of, dtypes.float32, name="mean_iou")


def _accuracies(matrix: Tensor, name: str | None) -> Tensor:
    """float32 [classes]: right / labelled, 0 where a class does not occur."""
    each = ops.div_no_nan(ops.diag_part(matrix), ops.reduce_sum(matrix, 1))
    return ops.cast(each, dtypes.float32, name=name)


def mean_iou(
    labels: Any,
    predictions: Any,
    num_classes: int,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """Mean over classes of intersection over union of labels and predictions.

    Returns:
      The mean so far, float32 []; the update, which gives the confusion matrix.
    """
    with metric_scope(name, "mean_iou", labels, predictions, weights):
        before, after = _confusion(labels, predictions, num_classes, weights)
        return collect(_mean_overlap(before), after, metrics_collections, updates_collections)


def mean_per_class_accuracy(
    labels: Any,
    predictions: Any,
    num_classes: int,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """Mean over classes of the accuracy within each, 0 where a class does not occur.

    Returns:
      The mean so far, float32 []; the update, which gives the accuracy of each class.
    """
    with metric_scope(name, "mean_accuracy", labels, predictions, weights):
        before, after = _confusion(labels, predictions, num_classes, weights)
        value = ops.reduce_mean(_accuracies(before, None), name="mean_accuracy")
        update = _accuracies(after, "update_op")
        return collect(value, update, metrics_collections, updates_collections)


# ---- thresholds


def auc(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    num_thresholds: int = 200,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    curve: str = "ROC",
    name: str | None = None,
    summation_method: str = "trapezoidal",
    thresholds: Sequence[float] | None = None,
) -> Result:
    """The area under a curve of rates, by Riemann sums over thresholds.

    Args:
      labels: bool, or what casts to it.
      predictions: floating, in [0, 1], of the shape of the labels.
      weights: None, or of that shape.
      num_thresholds: how many, spread evenly over [0, 1].
      metrics_collections, updates_collections, name: as of `mean`.
      curve: "ROC", true over false positive rate; or "PR", precision over recall.
      summation_method: "trapezoidal", "minoring" or "majoring".
      thresholds: those inside (0, 1), in place of the even ones.

    Raises:
      ValueError: another curve or method.
    """
    if curve not in ("ROC", "PR"):
        raise GraphError(f'curve must be "ROC" or "PR", not {curve!r}')
    if summation_method not in ("trapezoidal", "minoring", "majoring"):
        raise GraphError(f"there is no summation method {summation_method!r}")
    steps = num_thresholds - 1
    inside = sorted(thresholds or [(i + 1) / steps for i in range(num_thresholds - 2)])
    points = np.array([-THRESHOLD_MARGIN, *inside, 1 + THRESHOLD_MARGIN], np.float32)
    with metric_scope(name, "auc", labels, predictions, weights):
        counts = _at_thresholds(labels, predictions, weights, points)
        areas = [
            _area([c[i] for c in counts], curve, summation_method, name)
            for i, name in enumerate(("value", "update_op"))
        ]
        return collect(areas[0], areas[1], metrics_collections, updates_collections)


def _at_thresholds(
    labels: Any, predictions: Any, weights: Any, points: Any
) -> list[tuple[Tensor, Tensor]]:
    """True positives, false negatives, true negatives and false positives per threshold."""
    z, p = squeezed(ops.cast(as_tensor(labels), dtypes.bool_), as_tensor(predictions))
    p = ops.cast(p, dtypes.float32)
    factors = None if weights is None else ops.reshape(weigh(p, weights)[1], [1, -1])
    truth = ops.reshape(z, [1, -1])
    positive = ops.greater(ops.reshape(p, [1, -1]), points[:, None])
    found = []
    for name, wanted in (
        ("true_positives", (True, True)),
        ("false_negatives", (True, False)),
        ("true_negatives", (False, False)),
        ("false_positives", (False, True)),
    ):
        total = metric_variable([len(points)], dtypes.float32, name)
        happens = ops.cast(_both(truth, positive, wanted), dtypes.float32)
        happens = happens if factors is None else happens * factors
        found.append((total.value(), total.assign_add(ops.reduce_sum(happens, 1))))
    return found


def _area(counts: Sequence[Tensor], curve: str, method: str, name: str) -> Tensor:
    tp, fn, tn, fp = counts
    rate = ops.div(tp + RATE_MARGIN, tp + fn + RATE_MARGIN)
    if curve == "ROC":
        x, y = ops.div(fp, fp + tn + RATE_MARGIN), rate
    else:
        x, y = rate, ops.div(tp + RATE_MARGIN, tp + fp + RATE_MARGIN)
    widths, left, right = x[:-1] - x[1:], y[:-1], y[1:]
    if method == "trapezoidal":
        heights = (left + right) / 2.0
    else:
        heights = (ops.minimum if method == "minoring" else ops.maximum)(left, right)
    return ops.reduce_sum(widths * heights, name=name)
