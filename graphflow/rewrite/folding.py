"""Constant folding: what depends on constants alone is computed once, before the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow.base.shapes import is_known, size_of
from graphflow.build.opdef import OPS
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.evaluate import PureContext, run
from graphflow.rewrite.draft import Draft, walk
from graphflow.rewrite.subgraph import Subgraph

MAX_BYTES = 1 << 16  # of a folded value that is larger than what it was computed from
_OF_SHAPE = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
_OPEN = frozenset({"PlaceholderWithDefault"})  # kept: an error names it by the placeholder


def fold(view: Subgraph) -> Subgraph:
    """Replace pure operations on constants by their values.

    Left alone: what reads state or draws random numbers, what runs bodies, values of more than
    64 KiB that are larger than what they come from, and what fails (it then fails in the run,
    with a message that names the user's line).
    """
    return walk(view, _folded)


def _folded(operation: Operation, draft: Draft) -> Sequence[Tensor] | None:
    opdef = operation.opdef
    if not operation.inputs or opdef.takes_ctx or opdef.kernel is None or operation.type in _OPEN:
        return None
    values = _stand_ins(operation) if operation.type in _OF_SHAPE else _constants(operation, draft)
    if values is None or not _is_small(operation, values):
        return None
    try:
        results = run(operation, values, PureContext())
    except Exception:
        return None  # the run fails, and says where
    arrays = [np.asarray(r) for r in results]
    for array, tensor in zip(arrays, operation.outputs, strict=True):
        if array.dtype != tensor.dtype.np:
            return None
    return [
        _const(array, tensor, draft)
        for array, tensor in zip(arrays, operation.outputs, strict=True)
    ]


def _constants(operation: Operation, draft: Draft) -> dict[Tensor, Any] | None:
    values = {}
    for tensor in operation.inputs:
        if tensor.op.type != "Const" or not draft.is_open(tensor):
            return None
        values[tensor] = tensor.op.attrs["value"]
    return values


def _stand_ins(operation: Operation) -> dict[Tensor, Any] | None:
    """Arrays of the static shapes, without storage, for ops that ask for nothing else."""
    values = {}
    for tensor in operation.inputs:
        dims = tensor.dims
        if dims is None or (operation.type != "Rank" and not is_known(dims)):
            return None
        if tensor.dtype.np.kind == "O":
            return None
        values[tensor] = np.broadcast_to(np.zeros((), tensor.dtype.np), [n or 0 for n in dims])
    return values


def _is_small(operation: Operation, values: dict[Tensor, Any]) -> bool:
    """Its size is known beforehand and within bounds; 10**9 zeros are not made to be measured."""
    bound = max(MAX_BYTES, sum(v.nbytes for v in values.values() if 0 not in v.strides))
    total = 0
    for tensor in operation.outputs:
        size = size_of(tensor.dims)
        if size is None:
            return False
        total += size * tensor.dtype.np.itemsize
    return total <= bound


def _const(array: Any, tensor: Tensor, draft: Draft) -> Tensor:
    # No copy: it may be a view of a constant, or of what nobody else holds.  A contiguous one would
    # have other strides, and by these BLAS and sums choose the order in which they add.
    array.flags.writeable = False
    like = tensor.op
    name = like.name if len(like.outputs) == 1 else draft.unique(f"{like.name}/{tensor.index}")
    new = draft.make(OPS["Const"], (), {"value": array}, like, name)
    draft.add(new)
    return new.outputs[0]
