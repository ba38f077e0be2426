"""The result of placing: a device for each operation, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from graphflow.build.tensor import Operation, Tensor
from graphflow.place.constraints import Group, Requests, groups_of, owns_state
from graphflow.place.cost import CostModel
from graphflow.place.devices import Topology
from graphflow.place.heuristics import upward_rank
from graphflow.place.memory import no_room
from graphflow.place.problem import Problem, problem_of
from graphflow.place.simulate import Schedule, simulate
from graphflow.rewrite.subgraph import Subgraph


@dataclass(frozen=True, eq=False)
class Placement:
    """Where each operation of a subgraph runs.

    Attributes:
      subgraph: what was placed.
      topology: the devices that it was placed on.
      devices: operation -> full name of its device.
      groups: operations that share a device; None: not needed, one device has all.
      model: the cost model it was judged by.
      algorithm: which candidate won.
      order: the operations in the order in which they are planned to start, over all devices;
        empty: that of the subgraph.
      clones: (tensor, device) -> the copy of the operation that makes it there; see `mirror`.
    """

    subgraph: Subgraph
    topology: Topology
    devices: Mapping[Operation, str]
    groups: Sequence[Group] | None
    model: CostModel
    algorithm: str
    order: tuple[Operation, ...] = ()
    clones: Mapping[tuple[Tensor, str], Operation] = field(default_factory=dict)

    def __getitem__(self, operation: Operation) -> str:
        return self.devices[operation]

    @cached_property
    def used(self) -> tuple[str, ...]:
        """The devices that have operations, in the order of the topology."""
        present = set(self.devices.values())
        return tuple([d.name for d in self.topology.devices if d.name in present])

    @cached_property
    def state(self) -> Mapping[str, str]:
        """Where state lives: name of the operation that makes the handle of a variable or queue,
        or has a random counter -> device; pass it as `held`."""
        return {o.name: d for o, d in self.devices.items() if owns_state(o)}

    @cached_property
    def problem(self) -> Problem:
        groups = self.groups
        if groups is None:
            groups = groups_of(self.subgraph, Requests(self.topology))
        return problem_of(self.subgraph, groups, self.topology, self.model, self._beside)

    def _beside(self, operation: Operation, tensor: Tensor) -> Operation | None:
        """A copy of what makes a tensor, on the device of an operation; None: there is none."""
        return self.clones.get((tensor, self.devices[operation])) if self.clones else None

    @cached_property
    def whole(self) -> Placement:
        """With all that mirrors of variables do in a step; what was placed, where there are none.

        Raises:
          GraphError: see `mirror`.
        """
        from graphflow.place.mirror import mirror

        return self if self.clones else mirror(self)

    @cached_property
    def schedule(self) -> Schedule:
        """The simulated step."""
        index = self.topology.index
        where = [index[self.devices[o]] for o in self.subgraph.order]
        return simulate(self.problem, where, upward_rank(self.problem))

    @property
    def predicted(self) -> float:
        """Seconds of one step with what starting it takes."""
        schedule = self.whole.schedule
        return schedule.makespan + schedule.starting

    @cached_property
    def digest(self) -> str:
        """The plan's hash: the same for the same graph, topology and profile, in any process."""
        plan = hashlib.sha256()
        for device in self.topology.devices:
            plan.update(f"{device.name}\n".encode())
        for operation in self.order or self.subgraph.order:
            plan.update(f"{operation.name}\t{operation.type}\t{self[operation]}\n".encode())
        return plan.hexdigest()

    @property
    def makespan(self) -> float:
        """Predicted seconds of one step."""
        return self.whole.schedule.makespan

    @property
    def lacks(self) -> str:
        """What is to be said where it does not fit into memory; "": it does, or one device has
        all, for which there is no choice."""
        if self.groups is None or not self.whole.schedule.overflow:
            return ""
        return no_room(self.whole.schedule)

    def explain(self) -> str:
        """The placement in words: predicted time, bound, load of devices, reason per group."""
        from graphflow.place.explain import explain

        return explain(self)
