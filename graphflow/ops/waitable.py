"""What lives between runs, and runs wait at: queues, accumulators, gates."""

from __future__ import annotations

import copy
import threading
from typing import Any, ClassVar


class Waitable:
    """Base of these.

    Attributes:
      name: that users gave it.
      decisions: what logs what chance decides here, or decides so by a log, see
        `distribute.decisions`; None: nobody does.
    """

    # What copies have not.
    _TRANSIENT: ClassVar[frozenset[str]] = frozenset({"_changed", "decisions"})

    def __init__(self, name: str):
        self.name = name
        self.decisions: Any = None
        self._changed = threading.Condition()

    def __getstate__(self) -> dict[str, Any]:
        """The content alone: a copy has nobody who waits, and nothing is written down."""
        with self._changed:
            return {k: copy.copy(v) for k, v in self.__dict__.items() if k not in self._TRANSIENT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.decisions = None
        self._changed = threading.Condition()
