"""The state that outlives a run, and the transactions through which runs see it.

A run begins with one consistent snapshot, buffers its writes, and applies all of them at commit
or none.  Runs of many threads overlap without holding locks, so one that waits for input holds up
nobody.  A run that wrote what it had read fails to commit if another run has written that in the
meantime; its session then runs it again, with the input it had taken.  So an increment is never
lost, and the result of concurrent runs is that of some serial order of their updates; the
versions of what a run read tell which.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from graphflow.base.errors import FailedPreconditionError
from graphflow.base.tuples import made


class Conflict(Exception):
    """Another run has committed a write to what this one read and wrote."""


class Entry(NamedTuple):
    """A value and the number of the commit that wrote it."""

    value: Any
    version: int


class Store:
    """Values of variables, random counters and other state that rolls back.

    The values of one moment are an immutable mapping, replaced as a whole by each commit: a
    snapshot is a reference to it.
    """

    def __init__(self, entries: Mapping[Hashable, Entry] | None = None) -> None:
        """Args:
        entries: the state of another store, to go on from.
        """
        self._entries: Mapping[Hashable, Entry] = entries or {}
        self._lock = threading.RLock()
        self._version = max((entry.version for entry in self._entries.values()), default=0)

    @property
    def entries(self) -> Mapping[Hashable, Entry]:
        """The state as it is now; it does not change."""
        return self._entries

    def reset(self, entries: Mapping[Hashable, Entry]) -> None:
        """Take the state of another store in place of this one's.  No run may be under way."""
        with self._lock:
            self._entries = dict(entries)
            self._version = max((entry.version for entry in entries.values()), default=0)

    def begin(self) -> Transaction:
        """A transaction on the state as it is now."""
        return Transaction(self, self._entries)

    def exclusive(self) -> AbstractContextManager[Any]:
        """Keep others from committing: for a run that has lost too many races."""
        return self._lock

    @property
    def version(self) -> int:
        """Number of commits that have written something."""
        return self._version

    def apply(self, snapshot: Mapping[Hashable, Entry], read: set[Hashable],
              writes: Mapping[Hashable, Any]) -> int:  # fmt: skip
        """Apply the writes of a transaction, all or none; the number of the commit.

        Raises:
          Conflict: something it has read and writes has changed since.
        """
        with self._lock:
            now = self._entries
            if now is not snapshot:
                for key in writes:
                    if key in read and now.get(key) is not snapshot.get(key):
                        raise Conflict(key)
            version = self._version + 1
            new = {key: made(Entry, (value, version)) for key, value in writes.items()}
            self._entries = {**now, **new}
            self._version = version
            return version

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._entries)

    def version_of(self, key: Hashable) -> int:
        """Number of the commit that wrote a value; 0 where there is none."""
        entry = self._entries.get(key)
        return entry.version if entry else 0


class Transaction:
    """What one run reads and writes.  Used by one run; its partitions may be on many threads."""

    __slots__ = ("_read", "_snapshot", "_store", "_writes")

    def __init__(self, store: Store, snapshot: Mapping[Hashable, Entry]):
        self._store = store
        self._snapshot = snapshot
        self._writes: dict[Hashable, Any] = {}
        self._read: set[Hashable] = set()

    def read(self, key: Hashable) -> Any:
        """The value: this run's own write, else that of the snapshot.

        Raises:
          FailedPreconditionError: there is none.
        """
        if key in self._writes:
            return self._writes[key]
        self._read.add(key)
        entry = self._snapshot.get(key)
        if entry is None:
            name = getattr(key, "name", key)
            raise FailedPreconditionError(
                None,
                None,
                f"Attempting to use uninitialized value {name}: run its initializer first, for "
                "instance session.run(tf.global_variables_initializer())",
            )
        return entry.value

    def read_all(self, keys: Sequence[Hashable]) -> list[Any]:
        """The values of many at once.

        Raises:
          FailedPreconditionError: one has none.
        """
        if not self._writes:
            try:
                found = [self._snapshot[key][0] for key in keys]
            except KeyError:
                pass  # `read` tells which
            else:
                self._read.update(keys)
                return found
        return [self.read(key) for key in keys]

    def get(self, key: Hashable, default: Any) -> Any:
        """As `read`, with a value for what does not exist."""
        return self.read(key) if self.has(key) else default

    def has(self, key: Hashable) -> bool:
        """Is there a value?"""
        self._read.add(key)
        return key in self._writes or key in self._snapshot

    def write(self, key: Hashable, value: Any) -> Any:
        """Buffer a write; returns the value."""
        self._writes[key] = value
        return value

    def write_all(self, values: Mapping[Hashable, Any]) -> None:
        """Buffer many writes."""
        self._writes.update(values)

    def commit(self) -> int:
        """Apply the writes; the number of the commit, or 0 where nothing was written.

        Raises:
          Conflict: they cannot be applied; nothing is, and the run may be tried again.
        """
        if not self._writes:
            return 0
        return self._store.apply(self._snapshot, self._read, self._writes)

    @property
    def writes(self) -> bool:
        """Has anything been written?"""
        return bool(self._writes)

    def abort(self) -> None:
        """Forget the writes."""
        self._writes.clear()
