"""Sums over replicas, cut at device borders: each device gets an operation for its own replicas.

An `AllReduce` whose replicas' values are made on several devices would send all of them to one
place, and the sums back.  Instead each device takes its replicas' values and gives their sums; the
operations of one sum meet in the step (`execute/collective.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from graphflow.base.devices import short
from graphflow.build.opdef import Array, Each, Specs, op
from graphflow.build.tensor import Operation, Tensor
from graphflow.place.hoist import makers
from graphflow.place.placement import Placement
from graphflow.rewrite.subgraph import Subgraph


def _given(*inputs: Tensor, **_: Any) -> Specs:
    return [(x.dims, x.dtype) for x in inputs]


@op("AllReducePart", infer=_given, grad=None, cost=lambda *_, **__: 0.0)
def all_reduce_part(
    xp: Any, ctx: Any, *inputs: Each, key: Any, members: Any, ranks: Any
) -> tuple[Array, ...]:
    """The share that a device has in a sum over replicas: its own replicas' values and sums."""
    size = len(inputs) // len(ranks)
    buckets = {rank: inputs[i * size : (i + 1) * size] for i, rank in enumerate(ranks)}
    return tuple(ctx.all_reduce(key, members, buckets)) * len(ranks)


def spread(subgraph: Subgraph, placement: Placement) -> tuple[Subgraph, Placement]:
    """The subgraph with its sums over replicas cut, and where its operations are."""
    maker = makers(subgraph)
    parts: dict[Operation, list[Operation]] = {}
    devices = dict(placement.devices)
    for operation in subgraph.order:
        if operation.type == "AllReduce":
            members = _members(operation, maker, devices)
            if len(set(members)) > 1:
                parts[operation] = _cut(operation, members)
                devices |= {part: part.device for part in parts[operation]}
                # What reads a sum finds it on the device of the replica.
                maker.update({t: part for part in parts[operation] for t in part.outputs})
    if not parts:
        return subgraph, placement

    def in_parts(operations: Iterable[Operation]) -> tuple[Operation, ...]:
        return tuple([new for o in operations for new in parts.get(o, (o,))])

    after = {
        new: in_parts(befores)
        for o, befores in subgraph.after.items()
        for new in parts.get(o, (o,))
    }
    cut = replace(
        subgraph,
        order=in_parts(subgraph.order),
        after=MappingProxyType(after),
        targets=in_parts(subgraph.targets),
    )
    # It still tells when the whole sum was planned: `placement.subgraph` has that.
    where = replace(placement, devices=MappingProxyType(devices), order=in_parts(placement.order))
    return cut, where


def _members(
    operation: Operation, maker: Mapping[Tensor, Operation], devices: Mapping[Operation, str]
) -> list[str]:
    """The device of each replica: where the first of its values is made; fed ones are anywhere."""
    size = len(operation.inputs) // operation.attrs["world"]
    home = devices[operation]
    return [
        devices.get(maker[first], home) if first in maker else home
        for first in operation.inputs[::size]
    ]


def _cut(operation: Operation, members: list[str]) -> list[Operation]:
    size = len(operation.inputs) // len(members)
    found = []
    for device in dict.fromkeys(members):
        ranks = tuple([rank for rank, member in enumerate(members) if member == device])
        inputs = [t for r in ranks for t in operation.inputs[r * size : (r + 1) * size]]
        outputs = [t for r in ranks for t in operation.outputs[r * size : (r + 1) * size]]
        attrs = {"key": operation.name, "members": tuple(members), "ranks": ranks}
        part = Operation(
            operation.graph,
            operation.id,
            f"{operation.name}/_part_{short(device)}",
            all_reduce_part,
            tuple(inputs),
            attrs,
            _given(*inputs),
            operation.site,
            device=device,
        )
        part.outputs = tuple(outputs)
        found.append(part)
    return found
