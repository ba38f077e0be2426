"""Whether targets are among the top k predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import InvalidArgumentError
from graphflow.build import op
from graphflow.build.opdef import Array, Index, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case
from graphflow.ops.rules import merge_dims, rank_is


def _in_top_spec(predictions: Tensor, targets: Tensor, k: Tensor) -> Specs:
    rows = rank_is(predictions, 2, "predictions")[:1]
    return [(merge_dims(rows, rank_is(targets, 1, "targets"), "rows, targets"), dtypes.bool_)]


@op(
    "InTopKV2",
    infer=_in_top_spec,
    grad=None,
    host=("k",),
    cases=lambda s: [
        Case((s.distinct(4, 5), s.integers(5, 4, dtype=kind), np.array(2, kind)))
        for kind in (np.int32, np.int64)
    ],
)
def _in_top_k(xp: Any, predictions: RealFloat, targets: Index, k: Index) -> Array:
    """Is the prediction for each target among the k largest of its row?

    predictions: [rows, classes]; targets: [rows]; k: scalar. All classes that tie at the k-th
    place count. False where the target is no class or a prediction of its row is not finite.
    """
    rows, classes = predictions.shape
    if targets.shape != (rows,):
        raise InvalidArgumentError(
            None, None, f"{rows} rows of predictions and targets of shape {targets.shape}"
        )
    valid = (targets >= 0) & (targets < classes)
    if not classes:
        return valid
    at = xp.where(valid, targets, 0)
    own = predictions[xp.arange(rows), at]
    better = xp.sum(predictions > own[:, None], axis=1)
    return valid & xp.isfinite(predictions).all(axis=1) & (better < int(k))


def in_top_k(predictions: Any, targets: Any, k: Any, name: str | None = None) -> Tensor:
    """Is each target among the k classes with the largest predictions?

    Args:
      predictions: [rows, classes], floating.
      targets: the class of each row, int32 or int64.
      k: how many; ties at the k-th place all count.

    Returns:
      bool [rows].
    """
    return _in_top_k(predictions, targets, k, name=name)
