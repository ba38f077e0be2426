"""Puts workers in the place of lost ones: asks for one, makes the session known to it, and asks
for another one where that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphflow.base.errors import OpError
from graphflow.distribute.channel import Gone, Link
from graphflow.distribute.events import Irreplaceable, Replaced
from graphflow.distribute.messages import Shapes
from graphflow.distribute.shipment import Shipment

TRIES = 3  # workers that are tried, one after the other, in the place of a lost one


class Replacement:
    """A worker that is being put in the place of a lost one."""

    def __init__(self, expires: float, tries: int):
        self.expires = expires
        self.tries = tries
        self.stage = "replace"  # then "open"


class Replacements:
    """What a session tells the workers that take the place of lost ones.

    Its methods are called under the lock of the session, and do not wait.

    Attributes:
      seed: of the session's random ops that have none.
      tier: which tier its workers have.
      numerics: worker -> what the last bits of its results depend on.
    """

    def __init__(
        self,
        link: Link,
        workers: Sequence[str],
        deadline: float,
        start_deadline: float,
        clock: Callable[[], float],
        hears: Callable[[str, Replacement], Callable[[Any], None]],
        counts: Mapping[str, Counter[str]],
    ):
        """Args:
        link: the way to the workers.
        workers: their names.
        deadline: seconds without a sign of life after which a worker is given up.
        start_deadline: seconds that one in the place of a lost one may take to start.
        clock: gives seconds.
        hears: what puts down the answer of a worker, for `heard`.
        counts: worker -> what was done, for the statistics.
        """
        self.seed = 0
        self.tier = "reference"
        self.numerics: Mapping[str, Any] = {}
        self._link = link
        self._deadline = deadline
        self._start_deadline = start_deadline
        self._clock = clock
        self._hears = hears
        self._counts = counts
        self._shipments: dict[str, dict[int, Shipment]] = {worker: {} for worker in workers}
        self._shapes: dict[tuple[str, int], list[Shapes]] = {}  # by worker and plan
        self._current: dict[str, Replacement] = {}

    def keep(self, worker: str, plan: int, shipment: Shipment) -> None:
        """Note a plan, which whoever takes the worker's place needs, too."""
        self._shipments[worker][plan] = shipment

    def learn(self, worker: str, told: Shapes) -> None:
        """Note what a worker tells of shapes: whoever takes its place has no run to rehearse in."""
        known = self._shapes.setdefault((worker, told.plan), [])
        if told not in known:
            known.append(told)

    def shapes(self, worker: str, plan: int) -> tuple[Shapes, ...]:
        """What a worker has told of its share in a plan."""
        return tuple(self._shapes.get((worker, plan), ()))

    def start(self, worker: str, tries: int = 1) -> None:
        """Ask for a worker in the place of a lost one."""
        replacement = Replacement(self._clock() + self._start_deadline, tries)
        self._current[worker] = replacement
        self._counts[worker]["replaced"] += 1
        self._link.replace(worker, self._hears(worker, replacement))

    def heard(
        self, worker: str, replacement: Replacement, answer: Any
    ) -> Replaced | Irreplaceable | None:
        """It has started, or has the session and its plans, or there is none."""
        if self._current.get(worker) is not replacement:
            return None  # it was given up
        if isinstance(answer, OpError | Gone):
            reason = answer.reason if isinstance(answer, Gone) else str(answer)
            return self._again(worker, reason)
        if replacement.stage == "replace":
            replacement.stage = "open"
            shares = {plan: share._replace(shapes=self.shapes(worker, plan))
                      for plan, share in self._shipments[worker].items()}  # fmt: skip
            arguments = self.seed, self._deadline, shares, self.tier
            self._link.call(worker, "open", *arguments, hear=self._hears(worker, replacement))
            return None
        if answer != self.numerics.get(worker, answer):
            return self._again(worker, f"it would compute other bits: {answer}")
        del self._current[worker]
        return Replaced(worker)

    def look(self, now: float) -> list[Irreplaceable]:
        """Give up those that take too long."""
        late = [worker for worker, one in self._current.items() if now >= one.expires]
        reason = f"none has started within {self._start_deadline:g} s"
        ends = [self._again(worker, reason) for worker in late]
        return [end for end in ends if end is not None]

    def _again(self, worker: str, reason: str) -> Irreplaceable | None:
        """Try one more, or none."""
        tries = self._current.pop(worker).tries
        if tries >= TRIES:
            return Irreplaceable(worker, reason)
        self.start(worker, tries + 1)
        return None
