"""What a kernel may ask of the run it is part of: state, input, output, bodies, transfers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

from graphflow.base.errors import CancelledError, InternalError
from graphflow.compile.plan import Step
from graphflow.execute import collective
from graphflow.execute.devices import Device
from graphflow.execute.failures import explained
from graphflow.execute.inputs import InputLog, Inputs, Place
from graphflow.execute.store import Transaction


class RandomStream(NamedTuple):
    """Key of a random op's counter."""

    stream: int


class Resources:
    """Objects that are no values: queues, tables.  Shared by all runs of a session.

    `copy.copy` of an object gives another one of the same content.
    """

    def __init__(self, objects: Mapping[Hashable, Any] | None = None) -> None:
        self._objects: dict[Hashable, Any] = dict(objects or {})
        self._lock = threading.Lock()

    def copies(self) -> dict[Hashable, Any]:
        """Copies of all objects as they are now."""
        with self._lock:
            return {key: copy(each) for key, each in self._objects.items()}

    def get(self, key: Hashable, factory: Callable[[], Any]) -> Any:
        """The object of that name, made if there is none."""
        with self._lock:
            if key not in self._objects:
                self._objects[key] = factory()
            return self._objects[key]

    def give_back(self, key: Hashable, value: Any) -> None:
        """Have an object have again what was taken from it."""
        with self._lock:
            found = self._objects.get(key)
        if found is not None:  # else it was closed
            found.give_back(value)

    def reset(self, objects: Mapping[Hashable, Any]) -> None:
        """Take others in place of these.  No run may be under way."""
        with self._lock:
            self._objects = dict(objects)

    def close(self, which: Callable[[Hashable], bool] = lambda key: True) -> None:
        """Forget objects, all or those whose keys are meant; wakes whoever waits for them."""
        with self._lock:
            closed = {key: each for key, each in self._objects.items() if which(key)}
            self._objects = {k: v for k, v in self._objects.items() if k not in closed}
        for each in closed.values():
            if hasattr(each, "cancel"):
                each.cancel()


class Output(NamedTuple):
    """What is released when a run commits.

    Attributes:
      release: a function; with methods `reserve` and `unreserve` where it may have to wait for
        room, or fail, before anything is applied; with a true attribute `anywhere` where another
        process may call it.
      step: what gave it.
      own: it goes into the session's own state, and not outside.
    """

    release: Any
    step: Step | None
    own: bool = False

    def explained(self, error: Exception) -> Exception:
        """The error to raise for what its release, or the reservation for it, raised."""
        return error if self.step is None else explained(error, self.step, ())


