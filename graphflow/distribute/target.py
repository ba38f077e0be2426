"""A session's view of a cluster: its devices, and plans that are ready to run there."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import CancelledError, OpError, UnimplementedError
from graphflow.base.shapes import format_dims
from graphflow.base.state import StateKey
from graphflow.build.tensor import Tensor
from graphflow.compile import Plan, compile_plan
from graphflow.distribute.channel import worker_of
from graphflow.distribute.conductor import Conductor
from graphflow.distribute.driver import Outcome
from graphflow.distribute.messages import Prepared
from graphflow.distribute.shipment import Part, Shipment, observed
from graphflow.distribute.snapshot import Snapshot
from graphflow.execute.numerics import Numerics
from graphflow.execute.trace import aligned
from graphflow.partition import Partitions, Transfer
from graphflow.place import Topology


class ClusterTarget:
    """One session on the workers of a cluster.

    Attributes:
      topology: the devices of all workers.
      conductor: runs steps on them.
      version: how often the workers have changed; plans of another version are void.
      begins_ahead: may a run begin before the one before it is committed?
      heirs: worker before the last change -> worker that has its state now.
      mirrored: variables of which several workers have copies.
    """

    begins_ahead = True

    def __init__(self, topology: Topology, conductor: Conductor):
        self.topology = topology
        self.conductor = conductor
        self.version = 0
        self.heirs: Mapping[str, str] = {}
        self.mirrored: set[StateKey] = set()
        self._plans = itertools.count(1)

    def load(self, partitions: Partitions) -> ClusterExecutable:
        """Compile partitions, and ship each worker its share, once.

        Raises:
          CancelledError: the workers have changed since the partitions were made.
          OpError: a worker cannot take it, or does not answer within the deadline.
        """
        conductor = self.conductor
        executable = ClusterExecutable(conductor, next(self._plans), partitions)
        for shipment in executable.shipments.values():
            self.mirrored |= shipment.mirrored
        if not executable.shipments.keys() <= {*conductor.workers}:
            raise CancelledError(None, None, "it was planned for workers that have left")
        try:
            conductor.load(executable.number, executable.shipments)
        except OpError as error:
            if not conductor.closed or isinstance(error, CancelledError):
                raise
            message = "the session was closed, or its workers have changed, while a plan was loaded"
            raise CancelledError(None, None, message) from error
        return executable

    def follow(self, conductor: Conductor, topology: Topology, heirs: Mapping[str, str]) -> None:
        """Go on with other workers, which have the state."""
        self.conductor, self.topology, self.heirs = conductor, topology, heirs
        self.version += 1

    def now(self, device: str) -> str:
        """The device that has the state that another one had before the workers changed."""
        worker = worker_of(device)
        return self.heirs.get(worker, worker) + device.removeprefix(worker)

    def capture(self) -> Mapping[str, Any]:
        """All state, for `restore` of a target like this one; no run may be under way."""
        found = self.conductor.capture()
        return {worker: (state.entries, state.resources) for worker, state in found.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
          InvalidArgumentError: it is not that of so many workers.
        """
        self.conductor.restore({w: Snapshot(parts[0], parts[1], {}) for w, parts in state.items()})

    @property
    def numerics(self) -> Numerics:
        """What the last bits of its results depend on; the same on all workers, or they are told
        apart by name."""
        if not self.conductor.recovers:
            raise UnimplementedError(
                None, None, "sessions on servers, or with recover=False, cannot be resumed"
            )
        found = sorted(set(self.conductor.numerics.values()))
        return found[0]._replace(kernels="+".join(each.kernels for each in found))

    def statistics(self) -> dict[str, dict[str, int]]:
        """Worker -> counts since the session began.

        `steps`, `notices`, `loads` and `pings` are calls that the driver made; `copied` are bytes
        of copies of the worker's variables that came to the driver; `mirrored` is how often its
        state came from another worker, with nothing done again; `sent` and `bytes` are values that
        the worker sent to its peers, copies among them; `late` are values from peers that were
        dropped, as the attempt that they were for was over, or void by a loss.  `refused`
        connections to the worker and `malformed` or `replayed` frames are counted since it began.
        These four are there where they are not zero.
        """
        return self.conductor.statistics()

    def close(self) -> None:
        """Wake all runs, and drop the session's state on the workers; waits no longer than the
        deadline."""
        self.conductor.close()


