"""Boxes in images: overlap, and the suppression of those that overlap better ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import op
from graphflow.build.opdef import Array, Index, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case
from graphflow.ops.rules import merge_dims, rank_is


def _spec(boxes: Tensor, scores: Tensor, most: Tensor, overlap: Tensor, least: Tensor) -> Specs:
    dims = rank_is(boxes, 2, "boxes")
    if dims[1] not in (None, 4):
        raise ShapeError(f"boxes must be [n, 4], not {format_dims(boxes.dims)}")
    merge_dims(scores.dims, dims[:1], "scores, one for each box")
    if most.dims or overlap.dims or least.dims:
        raise ShapeError("max_output_size and the thresholds must be scalars")
    return [((None,), dtypes.int32)]


@op(
    "NonMaxSuppressionV3",
    infer=_spec,
    grad=None,
    host=("boxes", "scores", "most", "overlap", "least"),
    dynamic=True,
    cases=lambda s: [
        Case((
            np.array([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [1, 0.9, 0, -0.1], [0, 10, 1, 11.0]]),
            np.array([0.9, 0.75, 0.6, 0.95]), np.array(count, np.int32), np.array(overlap),
            np.array(least),
        ))
        for count, overlap, least in [(3, 0.5, -np.inf), (9, 0.5, 0.8), (0, 0.5, 0.0)]
    ],
)  # fmt: skip
def suppressed(
    xp: Any, boxes: RealFloat, scores: RealFloat, most: Index, overlap: RealFloat, least: RealFloat
) -> Array:
    """Numbers of the boxes with the best scores, at most `most`, none of which shares more than
    `overlap` of its union with a better one; scores must be above `least`."""
    count, limit = int(most), float(overlap)
    if boxes.ndim != 2 or boxes.shape[1:] != (4,) or scores.shape != boxes.shape[:1]:
        raise InvalidArgumentError(
            None, None, f"boxes [n, 4] need scores [n], not {boxes.shape} and {scores.shape}"
        )
    if count < 0 or not 0 <= limit <= 1:
        raise InvalidArgumentError(
            None, None, f"max_output_size {count} must be >= 0, iou_threshold {limit} in [0, 1]"
        )
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    corners = boxes.astype(np.float64)
    chosen: list[int] = []
    for i in order.tolist():
        if len(chosen) >= count:
            break
        if scores[i] > least and not np.any(_shared(corners[i], corners[chosen]) > limit):
            chosen.append(i)
    return xp.asarray(np.array(chosen, np.int32))


def _shared(box: Any, others: Any) -> Any:
    """The intersection over the union of a box with each of some others; 0 where one is empty."""
    low, high = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
    lows, highs = np.minimum(others[:, :2], others[:, 2:]), np.maximum(others[:, :2], others[:, 2:])
    sides = np.maximum(np.minimum(high, highs) - np.maximum(low, lows), 0)
    area, areas = np.prod(high - low), np.prod(highs - lows, axis=1)
    both = np.prod(sides, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((area > 0) & (areas > 0), both / (area + areas - both), 0.0)


def non_max_suppression(
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: float = 0.5,
    score_threshold: float = float("-inf"),
    name: str | None = None,
) -> Tensor:
    """The best boxes, without those that overlap better ones.

    Args:
      boxes: floating [n, 4], two opposite corners (y, x, y, x) each.
      scores: [n].
      max_output_size: how many to choose at most.
      iou_threshold: how much of its union with a better box a box may share with it.
      score_threshold: boxes of lower scores are left out.

    Returns:
      int32 [m], the numbers of the chosen boxes, best first.
    """
    from graphflow.build import as_tensor

    table = as_tensor(boxes)
    found: Tensor = suppressed(
        table,
        as_tensor(scores, table.dtype),
        as_tensor(max_output_size, dtypes.int32),
        as_tensor(iou_threshold, table.dtype),
        as_tensor(score_threshold, table.dtype),
        name=name,
    )
    return found
