"""What a worker holds for a session between two decisions, as a value."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from copy import deepcopy
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from graphflow.distribute.tables import Table
from graphflow.execute.inputs import InputLog
from graphflow.execute.store import Entry


class Snapshot(NamedTuple):
    """All state of one session on one worker.  It is never changed.

    Attributes:
      entries: variables, random counters and the like.
      resources: queues and the like, with what undecided runs have taken.
      inputs: what these have taken from outside.
    """

    entries: Mapping[Hashable, Entry]
    resources: Mapping[Hashable, Any]
    inputs: Mapping[int, InputLog]

    @property
    def nbytes(self) -> int:
        """Of all variables."""
        return sum(getattr(entry.value, "nbytes", 0) for entry in self.entries.values())


EMPTY = Snapshot({}, {}, {})


class Same(Enum):
    """Stands for a value that is what it was."""

    SAME = "same"


class Changed(NamedTuple):
    """Stands for a table of which a few rows are not what they were.

    Attributes:
      rows: [k], ascending.
      values: [k, ...].
    """

    rows: Any
    values: Any


def difference(new: Snapshot, old: Snapshot) -> Snapshot:
    """The first one, without what is in the second one, too."""

    def changed(key: Hashable, entry: Entry) -> Any:
        before = old.entries.get(key)
        if before is entry:
            return Same.SAME
        table, past = entry.value, before and before.value
        if isinstance(table, Table) and isinstance(past, Table):
            rows = table.changed_since(past)
            if rows is not None:
                return Changed(rows, table.look_up(rows))
        return table

    entries = {k: Entry(changed(k, e), e.version) for k, e in new.entries.items()}
    return new._replace(entries=entries)


def merged(changes: Snapshot, old: Snapshot) -> Snapshot:
    """What `difference` was made from."""

    def value(key: Hashable, found: Any) -> Any:
        if found is Same.SAME:
            return old.entries[key].value
        if isinstance(found, Changed):
            before = old.entries[key].value
            table = before if isinstance(before, Table) else Table(before.copy())
            return table.updated(found.rows, found.values)
        return found

    entries = {k: Entry(value(k, e.value), e.version) for k, e in changes.entries.items()}
    return changes._replace(entries=entries)


def owned(value: Any) -> Any:
    """A value that can be kept: what came through Ray is a view of its object store, where it
    would take room for ever."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        return value.copy()
    return value


def settled(snapshot: Snapshot) -> Snapshot:
    """The same, in memory of this process."""
    entries = {k: Entry(owned(e.value), e.version) for k, e in snapshot.entries.items()}
    return Snapshot(entries, deepcopy(snapshot.resources), deepcopy(snapshot.inputs))
