"""First states of a `World`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement
from typing import Any

from graphflow.base.state import StateKey
from graphflow.distribute import events as e
from graphflow.distribute import worker
from graphflow.distribute.buddies import buddies
from graphflow.distribute.coordinator import Coordinator
from graphflow.distribute.holdings import Holdings
from tests.distribute.shards import Shard
from tests.distribute.world import World


def worlds(plan: Mapping[int, tuple[str, ...]], kills: int, **options: Any) -> Iterator[World]:
    """First states of systems in which workers may be killed so often, whichever: one for each way
    to share the kills out, up to names.

    Args:
      plan: run -> workers that take part.
      kills: of all workers together.
      options: as for `world`.
    """
    names = sorted({name for workers in plan.values() for name in workers})
    kinds = {name: [run for run, workers in plan.items() if name in workers] for name in names}
    seen = set()
    for victims in combinations_with_replacement(names, kills):
        shares = tuple(sorted((kinds[name], victims.count(name)) for name in names))
        if repr(shares) not in seen:
            seen.add(repr(shares))
            yield world(plan, {name: victims.count(name) for name in names}, **options)


def world(
    plan: Mapping[int, tuple[str, ...]], kills: Mapping[str, int], every: int | None = 1,
    overlapping: int = 1, spares: int = 100, attempts: int = 100, overtaking: bool = False,
    series: bool = False, early: bool = False, apart: frozenset[int] = frozenset(),
    fails: frozenset[int] = frozenset(), backup_every: int = 1, mirrored: bool = False,
    machines: tuple[type, Any] = (Coordinator, worker),
) -> World:  # fmt: skip
    """The first state.

    Args:
      plan: run -> workers that take part.
      kills: worker -> how often it may be killed.
      every: runs from cut to cut; None: lost workers are not replaced.
      overlapping: how many runs are under way at once.
      spares: how many workers there are for those that are lost.
      attempts: of all runs together; what comes after more is not looked at.
      overtaking: messages between two ends do not keep their order.
      series: runs begin ahead.
      early: they are claimed before the one before has ended.
      apart: those that do not belong to the series.
      fails: runs whose execution fails.
      backup_every: cuts from one to the next of which the driver gets the copies.
      mirrored: each worker has copies of all that the others have.
      machines: the class of the coordinator, and the module of workers.
    """
    names = sorted({name for workers in plan.values() for name in workers})
    coordinator = machines[0](names, every, buddies(names, {}), backup_every)
    if mirrored:
        held = Holdings(frozenset({StateKey("", "the list")}))
        coordinator.handle(e.Loaded(1, dict.fromkeys(names, held)))
    return World(
        coordinator,
        {name: Shard(machines[1].Worker()) for name in names},
        plan,
        kills,
        {name: kills.get(name, 0) for name in names},
        overlapping,
        list(plan),
        spares,
        attempts,
        overtaking,
        series,
        early,
        apart,
        fails,
        mirrored=mirrored,
        machine=machines[1].__name__,
        to_worker={name: deque() for name in names},
        to_driver={name: deque() for name in names},
    )
