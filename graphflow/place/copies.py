"""Copies of variables, which workers keep for the time when one of them is lost.

A *mirror* is written wherever the variable is (`Graph.set_mirrors`, `mirror`).  And
where the state of workers is kept as of some earlier steps (`Topology.keepers`), a worker has the
values that its variables had then, and its keeper has these, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from graphflow.base.devices import parse
from graphflow.base.state import StateKey
from graphflow.build.tensor import Operation
from graphflow.ops.scatter import CHANGES
from graphflow.place.devices import Device, Topology
from graphflow.rewrite.effects import resource, touches
from graphflow.rewrite.subgraph import Subgraph

OLD = 2  # states that are kept: the last one, and the one before, until that is known to be safe
MIRROR, KEPT = "of other devices", "of earlier steps"  # what copies are

Row = tuple[int, ...]  # devices, as often as they have a copy


class Copies(NamedTuple):
    """Copies of what stays on a task's device.

    Attributes:
      task: whose.
      size: bytes of one.
      what: MIRROR or KEPT.
      where: device of the task -> devices that have copies then.
    """

    task: int
    size: float
    what: str
    where: Sequence[Row]


def copies_of(
    subgraph: Subgraph, resident: Mapping[int, float], topology: Topology
) -> tuple[Copies, ...]:
    """Copies of the variables that tasks make handles of.

    Args:
      subgraph: whose operations, in order, are the tasks.
      resident: task -> bytes of its variable.
      topology: the devices.
    """
    handles = [(task, subgraph.order[task]) for task in resident]
    if not topology.keepers and not any(o.graph.root.mirrors for _, o in handles):
        return ()
    changing = _changing(subgraph) if topology.keepers else set()
    known: dict[tuple[tuple[str, ...], bool], dict[str, list[Row]]] = {}
    found = []
    for task, handle in handles:
        asked = asked_mirrors(handle)
        changes = resource(handle.outputs[0]) in changing
        if (asked, changes) not in known:
            known[asked, changes] = _rows(topology, asked, changes)
        rows = known[asked, changes]
        found += [Copies(task, resident[task], w, row) for w, row in rows.items() if any(row)]
    return tuple(found)


def asked_mirrors(handle: Operation) -> tuple[str, ...]:
    """The devices on whose workers the variable of a handle is mirrored, as they were given."""
    key = StateKey(handle.attrs["container"], handle.attrs["shared_name"])
    return tuple(handle.graph.root.mirrors.get(key, ()))


class Mirrors:
    """Finds the devices that mirror what is on some other one: of each worker that is asked for and
    is there, one; of the kind of that at home, if it has one."""

    def __init__(self, asked: Sequence[str], topology: Topology):
        wanted = [parse(name) for name in asked]
        self._there = [[d for d in topology.devices if w.matches(d.spec)] for w in wanted]

    def of(self, home: Device) -> tuple[str, ...]:
        """Their names, but for the worker of the home."""
        found: dict[str, str] = {}
        for there in self._there:
            for device in sorted(there, key=lambda d: d.kind != home.kind)[:1]:
                found.setdefault(device.process, device.name)
        found.pop(home.process, None)
        return tuple(found.values())


def _rows(topology: Topology, asked: Sequence[str], changes: bool) -> dict[str, list[Row]]:
    """What copies are -> device of the variable -> devices that have them."""
    index, mirrors = topology.index, Mirrors(asked, topology)
    first: dict[str, int] = {}  # process -> its CPU, whose memory the copies of others are in
    for number, device in enumerate(topology.devices):
        if device.kind == "CPU":
            first.setdefault(device.process, number)
    rows: dict[str, list[Row]] = {MIRROR: [], KEPT: []}
    for home in topology.devices:
        others = [index[name] for name in mirrors.of(home)]
        kept: list[int] = []
        for holder in (index[home.name], *others):
            process = topology.devices[holder].process
            if process not in topology.keepers:
                continue
            keeper = first.get(topology.keepers[process])
            kept += [holder] * (OLD if changes else 0)  # else it is the value of now
            kept += [keeper] * (OLD if changes else 1) if keeper is not None else []
        rows[MIRROR].append(tuple(others))
        rows[KEPT].append(tuple(kept))
    return rows


def _changing(subgraph: Subgraph) -> set[object]:
    """Variables of which each step makes another value: not those that it sets without reading
    them, as an initializer does, nor large ones of which it changes rows in place."""
    effects = [(o.type, touch) for o in subgraph.order for touch in touches(o)]
    read = {touch.key for _, touch in effects if touch.kind == "read"}
    return {
        touch.key
        for kind, touch in effects
        if touch.kind == "write"
        and kind not in CHANGES
        and (kind != "AssignVariable" or touch.key in read)
    }