class Run:
    """One attempt to run a set of plans: a transaction, and what is released when it commits.

    Attributes:
      transaction: the state as this run sees it.
      inputs: what it takes, or finds in the log of what earlier attempts took.
      cancelled: set when the run must stop waiting.
      seed: the session's own seed, for random ops without one.
      rehearsed: (program, shapes of its inputs, what it observed) where the run has only told
        shapes to programs that compile: it must be aborted, and begin anew.
      choices: body of a loop, for some shapes -> the native code that does it in this run, or None.
    """

    __slots__ = (
        "_outputs",
        "_reserved",
        "cancelled",
        "choices",
        "inputs",
        "lock",
        "rehearsed",
        "resources",
        "seed",
        "transaction",
    )

    def __init__(
        self,
        store: Any,
        resources: Resources,
        seed: int,
        inputs: InputLog,
        cancelled: threading.Event,
    ):
        """Args:
        store: what gives the run's transaction: a `Store`, or a view of one.
        inputs: the log of all attempts of the run.
        """
        self.transaction: Transaction = store.begin()
        self.resources = resources
        self.seed = seed
        self.inputs: Inputs = inputs.begin()
        self.cancelled = cancelled
        self.lock = threading.Lock()
        self.rehearsed: list[tuple[Any, Any, Any]] = []
        self.choices: dict[Any, Any] = {}
        self._outputs: list[Output] = []
        self._reserved: list[Any] = []

    def output(self, release: Any, step: Step | None = None, own: bool = False) -> None:
        with self.lock:
            self._outputs.append(Output(release, step, own))

    def outputs(self) -> list[Any]:
        """What is to be released, in order."""
        with self.lock:
            return [output.release for output in self._outputs]

    def commit(self) -> None:
        """Make the run's effects real: state first, then output.

        Raises:
          Conflict: see `Transaction.commit`; nothing was applied.
          OpError: there is no room for its output, and nothing was applied; or see `release`.
        """
        if self._outputs:
            self.reserve()
        self.transaction.commit()
        self.inputs.keep()
        self._reserved.clear()
        if self._outputs:
            self.release()

    def reserve(self) -> None:
        """Make room for the output; `abort` gives it back.

        Raises:
          OpError: there is none.
        """
        for output in self._outputs:
            if hasattr(output.release, "reserve"):
                try:
                    output.release.reserve()
                except Exception as error:
                    raise output.explained(error) from error.__cause__
                self._reserved.append(output.release)

    def release(self) -> None:
        """Release the output of a run that is committed.

        Raises:
          OpError: a file cannot be written, or the like; the rest was released nevertheless.
        """
        failure: Exception | None = None
        for output in self._outputs:
            try:
                output.release()
            except Exception as error:
                failure = failure or output.explained(error)
        if failure is not None:
            failure.add_note("the run was committed before that: what it assigned stays")
            raise failure

    def abort(self) -> None:
        """Undo everything but what was taken as input."""
        for release in self._reserved:
            release.unreserve()
        self._reserved.clear()
        self.transaction.abort()
        self._outputs.clear()


