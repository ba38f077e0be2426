"""A cluster that goes on with fewer workers when Ray has none to replace lost ones, and takes in
new ones when it has.

Where nothing can take the place of a lost worker, a *stand-in* does: a process that reserves
nothing of Ray, wherever there is a machine.  It gets back what the lost one held, as any other
would, and then the sessions move off it, between two runs.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from graphflow.base.errors import OpError

LOOKS = 0.5  # seconds between looks at who is there
_log = logging.getLogger("graphflow")


class Members(Protocol):
    """What a membership changes."""

    @property
    def names(self) -> Sequence[str]:
        """Of the workers."""
        ...

    def room(self) -> int:
        """For how many more Ray has the resources now."""
        ...

    def go_to(self, names: Sequence[str]) -> None:
        """Have these workers, between two runs; see `Cluster.resize`."""
        ...


class Membership:
    """Keeps as many workers as there is room for, between two bounds.

    Attributes:
      stand_ins: names of workers that are none.
    """

    def __init__(self, members: Members, wanted: Sequence[str], least: int):
        """Args:
        members: the workers.
        wanted: names of all that there may be.
        least: how many there must be.
        """
        self.stand_ins: set[str] = set()
        self._members = members
        self._wanted = list(wanted)
        self._least = least
        self._tries: Counter[str] = Counter()  # to replace a lost worker
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="graphflow-members", daemon=True)
        self._thread.start()

    def want(self, names: Sequence[str]) -> None:
        """Have others from now on."""
        with self._lock:
            self._wanted = list(names)
            self.stand_ins &= set(names)

    def stands_in(self, worker: str) -> bool:
        """A lost worker is to be replaced: by a stand-in?  Not before Ray was asked in vain."""
        with self._lock:
            self._tries[worker] += 1
            others = [n for n in self._members.names if n not in self.stand_ins and n != worker]
            if self._tries[worker] == 1 or len(others) < self._least:
                self.stand_ins.discard(worker)
                return False
            self.stand_ins.add(worker)
            return True

    def replaced(self, worker: str) -> None:
        """That has been done."""
        with self._lock:
            self._tries.pop(worker, None)

    def close(self) -> None:
        """Change nothing any more."""
        self._closed.set()
        if self._thread is not threading.current_thread():
            # no deadline: it is told, and what it does has deadlines of its own
            self._thread.join()

    def _watch(self) -> None:
        told = ""
        while not self._closed.wait(LOOKS):
            try:
                self.look()
                told = ""
            except OpError as error:  # all is as it was, and is tried again
                _log.info("the workers stay as they are: %s", error)
            except ReferenceError:  # nobody has the cluster any more
                return
            except Exception as error:  # Ray's, which may not answer for a while
                if repr(error) != told:
                    _log.exception("the workers stay as they are until this is over")
                told = repr(error)

    def look(self) -> None:
        """Go to those workers that there are, if these are others.

        Raises:
          OpError: a run does not end, or a further worker is lost.
        """
        with self._lock:
            names, left, wanted = list(self._members.names), set(self.stand_ins), self._wanted
        if left:
            self._go_to([name for name in names if name not in left])
            return
        missing = [name for name in wanted if name not in names]
        more = missing[: self._members.room()] if missing else []
        if more:
            self._go_to([name for name in wanted if name in names or name in more])

    def _go_to(self, names: list[str]) -> None:
        self._members.go_to(names)
        with self._lock:
            self.stand_ins &= set(names)
        _log.info("going on with %d workers", len(names))
