"""Softmax, its logarithm, and the cross-entropies."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.build import OPS, op
from graphflow.build.opdef import Array, Index, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.rules import axis_in, merge_dims, rank_is
from graphflow.ops.shape_ops import expand_dims


def _along_axis(x: Tensor, *, axis: Any) -> Specs:
    if x.dims == ():
        raise ShapeError("softmax of a scalar: it needs at least one axis")
    axis_in(axis, None if x.dims is None else len(x.dims))
    return [(x.dims, x.dtype)]


def _axis_cases(s: Sampler) -> list[Case]:
    shapes = (((3,), -1), ((2, 3), -1), ((2, 3), 0), ((2, 1, 3), 1), ((0, 3), -1), ((2, 0), -1))
    cases = [Case((s.normal(*shape),), {"axis": axis}) for shape, axis in shapes]
    return [*cases, Case((np.array([[1e4, -1e4, 0.0], [1.0, 1.0, 1.0]]),))]


def total(x: Tensor, axis: Any) -> Tensor:
    """Sum along an axis that stays, with size 1."""
    return reduce_sum(x, axis, keepdims=True)


def _softmax_grad(g: Tensor, y: Tensor, logits: Tensor, *, axis: Any) -> Tensor:
    return (g - total(g * y, axis)) * y


@op(
    "Softmax",
    infer=_along_axis,
    grad=_softmax_grad,
    cost=lambda logits, **_: 25.0 * size(logits),
    cases=_axis_cases,
)
def _softmax(xp: Any, logits: RealFloat, *, axis: Any = -1) -> Array:
    """exp(logits) / sum(exp(logits)) along an axis; the shape stays."""
    return _exp_and_log_sum(xp, logits, axis)[0]


def _log_softmax_grad(g: Tensor, y: Tensor, logits: Tensor, *, axis: Any) -> Tensor:
    return g - OPS["Exp"](y) * total(g, axis)


@op(
    "LogSoftmax",
    infer=_along_axis,
    grad=_log_softmax_grad,
    cost=lambda logits, **_: 25.0 * size(logits),
    cases=_axis_cases,
)
def _log_softmax(xp: Any, logits: RealFloat, *, axis: Any = -1) -> Array:
    """logits - log(sum(exp(logits))) along an axis; the shape stays."""
    shifted = _shifted(xp, logits, axis)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


def _shifted(xp: Any, x: Array, axis: int) -> Array:
    """x less its maximum along the axis, so that no exponential overflows."""
    if not x.shape[axis]:
        return x
    return x - xp.max(x, axis=axis, keepdims=True)


def _exp_and_log_sum(xp: Any, logits: Array, axis: int) -> tuple[Array, Array, Array]:
    """Softmax, the shifted logits, and the logarithm of their exponentials' sum."""
    shifted = _shifted(xp, logits, axis)
    exponentials = xp.exp(shifted)
    sums = xp.sum(exponentials, axis=axis, keepdims=True)
    return exponentials / sums, shifted, xp.log(sums)


def size(x: Any) -> float:
    """Number of elements, unknown sizes counted as 1; for costs."""
    result = 1.0
    for n in x.dims or ():
        result *= 1 if n is None else n
    return result


# ---- cross-entropies over rows


def _rows_spec(logits: Tensor, labels: Tensor) -> Specs:
    rows = merge_dims(rank_is(logits, 2, "logits"), rank_is(labels, 2, "labels"), "logits, labels")
    assert rows is not None
    return [(rows[:1], logits.dtype), (rows, logits.dtype)]


def _expanded(x: Tensor) -> Tensor:
    """A vector as a column."""
    return expand_dims(x, -1)


def _used(g: Tensor | None) -> Tensor | None:
    """A gradient, or None for the zeros that stand for that of an output which nothing used.

    As TensorFlow does; times the softmax, zeros would cost as much as the loss itself.
    """
    return None if g is None or g.op.type == "ZerosLike" else g


def _logits_grad(g: Any, backprop: Tensor, logits: Tensor) -> Tensor | None:
    """Gradient of (loss, softmax - labels) with respect to the logits."""
    of_loss, of_backprop = map(_used, g)
    result = None if of_loss is None else _expanded(of_loss) * backprop
    if of_backprop is None:
        return result
    probabilities = _softmax(logits)
    inner = total(of_backprop * probabilities, -1)
    second = (of_backprop - inner) * probabilities
    return second if result is None else result + second


def _softmax_loss_grad(g: Any, y: Any, logits: Tensor, labels: Tensor) -> Any:
    of_loss, of_backprop = map(_used, g)
    to_labels = None if of_loss is None else -_expanded(of_loss) * _log_softmax(logits)
    if of_backprop is not None:
        to_labels = -of_backprop if to_labels is None else to_labels - of_backprop
    return _logits_grad(g, y[1], logits), to_labels


