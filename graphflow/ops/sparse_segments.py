"""Reductions by segments of the rows that a vector of indices names."""

from __future__ import annotations

from typing import Any

from graphflow.base.errors import ShapeError
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.arithmetic import div_no_nan
from graphflow.ops.elementary import sqrt
from graphflow.ops.filling import ones_like
from graphflow.ops.gathering import gather
from graphflow.ops.public import composite
from graphflow.ops.segments import (
    segment_mean,
    segment_sum,
    unsorted_segment_mean,
    unsorted_segment_sqrt_n,
    unsorted_segment_sum,
)
from graphflow.ops.shape_ops import reshape


def _reduction(reduce: Any, unsorted: Any, what: str) -> Any:
    """A reduction of the rows of `data` that `indices` name, by segments."""

    def function(
        data: Any, indices: Any, segment_ids: Any, name: str | None = None,
        num_segments: Any = None,
    ) -> Tensor:  # fmt: skip
        with composite(name, what, data):
            rows = gather(data, indices)
            if num_segments is None:
                return reduce(rows, segment_ids)
            return unsorted(rows, segment_ids, num_segments)

    function.__name__ = function.__qualname__ = what
    function.__doc__ = f"""The rows of data that indices name, reduced by segments: {what}.

    Args:
      data: [rows, ...].
      indices: [n], of rows.
      segment_ids: [n], sorted.
      num_segments: of the result; by default the last id and one.
    """
    return function


def _root(rows: Any, ids: Any) -> Tensor:
    if rows.dims is None:
        raise ShapeError("the rank of the data must be known")
    ones = ones_like(as_tensor(ids), as_tensor(rows).dtype)
    count = segment_sum(ones, ids)
    shape = [-1] + [1] * (len(rows.dims) - 1)
    return div_no_nan(segment_sum(rows, ids), reshape(sqrt(count), shape))


sparse_segment_sum = _reduction(segment_sum, unsorted_segment_sum, "sparse_segment_sum")
sparse_segment_mean = _reduction(segment_mean, unsorted_segment_mean, "sparse_segment_mean")
sparse_segment_sqrt_n = _reduction(_root, unsorted_segment_sqrt_n, "sparse_segment_sqrt_n")
