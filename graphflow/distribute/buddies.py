"""Copies of the workers' state at each other: what is large does not pass through the driver.

At a cut each worker sends its *buddy* what has changed since the cut before; where the worker is
lost, the buddy hands the whole to the one in its place.  Large arrays go as values do, on the
channels between workers; the rest is no plain data, and goes by Ray's calls.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.waiting import patiently, waits
from graphflow.distribute.channel import Channel
from graphflow.distribute.messages import Ticket
from graphflow.distribute.snapshot import Changed, Snapshot, merged, owned
from graphflow.distribute.tables import Table
from graphflow.execute.store import Entry

_LARGE = 1 << 16  # bytes of an array that is sent by itself


def buddies(workers: Sequence[str], nodes: Mapping[str, str]) -> dict[str, str]:
    """Who keeps the copy of whose state: the next worker on another machine, where there is one;
    nobody where a worker is alone.

    Args:
      workers: their names.
      nodes: worker -> its machine, as far as known.
    """
    found: dict[str, str] = {}
    for i, worker in enumerate(workers):
        others = [*workers[i + 1 :], *workers[:i]]
        far = [other for other in others if nodes.get(other) != nodes.get(worker)]
        for other in (far or others)[:1]:
            found[worker] = other
    return found


class _Part(NamedTuple):
    """Stands for an array that is sent by itself."""

    number: int


class _Skeleton(NamedTuple):
    """A copy, without its large arrays.

    Attributes:
      snapshot: None: there is none, as the state cannot be copied.
      parts: how many arrays there are.
      since: the cut from which it is a difference; None: it is whole.
    """

    snapshot: Snapshot | None
    parts: int
    since: int | None


def send(
    channel: Channel, to: str, ticket: Ticket, worker: str, snapshot: Snapshot | None,
    since: int | None = None,
) -> None:  # fmt: skip
    """Send a copy of a worker's state.

    Args:
      to: the worker that gets it.
      ticket: generation, 0 and cut.
      worker: whose state it is.
      snapshot: None: it cannot be copied.
      since: a cut from which it is a difference.
    """
    arrays: list[Any] = []

    def outside(value: Any) -> Any:
        if isinstance(value, Changed):
            return value._replace(values=outside(value.values))
        if isinstance(value, Table):
            value = value.copy()
        if isinstance(value, np.ndarray) and value.dtype != object and value.nbytes >= _LARGE:
            arrays.append(value)
            return _Part(len(arrays) - 1)
        return value

    if snapshot is not None:
        entries = {k: Entry(outside(e.value), e.version) for k, e in snapshot.entries.items()}
        snapshot = snapshot._replace(entries=entries)
    for number, array in enumerate(arrays):
        channel.send(to, ticket, f"{worker};{number}", array)
    channel.send(to, ticket, worker, _Skeleton(snapshot, len(arrays), since))


class Copies:
    """Copies of other workers' state that a worker keeps, and that of its own that it is given.

    Attributes:
      late: parts that came when a further loss had made them void.
    """

    def __init__(self) -> None:
        self.late = 0
        self._arrived = threading.Condition()
        self._generation: float = 0
        self._parts: dict[tuple[Ticket, str], dict[str, Any]] = {}
        self._kept: dict[tuple[str, int], Snapshot | None] = {}  # by worker and cut

    def deliver(self, ticket: Ticket, key: str, value: Any) -> None:
        """Take a part."""
        worker, _, number = key.partition(";")
        with self._arrived:
            if ticket.generation < self._generation:
                self.late += 1
                return
            parts = self._parts.setdefault((ticket, worker), {})
            parts[number] = owned(value)
            skeleton: _Skeleton | None = parts.get("")
            if skeleton is None or len(parts) <= skeleton.parts:
                return
            del self._parts[ticket, worker]
            self._kept[worker, ticket.serial] = self._assembled(worker, skeleton, parts)
            self._arrived.notify_all()

    def _assembled(
        self, worker: str, skeleton: _Skeleton, parts: Mapping[str, Any]
    ) -> Snapshot | None:
        def inside(value: Any) -> Any:
            if isinstance(value, Changed):
                return value._replace(values=inside(value.values))
            return parts[str(value.number)] if isinstance(value, _Part) else value

        snapshot = skeleton.snapshot
        if snapshot is None:
            return None
        entries = {k: Entry(inside(e.value), e.version) for k, e in snapshot.entries.items()}
        snapshot = snapshot._replace(entries=entries)
        if skeleton.since is None:
            return snapshot
        before = self._kept.get((worker, skeleton.since))
        return None if before is None else merged(snapshot, before)

    def wait(
        self, worker: str, cut: int, generation: int = 0, patience: float = 0.0
    ) -> Snapshot | None:
        """The copy of a worker's state at a cut; None: it cannot be had, or not in time, or not
        before a further loss."""
        with self._arrived:
            if patience and (worker, cut) not in self._kept:
                waits()

                def there() -> bool:
                    return (worker, cut) in self._kept or generation < self._generation

                patiently(partial(self._arrived.wait_for, there), patience)
            return self._kept.get((worker, cut))

    def enter(self, generation: float) -> None:
        """There was a loss: nobody waits any more for what was sent before."""
        with self._arrived:
            self._generation = max(self._generation, generation)
            self._parts = {k: v for k, v in self._parts.items() if k[0].generation >= generation}
            self._arrived.notify_all()

    def forget(self, before: int) -> None:
        """Forget copies of cuts before one."""
        with self._arrived:
            self._kept = {key: v for key, v in self._kept.items() if key[1] >= before}
            self._parts = {key: v for key, v in self._parts.items() if key[0].serial >= before}