def _distributions(s: Sampler) -> list[Case]:
    cases = []
    for rows, classes in ((1, 3), (4, 3), (0, 3), (2, 1)):
        weights = s.positive(rows, classes)
        cases.append(Case((s.normal(rows, classes), weights / weights.sum(axis=1, keepdims=True))))
    extreme = np.array([[1e4, -1e4, 0.0]])
    return [*cases, Case((extreme, np.array([[0.2, 0.3, 0.5]])))]


@op(
    "SoftmaxCrossEntropyWithLogits",
    infer=_rows_spec,
    grad=_softmax_loss_grad,
    cost=lambda logits, labels: 30.0 * size(logits),
    cases=_distributions,
)
def _softmax_loss(xp: Any, logits: RealFloat, labels: RealFloat) -> tuple[Array, Array]:
    """Cross-entropy of each row, and softmax(logits) - labels.

    logits, labels: [rows, classes]; each row of labels must sum to 1, as the second output, the
    derivative by the logits, takes for granted. Outputs: [rows], [rows, classes].
    """
    if logits.ndim != 2 or labels.ndim != 2:
        raise InvalidArgumentError(
            None, None, f"logits and labels are matrices, not {logits.shape} and {labels.shape}"
        )
    probabilities, shifted, log_sum = _exp_and_log_sum(xp, logits, -1)
    # A label of 0 counts as 0 also where the logit is -inf.
    terms = xp.where(labels == 0, labels, labels * (log_sum - shifted))
    return xp.sum(terms, axis=-1), probabilities - labels


def _sparse_spec(logits: Tensor, labels: Tensor) -> Specs:
    if labels.dtype.name not in ("int32", "int64"):
        raise DTypeError(f"labels must be int32 or int64, not {labels.dtype.name}")
    rows, classes = rank_is(logits, 2, "logits")
    found = merge_dims((rows,), rank_is(labels, 1, "labels"), "rows of logits, labels")
    assert found is not None
    return [(found, logits.dtype), ((found[0], classes), logits.dtype)]


def _sparse_grad(g: Any, y: Any, logits: Tensor, labels: Tensor) -> Any:
    return _logits_grad(g, y[1], logits), None


@op(
    "SparseSoftmaxCrossEntropyWithLogits",
    infer=_sparse_spec,
    grad=_sparse_grad,
    cost=lambda logits, labels: 30.0 * size(logits),
    cases=lambda s: [
        Case((s.normal(rows, classes), s.integers(classes, rows, dtype=kind)))
        for rows, classes, kind in ((1, 3, np.int32), (4, 3, np.int64), (0, 3, np.int32))
    ],
)
def _sparse_loss(xp: Any, logits: RealFloat, labels: Index) -> tuple[Array, Array]:
    """Cross-entropy of each row against the class it belongs to, and its derivative.

    logits: [rows, classes]; labels: [rows], int32 or int64. Outputs: [rows], [rows, classes].
    InvalidArgumentError: a label is not in [0, classes).
    """
    if labels.shape != logits.shape[:1]:
        raise InvalidArgumentError(
            None,
            None,
            f"logits and labels must have the same first dimension, got logits shape "
            f"{logits.shape} and labels shape {labels.shape}",
        )
    classes = logits.shape[1]
    outside = (labels < 0) | (labels >= classes)
    if bool(outside.any()):
        raise InvalidArgumentError(
            None,
            None,
            f"Received a label value of {int(labels[outside][0])} which is outside the valid "
            f"range of [0, {classes}).",
        )
    probabilities, shifted, log_sum = _exp_and_log_sum(xp, logits, -1)
    rows = xp.arange(len(labels))
    probabilities[rows, labels] -= 1  # an array of this kernel's own
    return log_sum[:, 0] - shifted[rows, labels], probabilities


# ---- TensorFlow's functions


def softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """exp(logits) / sum(exp(logits), axis), without overflow.

    Args:
      logits: floating tensor of at least one axis.
      axis: the last one by default; `dim` is its old name.
    """
    return _softmax(logits, axis=_one_axis(axis, dim), name=name)


def log_softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """logits - log(sum(exp(logits), axis)), without overflow.

    Args: as of `softmax`.
    """
    return _log_softmax(logits, axis=_one_axis(axis, dim), name=name)


def _one_axis(axis: Any, dim: Any) -> Any:
    if axis is not None and dim is not None:
        raise ValueError("cannot give both axis and dim, which is its old name")
    return dim if dim is not None else -1 if axis is None else axis
