"""Copies of variables on several workers, each of which applies the same updates to its own.

`Graph.set_mirrors` names the workers.  What writes such a variable runs on each of them, and so
does what computes an update of it; where the variable is read, the worker's own copy is.  All
copies get the same operands, so they have the same bits after each step: no worker waits for new
values from another one, and what a lost one held is still there, as of the last committed step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from graphflow.base.devices import short
from graphflow.base.errors import GraphError
from graphflow.build.tensor import Operation, Tensor
from graphflow.place.constraints import Group
from graphflow.place.copies import Mirrors, asked_mirrors
from graphflow.place.hoist import makers
from graphflow.place.placement import Placement
from graphflow.place.problem import is_everywhere
from graphflow.rewrite.effects import Touch, is_pure, resource, touches
from graphflow.rewrite.subgraph import Subgraph

Clones = dict[Operation, dict[str, Operation]]  # operation -> device -> its copy there


def mirror(placement: Placement) -> Placement:
    """Have copies of variables written where they are, and read there.

    Returns:
      The placement of a larger subgraph, in which each copy of an operation comes before its
      original; the same one, where nothing is mirrored.

    Raises:
      GraphError: one is written by a loop or a branch, which also does other things.
    """
    subgraph = placement.subgraph
    mirrors = _mirrors(subgraph, placement)
    if not mirrors:
        return placement
    clones = _clones(subgraph, placement, mirrors)
    devices = {clone: device for each in clones.values() for device, clone in each.items()}
    whole = replace(
        subgraph,
        order=_with(clones, subgraph.order),
        targets=_with(clones, subgraph.targets),
        after=MappingProxyType(dict(_after(subgraph, placement, clones))),
    )
    groups = placement.groups
    if groups is not None:
        groups = [*groups, *[Group((clone,), (device,)) for clone, device in devices.items()]]
    return replace(
        placement,
        subgraph=whole,
        devices=MappingProxyType({**placement.devices, **devices}),
        groups=groups,
        order=_with(clones, placement.order),
        clones=MappingProxyType({(t, d): o for o, d in devices.items() for t in o.outputs}),
    )


def _with(clones: Clones, order: Iterable[Operation]) -> tuple[Operation, ...]:
    """Copies come first: of the operations that give a tensor, its maker is the last one."""
    return tuple([o for each in order for o in (*clones.get(each, {}).values(), each)])


def _mirrors(subgraph: Subgraph, placement: Placement) -> dict[object, tuple[str, ...]]:
    """Variable -> the devices that have copies of it: one per worker, but for its own."""
    found: dict[object, tuple[str, ...]] = {}
    topology = placement.topology
    known: dict[tuple[str, ...], Mirrors] = {}
    for operation in subgraph.order:
        asked = asked_mirrors(operation) if operation.type == "VarHandle" else ()
        if asked:
            if asked not in known:
                known[asked] = Mirrors(asked, topology)
            devices = known[asked].of(topology[placement[operation]])
            if devices:
                found[resource(operation.outputs[0])] = devices
    return found


def _clones(
    subgraph: Subgraph, placement: Placement, mirrors: Mapping[object, tuple[str, ...]]
) -> Clones:
    """Copies of all that writes mirrored variables or is needed for that, and of reads.

    What computes an update is copied where it shares the variable's device because it was built
    with it, or may be anywhere and needs nothing else than what is there: otherwise its value comes
    from home.  What asks for a device is not repeated on others: it may be a replica's whole work.
    """
    fed = set(subgraph.feeds)
    touching = {o: touches(o) for o in subgraph.order}
    found: Clones = {}
    for device in sorted({device for devices in mirrors.values() for device in devices}):
        here = {key for key, devices in mirrors.items() if device in devices}
        may = _computable(subgraph, here, touching)
        wanted: set[Tensor] = set()  # by copies
        read: set[Tensor] = set()  # by what is there anyhow
        for operation in reversed(subgraph.order):
            writes = _writes(operation, here, touching[operation])
            asked = wanted | read if _is_state(operation, here) else wanted
            if writes or (operation in may and not asked.isdisjoint(operation.outputs)):
                found.setdefault(operation, {})[device] = _clone(operation, device)
                wanted.update([t for t in operation.inputs if t not in fed])
            if placement[operation] == device:
                read.update([t for t in operation.inputs if t not in fed])
    return found


def _writes(operation: Operation, here: set[object], touched: Iterable[Touch]) -> bool:
    """Does it write one of these variables, and do nothing else?"""
    written = [t.key for t in touched if t.kind == "write" and t.key in here]
    if written and not operation.opdef.writes:
        raise GraphError(
            f"{operation.type} {operation.name!r} (built at {operation.site}) writes "
            f"{', '.join(repr(key.name) for key in written)}, of which several workers have "
            "copies: write it outside of loops and branches, or do not mirror it"
        )
    return bool(written)


def _is_state(operation: Operation, here: set[object]) -> bool:
    """Is it the handle of one of these variables, or a read?"""
    if operation.type not in ("VarHandle", "ReadVariable"):
        return False
    handle = operation.outputs[0] if operation.type == "VarHandle" else operation.inputs[0]
    return resource(handle) in here


def _computable(
    subgraph: Subgraph, here: set[object], touching: Mapping[Operation, tuple[Touch, ...]]
) -> set[Operation]:
    """What gives the same values on a worker with copies of these variables."""
    maker = makers(subgraph)
    local: set[Operation] = set()  # needs nothing from elsewhere
    found: set[Operation] = set()
    for operation in subgraph.order:
        if _is_state(operation, here):
            local.add(operation)
            found.add(operation)
        elif is_everywhere(operation, subgraph):
            local.add(operation)
        elif is_pure(operation) and not operation.opdef.takes_ctx and operation.inputs:
            beside = any(
                other.type == "VarHandle" and resource(other.outputs[0]) in here
                for other in operation.colocation
            )
            if not operation.device and all(maker.get(t) in local for t in operation.inputs):
                local.add(operation)
                found.add(operation)
            elif beside:
                found.add(operation)
    return found


def _clone(operation: Operation, device: str) -> Operation:
    """An operation once more, on another device; it gives the very same tensors."""
    copy = Operation(
        operation.graph,
        operation.id,
        f"{operation.name}/_copy_{short(device)}",
        operation.opdef,
        operation.inputs,
        operation.attrs,
        operation.specs,
        operation.site,
        device=device,
    )
    copy.outputs = operation.outputs
    return copy


def _after(
    subgraph: Subgraph, placement: Placement, clones: Clones
) -> Iterator[tuple[Operation, tuple[Operation, ...]]]:
    """What each operation waits for, as far as possible on its own device.  Reads elsewhere are no
    concern of a copy that is written."""
    for operation, befores in subgraph.after.items():
        home = placement.devices.get(operation)
        yield operation, tuple([clones.get(b, {}).get(home or "", b) for b in befores])
        for device, copy in clones.get(operation, {}).items():
            near = [clones.get(b, {}).get(device, b) for b in befores]
            yield copy, tuple([b for b in near if b.type != "ReadVariable" or b.device == device])
