"""What a worker holds for a session, as far as its plans tell: has another one copies of that?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from graphflow.base.state import StateKey
from graphflow.compile.plan import CONTEXT, Plan, Step
from graphflow.distribute.shipment import Shipment


class Holdings(NamedTuple):
    """Attributes:
    writes: the variables that a worker's share of a plan may give values.
    alone: it has state that no other worker can have: a queue, or random counters of which its
      answers do not tell.
    """

    writes: frozenset[StateKey] = frozenset()
    alone: bool = False


def holdings(shipment: Shipment) -> Holdings:
    """What a worker holds after its share of a plan."""
    writes: set[StateKey] = set()
    alone = False
    for part in shipment.parts:
        known = part.plan.constants
        for step in part.plan.steps:
            inner = list(_inner(step))
            alone |= any(_is_alone(each, bool(shipment.mirrored)) for each in (step, *inner))
            if any(each.opdef.writes for each in (step, *inner)):
                handles = [known.get(slot) for slot in step.inputs if slot != CONTEXT]
                keys = {key for key in handles if isinstance(key, StateKey)}
                writes |= keys
                alone |= not keys
    return Holdings(frozenset(writes), alone)


def _inner(step: Step) -> Iterator[Step]:
    """The steps of the bodies that a step owns."""
    for value in step.attrs.values():
        if isinstance(value, Plan):
            for each in value.steps:
                yield each
                yield from _inner(each)


def _is_alone(step: Step, tells: bool) -> bool:
    resource = step.opdef.effect == "state" and step.opdef.name.endswith("Handle")
    counts = step.opdef.random or "stream" in step.attrs  # also who prints the first n times
    return resource or (counts and not tells)
