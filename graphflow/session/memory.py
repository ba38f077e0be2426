"""The limit of memory of a session: sizes and costs for `rewrite.recompute`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow.build.tensor import Operation, Tensor
from graphflow.place import CostModel
from graphflow.rewrite.recompute import recompute
from graphflow.rewrite.subgraph import Subgraph

_BYTE = 0.25  # flops: what moving a byte costs beside arithmetic, on any of today's CPUs


def within_memory(view: Subgraph, limit: int, values: Sequence[Any]) -> Subgraph:
    """The subgraph, with values computed again so that it holds no more than the limit.

    Args:
      limit: bytes.
      values: what is fed, in the order of `view.feeds`; tells the sizes that are not static.

    Raises:
      ResourceExhaustedError: there is no such order.
    """
    batches = [
        np.shape(value)[0]
        for tensor, value in zip(view.feeds, values, strict=True)
        if tensor.dims and tensor.dims[0] is None and np.ndim(value)
    ]
    model = CostModel(batch=max(batches)) if batches else CostModel()

    def size(tensor: Tensor) -> int:
        return int(np.prod(model.filled(tensor.dims), dtype=np.int64)) * tensor.dtype.size

    def cost(operation: Operation) -> float:
        work = model.work(operation)
        return work.flops + _BYTE * work.bytes

    return recompute(view, limit, size, cost)
