"""Execution in this process: one thread per device, values handed over by reference."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from graphflow.base.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from graphflow.build.tensor import Tensor
from graphflow.compile import Plan, compile_plan, takes_input
from graphflow.execute.context import Resources, Run
from graphflow.execute.devices import Device, gpu_memory, open_device
from graphflow.execute.inputs import InputLog
from graphflow.execute.numerics import Numerics, numerics
from graphflow.execute.program import Program
from graphflow.execute.rendezvous import Rendezvous
from graphflow.execute.store import Conflict, Store
from graphflow.execute.threads import limit_threads
from graphflow.execute.tiered import TieredProgram
from graphflow.execute.tiers import Tiers
from graphflow.execute.trace import StepStats, Trace
from graphflow.partition import Partitions
from graphflow.place import Topology, local_topology

_POOL = "graphflow-device"
_MANY = 4096  # threads at most; idle ones are used again before a new one starts
_CONFLICTS = 8  # after as many, a run keeps others from committing until it has


class LocalTarget:
    """The devices and the state of one session, in this process.

    Attributes:
      topology: its devices.
      store: the values of its variables.
      resources: its queues and the like.
    """

    def __init__(
        self,
        seed: int,
        cpus: int = 1,
        gpus: int | None = None,
        threads: int = 0,
        tier: str = "reference",
        fixed: bool = False,
    ):
        """Args:
        seed: seed of random ops that have none.
        cpus: number of virtual CPU devices.
        gpus: number of GPUs; None: all that CuPy can use.
        threads: threads of a matrix product, in the whole process, and of native code; 0: as it
          is, and as many as cores.
        tier: which tier executes; see `Settings`.

        Raises:
          InvalidArgumentError: a GPU that is asked for is not there.
        """
        memory = () if gpus == 0 else gpu_memory()[:gpus]
        self.topology: Topology = local_topology(max(1, cpus), memory)
        self.store = Store()
        if threads:
            limit_threads(threads)
        self.tiers = Tiers(tier, threads, fixed, max(1, cpus))
        self._threads = threads
        self._seed = seed
        self.resources = Resources()
        self._devices: dict[str, Device] = {}
        self._closed = threading.Event()
        self._waiting: set[threading.Event] = set()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def device(self, name: str) -> Device:
        """The device of that name, opened when it is first used."""
        with self._lock:
            if name not in self._devices:
                self._devices[name] = open_device(name)
            return self._devices[name]

    def load(self, partitions: Partitions) -> LocalExecutable:
        """Compile partitions for the devices of this process."""
        return LocalExecutable(self, partitions)

    def begin(self, inputs: InputLog, cancelled: threading.Event) -> Run:
        """A new run of this session."""
        return Run(self.store, self.resources, self._seed, inputs, cancelled)

    def capture(self) -> Any:
        """All state, for `restore` of a target like this one; no run may be under way."""
        return {"": (self.store.entries, self.resources.copies())}

    def restore(self, state: Any) -> None:
        """Go on from a state.

        Raises:
          InvalidArgumentError: it is that of a cluster.
        """
        if set(state) != {""}:
            raise InvalidArgumentError(
                None,
                None,
                f"the state is that of a cluster of {len(state)} workers: give the session one "
                f"again, cluster=graphflow.Cluster({len(state)})",
            )
        entries, resources = state[""]
        self.store.reset(entries)
        self.resources.reset(resources)

    @property
    def numerics(self) -> Numerics:
        """What the last bits of its results depend on."""
        native = self.tiers.tier == "native"
        return numerics(self.tiers.tier, self.tiers.threads if native else self._threads)

    def cancellation(self, timeout: float | None) -> threading.Event:
        """An event that is set when a run must stop waiting."""
        if timeout is None:
            return self._closed
        event = threading.Event()
        with self._lock:
            self._waiting.add(event)
        return event

    def finished(self, cancelled: threading.Event) -> None:
        """The run with that event has ended."""
        with self._lock:
            self._waiting.discard(cancelled)

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for devices; started when more than one device is used."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_MANY, thread_name_prefix=_POOL)
            return self._pool

    def close(self) -> None:
        """Wake and end everything that belongs to the session."""
        self._closed.set()
        with self._lock:
            for event in self._waiting:
                event.set()
        self.resources.close()
        self.tiers.close()
        if self._pool is not None:
            here = threading.current_thread().name.startswith(_POOL)  # a thread of a pool closes it
            self._pool.shutdown(wait=not here)


class LocalExecutable:
    """Programs for the devices of this process, ready to run together."""

    def __init__(self, target: LocalTarget, partitions: Partitions):
        self._target = target
        feeds = partitions.subgraph.feeds
        self.plans: Mapping[str, Plan] = {
            device: compile_plan(part.order, part.feeds, part.fetches, part.origins)
            for device, part in partitions.parts.items()
        }
        self._programs = [target.tiers.program(p, target.device(d)) for d, p in self.plans.items()]
        index = {tensor: i for i, tensor in enumerate(feeds)}
        self._feeds = [[index[t] for t in part.feeds] for part in partitions.parts.values()]
        self._outputs = self._positions(partitions)
        self._kept = {
            tensor
            for part, plan in zip(partitions.parts.values(), self.plans.values(), strict=True)
            for tensor, port in zip(part.feeds, plan.inputs, strict=True)
            if port.keep
        }

    def _positions(self, partitions: Partitions) -> list[tuple[int, int, bool]]:
        """Device, position and whether to copy, of each fetch."""
        devices = {name: i for i, name in enumerate(partitions.devices)}
        positions = {
            (name, t): i for name, p in partitions.parts.items() for i, t in enumerate(p.fetches)
        }
        counts = Counter(partitions.subgraph.fetches)
        found = []
        for tensor in partitions.subgraph.fetches:
            name = partitions.fetched[tensor]
            position = positions[name, tensor]
            shared = counts[tensor] > 1 or self.plans[name].outputs[position].shared
            found.append((devices[name], position, shared))
        return found

    def keeps(self, feed: Tensor) -> bool:
        """Does a run keep what is fed for this tensor, so that it must be a copy?"""
        return feed in self._kept

    sent: tuple[str, ...] = ()  # to other workers

    def explain(self, feeds: Sequence[Any]) -> list[Any]:
        """A `Report` per program and combination of shapes; native code is built if it can be.

        What was not compiled yet is run once for its shapes, and that run is aborted.  A plan
        that takes input is reported as it stands.
        """
        if not any(map(takes_input, self.plans.values())):
            run = self._target.begin(InputLog(), self._target.cancellation(None))
            try:
                if len(self._programs) == 1:
                    self._programs[0].observe(run, [feeds[i] for i in self._feeds[0]])
                else:
                    self._together(
                        run.cancelled,
                        lambda program, values, meet: program.observe(run, values, meet),
                        feeds,
                    )
            finally:
                run.abort()
        return self.reports()

    def reports(self) -> list[Any]:
        """A `Report` per program and combination of shapes, as it is by now."""
        return [report for program in self._programs for report in program.report()]

    def run(
        self, feeds: Sequence[Any], timeout: float | None = None, trace: Any = None
    ) -> list[Any]:
        """Values of the fetches.  The run's effects are applied as a whole, or not at all.

        Args:
          feeds: an array per fed tensor.
          timeout: seconds after which waits end; None: none.
          trace: a `RunMetadata` to fill, or None.

        Raises:
          OpError: a kernel failed or a wait ended; nothing was changed.
        """
        if trace is None and len(self._programs) == 1:
            values = self._programs[0].at_once([feeds[i] for i in self._feeds[0]])
            if values is not None:
                return [self._hand_out([values], *output) for output in self._outputs]
        recorded = None if trace is None else Trace()
        cancelled = self._target.cancellation(timeout)
        timer = None
        if timeout is not None:
            timer = threading.Timer(timeout, cancelled.set)
            timer.daemon = True
            timer.start()
        try:
            results = self._attempts(feeds, cancelled, recorded)
        except CancelledError as error:
            if timer is not None and not timer.is_alive() and not self._target._closed.is_set():
                late = DeadlineExceededError(
                    error.node_def, None, f"the run did not finish within {timeout} s: {error}"
                )
                for note in getattr(error, "__notes__", ()):  # where it waited
                    late.add_note(note)
                raise late from error
            raise
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()  # no deadline: it was cancelled, or sets an event
                self._target.finished(cancelled)
        if recorded is not None:
            trace.step_stats = StepStats(recorded.spans)
        return results

    def _attempts(
        self, feeds: Sequence[Any], cancelled: threading.Event, trace: Trace | None
    ) -> list[Any]:
        """Run until it commits: overlapping runs may write what this one has read."""
        inputs = InputLog()
        try:
            while True:
                for _ in range(_CONFLICTS):
                    try:
                        return self._attempt(feeds, inputs, cancelled, trace)
                    except Conflict:
                        continue
                with self._target.store.exclusive(), inputs.replayed(), suppress(Conflict):
                    return self._attempt(feeds, inputs, cancelled, trace)
        finally:
            inputs.end(self._target.resources)

    def _attempt(
        self,
        feeds: Sequence[Any],
        inputs: InputLog,
        cancelled: threading.Event,
        trace: Trace | None,
    ) -> list[Any]:
        run = self._target.begin(inputs, cancelled)
        try:
            if len(self._programs) == 1:
                values = [
                    self._programs[0].run(run, [feeds[i] for i in self._feeds[0]], None, trace)
                ]
            else:
                values = self._together(
                    cancelled,
                    lambda program, values, meet: program.run(run, values, meet, trace),
                    feeds,
                )
                if run.rehearsed:  # all devices begin anew, on native code
                    if trace is not None:
                        trace.restart()
                    raise Conflict
            results = [self._hand_out(values, *output) for output in self._outputs]
            run.commit()
        except BaseException:
            run.abort()
            raise
        return results

    def _hand_out(self, values: list[list[Any]], device: int, position: int, copy: bool) -> Any:
        """A value for the user: a scalar where it has no axes, and nobody else's memory."""
        value = self._programs[device].device.get(values[device][position])
        if isinstance(value, np.ndarray):
            if value.ndim == 0:
                return value[()]
            if copy or not value.flags.writeable:
                try:
                    return value.copy()
                except MemoryError as error:  # it was a view, as of a broadcast
                    raise ResourceExhaustedError(None, None, f"a fetched value: {error}") from error
        return value

    def _together(
        self, cancelled: threading.Event, work: Callable[[Any, Any, Any], Any], feeds: Sequence[Any]
    ) -> list[Any]:
        """What the programs of all devices give, at once: (program, its feeds, where they meet)."""
        rendezvous = Rendezvous(cancelled)

        def one(program: Program | TieredProgram, indices: list[int]) -> Any:
            try:
                return work(program, [feeds[i] for i in indices], rendezvous)
            except BaseException as error:
                rendezvous.abort(error)
                raise

        pairs = list(zip(self._programs, self._feeds, strict=True))
        with self._target.tiers.alike():
            return self._all(one, pairs, rendezvous)

    def _all(
        self, one: Callable[..., Any], pairs: Sequence[Any], rendezvous: Rendezvous
    ) -> list[Any]:
        """Results of all calls, the first on this thread."""
        try:
            futures = [self._target.pool.submit(one, *pair) for pair in pairs[1:]]
        except RuntimeError as error:  # the pool takes nothing any more
            rendezvous.abort(error)
            raise CancelledError(None, None, "the session was closed") from error
        results: list[Any] = []
        failures: list[BaseException] = []
        try:
            results.append(one(*pairs[0]))
        except BaseException as error:
            failures.append(error)
        for future in futures:
            # no deadline: a device that fails wakes the others, and so does the end of the run
            failure = future.exception()
            if failure is None:
                results.append(future.result())  # no deadline: it is done
            else:
                failures.append(failure)
        if failures:
            raise _first_cause(failures)
        return results


def _first_cause(failures: Sequence[BaseException]) -> BaseException:
    """The failure that others were cancelled for."""
    for failure in failures:
        if not isinstance(failure, CancelledError):
            return failure
    return failures[0]
