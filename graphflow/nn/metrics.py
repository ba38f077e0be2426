"""`tf.metrics`: averages over many runs, kept in local variables.

Each function returns (value, update_op): the update takes in the tensors of one run and gives
the new value; the value reads what has been taken in before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import as_tensor
from graphflow.build.default_graph import add_to_collections
from graphflow.build.keys import GraphKeys
from graphflow.build.tensor import Tensor
from graphflow.nn.losses import check_weights, squeezed

__all__ = [
    "accuracy",
    "auc",
    "false_negatives",
    "false_positives",
    "mean",
    "mean_absolute_error",
    "mean_cosine_distance",
    "mean_iou",
    "mean_per_class_accuracy",
    "mean_relative_error",
    "mean_squared_error",
    "mean_tensor",
    "percentage_below",
    "precision",
    "recall",
    "root_mean_squared_error",
    "true_negatives",
    "true_positives",
]

Result = tuple[Tensor, Tensor]
THRESHOLD_MARGIN = 1e-7  # the outermost thresholds lie this far outside of [0, 1]
RATE_MARGIN = 1e-6


def metric_variable(shape: Any, dtype: Any, name: str) -> Any:
    """A local variable of zeros that a metric counts in."""
    return ops.Variable(
        lambda: ops.zeros(shape, dtype),
        trainable=False,
        collections=[GraphKeys.LOCAL_VARIABLES, GraphKeys.METRIC_VARIABLES],
        name=name,
    )


@contextmanager
def _metric(name: str | None, default: str, *inputs: Any) -> Iterator[None]:
    with ops.variable_scope(name, default, [x for x in inputs if x is not None]):
        yield


def _collected(value: Tensor, update: Tensor, values: Any, updates: Any) -> Result:
    for keys, tensor in ((values, value), (updates, update)):
        if keys:
            add_to_collections(keys, tensor)
    return value, update


def _weighted(values: Tensor, weights: Any) -> tuple[Tensor, Tensor]:
    """The weighted values and the weight of each."""
    if weights is None:
        return values, ops.ones_like(values)
    factors = ops.cast(as_tensor(weights), values.dtype)
    if factors.dims is not None and values.dims is not None:
        if len(factors.dims) == len(values.dims) + 1 and factors.dims[-1] == 1:
            factors = ops.squeeze(factors, [-1])
        elif factors.dims and len(factors.dims) == len(values.dims) - 1:
            factors = ops.expand_dims(factors, -1)
    check_weights(factors, values)
    return values * factors, ops.ones_like(values) * factors


def mean(
    values: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """The weighted mean of all values.

    Args:
      values: floating or what casts to float32, of any shape.
      weights: None, a scalar, or of the rank of the values with sizes equal or 1.
      metrics_collections, updates_collections: collections to add the value and the update to.
      name: name of the variable scope.

    Returns:
      float32 [] twice: the mean of the runs before, and the update, which gives the new mean.
    """
    with _metric(name, "mean", values, weights):
        total = metric_variable([], dtypes.float32, "total")
        count = metric_variable([], dtypes.float32, "count")
        weighted, factors = _weighted(ops.cast(as_tensor(values), dtypes.float32), weights)
        sums = ops.reduce_sum(weighted), ops.reduce_sum(factors)
        new = [total.assign_add(sums[0]), count.assign_add(sums[1])]
        value = ops.div_no_nan(total.value(), count.value(), name="value")
        update = ops.div_no_nan(new[0], new[1], name="update_op")
        return _collected(value, update, metrics_collections, updates_collections)


def mean_tensor(
    values: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """As `mean`, for each element by itself; the shape of the values must be known."""
    with _metric(name, "mean", values, weights):
        x = ops.cast(as_tensor(values), dtypes.float32)
        total = metric_variable(x.shape, dtypes.float32, "total_tensor")
        count = metric_variable(x.shape, dtypes.float32, "count_tensor")
        weighted, factors = _weighted(x, weights)
        new = [total.assign_add(weighted), count.assign_add(factors)]
        value = ops.div_no_nan(total.value(), count.value(), name="value")
        update = ops.div_no_nan(new[0], new[1], name="update_op")
        return _collected(value, update, metrics_collections, updates_collections)


def accuracy(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """How often predictions equal labels; see `mean` for the arguments."""
    p = as_tensor(predictions)
    z, p = squeezed(as_tensor(labels), p)
    right = ops.cast(ops.equal(p, ops.cast(z, p.dtype)), dtypes.float32)
    return mean(right, weights, metrics_collections, updates_collections, name or "accuracy")


def _floats(labels: Any, predictions: Any) -> tuple[Tensor, Tensor]:
    p = as_tensor(predictions)
    p = p if p.dtype.is_floating else ops.cast(p, dtypes.float32)
    return squeezed(ops.cast(as_tensor(labels), p.dtype), p)


def mean_absolute_error(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """Mean of |predictions - labels|; see `mean` for the arguments."""
    z, p = _floats(labels, predictions)
    name = name or "mean_absolute_error"
    return mean(ops.abs(p - z), weights, metrics_collections, updates_collections, name)


def mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """Mean of (predictions - labels) ** 2; see `mean` for the arguments."""
    z, p = _floats(labels, predictions)
    squares = ops.squared_difference(p, z)
    name = name or "mean_squared_error"
    return mean(squares, weights, metrics_collections, updates_collections, name)


def root_mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """The square root of the mean squared error; see `mean` for the arguments."""
    value, update = mean_squared_error(
        labels, predictions, weights, name=name or "root_mean_squared_error"
    )
    roots = ops.sqrt(value), ops.sqrt(update)
    return _collected(*roots, metrics_collections, updates_collections)


def mean_relative_error(
    labels: Any,
    predictions: Any,
    normalizer: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """Mean of |labels - predictions| / normalizer, 0 where that is 0."""
    z, p = _floats(labels, predictions)
    n = ops.cast(as_tensor(normalizer), p.dtype)
    n = squeezed(n, p)[0]
    relative = ops.div_no_nan(ops.abs(z - p), n)
    name = name or "mean_relative_error"
    return mean(relative, weights, metrics_collections, updates_collections, name)


def mean_cosine_distance(
    labels: Any,
    predictions: Any,
    dim: int,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """1 - the mean of sum(labels * predictions) along an axis of vectors of norm 1."""
    z, p = _floats(labels, predictions)
    products = ops.reduce_sum(p * z, axis=[dim], keepdims=True)
    value, update = mean(products, weights, name=name or "mean_cosine_distance")
    return _collected(1 - value, 1 - update, metrics_collections, updates_collections)


def percentage_below(
    values: Any,
    threshold: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """The share of values below a threshold; see `mean` for the arguments."""
    below = ops.cast(ops.less(values, threshold), dtypes.float32)
    name = name or "percentage_below_threshold"
    return mean(below, weights, metrics_collections, updates_collections, name)


# ---- counts


def _count(happens: Tensor, weights: Any, name: str) -> Result:
    """(what was counted, its update) of a weighted count."""
    counted = metric_variable([], dtypes.float32, name)
    weighted, _ = _weighted(ops.cast(happens, dtypes.float32), weights)
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
        with _metric(name, default, labels, predictions, weights):
            z, p = _truths(labels, predictions)
            value, update = _count(_both(z, p, wanted), weights, "count")
            return _collected(value, update, metrics_collections, updates_collections)

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
        with _metric(name, default, labels, predictions, weights):
            z, p = _truths(labels, predictions)
            right = _count(_both(z, p, (True, True)), weights, "true_positives/count")
            wrong = _count(_both(z, p, other), weights, counted)
            value = ops.div_no_nan(right[0], right[0] + wrong[0], name="value")
            update = ops.div_no_nan(right[1], right[1] + wrong[1], name="update_op")
            return _collected(value, update, metrics_collections, updates_collections)

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
    with _metric(name, "mean_iou", labels, predictions, weights):
        before, after = _confusion(labels, predictions, num_classes, weights)
        return _collected(_mean_overlap(before), after, metrics_collections, updates_collections)


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
    with _metric(name, "mean_accuracy", labels, predictions, weights):
        before, after = _confusion(labels, predictions, num_classes, weights)
        value = ops.reduce_mean(_accuracies(before, None), name="mean_accuracy")
        update = _accuracies(after, "update_op")
        return _collected(value, update, metrics_collections, updates_collections)


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
    with _metric(name, "auc", labels, predictions, weights):
        counts = _at_thresholds(labels, predictions, weights, points)
        areas = [
            _area([c[i] for c in counts], curve, summation_method, name)
            for i, name in enumerate(("value", "update_op"))
        ]
        return _collected(areas[0], areas[1], metrics_collections, updates_collections)


def _at_thresholds(
    labels: Any, predictions: Any, weights: Any, points: Any
) -> list[tuple[Tensor, Tensor]]:
    """True positives, false negatives, true negatives and false positives per threshold."""
    z, p = squeezed(ops.cast(as_tensor(labels), dtypes.bool_), as_tensor(predictions))
    p = ops.cast(p, dtypes.float32)
    factors = None if weights is None else ops.reshape(_weighted(p, weights)[1], [1, -1])
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
