"""Which workers have copies of all that another one holds, see `place/mirror.py`.

A worker stands in for another one where every plan that has written a variable there has written it
here, too: then both have the same bits after the same commits.  Random counters have no copies;
where variables have, workers tell of them in their answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from graphflow.base.state import StateKey
from graphflow.distribute.holdings import Holdings
from graphflow.execute.context import RandomStream

_BEFORE = 0  # stands for the plans of an earlier session, whose numbers begin at 1


class Mirrors:
    """What the plans of a session, and the answers of its workers, tell of their state."""

    def __init__(self) -> None:
        self._writes: dict[str, set[tuple[int, StateKey]]] = {}  # plan and variable
        self._alone: set[str] = set()
        self._streams: dict[str, dict[int, int]] = {}

    def loaded(self, plan: int, held: Mapping[str, Holdings]) -> None:
        """Workers have got a plan."""
        for worker, mine in held.items():
            self._writes.setdefault(worker, set()).update((plan, key) for key in mine.writes)
            if mine.alone:
                self._alone.add(worker)

    def restored(self, snapshots: Mapping[str, Any]) -> None:
        """Workers have got the state of an earlier session."""
        for worker, snapshot in snapshots.items():
            for key, entry in snapshot.entries.items():
                if isinstance(key, StateKey):
                    self._writes.setdefault(worker, set()).add((_BEFORE, key))
                elif isinstance(key, RandomStream):
                    self.moved(worker, [(key.stream, entry.value)])
                else:
                    self._alone.add(worker)
            if snapshot.resources:
                self._alone.add(worker)

    def moved(self, worker: str, streams: Iterable[tuple[int, int]]) -> None:
        """Random counters of a worker stand there, as of the last commit."""
        self._streams.setdefault(worker, {}).update(streams)

    def donor(self, worker: str, among: Iterable[str]) -> str | None:
        """One of these that has all variables of a worker; None: it holds what none has."""
        if worker in self._alone or worker not in self._writes:
            return None
        mine = self._writes[worker]
        return next((o for o in among if mine <= self._writes.get(o, set())), None)

    def variables(self, worker: str) -> frozenset[StateKey]:
        """What a worker may have a value of."""
        return frozenset(key for _, key in self._writes[worker])

    def streams(self, worker: str) -> Mapping[int, int]:
        """A worker's random counters, as of the last commit."""
        return dict(self._streams.get(worker, {}))
