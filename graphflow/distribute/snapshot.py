"""What a worker holds for a session between two decisions, as a value."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from graphflow.execute.context import InputLog
from graphflow.execute.store import Entry


class Snapshot(NamedTuple):
    """All state of one session on one worker.  It is never changed.

    Attributes:
      entries: variables, random counters and the like.
      resources: queues and the like.
      inputs: what undecided runs have taken; it is no longer where it was.
    """

    entries: Mapping[Hashable, Entry]
    resources: Mapping[Hashable, Any]
    inputs: Mapping[int, InputLog]


EMPTY = Snapshot({}, {}, {})


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
