"""Many runs of the same fetches, several of them under way where that makes no difference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from typing import Any

from graphflow.rewrite.effects import is_droppable
from graphflow.rewrite.subgraph import Subgraph

Feeds = Mapping[Any, Any]


def may_overlap(subgraph: Subgraph) -> bool:
    """Do its runs only read, so that each gives the same whatever others are under way?"""
    return all(is_droppable(operation) for operation in subgraph.order)


def run_steps(
    run: Callable[[Feeds], Any],
    feeds: int | Iterable[Feeds],
    in_flight: int,
    overlap: Callable[[], bool],
) -> Iterator[Any]:
    """See `BaseSession.run_steps`.

    Args:
      run: one run, with what it is fed.
      feeds: what each run is fed; or how many runs without feeds.
      in_flight: how many may be under way.
      overlap: tells, after the first run, whether more than one may.
    """
    fed = iter(repeat({}, feeds) if isinstance(feeds, int) else feeds)
    for first in fed:
        yield run(first)
        if in_flight > 1 and overlap():
            yield from _overlapping(run, fed, in_flight)
        else:
            yield from map(run, fed)


def _overlapping(
    run: Callable[[Feeds], Any], fed: Iterator[Feeds], in_flight: int
) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(in_flight, thread_name_prefix="graphflow-steps") as pool:
        try:
            for feeds in chain(fed, repeat(None, in_flight)):
                if feeds is not None:
                    waiting.append(pool.submit(run, feeds))
                if waiting and (feeds is None or len(waiting) == in_flight):
                    yield waiting.popleft().result()
        finally:  # after a failure, or when nobody wants the rest
            for future in waiting:
                future.cancel()