def _told(transfer: Transfer) -> str:
    """What a transfer brings."""
    tensor = transfer.tensor
    if transfer.control:
        return f"that {tensor.op.name!r} is done"
    dims, dtype = tensor.dims, tensor.dtype
    size = "of a size that the step decides"
    known = [] if dims is None else [n for n in dims if n is not None]
    if dims is not None and len(known) == len(dims) and dtype is not dtypes.string:
        size = f"{math.prod(known) * dtype.np.itemsize} bytes"
    return f"{tensor.name!r} {dtype.name} {format_dims(dims)}, {size}"


class Begun:
    """A run that has begun before its turn."""

    def __init__(self, executable: ClusterExecutable, outcome: Outcome):
        self.outcome = outcome
        self._executable = executable

    @property
    def void(self) -> bool:
        """Was it taken back, before it was claimed?"""
        return self.outcome.ahead and self.outcome.done

    def result(self, timeout: float | None) -> list[Any]:
        """As `ClusterExecutable.run`."""
        return self._executable.hand_out(self._executable.conductor.claim(self.outcome, timeout))

    def withdraw(self) -> None:
        """It shall have no effect."""
        self._executable.conductor.withdraw(self.outcome)


class ClusterExecutable:
    """Partitions on their workers, ready to run."""

    def __init__(self, conductor: Conductor, number: int, partitions: Partitions):
        self.number = number
        self.conductor = conductor
        self.plans: Mapping[str, Plan] = {
            device: compile_plan(part.order, part.feeds, part.fetches, part.origins)
            for device, part in partitions.parts.items()
        }
        self._position = {t: i for i, t in enumerate(partitions.subgraph.feeds)}
        self._feeds: dict[str, tuple[int, ...]] = {}  # worker -> positions among all feeds
        self._fetched: list[tuple[str, int, bool]] = []  # worker, position in its answer, copy
        self.shipments = self._cut(partitions)
        self._transfers = partitions.transfers

    @property
    def sent(self) -> list[str]:
        """What workers send each other in each step: between which, what, and how much."""
        return [
            f"{worker_of(t.source)} -> {worker_of(t.destination)}: {_told(t)}"
            for t in self._transfers
            if worker_of(t.source) != worker_of(t.destination)
        ]

    def _cut(self, partitions: Partitions) -> dict[str, Shipment]:
        devices: dict[str, list[str]] = {}
        for device in partitions.devices:
            devices.setdefault(worker_of(device), []).append(device)
        outputs: dict[str, list[tuple[int, int]]] = {worker: [] for worker in devices}
        counts = Counter(partitions.subgraph.fetches)
        positions = {
            (name, t): i for name, p in partitions.parts.items() for i, t in enumerate(p.fetches)
        }
        places: dict[Tensor, int] = {}  # among its worker's outputs
        for tensor in partitions.subgraph.fetches:
            device = partitions.fetched[tensor]
            position = positions[device, tensor]
            worker = worker_of(device)
            if tensor not in places:
                places[tensor] = len(outputs[worker])
                outputs[worker].append((devices[worker].index(device), position))
            copy = counts[tensor] > 1 or self.plans[device].outputs[position].shared
            self._fetched.append((worker, places[tensor], copy))
        routes: dict[str, dict[str, str]] = {worker: {} for worker in devices}
        for transfer in partitions.transfers:
            source, target = worker_of(transfer.source), worker_of(transfer.destination)
            if source != target:
                routes[source][transfer.key] = target
        handles = [o for o in partitions.subgraph.order if o.type == "VarHandle"]
        mirrored = frozenset(k for graph in {o.graph.root for o in handles} for k in graph.mirrors)
        return {
            worker: Shipment(self._parts(worker, here, partitions), routes[worker],
                             tuple(outputs[worker]), len(devices) == 1, mirrored=mirrored)
            for worker, here in devices.items()
        }  # fmt: skip

    def _parts(self, worker: str, devices: list[str], partitions: Partitions) -> tuple[Part, ...]:
        feeds = dict.fromkeys(t for d in devices for t in partitions.parts[d].feeds)
        self._feeds[worker] = tuple(self._position[t] for t in feeds)
        index = {tensor: i for i, tensor in enumerate(feeds)}
        return tuple(
            Part(d, self.plans[d], tuple(index[t] for t in partitions.parts[d].feeds))
            for d in devices
        )

    def keeps(self, feed: Tensor) -> bool:
        """Does a run keep what is fed for this tensor, so that it must be a copy?  What reaches a
        worker is one; but the journal keeps what it may have to send again."""
        return self.conductor.recovers

    def explain(self, feeds: Sequence[Any]) -> list[Any]:
        """As `reports`; on workers, nothing is run for it."""
        return self.reports()

    def reports(self) -> list[Any]:
        """A `Report` per device and combination of shapes that its worker has met.

        It is made here, as the worker has made it; what was not run yet has no native code.
        """
        from graphflow.compile.native.build import build_native
        from graphflow.compile.native.cache import default_cache
        from graphflow.compile.native.report import Report

        reports = []
        for worker, shipment in self.shipments.items():
            told = self.conductor.shapes(worker, self.number)
            numerics = self.conductor.numerics[worker]  # None on servers, which compile nothing
            for number, part in enumerate(shipment.parts):
                known = [observed(shapes) for shapes in told if shapes.part == number]
                if not known:
                    reports.append(Report(part.plan, f"the reference tier, on {part.device}"))
                for inputs, found in known:
                    native = build_native(
                        part.plan, found, numerics.threads, default_cache(), exact=True
                    )
                    status = f"native code, on {part.device}"
                    reports.append(Report(part.plan, status, inputs, native))
        return reports

    def run(
        self, feeds: Sequence[Any], timeout: float | None = None, trace: Any = None
    ) -> list[Any]:
        """Values of the fetches.  The run's effects are applied on all workers, or on none.

        Args:
          feeds: an array per fed tensor.
          timeout: seconds after which the run fails; None: it may take as long as its workers
            give signs of life.
          trace: a `RunMetadata` to fill, or None.

        Raises:
          UnavailableError: a worker is lost.
          DeadlineExceededError: the run took longer than `timeout`, or a worker is frozen.
          OpError: a kernel failed; nothing was changed.
        """
        answers = self.conductor.run(self.number, self._shares(feeds), timeout, trace is not None)
        if trace is not None:
            spans = [span for answer in answers.values() for span in answer.spans]
            trace.step_stats = aligned(spans)
        return self.hand_out(answers)

    def begin(self, feeds: Sequence[Any], after: Begun | None) -> Begun:
        """Begin a run before its turn.

        Args:
          feeds: an array per fed tensor.
          after: the run that comes before it; None: all that came before are over.
        """
        before = None if after is None else after.outcome
        return Begun(self, self.conductor.begin(self.number, self._shares(feeds), before))

    def _shares(self, feeds: Sequence[Any]) -> dict[str, list[Any]]:
        return {worker: [feeds[i] for i in indices] for worker, indices in self._feeds.items()}

    def hand_out(self, answers: Mapping[str, Prepared]) -> list[Any]:
        """The values of the fetches, for the user."""
        return [self._hand_out(answers, *fetched) for fetched in self._fetched]

    def _hand_out(
        self, answers: Mapping[str, Prepared], worker: str, position: int, copy: bool
    ) -> Any:
        """A value for the user: a scalar where it has no axes, and nobody else's memory."""
        value = answers[worker].values[position]
        if isinstance(value, np.ndarray):
            if value.ndim == 0:
                return value[()]
            if copy or not value.flags.writeable:  # Ray's are views of its object store
                return value.copy()
        return value
