"""What searches have found in this process: the same graph comes again.

Another session opens on it, one is restored after a loss, a cluster goes back to a size that it
had, one asks `explain` for what runs already.  A search takes up to a second or two.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

from graphflow.place.problem import Problem
from graphflow.place.simulate import Schedule, Transfer

KEPT = 32
TASKS = 10_000  # of a problem that is kept, at most: 72 bytes and a few for transfers for each

Search = Callable[[Problem, int], tuple[str, Schedule]]
_Kept = tuple[str, Sequence[int], Sequence[float], Sequence[float], Sequence[Transfer]]


@dataclass
class Found:
    """The last results of a search that depends on its arguments alone; threads may share it.

    Attributes:
      search: problem and steps -> name of what found it, schedule.
    """

    search: Search
    _kept: OrderedDict[bytes, _Kept] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, problem: Problem, steps: int) -> tuple[str, Schedule]:
        """As `search`, which is not asked where all that it reads is as it was once."""
        if problem.tasks > TASKS:
            return self.search(problem, steps)
        key = _digest(problem, steps)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is None:
            name, found = self.search(problem, steps)
            kept = name, found.where, found.start, found.end, found.transfers
            with self._lock:
                self._kept[key] = kept
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        name, where, start, end, transfers = kept
        return name, Schedule(problem, where, start, end, transfers)


def _digest(problem: Problem, steps: int) -> bytes:
    """Of all that a problem says, floats to the bit.  About 0.5 us per number."""
    said = repr((steps, [getattr(problem, f.name) for f in fields(problem)]))
    return hashlib.sha256(said.encode()).digest()
