"""What a kernel may ask of the run it is part of: state, input, output, bodies, transfers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from graphflow.base.errors import CancelledError, InternalError
from graphflow.execute.devices import Device
from graphflow.execute.store import Conflict, Store, Transaction


class RandomStream(NamedTuple):
    """Key of a random op's counter."""

    stream: int


class Resources:
    """Objects that are no values: queues, tables.  Shared by all runs of a session."""

    def __init__(self) -> None:
        self._objects: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, factory: Callable[[], Any]) -> Any:
        """The object of that name, made if there is none."""
        with self._lock:
            if key not in self._objects:
                self._objects[key] = factory()
            return self._objects[key]

    def close(self) -> None:
        """Close all objects that can be closed; wakes whoever waits for them."""
        with self._lock:
            objects = list(self._objects.values())
            self._objects.clear()
        for each in objects:
            if hasattr(each, "cancel"):
                each.cancel()


class InputLog:
    """What a run took from outside, so that running it again takes the same.

    Entries are kept per device, in the order in which that device's program asks for them.
    """

    def __init__(self) -> None:
        self._taken: dict[str, list[Any]] = {}
        self._closed = False

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, a run that asks for more than was taken before conflicts instead of waiting:
        it keeps others from committing, and so nobody could give it what it waits for."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False

    def take(self, device: str, index: int, function: Callable[[], Any]) -> Any:
        """The logged value, or what the function gives."""
        taken = self._taken.setdefault(device, [])
        if index < len(taken):
            return taken[index]
        if self._closed:
            raise Conflict(device)
        value = function()
        taken.append(value)
        return value


class Run:
    """One attempt to run a set of plans: a transaction, and what is released when it commits.

    Attributes:
      transaction: the state as this run sees it.
      cancelled: set when the run must stop waiting.
      seed: the session's own seed, for random ops without one.
    """

    __slots__ = ("_outputs", "cancelled", "inputs", "lock", "resources", "seed", "transaction")

    def __init__(
        self,
        store: Store,
        resources: Resources,
        seed: int,
        inputs: InputLog,
        cancelled: threading.Event,
    ):
        self.transaction: Transaction = store.begin()
        self.resources = resources
        self.seed = seed
        self.inputs = inputs
        self.cancelled = cancelled
        self.lock = threading.Lock()
        self._outputs: list[Any] = []

    def output(self, release: Any) -> None:
        with self.lock:
            self._outputs.append(release)

    def outputs(self) -> list[Any]:
        """What is to be released, in order."""
        with self.lock:
            return list(self._outputs)

    def commit(self) -> None:
        """Make the run's effects real: state first, then output.

        An output with a `reserve` method gets the chance to wait for room, or to fail, before
        anything is applied.

        Raises:
          Conflict: see `Transaction.commit`; nothing was applied.
        """
        reserved: list[Any] = []
        try:
            for release in self._outputs:
                if hasattr(release, "reserve"):
                    release.reserve()
                    reserved.append(release)
            self.transaction.commit()
        except BaseException:
            for release in reserved:
                release.unreserve()
            raise
        for release in self._outputs:
            release()

    def abort(self) -> None:
        """Undo everything but what was taken as input."""
        self.transaction.abort()
        self._outputs.clear()


class Context:
    """The `ctx` of kernels: one device's view of a run."""

    __slots__ = ("_asked", "_device", "_rendezvous", "_run", "device", "read", "write", "xp")

    def __init__(self, run: Run, device: Device, rendezvous: Any = None):
        self._run = run
        self._device = device
        self._rendezvous = rendezvous
        self._asked = 0
        self.device = device.name
        self.xp = device.xp
        self.read = run.transaction.read
        self.write = run.transaction.write

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
    def seed(self) -> int:
        return self._run.seed

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

    def input(self, function: Callable[[], Any]) -> Any:
        """What the function takes from outside; the same again when the run is tried again."""
        index = self._asked
        self._asked += 1
        return self._run.inputs.take(self.device, index, function)

    def output(self, release: Any) -> None:
        """Call `release` when the run commits."""
        self._run.output(release)

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

    def receive(self, key: str) -> Any:
        """Wait for a value, or a tuple of values, from another device of the run."""
        value = self._channel().receive(key)
        put = self._device.put
        return tuple([put(v) for v in value]) if isinstance(value, tuple) else put(value)

    def _channel(self) -> Any:
        if self._rendezvous is None:
            raise InternalError(None, None, "a transfer in a run on one device")
        return self._rendezvous
