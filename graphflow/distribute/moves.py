"""Sessions go on with other workers: all of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Protocol

from graphflow.base.state import StateKey
from graphflow.distribute.conductor import Conductor
from graphflow.distribute.snapshot import Snapshot
from graphflow.execute.store import Entry
from graphflow.place import Topology


def heirs(before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    """Who has the state of whom, when workers join or leave: those that leave are shared out."""
    left = [worker for worker in before if worker not in after]
    stay = {worker: worker for worker in before if worker in after}
    return stay | {worker: after[i % len(after)] for i, worker in enumerate(left)}


def inherited(
    state: Mapping[str, Snapshot],
    heirs: Mapping[str, str],
    workers: Sequence[str],
    mirrored: Collection[StateKey] = (),
) -> dict[str, Snapshot]:
    """The state of each worker, once those that leave have handed over theirs, and those that join
    have copies of variables of which several have some."""
    result = {worker: Snapshot({}, {}, {}) for worker in workers}
    for worker, mine in state.items():
        had = result[heirs[worker]]
        result[heirs[worker]] = Snapshot(
            {**had.entries, **mine.entries}, {**had.resources, **mine.resources}, {}
        )
    there = {k: entry for mine in state.values() for k, entry in mine.entries.items()}
    shared: Mapping[Hashable, Entry] = {k: there[k] for k in mirrored if k in there}
    for worker in workers:
        if worker not in state:
            had = result[worker]
            result[worker] = had._replace(entries={**shared, **had.entries})
    return result


class Movable(Protocol):
    """A session's view of its workers, see `ClusterTarget`."""

    conductor: Conductor
    mirrored: set[StateKey]

    def follow(
        self, conductor: Conductor, topology: Topology, heirs: Mapping[str, str]
    ) -> None: ...


class _Move:
    """A session that has its state on both the old and the new workers, and runs on neither."""

    def __init__(self, target: Movable, open_conductor: Callable[[int, str], Conductor]):
        self._target = target
        self._old = old = target.conductor
        try:
            old.quiesce()
            state = old.capture()
            self._fresh = open_conductor(old.seed, old.tier)
            try:
                self._heirs = heirs(old.workers, self._fresh.workers)
                had = inherited(state, self._heirs, self._fresh.workers, target.mirrored)
                self._fresh.restore(had)
            except BaseException:
                self._fresh.close()
                raise
        except BaseException:
            old.admit()
            raise

    def finish(self, topology: Topology) -> None:
        self._target.follow(self._fresh, topology, self._heirs)
        self._old.close()
        self._old.admit()  # what has waited is refused, and begins again on the other workers

    def cancel(self) -> None:
        self._fresh.close()
        self._old.admit()


def move(
    targets: Iterable[Movable],
    topology: Topology,
    open_conductor: Callable[[int, str], Conductor],
) -> None:
    """Have sessions go on with other workers: state is brought to them, plans are made anew.

    Args:
      targets: the sessions.
      topology: the devices of those workers.
      open_conductor: opens a session on them, with its seed and its tier; workers that leave are
        still there.

    Raises:
      DeadlineExceededError: runs that are under way do not end.
      OpError: workers are lost; all sessions stay where they were.
    """
    moves: list[_Move] = []
    try:
        for target in targets:
            moves.append(_Move(target, open_conductor))
    except BaseException:
        for each in moves:
            each.cancel()
        raise
    for each in moves:
        each.finish(topology)
