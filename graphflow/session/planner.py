"""What a session knows of its devices' speeds, and when it plans anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from graphflow.build import Graph
from graphflow.place import CostModel, Placement, Topology, place
from graphflow.place.place import search
from graphflow.place.problem import problem_of
from graphflow.place.profile import Profile, extents, worth_replanning
from graphflow.place.simulate import simulate
from graphflow.rewrite.subgraph import Subgraph

MATTERS = 10e-3  # seconds of a step from which on choosing its devices is worth a calibration
SEEN = 3  # traced steps of a plan before it is judged: the first one pays for what starts


@dataclass
class Planner:
    """Places subgraphs by what was assumed, calibrated and measured so far.

    Attributes:
      topology: devices and links, in what is known of their speeds.
      profile: what traced runs have told.
      open_session: graph -> another session on the same devices; None: they cannot be measured.
      learns: measure devices by itself when it first matters, and the first steps of a plan.
      traces: a traced step tells what each operation takes; native code does not.
      default: the device of operations that ask for none; None: choose.
    """

    topology: Topology
    profile: Profile = field(default_factory=Profile)
    open_session: Callable[[Graph], Any] | None = None
    learns: bool = False
    traces: bool = True
    default: str | None = None
    _calibrated: bool = False
    _seen: WeakKeyDictionary[Placement, int] = field(default_factory=WeakKeyDictionary)

    def place(self, view: Subgraph, *, soft: bool, held: Mapping[str, str]) -> Placement:
        """As `graphflow.place.place`, with the measured costs.

        The first step that is long enough, and may go to several devices, has them measured
        before, unless that was done on this machine once.
        """
        placement = self._place(view, soft, held)
        if self.learns and not self._calibrated and self._matters(placement):
            self.calibrate()
            placement = self._place(view, soft, held)
        return placement

    def _place(self, view: Subgraph, soft: bool, held: Mapping[str, str]) -> Placement:
        return place(
            view, self.topology, soft=soft, default=self.default, held=held, model=self.model
        )

    def _matters(self, placement: Placement) -> bool:
        choice = any(len(group.allowed) > 1 for group in placement.groups or ())
        return choice and placement.predicted >= MATTERS

    def calibrate(self, path: Path | None = None) -> None:
        """Measure the devices, or read what was measured before; see `Session.calibrate`."""
        from graphflow.session.calibrate import calibrated

        assert self.open_session is not None
        self._calibrated = True
        self.topology, profile = calibrated(self.open_session, self.topology, path)
        if profile.means:
            self.profile = profile

    def curious(self, placement: Placement) -> bool:
        """Is the next step of this plan to be traced, so that `observe` can learn from it?"""
        if placement.groups is None or not (self.learns and self.traces):
            return False
        if placement not in self._seen and not self._matters(placement):
            self._seen[placement] = SEEN  # no more of this
        return self._seen.get(placement, 0) < SEEN

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
        self.profile.observe(extents(spans), operations, placement.model)
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
