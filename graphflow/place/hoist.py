"""Move reads of variables out of loops and branches, so that these need not be where they are.

A loop runs whole on one device, but programs with parameter servers read variables of several
inside of one.  Where its bodies only read a variable, the value is the same all the time: it is
read once, at home, and the value travels in.  Done only where placing fails otherwise, since a
branch that does not run then needs an initialised variable, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from graphflow.base import dtypes
from graphflow.build.body import Body, Selection
from graphflow.build.opdef import OPS
from graphflow.build.tensor import Operation, Tensor
from graphflow.rewrite.effects import resource, touches
from graphflow.rewrite.subgraph import Subgraph


@dataclass(frozen=True, eq=False)
class Hoisted(Selection):
    """A body with other captures: values come in where it would read them."""

    taken: Mapping[Tensor, Tensor]

    @property
    def captures(self) -> Mapping[Tensor, Tensor]:
        return self.taken


def hoist_reads(
    subgraph: Subgraph, chosen: Callable[[Operation], bool] = lambda _: True
) -> Subgraph:
    """The subgraph with reads moved out of control flow; itself, where there are none.

    Args:
      subgraph: what is to be placed.
      chosen: out of which operations.
    """
    order: list[Operation] = []
    after = dict(subgraph.after)
    moved: dict[Operation, Operation] = {}
    for operation in subgraph.order:
        reads, owner = _without_reads(operation) if chosen(operation) else ([], operation)
        if reads:
            befores = after.pop(operation, ())
            after |= {o: befores for o in (*reads, owner) if befores}
            moved[operation] = owner
        order += (*reads, owner)
    if not moved:
        return subgraph
    return replace(
        subgraph,
        order=tuple(order),
        targets=tuple([moved.get(o, o) for o in subgraph.targets]),
        after={o: tuple([moved.get(b, b) for b in befores]) for o, befores in after.items()},
    )


def _without_reads(operation: Operation) -> tuple[list[Operation], Operation]:
    """Reads to run before the operation, and the operation that takes their values."""
    names = {"While": ("cond", "body"), "Cond": ("then", "orelse")}.get(operation.type)
    if names is None or not any(t.dtype is dtypes.resource for t in operation.inputs):
        return [], operation
    written = {touch.key for touch in touches(operation) if touch.kind != "read"}
    attrs = dict(operation.attrs)
    position = attrs["variables"] if operation.type == "While" else 1
    inputs = list(operation.inputs[:position])
    reads: list[Operation] = []
    for name in names:
        body = attrs[name]
        taken: dict[Tensor, Tensor] = {}
        for key, argument in body.captures.items():
            outer = operation.inputs[position]
            position += 1
            inside = _reads_of(argument, body) if outer.dtype is dtypes.resource else None
            if inside is None or resource(outer) in written:
                taken[key] = argument
                inputs.append(outer)
                continue
            for read in inside:
                moved = _read(outer, read, operation, len(reads))
                reads.append(moved)
                taken[moved.outputs[0]] = read.outputs[0]  # prunes the read inside
                inputs.append(moved.outputs[0])
        attrs[name] = Hoisted(getattr(body, "body", body), tuple(body.outputs), taken)
    attrs["split"] = len(attrs[names[0]].captures)
    return reads, _again(operation, tuple(inputs), attrs) if reads else operation


def _reads_of(argument: Tensor, body: Body | Selection) -> list[Operation] | None:
    """The reads that take a captured handle; None where something else does, too."""
    users = [o for o in body.operations if argument in o.inputs]
    plain = argument not in body.outputs and all(o.type == "ReadVariable" for o in users)
    return users if plain else None


def _read(handle: Tensor, inside: Operation, owner: Operation, number: int) -> Operation:
    name = f"{owner.name}/_read_{number}"
    graph = handle.op.graph
    entry = OPS["ReadVariable"]
    return Operation(graph, owner.id, name, entry, (handle,), {}, inside.specs, inside.site)


def _again(operation: Operation, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> Operation:
    """The operation with other inputs; it gives the very same tensors."""
    again = Operation(
        operation.graph,
        operation.id,
        operation.name,
        operation.opdef,
        inputs,
        attrs,
        operation.specs,
        operation.site,
        device=operation.device,
        colocation=operation.colocation,
    )
    again.outputs = operation.outputs
    return again


def makers(subgraph: Subgraph) -> dict[Tensor, Operation]:
    """Tensor -> the operation of the subgraph that gives it: `tensor.op`, or what replaced it."""
    return {t: o for o in subgraph.order for t in o.outputs}
