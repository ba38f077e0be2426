"""Transactions that commit in two phases: what is prepared cannot fail to commit.

One may build on others that have prepared and are not decided on.  It sees what they wrote; where
they are undone, so is it.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from graphflow.distribute.messages import OUTPUT, Ticket
from graphflow.distribute.rows import RowTransaction, RowWrite
from graphflow.distribute.snapshot import owned
from graphflow.execute.context import RandomStream, Resources, Run
from graphflow.execute.inputs import InputLog
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

    From prepare to the decision a transaction holds a promise on each key that it writes.  One
    that builds on it may promise to write the same afterwards.
    """

    def __init__(self, entries: Mapping[Hashable, Entry] | None = None) -> None:
        super().__init__(entries)
        self._promises: dict[Hashable, list[TwoPhase]] = {}
        self._numbers = self._version  # of transactions that have prepared

    def begin(self) -> TwoPhase:
        return TwoPhase(self, self._entries)

    def promise(
        self, transaction: TwoPhase, read: set[Hashable], writes: Iterable[Hashable]
    ) -> int:
        """Check that the writes can be applied, and keep others from making that untrue; the
        number of the transaction.

        Raises:
          Promised: another attempt holds a promise.
          Conflict: something that was read and is written has changed since.
        """
        with self._lock:
            for key in writes:
                now = self._entries.get(key)
                if key in self._promises:
                    last = self._promises[key][-1]
                    if last.ticket not in transaction.ahead:
                        assert last.ticket is not None
                        raise Promised(key, last.ticket)
                    now = last.promised[key]
                if key in read and now is not transaction.snapshot.get(key):
                    raise Conflict(key)
            for key in writes:
                self._promises.setdefault(key, []).append(transaction)
            self._numbers += 1
            return self._numbers

    def fulfil(self, transaction: TwoPhase) -> int:
        """Apply promised writes; the number of the commit."""
        with self._lock:
            self._entries = {**self._entries, **transaction.promised}
            self._version += 1
            self.withdraw(transaction, transaction.promised)
            return self._version

    def withdraw(self, transaction: TwoPhase, keys: Iterable[Hashable]) -> None:
        """Take promises back."""
        with self._lock:
            for key in keys:
                holders = self._promises[key]
                holders.remove(transaction)
                if not holders:
                    del self._promises[key]


class TwoPhase(RowTransaction):
    """A transaction of a `ShardStore`.

    Attributes:
      ticket: the attempt that it belongs to, once it is prepared.
      ahead: attempts that it builds on.
      promised: what it writes, once it is prepared.
    """

    __slots__ = ("_held", "_shard", "ahead", "promised", "ticket")

    def __init__(self, store: ShardStore, snapshot: Any, ahead: frozenset[Ticket] = frozenset()):
        super().__init__(store, snapshot)
        self.ticket: Ticket | None = None
        self.ahead = ahead
        self.promised: dict[Hashable, Entry] = {}
        self._shard = store
        self._held = False

    @property
    def snapshot(self) -> Mapping[Hashable, Entry]:
        """The state that it sees."""
        return self._snapshot

    def prepare(self, ticket: Ticket) -> None:
        """Make sure that `commit` will succeed.

        Raises:
          Conflict: it could not; see `ShardStore.promise`.
        """
        self.ticket = ticket
        if not self._writes:  # it will change nothing
            return
        number = self._shard.promise(self, self._read, self._writes)
        self._held = True
        for key, value in self._writes.items():
            self.promised[key] = Entry(kept(value), number)

    def commit(self) -> int:
        if not self._writes:
            return 0
        self._held = False
        return self._shard.fulfil(self)

    def abort(self) -> None:
        if self._held:
            self._held = False
            self._shard.withdraw(self, self._writes)
        super().abort()


class Ahead(NamedTuple):
    """A moment of a store, and undecided attempts that have prepared to change it since.

    Attributes:
      store: the store.
      entries: its state at that moment.
      attempts: what comes on top, in order.
    """

    store: ShardStore
    entries: Mapping[Hashable, Entry]
    attempts: Sequence[Attempt]

    def begin(self) -> TwoPhase:
        """A transaction that sees all that."""
        entries = dict(self.entries)
        for attempt in self.attempts:
            entries |= attempt.promised
        return TwoPhase(self.store, entries, frozenset(a.ticket for a in self.attempts))


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
        store: ShardStore | Ahead,
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
    def promised(self) -> Mapping[Hashable, Entry]:
        """What it writes, once it is prepared."""
        return self._two_phase.promised

    @property
    def releases(self) -> int:
        """What waits for the commit, see `Prepared`."""
        return OUTPUT if self._outputs or self.inputs.leaves else 0

    @property
    def goes_out(self) -> bool:
        """Is there output that leaves the session?"""
        return bool(self._outputs) and not self.quiet and any(not o.own for o in self._outputs)

    @property
    def changes(self) -> bool:
        """Does the session's state depend on whether it is committed?"""
        state = self.transaction.writes or self.inputs.takes
        return state or bool(self._outputs or self.handed)

    @property
    def streams(self) -> list[tuple[int, int]]:
        """Random counters that it has moved, and where to, once it is prepared."""
        found = [(k.stream, e) for k, e in self.promised.items() if isinstance(k, RandomStream)]
        return [(stream, entry.value) for stream, entry in found]

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
        self.inputs.keep()
        self._reserved.clear()
        if self._outputs:
            if self.quiet:
                self._outputs = [output for output in self._outputs if output.own]
            self.release()
