"""Copies of a part of a graph, for replicas that compute the same on other data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build import Graph, Operation, Tensor
from graphflow.ops import shape

# Seeds of random operations differ between replicas by multiples of a prime.
_STRIDE = 1_000_003


def cut(batches: Sequence[Tensor], parts: int) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Parts of batches along their first axis, whose sizes differ by one at most.

    Returns:
      For each batch its parts; and for each part its size relative to that of an equal one:
      exactly 1 where the batch can be cut equally.
    """
    size = shape(batches[0])[0]
    at = [size * i // parts for i in range(parts + 1)]
    pieces = [[batch[a:b] for a, b in pairwise(at)] for batch in batches]
    return pieces, [(b - a) * parts / size for a, b in pairwise(at)]


def between(inputs: Sequence[Tensor], output: Tensor) -> list[Operation]:
    """The operations through which `output` depends on `inputs`, in the order of creation.

    Raises:
      GraphError: it does not.
    """
    given = {t.op for t in inputs}
    depends: dict[Operation, bool] = {op: True for op in given}
    needed: list[Operation] = []
    stack: list[tuple[Operation, bool]] = [(output.op, False)]
    while stack:
        operation, seen = stack.pop()
        before = [t.op for t in operation.inputs] + list(operation.control_inputs)
        if seen:
            depends[operation] = any(depends[b] for b in before)
            if depends[operation]:
                needed.append(operation)
        elif operation not in depends:
            depends[operation] = False  # until its inputs are known
            stack.append((operation, True))
            stack += [(b, False) for b in before if b not in depends]
    found = sorted(set(needed), key=lambda op: op.id)
    if not found:
        names = ", ".join(t.name for t in inputs)
        raise GraphError(f"{output.name!r} does not depend on {names}: nothing to replicate")
    return found


def copied(
    operations: Sequence[Operation], given: Mapping[Tensor, Tensor], replica: int
) -> dict[Tensor, Tensor]:
    """Copies of operations, in the scopes in force, that take `given` tensors for others.

    Args:
      operations: in an order in which each comes after what it needs.
      given: tensor -> what stands for it; others are shared.
      replica: number of the copy; random operations draw other numbers in each.

    Returns:
      tensor -> its copy, with the given ones.

    Raises:
      GraphError: one cannot be copied.
    """
    now = dict(given)
    copies: dict[Operation, Operation] = {}
    for operation in operations:
        why = _obstacle(operation)
        if why:
            raise GraphError(
                f"{operation.type} {operation.name!r} (built at {operation.site}) {why}: give "
                "minimize a function of the inputs that builds the loss"
            )
        copies[operation] = copy = _copy(operation, now, copies, replica)
        now.update(zip(operation.outputs, copy.outputs, strict=True))
    return now


def _copy(
    operation: Operation,
    now: Mapping[Tensor, Tensor],
    copies: Mapping[Operation, Operation],
    replica: int,
) -> Operation:
    graph = operation.graph
    attrs = dict(operation.attrs)
    before = [copies.get(c, c) for c in operation.control_inputs]
    inputs = tuple([now.get(t, t) for t in operation.inputs])
    with (
        graph.root.lock,
        graph.control_dependencies(before),
        graph.device(operation.device) if operation.device else nullcontext(),
    ):
        if operation.opdef.random:
            attrs["stream"] = graph.root.next_id
            if attrs.get("seed") or attrs.get("seed2"):
                attrs["seed2"] = int(attrs["seed2"]) + replica * _STRIDE
        copy = graph.add(operation.opdef, inputs, attrs, operation.name.rpartition("/")[2])
    copy.site = operation.site
    return copy


def _obstacle(operation: Operation) -> str:
    if any(isinstance(v, Graph) for v in _flat(operation.attrs.values())):
        return "has a body, which cannot be copied"
    if operation.opdef.effect in ("input", "output"):
        return "would be done once per replica"
    return ""


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value
