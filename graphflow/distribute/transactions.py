"""Transactions that commit in two phases: what is prepared cannot fail to commit."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from typing import Any

from graphflow.distribute.messages import OUTPUT, Ticket
from graphflow.distribute.rows import RowTransaction, RowWrite
from graphflow.distribute.snapshot import owned
from graphflow.execute.context import InputLog, Resources, Run
from graphflow.execute.store import Conflict, Entry, Store


class Promised(Conflict):
    """An undecided attempt has prepared a write to what this one writes.

    Attributes:
      holder: that attempt.
    """

    def __init__(self, key: Hashable, holder: Ticket):
        super().__init__(key)
        self.holder = holder


class ShardStore(Store):
    """The state of one session on one worker.

    From prepare to the decision a transaction holds a promise on each key that it writes.
    """

    def __init__(self, entries: Mapping[Hashable, Entry] | None = None) -> None:
        super().__init__(entries)
        self._promises: dict[Hashable, Ticket] = {}

    def begin(self) -> TwoPhase:
        return TwoPhase(self, self._entries)

    def promise(self, snapshot: Any, read: set[Hashable], writes: Any, ticket: Ticket) -> None:
        """Check that the writes can be applied, and keep others from making that untrue.

        Raises:
          Promised: another attempt holds a promise.
          Conflict: something that was read and is written has changed since.
        """
        with self._lock:
            now = self._entries
            for key in writes:
                if key in self._promises:
                    raise Promised(key, self._promises[key])
                if key in read and now.get(key) is not snapshot.get(key):
                    raise Conflict(key)
            self._promises.update(dict.fromkeys(writes, ticket))

    def fulfil(self, writes: Any) -> int:
        """Apply promised writes; the number of the commit."""
        with self._lock:
            version = self.apply(self._entries, set(), writes)
            self.withdraw(writes)
            return version

    def withdraw(self, writes: Any) -> None:
        """Take promises back."""
        with self._lock:
            for key in writes:
                self._promises.pop(key, None)


class TwoPhase(RowTransaction):
    """A transaction of a `ShardStore`."""

    __slots__ = ("_held", "_shard")

    def __init__(self, store: ShardStore, snapshot: Any):
        super().__init__(store, snapshot)
        self._shard = store
        self._held = False

    def prepare(self, ticket: Ticket) -> None:
        """Make sure that `commit` will succeed.

        Raises:
          Conflict: it could not; see `ShardStore.promise`.
        """
        self._shard.promise(self._snapshot, self._read, self._writes, ticket)
        self._held = True
        for key, value in self._writes.items():
            self._writes[key] = kept(value)

    def commit(self) -> int:
        if not self._writes:
            return 0
        version = self._shard.fulfil(self._writes)
        self._held = False
        return version

    def abort(self) -> None:
        if self._held:
            self._shard.withdraw(self._writes)
            self._held = False
        super().abort()


def kept(write: Any) -> Any:
    """The value that a write gives a variable, which nobody else can change."""
    return write.written() if isinstance(write, RowWrite) else owned(write)


class Attempt(Run):
    """A worker's part of an attempt to execute a run.

    Attributes:
      ticket: its name.
      quiet: its output has gone out before, and must not again.
      handed: output for the driver to release.
    """

    __slots__ = ("_two_phase", "handed", "quiet", "ticket")

    def __init__(
        self,
        ticket: Ticket,
        store: ShardStore,
        resources: Resources,
        seed: int,
        inputs: InputLog,
        cancelled: threading.Event,
        quiet: bool = False,
    ):
        super().__init__(store, resources, seed, inputs, cancelled)
        self.ticket = ticket
        self.quiet = quiet
        self.handed: tuple[Any, ...] = ()
        self._two_phase: TwoPhase = self.transaction  # type: ignore[assignment]

    @property
    def releases(self) -> int:
        """What waits for the commit, see `Prepared`."""
        return OUTPUT if self._outputs else 0

    @property
    def goes_out(self) -> bool:
        """Is there output that leaves the session?"""
        return not self.quiet and any(not output.own for output in self._outputs)

    @property
    def changes(self) -> bool:
        """Does the session's state depend on whether it is committed?"""
        state = self.transaction.writes or self.inputs.takes
        return state or bool(self._outputs or self.handed)

    def prepare(self) -> None:
        """Make sure that `commit` will succeed.

        Raises:
          Conflict: another run has written what this one has.
          OpError: there is no room for its output.
        """
        if self._outputs:
            releases = [output.release for output in self._outputs]
            self.handed = tuple([r for r in releases if getattr(r, "anywhere", False)])
            self._outputs = [o for o in self._outputs if not getattr(o.release, "anywhere", False)]
        self.reserve()
        self._two_phase.prepare(self.ticket)

    def commit(self) -> None:
        self.transaction.commit()
        self._reserved.clear()
        if self.quiet:
            self._outputs = [output for output in self._outputs if output.own]
        self.release()
