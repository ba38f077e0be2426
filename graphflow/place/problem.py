"""The fine graph as plain numbers: what heuristics and the simulator read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from graphflow.base.errors import InvalidArgumentError
from graphflow.build.tensor import Operation, Tensor
from graphflow.place.constraints import STAYS, Group
from graphflow.place.copies import Copies, copies_of
from graphflow.place.cost import CostModel
from graphflow.place.devices import Link, Topology
from graphflow.place.hoist import makers
from graphflow.rewrite.subgraph import Subgraph

CONTROL_BYTES = 1  # of the message that stands for a control edge between devices


@dataclass(frozen=True, eq=False)
class Problem:
    """Tasks, the values between them, and devices.  All are numbered from 0.

    Attributes:
      topology: the devices.
      names: of the tasks, in an order in which they may run.
      seconds: task -> device -> how long it runs there.
      needs: task -> the values it waits for.
      producer: value -> the task that makes it.
      sizes: value -> bytes; a value travels once to each other device that needs it.
      group: task -> its group; a group shares one device.
      allowed: group -> the devices it may go to, in order.
      resident: task -> bytes that stay on its device throughout, such as a variable.
      kept: values that live to the end, such as fetches.
      views: values that take no memory where they are made, such as reads of a variable.
      work: task -> (flops, bytes), where devices share what these take; empty: each task needs
        all of its device.
      copies: of what is resident.
    """

    topology: Topology
    names: Sequence[str]
    seconds: Sequence[Sequence[float]]
    needs: Sequence[Sequence[int]]
    producer: Sequence[int]
    sizes: Sequence[float]
    group: Sequence[int]
    allowed: Sequence[Sequence[int]]
    resident: Mapping[int, float]
    kept: frozenset[int] = frozenset()
    views: frozenset[int] = frozenset()
    work: Sequence[tuple[float, float]] = ()
    copies: Sequence[Copies] = ()

    def __post_init__(self) -> None:
        for name, row in zip(self.names, self.seconds, strict=True):
            if not all(0 <= s < math.inf for s in row):
                raise InvalidArgumentError(
                    name, None, f"{name!r} would take {list(row)} seconds: a number >= 0 is needed"
                )

    @property
    def tasks(self) -> int:
        return len(self.names)

    @cached_property
    def makes(self) -> list[list[int]]:
        """Task -> the values it makes."""
        made: list[list[int]] = [[] for _ in self.names]
        for value, task in enumerate(self.producer):
            made[task].append(value)
        return made

    @cached_property
    def users(self) -> list[list[int]]:
        """Value -> the tasks that need it, ascending."""
        users: list[list[int]] = [[] for _ in self.producer]
        for task, values in enumerate(self.needs):
            for value in values:
                users[value].append(task)
        return users

    @cached_property
    def members(self) -> list[list[int]]:
        """Group -> its tasks, ascending."""
        members: list[list[int]] = [[] for _ in self.allowed]
        for task, group in enumerate(self.group):
            members[group].append(task)
        return members

    @cached_property
    def before(self) -> list[list[int]]:
        """Task -> the tasks whose values it needs."""
        producer = self.producer
        return [list(dict.fromkeys([producer[v] for v in values])) for values in self.needs]

    @cached_property
    def after(self) -> list[list[int]]:
        """Task -> the tasks that need its values, ascending."""
        after: list[list[int]] = [[] for _ in self.names]
        for task, earlier in enumerate(self.before):
            for other in earlier:
                after[other].append(task)
        return after

    @cached_property
    def edges(self) -> list[tuple[int, int, float]]:
        """(task, task that needs its values, bytes), once per pair."""
        found: dict[tuple[int, int], float] = {}
        for task, values in enumerate(self.needs):
            for value in values:
                key = self.producer[value], task
                found[key] = found.get(key, 0.0) + self.sizes[value]
        return [(a, b, size) for (a, b), size in found.items()]

    @cached_property
    def heavy(self) -> dict[int, float]:
        """Group -> bytes that stay on its device throughout."""
        heavy: dict[int, float] = {}
        for task, size in self.resident.items():
            group = self.group[task]
            heavy[group] = heavy.get(group, 0.0) + size
        return heavy

    @cached_property
    def _copied(self) -> dict[int, list[Copies]]:
        """Group -> copies of its variables."""
        found: dict[int, list[Copies]] = {}
        for copies in self.copies:
            found.setdefault(self.group[copies.task], []).append(copies)
        return found

    @cached_property
    def _stays(self) -> dict[tuple[int, int], dict[int, float]]:
        return {}  # as it is asked for: there may be many groups, and many devices

    def stays(self, group: int, device: int) -> Mapping[int, float]:
        """Device -> bytes that a group's variables, and copies of these, take there throughout,
        where the group is on the given one."""
        known = self._stays.get((group, device))
        if known is None:
            known = {device: self.heavy[group]} if group in self.heavy else {}
            for copies in self._copied.get(group, ()):
                for each in copies.where[device]:
                    known[each] = known.get(each, 0.0) + copies.size
            self._stays[group, device] = known
        return known

    def base(self, where: Callable[[int], int]) -> list[float]:
        """Device -> bytes that stay there throughout.

        Args:
          where: from a group to its device.
        """
        base = [0.0] * len(self.topology.devices)
        for group in self.heavy:
            for device, size in self.stays(group, where(group)).items():
                base[device] += size
        return base

    def link(self, source: int, target: int) -> Link:
        """The link from one device to another, by their numbers."""
        devices = self.topology.devices
        return self.topology.link(devices[source].name, devices[target].name)

    @cached_property
    def alpha(self) -> list[list[float]]:
        """Device -> device -> seconds per message."""
        every = range(len(self.topology.devices))
        return [[self.link(a, b).alpha for b in every] for a in every]

    @cached_property
    def hold(self) -> list[list[float]]:
        """Device -> device -> share of a transfer in which the sender is held."""
        every = range(len(self.topology.devices))
        return [[self.link(a, b).hold for b in every] for a in every]

    @cached_property
    def source_load(self) -> list[list[float]]:
        """Device -> device -> share of a transfer that the sender loses, if it computes."""
        every = range(len(self.topology.devices))
        return [[self.link(a, b).source_load for b in every] for a in every]

    @cached_property
    def target_load(self) -> list[list[float]]:
        """Device -> device -> share of a transfer that the receiver loses, if it computes."""
        every = range(len(self.topology.devices))
        return [[self.link(a, b).target_load for b in every] for a in every]

    @cached_property
    def loaded(self) -> bool:
        """Do devices lose time to transfers, or to each other?"""
        return bool(self.work) or any(
            map(any, (row for loads in (self.source_load, self.target_load) for row in loads))
        )

    @cached_property
    def per_byte(self) -> list[list[float]]:
        """Device -> device -> seconds per byte."""
        every = range(len(self.topology.devices))
        return [[1.0 / self.link(a, b).beta for b in every] for a in every]

    @cached_property
    def roomy(self) -> bool:
        """Do all values fit anywhere, of which each device has one copy at most?"""
        sizes = [d.memory for d in self.topology.devices]
        copied = sum([c.size * max(map(len, c.where)) for c in self.copies])
        held = sum(self.sizes) + sum(self.resident.values()) + copied
        return held <= min(sizes)

    @cached_property
    def alike(self) -> bool:
        """May the devices be numbered in any other way, with no difference?"""
        n = len(self.topology.devices)
        pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
        return (
            len({d.memory for d in self.topology.devices}) == 1
            and (self.roomy or not self.copies)
            and len({(self.alpha[a][b], self.per_byte[a][b]) for a, b in pairs}) <= 1
            and all(len(allowed) == n for allowed in self.allowed)
            and all(len(set(row)) == 1 for row in self.seconds)
        )

    def critical_path(self) -> float:
        """A bound from below on every makespan: each task at its fastest, messages for free."""
        finish = [0.0] * self.tasks
        for task, values in enumerate(self.needs):
            ready = max([finish[self.producer[v]] for v in values], default=0.0)
            allowed = self.allowed[self.group[task]]
            finish[task] = ready + min([self.seconds[task][d] for d in allowed])
        return max(finish, default=0.0)

    def lower_bound(self) -> float:
        """The critical path, or the total work spread evenly over all devices."""
        return self._lower_bound

    @cached_property
    def _lower_bound(self) -> float:
        fastest = sum(
            min([row[d] for d in self.allowed[self.group[task]]])
            for task, row in enumerate(self.seconds)
        )
        return max(self.critical_path(), fastest / len(self.topology.devices))


def is_everywhere(operation: Operation, subgraph: Subgraph) -> bool:
    """Is it a constant that waits for nothing?  Devices have copies: it never travels."""
    return operation.type == "Const" and not subgraph.after.get(operation)


Beside = Callable[[Operation, Tensor], Operation | None]


def problem_of(
    subgraph: Subgraph,
    groups: Sequence[Group],
    topology: Topology,
    model: CostModel,
    beside: Beside = lambda operation, tensor: None,
) -> Problem:
    """The numbers of a subgraph.

    Args:
      subgraph: its operations.
      groups: those that share a device.
      topology: the devices.
      model: what operations cost.
      beside: what makes a tensor for an operation, where it is not what makes it for others.
    """
    order = subgraph.order
    index = {o: i for i, o in enumerate(order)}
    values = _Values(index, subgraph, model, beside)
    needs = [values.of(o) for o in order]
    kept = values.known(subgraph.fetches)
    group = [0] * len(order)
    for g, members in enumerate(groups):
        for o in members.members:
            group[index[o]] = g
    work = [model.work(o) for o in order]
    resident = {
        index[o]: float(math.prod(model.filled(o.attrs["dims"])) * o.attrs["dtype"].size)
        for o in order
        if o.type == "VarHandle" and values.maker[o.outputs[0]] is o  # of its copies, see `copies`
    }
    return Problem(
        topology,
        [o.name for o in order],
        [
            [model.seconds(o, w, device) for device in topology.devices]
            for o, w in zip(order, work, strict=True)
        ],
        needs,
        values.producer,
        values.sizes,
        group,
        [[topology.index[n] for n in g.allowed] for g in groups],
        resident,
        kept,
        frozenset([v for v, i in enumerate(values.producer) if order[i].type == "ReadVariable"]),
        work if topology.hosts or topology.links else (),
        copies_of(subgraph, resident, topology),
    )


class _Values:
    """Numbers the values as they are needed."""

    def __init__(
        self,
        index: Mapping[Operation, int],
        subgraph: Subgraph,
        model: CostModel,
        beside: Beside,
    ):
        self.index = index
        self.beside = beside
        self.fed = set(subgraph.feeds)
        self.maker = makers(subgraph)
        self.after = subgraph.after
        self.free = {o for o in subgraph.order if is_everywhere(o, subgraph)}
        self.model = model
        self.producer: list[int] = []
        self.sizes: list[float] = []
        self._numbers: dict[tuple[Tensor | Operation, Operation], int] = {}

    def of(self, operation: Operation) -> list[int]:
        """What the operation waits for."""
        fed, free, maker = self.fed, self.free, self.maker
        beside = self.beside
        inputs = [(t, beside(operation, t) or maker[t]) for t in operation.inputs if t not in fed]
        found = [self._number(t, o) for t, o in inputs if o not in free]
        after = self.after.get(operation, ())
        found += [self._number(o, o) for o in after if o in self.index and o not in free]
        return list(dict.fromkeys(found))

    def known(self, tensors: Sequence[Tensor]) -> frozenset[int]:
        return frozenset([self._number(t, self.maker[t]) for t in tensors if t not in self.fed])

    def _number(self, key: Tensor | Operation, operation: Operation) -> int:
        number = self._numbers.get((key, operation))
        if number is None:
            number = self._numbers[key, operation] = len(self.producer)
            self.producer.append(self.index[operation])
            self.sizes.append(self._size(key))
        return number

    def _size(self, key: Tensor | Operation) -> float:
        if isinstance(key, Operation) or key.dtype in STAYS:
            return CONTROL_BYTES
        return float(self.model.bytes(key))
