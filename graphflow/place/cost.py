"""What an operation costs: flops and bytes from the registry, seconds on a device.

Sizes that are not known before the run are assumed: the first one of a shape is taken as the
batch (32, or what was fed), any other one as 64, an unknown rank as (batch, 64).  A loop is
taken to run ten times, where constants do not say how often, a branch to be each branch in turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from graphflow.base.dtypes import DType
from graphflow.base.errors import InvalidArgumentError
from graphflow.base.shapes import Dims
from graphflow.build.body import Body
from graphflow.build.tensor import Operation, Tensor
from graphflow.place.devices import Device
from graphflow.place.trips import trips
from graphflow.rewrite.effects import bodies as bodies_of

BATCH = 32
SIZE = 64
TRIPS = 10


class Sized(NamedTuple):
    """A tensor's shape with every size filled in: what `OpDef.cost` reads."""

    dims: tuple[int, ...]
    dtype: DType

    @property
    def size(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.size


class Work(NamedTuple):
    """What an operation does: floating-point operations, and bytes read and written."""

    flops: float
    bytes: float


class Measured(Protocol):
    """Seconds of operations that were measured; `profile.Profile` is one."""

    def seconds(self, operation: Operation, device: str, model: CostModel) -> float | None: ...


@dataclass(frozen=True)
class CostModel:
    """Work and seconds of operations.

    Attributes:
      batch: what an unknown first size is taken as.
      size: what other unknown sizes are taken as.
      trips: how often a loop is taken to run, where that is not known.
      measured: seconds by (operation name, device name), where they are known.
      profile: what was measured for operations of that kind and shape.
    """

    batch: int = BATCH
    size: int = SIZE
    trips: int = TRIPS
    measured: Mapping[tuple[str, str], float] = field(default_factory=dict)
    profile: Measured | None = None

    def filled(self, dims: Dims) -> tuple[int, ...]:
        """The shape with assumptions in place of unknown sizes."""
        if dims is None:
            return (self.batch, self.size)
        if None not in dims:
            return dims  # type: ignore[return-value]
        rest = [self.size if n is None else n for n in dims[1:]]
        return (self.batch if dims[0] is None else dims[0], *rest)

    def sized(self, tensor: Tensor) -> Sized:
        return Sized(self.filled(tensor.dims), tensor.dtype)

    def bytes(self, tensor: Tensor) -> int:
        """Bytes of a tensor's value."""
        return self.sized(tensor).bytes

    def work(self, operation: Operation) -> Work:
        """Flops and bytes of one operation.

        Raises:
          InvalidArgumentError: the entry's cost is negative or not a number.
        """
        bodies = bodies_of(operation)
        if bodies:
            return self._work_of_bodies(operation, bodies)
        opdef = operation.opdef
        inputs = [self.sized(t) for t in operation.inputs]
        outputs = [self.sized(t) for t in operation.outputs]
        flops = self._flops(operation, inputs, float(sum(t.size for t in outputs)))
        if opdef.alias is not None or not operation.inputs:  # a view, a constant, a handle
            return Work(flops, 0.0 if flops == 0 else float(sum(t.bytes for t in outputs)))
        return Work(flops, float(sum(t.bytes for t in (*inputs, *outputs))))

    def _flops(self, operation: Operation, inputs: list[Sized], one_each: float) -> float:
        opdef = operation.opdef
        if opdef.cost is None:
            return one_each
        # A shape, say, is known by its value: that of the host inputs can be looked up.
        seen = [t if i in opdef.host else inputs[i] for i, t in enumerate(operation.inputs)]
        try:
            flops = float(opdef.cost(*seen, **operation.attrs))
        except ValueError:  # the assumed sizes do not fit together
            return one_each
        if not 0 <= flops < math.inf:
            raise InvalidArgumentError(
                operation.name,
                operation,
                f"the cost of {operation.type} {operation.name!r} is {flops}; it must be a "
                f"finite number of flops; built at {operation.site}",
            )
        return flops

    def _work_of_bodies(self, operation: Operation, bodies: list[Body]) -> Work:
        flops = moved = 0.0
        for body in bodies:
            for inner in body.operations:
                work = self.work(inner)
                flops += work.flops
                moved += work.bytes
        times = 1.0 / len(bodies)
        if operation.type == "While":
            known = trips(operation)
            times = self.trips if known is None else known
        return Work(flops * times, moved * times)

    def seconds(self, operation: Operation, work: Work, device: Device) -> float:
        """How long an operation takes on a device: measured, else by the roofline."""
        known = self.measured.get((operation.name, device.name)) if self.measured else None
        if known is not None:
            return known
        if self.profile is not None:
            known = self.profile.seconds(operation, device.name, self)
            if known is not None:
                return known
        if not work.flops and not work.bytes:
            return 0.0
        return max(work.flops / device.flops, work.bytes / device.bandwidth) + device.launch
