"""Loops as the operations of their iterations, so that devices may share them.

A loop is one operation, and so runs whole on one device.  Where constants say how often it runs,
and nothing in it has an effect, each iteration can be written out: then layers of a recurrent
network, say, work on different steps at once.  Placing takes what comes out where that is
predicted to be faster, or where something inside of a loop asks for a device of its own.

A gradient that goes through the loop reads lists of what was in it: such a loop stays whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.build.opdef import OPS
from graphflow.build.tensor import Operation, Tensor
from graphflow.place.hoist import hoist_reads, makers
from graphflow.place.trips import trips
from graphflow.rewrite.effects import is_pure
from graphflow.rewrite.subgraph import Subgraph

OPERATIONS = 4000  # that all loops together may become


def unroll(subgraph: Subgraph) -> Subgraph:
    """The subgraph with its loops written out; itself, where there are none to write out."""
    if not any(o.type == "While" for o in subgraph.order):
        return subgraph
    loose = hoist_reads(subgraph, lambda o: o.type == "While")
    loops = _Loops(loose)
    order = [o for operation in loose.order for o in loops.written(operation)]
    if not loops.ends:
        return subgraph
    return replace(
        loose,
        order=tuple(order),
        targets=tuple([e for o in loose.targets for e in loops.ends.get(o, (o,))]),
        after=MappingProxyType(loops.after),
        origins=MappingProxyType(loops.origins),
    )


def asks_inside(subgraph: Subgraph) -> bool:
    """Does something in a loop ask for another device than the loop itself?"""
    return any(
        inner.device not in ("", o.device)
        for o in subgraph.order
        if o.type == "While"
        for inner in o.attrs["body"].operations
    )


class _Loops:
    """Writes out one loop after the other.

    Attributes:
      ends: loop -> the operations that give its outputs.
      after, origins: of the new subgraph.
    """

    def __init__(self, subgraph: Subgraph):
        self.subgraph = subgraph
        self.maker = makers(subgraph)
        self.fed = set(subgraph.feeds)
        self.used = {t for o in subgraph.order for t in o.inputs} | set(subgraph.fetches)
        self.ends: dict[Operation, tuple[Operation, ...]] = {}
        self.after = dict(subgraph.after)
        self.origins = dict(subgraph.origins)
        self.room = OPERATIONS

    def written(self, operation: Operation) -> Sequence[Operation]:
        """What stands for an operation: itself, or the iterations of a loop."""
        if befores := self.after.get(operation):
            again = [e for b in befores for e in self.ends.get(b, (b,))]
            self.after[operation] = tuple(dict.fromkeys(again))
        count = self._count(operation)
        if count is None:
            return (operation,)
        befores = self.after.pop(operation, ())
        inner: list[Operation] = []
        state = self._iterations(operation, count, inner)
        ends = self._ends(operation, state, count, inner)
        self.ends[operation] = ends
        for new in (*inner, *ends):
            if waits := dict.fromkeys((*befores, *self.after.get(new, ()))):
                self.after[new] = tuple(waits)
            self.origins[new] = self.origins.get(operation, (operation,))
        return [*inner, *ends]

    def _count(self, loop: Operation) -> int | None:
        """How many iterations to write; None: the loop stays."""
        if loop.type != "While" or loop.attrs["wanted"] is not None:
            return None
        body, variables = loop.attrs["body"], loop.attrs["variables"]
        if any(t in self.used for t in loop.outputs[variables + 1 :]):  # records, for gradients
            return None
        given = set(body.captures.values())
        inside = [o for o in body.operations if o.type != "Argument" and not given & {*o.outputs}]
        if not all(is_pure(o) and not o.opdef.random for o in inside):
            return None
        count = trips(loop, self._constant)
        if count is None or count * len(inside) > self.room:
            return None
        self.room -= count * len(inside)
        return count

    def _constant(self, tensor: Tensor) -> bool:
        maker = self.maker.get(tensor)
        return tensor not in self.fed and maker is tensor.op and tensor.op.type == "Const"

    def _iterations(self, loop: Operation, count: int, made: list[Operation]) -> list[Tensor]:
        """Append the operations of all iterations; the loop variables at the end."""
        attrs = loop.attrs
        body, variables = attrs["body"], attrs["variables"]
        captured = loop.inputs[variables + attrs["split"] :]
        outside = dict(zip(body.captures.values(), captured, strict=True))
        state = list(loop.inputs[:variables])
        for turn in range(count):
            known = outside | dict(zip(body.inputs, state, strict=True))
            copies: dict[Operation, Operation] = {}
            for operation in body.operations:
                if operation.type == "Argument" or operation.outputs[0] in known:
                    continue
                copy = copies[operation] = _copy(operation, turn, known)
                made.append(copy)
                waits = [copies[b] for b in operation.control_inputs if b in copies]
                if waits:
                    self.after[copy] = tuple(waits)
                new = dict(zip(operation.outputs, copy.outputs, strict=True))
                known |= new
                if operation.type == "Const":  # one is enough for all iterations
                    outside |= new
            state = [known[t] for t in body.outputs[:variables]]
        return state

    def _ends(
        self, loop: Operation, state: Sequence[Tensor], count: int, made: list[Operation]
    ) -> tuple[Operation, ...]:
        """Operations that give the loop's very outputs."""
        outputs = loop.outputs[: len(state) + 1]
        value = {"value": np.asarray(count, np.int32)}
        number = _new(loop, "count", OPS["Const"], (), value)
        made.append(number)
        ends = []
        for k, (output, tensor) in enumerate(
            zip(outputs, (*state, number.outputs[0]), strict=True)
        ):
            end = _new(loop, f"end_{k}", OPS["Identity"], (tensor,), {})
            end.outputs = (output,)
            ends.append(end)
        return tuple(ends)


def _copy(operation: Operation, turn: int, known: Mapping[Tensor, Tensor]) -> Operation:
    inputs = tuple([known[t] for t in operation.inputs])
    return Operation(
        operation.graph,
        operation.id,
        f"{operation.name}/_{turn}",
        operation.opdef,
        inputs,
        operation.attrs,
        operation.specs,
        operation.site,
        device=operation.device,
    )


def _new(
    loop: Operation, label: str, entry: Any, inputs: tuple[Tensor, ...], attrs: dict[str, Any]
) -> Operation:
    specs = entry.infer(*inputs, **attrs)
    name = f"{loop.name}/_{label}"
    device = "" if inputs and inputs[0].dtype in (dtypes.variant, dtypes.resource) else loop.device
    return Operation(
        loop.graph, loop.id, name, entry, inputs, attrs, specs, loop.site, device=device
    )
