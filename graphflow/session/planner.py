"""What a session knows of its devices' speeds, and when it plans anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from graphflow.place import CostModel, Placement, Topology, place
from graphflow.place.place import search
from graphflow.place.problem import problem_of
from graphflow.place.profile import Profile, worth_replanning
from graphflow.place.simulate import simulate
from graphflow.rewrite.subgraph import Subgraph

SEEN = 3  # traced steps of a plan before it is judged: the first one pays for what starts


@dataclass
class Planner:
    """Places subgraphs by what was assumed, calibrated and measured so far.

    Attributes:
      topology: devices and links, in what is known of their speeds.
      profile: what traced runs have told.
    """

    topology: Topology
    profile: Profile = field(default_factory=Profile)
    _seen: WeakKeyDictionary[Placement, int] = field(default_factory=WeakKeyDictionary)

    def place(self, view: Subgraph, *, soft: bool, held: Mapping[str, str]) -> Placement:
        """As `graphflow.place.place`, with the measured costs."""
        return place(view, self.topology, soft=soft, held=held, model=self.model)

    @property
    def model(self) -> CostModel:
        return CostModel(profile=self.profile if self.profile.means else None)

    def observe(self, placement: Placement, spans: Iterable[Any]) -> bool:
        """Take in a traced step.

        Returns:
          Is the step to be planned anew?  It is where prediction and measurement differ by more
          than 20 % and another plan is more than 5 % better by what is known now.
        """
        spans = list(spans)
        operations = {o.name: o for o in placement.subgraph.order}
        self.profile.observe(spans, operations, placement.model)
        if placement.groups is None or len(self.topology.devices) == 1:
            return False
        seen = self._seen[placement] = self._seen.get(placement, 0) + 1
        if seen != SEEN:
            return False
        known = [s for s in spans if s.name in operations]
        end = max([s.start + s.seconds for s in known], default=0.0)
        measured = end - min([s.start for s in known], default=0.0)
        return self._better(placement, measured)

    def _better(self, placement: Placement, measured: float) -> bool:
        groups = placement.groups or ()
        fresh = problem_of(placement.subgraph, groups, self.topology, self.model)
        old = placement.schedule
        rank = [0.0] * fresh.tasks
        for position, task in enumerate(old.order):
            rank[task] = -float(position)
        current = simulate(fresh, old.where, rank).makespan
        better = search(fresh)[1].makespan
        return worth_replanning(placement.makespan, measured, current, better)
