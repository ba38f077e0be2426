"""Metrics that are means of what each run gives, and what all metrics share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graphflow import ops
from graphflow.base import dtypes
from graphflow.build import as_tensor
from graphflow.build.default_graph import add_to_collections
from graphflow.build.keys import GraphKeys
from graphflow.build.tensor import Tensor
from graphflow.nn.losses import check_weights, squeezed

Result = tuple[Tensor, Tensor]


def metric_variable(shape: Any, dtype: Any, name: str) -> Any:
    """A local variable of zeros that a metric counts in."""
    return ops.Variable(
        lambda: ops.zeros(shape, dtype),
        trainable=False,
        collections=[GraphKeys.LOCAL_VARIABLES, GraphKeys.METRIC_VARIABLES],
        name=name,
    )


@contextmanager
def metric_scope(name: str | None, default: str, *inputs: Any) -> Iterator[None]:
    with ops.variable_scope(name, default, [x for x in inputs if x is not None]):
        yield


def collect(value: Tensor, update: Tensor, values: Any, updates: Any) -> Result:
    for keys, tensor in ((values, value), (updates, update)):
        if keys:
            add_to_collections(keys, tensor)
    return value, update


def weigh(values: Tensor, weights: Any) -> tuple[Tensor, Tensor]:
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
    with metric_scope(name, "mean", values, weights):
        total = metric_variable([], dtypes.float32, "total")
        count = metric_variable([], dtypes.float32, "count")
        weighted, factors = weigh(ops.cast(as_tensor(values), dtypes.float32), weights)
        sums = ops.reduce_sum(weighted), ops.reduce_sum(factors)
        new = [total.assign_add(sums[0]), count.assign_add(sums[1])]
        value = ops.div_no_nan(total.value(), count.value(), name="value")
        update = ops.div_no_nan(new[0], new[1], name="update_op")
        return collect(value, update, metrics_collections, updates_collections)


def mean_tensor(
    values: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> Result:
    """As `mean`, for each element by itself; the shape of the values must be known."""
    with metric_scope(name, "mean", values, weights):
        x = ops.cast(as_tensor(values), dtypes.float32)
        total = metric_variable(x.shape, dtypes.float32, "total_tensor")
        count = metric_variable(x.shape, dtypes.float32, "count_tensor")
        weighted, factors = weigh(x, weights)
        new = [total.assign_add(weighted), count.assign_add(factors)]
        value = ops.div_no_nan(total.value(), count.value(), name="value")
        update = ops.div_no_nan(new[0], new[1], name="update_op")
        return collect(value, update, metrics_collections, updates_collections)


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
    return collect(*roots, metrics_collections, updates_collections)


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
    return collect(1 - value, 1 - update, metrics_collections, updates_collections)


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
