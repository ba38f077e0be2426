"""Arrays of which old versions stay readable while new ones are written in place.

A table's memory holds its newest version.  A version before that knows the rows that the next one
has changed, and what was in them: so a write of rows costs these rows, and going back to a version
costs what has changed since (H. Baker, "Shallow binding makes functional arrays fast", 1991).
What an attempt wrote is undone by forgetting its version; a cut is a reference; and what nobody
refers to any more takes its logged rows with it.

Whoever takes the whole of the newest version gets the memory itself, which is not written to from
then on: the next write copies it, and so does one when the log has become larger than the table.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

import numpy as np


class _Memory:
    """Where the newest version of a table lies."""

    def __init__(self, array: Any):
        self.array = array
        self.taken = False  # somebody reads it who does not ask for the lock
        self.lock = threading.RLock()
        self._log: deque[tuple[weakref.ref[Table], int]] = deque()  # version, bytes of old rows
        self._logged = 0

    @property
    def is_free(self) -> bool:
        """May it be written to, without the log's outgrowing it?"""
        while self._log and self._log[0][0]() is None:  # older versions are forgotten first
            self._logged -= self._log.popleft()[1]
        return not self.taken and self._logged <= self.array.nbytes

    def log(self, version: Table, size: int) -> None:
        self._log.append((weakref.ref(version), size))
        self._logged += size


class Table:
    """A version of an array [n, ...].  Never changed, as far as its readers see.

    Pickled and unpickled it is a plain array.
    """

    __slots__ = ("__weakref__", "_memory", "_next", "_old", "_rows", "dtype", "shape")

    def __init__(self, array: Any):
        """Args:
        array: [n, ...]; nobody else may write to it, nor read it later.
        """
        self.shape = array.shape
        self.dtype = array.dtype
        self._memory = _Memory(array)
        # In a version that is not the newest: this is `_next`, but for these rows.
        self._next: Table | None = None
        self._rows: Any = None
        self._old: Any = None

    @property
    def nbytes(self) -> int:
        return int(self._memory.array.nbytes)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __reduce__(self) -> Any:
        return np.asarray, (self.copy(),)

    def look_up(self, indices: Any) -> Any:
        """Copies of rows, [*indices.shape, ...]; all indices must be in [0, n)."""
        wanted = np.ravel(indices)
        with self._memory.lock:
            found = self._memory.array.take(wanted, 0)
            for version in reversed(self._path()):
                at = np.searchsorted(version._rows, wanted).clip(max=len(version._rows) - 1)
                hit = version._rows[at] == wanted
                found[hit] = version._old[at[hit]]
        return found.reshape(*np.shape(indices), *self.shape[1:])

    def copy(self) -> Any:
        """The whole, as an array of its own."""
        with self._memory.lock:
            whole = self._memory.array.copy()
            for version in reversed(self._path()):
                whole[version._rows] = version._old
            return whole

    def take(self) -> Any:
        """The whole, which must not be written to."""
        with self._memory.lock:
            if self._next is not None:
                return self.copy()
            self._memory.taken = True
            return self._memory.array

    def updated(self, rows: Any, values: Any) -> Table:
        """The version with new values of rows.

        Args:
          rows: [k], ascending, without repetition.
          values: [k, ...].
        """
        if not len(rows):
            return self
        with self._memory.lock:
            if not self._memory.is_free:
                return Table(self.copy()).updated(rows, values)
            self._become_newest()
            new = Table(self._memory.array)
            new._memory = self._memory
            new._write(self, rows, values)
            return new

    def changed_since(self, version: Table) -> Any:
        """The rows that may differ from those of an earlier version, ascending; None: all."""
        with self._memory.lock:
            changed: list[Any] = [np.zeros(0, np.int64)]
            while version is not self:
                if version._next is None:  # this one was written elsewhere
                    return None
                changed.append(version._rows)
                version = version._next
            return np.unique(np.concatenate(changed))

    def _path(self) -> list[Table]:
        """The versions from this one to the newest, without that."""
        path = []
        version = self
        while version._next is not None:
            path.append(version)
            version = version._next
        return path

    def _become_newest(self) -> None:
        """Those after it have come to nothing, or are read by few: they become differences."""
        for version in reversed(self._path()):
            assert version._next is not None
            version._write(version._next, version._rows, version._old)

    def _write(self, newest: Table, rows: Any, values: Any) -> None:
        """Put what tells this version from the newest into the memory."""
        array = self._memory.array
        newest._rows, newest._old, newest._next = rows, array[rows], self
        self._memory.log(newest, newest._old.nbytes)
        array[rows] = values
        self._next = self._rows = self._old = None
