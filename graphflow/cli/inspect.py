"""`graphflow inspect` and `graphflow whatif`: how a program is placed, here or elsewhere.

The program runs as with `graphflow run`; what its sessions plan is listened to.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from graphflow.base.errors import InvalidArgumentError, OpError
from graphflow.cli import run
from graphflow.place import Explanation, Placement, Topology, place
from graphflow.place.spec import read_cluster
from graphflow.place.units import seconds
from graphflow.session.planner import Planner


@contextmanager
def placements() -> Iterator[list[Placement]]:
    """What the sessions inside plan, in order."""
    found: list[Placement] = []
    usual = Planner.place

    def listening(self: Planner, *arguments: Any, **options: Any) -> Placement:
        placement = usual(self, *arguments, **options)
        found.append(placement)
        return placement

    Planner.place = listening  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Planner.place = usual  # type: ignore[method-assign]


def main(
    script: str, arguments: Sequence[str], save: Sequence[str] = (), every: bool = False
) -> int:
    """Run the script and explain the plan of its largest step.

    Args:
      script: path of the program.
      arguments: its command line.
      save: files for the Gantt chart (.svg, .png) and the Chrome trace (.json).
      every: explain each plan.
    """
    found = _planned(script, arguments)
    if found is None:
        return 2
    chosen = found if every else [largest(found)]
    for placement in chosen:
        print(Explanation(placement))
    return _save(Explanation(chosen[-1]), save)


def whatif(script: str, arguments: Sequence[str], cluster: str, save: Sequence[str] = ()) -> int:
    """Run the script here, and say what its largest step would take on another cluster.

    Args:
      script: path of the program.
      arguments: its command line.
      cluster: a file that describes the cluster; see `graphflow.place.spec`.
      save: files for the Gantt chart (.svg, .png) and the Chrome trace (.json).
    """
    try:
        topology = read_cluster(cluster)
    except (OSError, InvalidArgumentError) as error:
        print(f"graphflow whatif: {getattr(error, 'message', error)}", file=sys.stderr)
        return 2
    found = _planned(script, arguments)
    if found is None:
        return 2
    here = largest(found)
    try:
        there = elsewhere(here, topology)
    except OpError as error:
        print(f"graphflow whatif: {error.message}", file=sys.stderr)
        return 1
    explanation = Explanation(there)
    print(explanation)
    ratio = here.predicted / there.predicted if there.predicted else float("inf")
    print(
        f"here the step is predicted to take {seconds(here.predicted)}, there "
        f"{seconds(there.predicted)}: {ratio:.3g} times as fast"
    )
    return _save(explanation, save)


def elsewhere(placement: Placement, topology: Topology) -> Placement:
    """The same step on other devices; requests that they cannot meet are loosened.

    Raises:
      OpError: it cannot be placed there.
    """
    return place(placement.subgraph, topology, soft=True)


def largest(found: Sequence[Placement]) -> Placement:
    """The plan with most work; the last of several."""
    return max(reversed(found), key=lambda p: sum(p.schedule.load))


def _planned(script: str, arguments: Sequence[str]) -> list[Placement] | None:
    with placements() as found:
        status = run.to_its_end(script, arguments)
    if status:
        return None
    if not found:
        print("the program ran no session: there is nothing to explain", file=sys.stderr)
        return None
    return found


def _save(explanation: Explanation, paths: Sequence[str]) -> int:
    for path in paths:
        try:
            explanation.save(path)
        except (ImportError, OSError) as error:
            print(f"graphflow: {path}: {error}", file=sys.stderr)
            return 1
    return 0
