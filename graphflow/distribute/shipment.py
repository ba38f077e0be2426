"""What a worker is to execute of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.state import StateKey
from graphflow.compile.plan import Plan
from graphflow.distribute.messages import Shapes


class Part(NamedTuple):
    """What one device of a worker executes.

    Attributes:
      device: its full name.
      plan: the program.
      feeds: position, among the worker's feeds, of each of the plan's inputs.
    """

    device: str
    plan: Plan
    feeds: tuple[int, ...]


class Shipment(NamedTuple):
    """A worker's share of a plan.

    Attributes:
      parts: one per device that takes part.
      routes: key of a transfer -> the worker it goes to; those that stay here are not in it.
      outputs: (part, position among its outputs) of each value that the driver wants.
      alone: no other worker has a share.
      mirrored: variables of the graph of which several workers have copies.  Where there are some,
        answers tell of random counters, of which there are none.
      shapes: what workers that had this share before have told of it.
    """

    parts: tuple[Part, ...]
    routes: Mapping[str, str]
    outputs: tuple[tuple[int, int], ...]
    alone: bool = False
    shapes: tuple[Shapes, ...] = ()
    mirrored: frozenset[StateKey] = frozenset()


def shapes_of(plan: int, part: int, inputs: Any, found: Mapping[int, Any]) -> Shapes:
    """What a program has observed, as plain data."""
    slots = [(slot, dtype.str, tuple(shape)) for slot, (shape, dtype) in found.items()]
    return Shapes(plan, part, tuple(inputs), tuple(slots))


def observed(told: Shapes) -> tuple[Any, dict[int, Any]]:
    """Shapes of the inputs, and what a program has observed for them."""
    inputs = tuple([tuple(shape) for shape in told.inputs])
    return inputs, {s: (tuple(shape), np.dtype(kind)) for s, kind, shape in told.slots}
