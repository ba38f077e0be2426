"""Check that partitions do what the whole would do, whatever the timing.

Receives block, and sums over replicas meet.  The check runs the parts in virtual time with vector
clocks, one entry per device: how far that device is known to have come.  What holds for the clocks
holds for every interleaving.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from graphflow.base.errors import InternalError
from graphflow.base.state import StateKey
from graphflow.build.tensor import Operation, Tensor
from graphflow.partition.partitions import Partitions
from graphflow.place.constraints import STAYS
from graphflow.place.hoist import makers
from graphflow.place.problem import is_everywhere
from graphflow.rewrite.subgraph import Subgraph

SHOWN = 10  # problems


def verify(partitions: Partitions) -> None:
    """Raises:
    InternalError: an operation is missing or runs twice, a value is not where it is needed, an
      edge is not kept, a transfer lacks an end, state is in two places, or devices wait for each
      other; the message lists what is wrong.
    """
    problems = [*_complete(partitions), *_transfers(partitions), *_state(partitions)]
    problems += problems or _Run(partitions).problems()
    if problems:
        listed = "\n  ".join(problems[:SHOWN])
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InternalError(None, None, f"the partitions are wrong:\n  {listed}{more}")


def _complete(partitions: Partitions) -> list[str]:
    """Each operation exactly once, on its device; constants where they are needed."""
    problems = []
    seen: Counter[Operation] = Counter()
    placement = partitions.placement
    for device, part in partitions.parts.items():
        for operation in part.order:
            seen[operation] += 1
            wanted = placement.devices.get(operation, device)
            if wanted != device:
                problems.append(f"{operation.name!r} belongs on {wanted}, not on {device}")
    problems += [f"{o.name!r} runs {n} times" for o, n in seen.items() if n > 1]
    needed = _needed_at_home(partitions)
    problems += [f"{o.name!r} never runs" for o in partitions.subgraph.order
                 if o not in seen and o in needed]  # fmt: skip
    return problems


def _needed_at_home(partitions: Partitions) -> set[Operation]:
    """All operations, but constants that nothing on their own device takes."""
    subgraph, placed = partitions.subgraph, partitions.placement.devices
    maker = makers(subgraph)
    found = {o for o in subgraph.order if not is_everywhere(o, subgraph)} | set(subgraph.targets)
    found |= {maker[t] for t in subgraph.fetches if t in maker}
    for operation in subgraph.order:
        needs = [maker[t] for t in operation.inputs if t in maker]
        found |= {o for o in needs if placed.get(o) == placed.get(operation)}
    return found


def _transfers(partitions: Partitions) -> list[str]:
    """Each key has one Send and one Recv, on the devices that it names."""
    problems = []
    ends: dict[str, list[tuple[str, Operation]]] = {}
    for device, part in partitions.parts.items():
        for operation in part.order:
            if operation.type in ("Send", "Recv"):
                ends.setdefault(operation.attrs["key"], []).append((device, operation))
    for key, found in ends.items():
        kinds = Counter(operation.type for _, operation in found)
        if kinds != {"Send": 1, "Recv": 1}:
            problems.append(f"{key}: {kinds['Send']} sends and {kinds['Recv']} receives")
            continue
        by_type = {operation.type: (device, operation) for device, operation in found}
        (source, sender), (target, receiver) = by_type["Send"], by_type["Recv"]
        attrs = sender.attrs
        if (attrs["source"], attrs["destination"]) != (source, target):
            problems.append(f"{key}: goes from {source} to {target}")
        if sender.inputs != receiver.outputs:
            problems.append(f"{key}: another tensor is received than sent")
        problems += [
            f"{key}: a {dtype.name} must not travel"
            for _, dtype in attrs["specs"]
            if dtype in STAYS
        ]
    return problems


def _state(partitions: Partitions) -> list[str]:
    """Each variable on one device, or copies of it that are all written in the same way."""
    homes: dict[StateKey, list[str]] = {}
    writes: dict[tuple[StateKey, str], list[tuple[Tensor, ...]]] = {}
    mirrored: set[StateKey] = set()
    for device, part in partitions.parts.items():
        for operation in part.order:
            if operation.type == "VarHandle":
                key = StateKey(operation.attrs["container"], operation.attrs["shared_name"])
                homes.setdefault(key, []).append(device)
                mirrored |= {key} & operation.graph.root.mirrors.keys()
            elif operation.opdef.writes and operation.inputs[0].op.type == "VarHandle":
                attrs = operation.inputs[0].op.attrs
                key = StateKey(attrs["container"], attrs["shared_name"])
                writes.setdefault((key, device), []).append(operation.outputs)
    problems = []
    for key, (home, *others) in homes.items():
        for device in others:
            if key not in mirrored:
                problems.append(f"variable {key.name!r} is on {home} and on {device}")
            elif writes.get((key, home)) != writes.get((key, device)):
                problems.append(f"variable {key.name!r} is written on {home} or {device} alone")
    return problems


class _Run:
    """The parts in virtual time."""

    def __init__(self, partitions: Partitions):
        self.partitions = partitions
        parts = partitions.parts
        self.number = {device: i for i, device in enumerate(parts)}
        self.clock = {device: [-1] * len(parts) for device in parts}
        self.values: dict[str, set[Tensor]] = {d: set(p.feeds) for d, p in parts.items()}
        self.at: dict[Operation, tuple[int, int]] = {
            o: (i, position)
            for i, part in enumerate(parts.values())
            for position, o in enumerate(part.order)
        }
        self.sent: dict[str, list[int]] = {}  # key -> the sender's clock
        self.met: dict[str, dict[str, list[int]]] = {}  # sum -> the clocks of who has arrived
        self.found: list[str] = []

    def problems(self) -> list[str]:
        position = dict.fromkeys(self.partitions.parts, 0)
        moved = True
        while moved:
            moved = False
            for device, part in self.partitions.parts.items():
                while position[device] < len(part.order):
                    if not self._step(device, part.order[position[device]], position[device]):
                        break
                    position[device] += 1
                    moved = True
        for device, part in self.partitions.parts.items():
            if position[device] < len(part.order):
                stuck = part.order[position[device]]
                self.found.append(f"{device} waits for ever at {stuck.name!r}")
        return self.found + self._fetches()

    def _step(self, device: str, operation: Operation, position: int) -> bool:
        clock = self.clock[device]
        if operation.type == "Recv":
            known = self.sent.get(operation.attrs["key"])
            if known is None:
                return False
            clock[:] = [max(a, b) for a, b in zip(clock, known, strict=True)]
        if operation.type == "AllReducePart":
            met = self.met.setdefault(operation.attrs["key"], {})
            met[device] = list(clock)
            if not met.keys() >= set(operation.attrs["members"]):
                return False
            clock[:] = [max(times) for times in zip(*met.values(), strict=True)]
        self._check(device, operation, clock)
        clock[self.number[device]] = position
        if operation.type == "Send":
            self.sent[operation.attrs["key"]] = list(clock)
        self.values[device].update(operation.outputs)
        return True

    def _check(self, device: str, operation: Operation, clock: list[int]) -> None:
        for tensor in operation.inputs:
            if tensor not in self.values[device]:
                self.found.append(f"{operation.name!r} on {device} lacks {tensor.name!r}")
        for before in self._befores(device, operation):
            if before in self.at and not is_everywhere(before, self.partitions.subgraph):
                where, position = self.at[before]
                if clock[where] < position:
                    self.found.append(
                        f"{operation.name!r} on {device} may run before {before.name!r}"
                    )

    def _befores(self, device: str, operation: Operation) -> tuple[Operation, ...]:
        whole: Mapping[Operation, tuple[Operation, ...]] = self.partitions.subgraph.after
        part: Subgraph = self.partitions.parts[device]
        return (*whole.get(operation, ()), *part.after.get(operation, ()))

    def _fetches(self) -> list[str]:
        wanted = self.partitions.subgraph.fetches
        problems = []
        for tensor in dict.fromkeys(wanted):
            device = self.partitions.fetched.get(tensor)
            if device is None or tensor not in self.values[device]:
                problems.append(f"nobody gives the fetched {tensor.name!r}")
            elif tensor not in self.partitions.parts[device].fetches:
                problems.append(f"{device} does not know that {tensor.name!r} is fetched")
        return problems
