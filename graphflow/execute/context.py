"""What a kernel may ask of the run it is part of: state, input, output, bodies, transfers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from enum import Enum
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import CancelledError, InternalError
from graphflow.compile.plan import Step
from graphflow.execute import collective
from graphflow.execute.devices import Device
from graphflow.execute.failures import explained
from graphflow.execute.store import Conflict, Transaction


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


class Again(Enum):
    """Stands for input that came out of the session's own state: taken anew, it is the same."""

    AGAIN = "again"


class Taken(NamedTuple):
    """What an operation took from outside.

    Attributes:
      value: that.
      own: it came out of the session's own state.
      of: digest of the values that it depends on; None: it stands, whatever these are.
    """

    value: Any
    own: bool = False
    of: bytes | None = None


class InputLog:
    """What a run took from outside, so that running it again takes the same.

    Each operation finds its own again, whatever others do: a run that is tried again sees another
    state, and may take another branch.  What depends on values (a function's result on its
    arguments) stands as long as they are the same.
    """

    def __init__(self, taken: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Args:
        taken: what was logged elsewhere, see `taken`.
        """
        # By device, operation and how often that had asked before; in the order of taking.
        self._taken: dict[tuple[str, str, int], Taken] = {}
        for where, values in (taken or {}).items():
            device, _, operation = where.partition(" ")
            for nth, value in enumerate(values):
                self._taken[device, operation, nth] = Taken(value)
        self._closed = False

    @property
    def takes(self) -> bool:
        """Has it taken anything from the session's own state?"""
        return bool(self._taken) and any(each.own for each in self._taken.values())

    @property
    def taken(self) -> Mapping[str, Sequence[Any]] | None:
        """ "device operation" -> what it took, or None where there is nothing.  For a run that is
        done again on the state from before it, which gives what came out of that once more."""
        if not self._taken:
            return None
        found: dict[str, list[Any]] = {}
        for (device, operation, _), each in self._taken.items():
            value = Again.AGAIN if each.own else each.value
            found.setdefault(f"{device} {operation}", []).append(value)
        return found

    def copy(self) -> InputLog:
        """What it is now."""
        copy = InputLog()
        copy._taken = dict(self._taken)
        return copy

    def rewound(self, past: InputLog | None) -> InputLog:
        """For a run that is tried again on an earlier state: what it had taken then, and what has
        come from outside since, up to the first that came out of the state."""
        result = past.copy() if past is not None else InputLog()
        ended: set[str] = set()  # devices
        for key, each in self._taken.items():
            if key in result._taken:
                continue
            if each.own:
                ended.add(key[0])
            if key[0] not in ended:
                result._taken[key] = each
        return result

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, a run that asks for more than was taken before conflicts instead of waiting:
        it keeps others from committing, and so nobody could give it what it waits for."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False

    def take(
        self,
        where: tuple[str, str, int],
        function: Callable[[], Any],
        own: bool = False,
        of: Sequence[Any] = (),
        back: Callable[[Any], None] | None = None,
    ) -> Any:
        """The logged value, or what the function gives.

        Args:
          where: device, operation, and how often that has asked before in this attempt.
          function: takes it.
          own: it comes out of the session's state.
          of: values on which it depends.
          back: takes back what was logged and is not wanted any more.
        """
        found = self._taken.get(where)
        digest = _digest(of) if of else None
        if found is not None and found.value is not Again.AGAIN and found.of in (None, digest):
            return found.value
        if self._closed and (found is None or own):
            raise Conflict(where)
        if found is not None and found.value is not Again.AGAIN and back is not None:
            del self._taken[where]
            back(found.value)
        value = function()
        self._taken[where] = Taken(value, own, digest)
        return value


def _digest(values: Sequence[Any]) -> bytes:
    """Tells values apart, to the last bit."""
    found = blake2b(digest_size=16)
    for value in values:
        array = np.asarray(value)
        found.update(f"{array.dtype.str}{array.shape}".encode())
        plain = array.dtype != object
        found.update(np.ascontiguousarray(array).data if plain else repr(array.tolist()).encode())
    return found.digest()


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
        """
        self.transaction: Transaction = store.begin()
        self.resources = resources
        self.seed = seed
        self.inputs = inputs
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

    def input(
        self,
        function: Callable[[], Any],
        own: bool = False,
        of: Sequence[Any] = (),
        back: Callable[[Any], None] | None = None,
    ) -> Any:
        """What the function takes from outside; the same again when the run is tried again.

        Args:
          function: takes it.
          own: it takes it out of one of the session's own resources.
          of: arrays of the host on which it depends: where these are others when the run is tried
            again, it is taken anew.
          back: takes back what was taken before, then.
        """
        operation = self.step.name if self.step is not None else ""
        nth = self._asked.get(operation, 0)
        self._asked[operation] = nth + 1
        return self._run.inputs.take((self.device, operation, nth), function, own, of, back)

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
