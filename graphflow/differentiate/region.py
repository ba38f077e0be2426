"""Which operations a gradient passes: those between the xs and the ys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.build.body import Body
from graphflow.build.tensor import Operation, Tensor
from graphflow.differentiate.registered import passes


def carries(dtype: DType) -> bool:
    """Can a gradient flow through a value of this dtype?

    Handles and variants may stand for floating values; the gradient of a handle is that of its
    variable's value.
    """
    return dtype.is_differentiable or dtype is dtypes.resource or dtype is dtypes.variant


@dataclass(frozen=True)
class Region:
    """What lies between xs and ys.

    Attributes:
      operations: newest first, so that every consumer comes before what it consumes.
      reached: the tensors through which a gradient may flow: the xs, and what depends on them.
      origins: argument of a body -> the outer tensor that it stands for (see `origin`).
    """

    operations: tuple[Operation, ...]
    reached: frozenset[Tensor]
    origins: dict[Tensor, Tensor]

    def origin(self, tensor: Tensor) -> Tensor:
        """The tensor itself, or what a captured argument captured, unless it is one of the xs."""
        return self.origins.get(tensor, tensor)


def between(ys: Sequence[Tensor], xs: Sequence[Tensor], stops: Iterable[Tensor] = ()) -> Region:
    """The operations between xs and ys.

    Time is linear in the operations built between the oldest of xs and ys: ids grow from inputs
    to consumers, so nothing older than every x can depend on one.
    """
    stopped = frozenset(stops)
    wanted = frozenset(xs)
    origins: dict[Tensor, Tensor] = {}
    candidates = _ancestors(ys, wanted, stopped, origins)
    reached = set(wanted)
    live = []
    for operation in candidates:
        if any(origins.get(t, t) in reached for t in operation.inputs):
            made = [t for t in operation.outputs if carries(t.dtype) and t not in stopped]
            if made:
                reached.update(made)
                live.append(operation)
    live.reverse()
    return Region(tuple(live), frozenset(reached), origins)


def _ancestors(
    ys: Sequence[Tensor],
    wanted: frozenset[Tensor],
    stopped: frozenset[Tensor],
    origins: dict[Tensor, Tensor],
) -> list[Operation]:
    """Differentiable operations that ys depend on, oldest first; `origins` is filled in."""
    oldest = min((t.op.id for t in wanted), default=0)
    seen: set[Operation] = set()
    stack = [_origin(t, wanted, origins) for t in ys]
    while stack:
        tensor = stack.pop()
        operation = tensor.op
        if operation in seen or tensor in stopped or operation.id < oldest:
            continue
        if not passes(operation) and operation.type != "PreventGradient":
            continue
        if not carries(tensor.dtype):
            continue
        seen.add(operation)
        stack.extend([_origin(t, wanted, origins) for t in operation.inputs])
    return sorted(seen, key=lambda operation: operation.id)


def _origin(tensor: Tensor, wanted: frozenset[Tensor], origins: dict[Tensor, Tensor]) -> Tensor:
    start = tensor
    if tensor in origins:
        return origins[tensor]
    while tensor.op.type == "Argument" and tensor not in wanted:
        outer = _captured(tensor)
        if outer is None:
            break
        tensor = outer
    if tensor is not start:
        origins[start] = tensor
    return tensor


def _captured(argument: Tensor) -> Tensor | None:
    graph = argument.graph
    if not isinstance(graph, Body):
        return None
    return next((outer for outer, inner in graph.captures.items() if inner is argument), None)