class Context:
    """The `ctx` of kernels: one device's view of a run."""

    __slots__ = (
        "_asked",
        "_device",
        "_rendezvous",
        "_run",
        "device",
        "read",
        "read_all",
        "step",
        "write",
        "write_all",
        "xp",
    )

    def __init__(self, run: Run, device: Device, rendezvous: Any = None):
        self._run = run
        self._device = device
        self._rendezvous = rendezvous
        self._asked: dict[str, int] = {}
        # That which is executed, where it may take input or give output.
        self.step: Step | None = None
        self.device = device.name
        self.xp = device.xp
        self.read = run.transaction.read
        self.write = run.transaction.write
        self.read_all = run.transaction.read_all
        self.write_all = run.transaction.write_all

    def write_rows(self, key: Hashable, write: Any) -> bool:
        """Buffer a write of rows alone, where the store can; did it?"""
        write_rows = getattr(self._run.transaction, "write_rows", None)
        return write_rows is not None and bool(write_rows(key, write))

    def read_table(self, key: Hashable) -> Any:
        """The variable's value, for one who takes rows of it: perhaps a table of the store's."""
        transaction = self._run.transaction
        return getattr(transaction, "read_table", transaction.read)(key)

    def initialized(self, key: Hashable) -> bool:
        """Has the variable a value?"""
        return self._run.transaction.has(key)

    def counter(self, stream: int, amount: int) -> int:
        """Where a random stream stands, before it is advanced by `amount`."""
        key = RandomStream(stream)
        value: int = self._run.transaction.get(key, 0)
        self._run.transaction.write(key, value + amount)
        return value

    @property
    def turn(self) -> Any:
        """The run's place among those of others, where that is logged or replayed, see
        `distribute.decisions`; None: it has none."""
        return getattr(self._run, "place", None)

    @property
    def seed(self) -> int:
        return self._run.seed

    @property
    def choices(self) -> dict[Any, Any]:
        """See `Run.choices`."""
        return self._run.choices

    @property
    def cancelled(self) -> threading.Event:
        """Set when the run must stop waiting."""
        return self._run.cancelled

    def check_cancelled(self) -> None:
        """Raises:
        CancelledError: the run must stop.
        """
        if self._run.cancelled.is_set():
            raise CancelledError(None, None, "the run was cancelled")

    def resource(self, key: Hashable, factory: Callable[[], Any]) -> Any:
        """The object of that name, made if there is none."""
        return self._run.resources.get(key, factory)

    @property
    def again(self) -> bool:
        """Was the run committed before, and is done again to get its effects back?"""
        return self._run.inputs.log.again

    def input(self, function: Callable[[], Any], of: Sequence[Any] = ()) -> Any:
        """What the function takes from outside; the same again when the run is tried again.

        Args:
          function: takes it.
          of: arrays of the host on which it depends: where these are others when the run is tried
            again, it is taken anew.
        """
        return self._run.inputs.take(self._place(), function, of)

    def take(
        self,
        source: Hashable,
        function: Callable[[Sequence[Any] | None], Any],
        of: Sequence[Any] = (),
    ) -> Any:
        """What the function takes out of one of the session's resources, which has it again where
        the run fails, or does not want it in the end.

        Args:
          source: key of the resource.
          function: takes it; it is given the `numbers` of what the run took when it was done
            before a loss, or None.
          of: as for `input`.
        """
        run = self._run
        return run.inputs.take_from(run.resources, source, self._place(), function, of)

    def _place(self) -> Place:
        operation = self.step.name if self.step is not None else ""
        nth = self._asked.get(operation, 0)
        self._asked[operation] = nth + 1
        return Place(self.device, operation, nth)

    def output(self, release: Any, own: bool = False) -> None:
        """Call `release` when the run commits.

        Args:
          release: a function.
          own: it changes one of the session's own resources, and nothing outside.
        """
        self._run.output(release, self.step, own)

    @property
    def pending(self) -> Sequence[Any]:
        """What the run will release when it commits, so far."""
        return self._run.outputs()

    def call(self, body: Any, arguments: Sequence[Any]) -> list[Any]:
        """Outputs of a body, a bound program, on values for its inputs and then its captures."""
        return body.execute(arguments, self)

    def send(self, key: str, value: Any) -> None:
        """Hand a value, or a tuple of values, to another device of the run."""
        get = self._device.get
        there = tuple([get(v) for v in value]) if isinstance(value, tuple) else get(value)
        self._channel().send(key, there)

    def place(self, key: str, size: int) -> Any:
        """So many bytes, at a multiple of 64, for a value that is to be sent by that key: made
        there, it need not be copied.  None: it makes no difference."""
        return self._channel().place(key, size)

    def receive(self, key: str) -> Any:
        """Wait for a value, or a tuple of values, from another device of the run."""
        value = self._channel().receive(key)
        put = self._device.put
        return tuple([put(v) for v in value]) if isinstance(value, tuple) else put(value)

    def all_reduce(
        self, key: str, members: tuple[str, ...], buckets: Mapping[int, Sequence[Any]]
    ) -> list[Any]:
        """Sums over replicas that several devices have; see `collective.all_reduce`.

        Args:
          key: unique in the step.
          members: the device of each replica.
          buckets: replica -> its tensors, for the replicas of this device.
        """
        get, put = self._device.get, self._device.put
        if not self._device.is_host:
            buckets = {rank: [put(x) for x in bucket] for rank, bucket in buckets.items()}
        shapes = tuple([tuple(x.shape) for x in next(iter(buckets.values()))])
        meeting = self._channel().meeting(self.device)
        group = collective.Group(key, members, shapes)
        sums = self._device.all_reduce(meeting, group, buckets, self.cancelled)
        if sums is not None:
            return list(sums)
        there = {rank: [get(x) for x in bucket] for rank, bucket in buckets.items()}
        return [put(x) for x in collective.all_reduce(meeting, group, self.device, there)]

    def _channel(self) -> Any:
        if self._rendezvous is None:
            raise InternalError(None, None, "a transfer in a run on one device")
        return self._rendezvous
