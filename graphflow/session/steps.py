"""Many runs of the same fetches, several of them under way where that makes no difference.

Runs that only read overlap on threads.  On the workers of a cluster, others begin before the one
before them is committed, and are committed when their results are asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from typing import Any, Protocol

from graphflow.base.interrupts import uninterrupted
from graphflow.rewrite.effects import is_droppable, touches
from graphflow.rewrite.subgraph import Subgraph

Feeds = Mapping[Any, Any]


def may_overlap(subgraph: Subgraph) -> bool:
    """Do its runs only read, so that each gives the same whatever others are under way?"""
    return all(is_droppable(operation) for operation in subgraph.order)


def may_begin_ahead(subgraph: Subgraph) -> bool:
    """Do its runs depend on state and feeds alone, so that one may begin when the one before has
    not been committed?  What they take from queues and the like would be taken for nothing where
    they are not wanted in the end."""
    return all(
        touch.kind in ("read", "write") or (touch.kind == "output" and isinstance(touch.key, str))
        for operation in subgraph.order
        for touch in touches(operation)
    )


class Begun(Protocol):
    """A run that has begun before its turn.

    Attributes:
      void: it was taken back.
    """

    @property
    def void(self) -> bool: ...

    def result(self) -> Any: ...

    def withdraw(self) -> None: ...


Begin = Callable[[Feeds, Begun | None], Begun | None]


def run_steps(
    run: Callable[[Feeds], Any],
    feeds: int | Iterable[Feeds],
    in_flight: int,
    overlap: Callable[[], bool],
    begin: Callable[[], Begin | None],
) -> Iterator[Any]:
    """See `BaseSession.run_steps`.

    Args:
      run: one run, with what it is fed.
      feeds: what each run is fed; or how many runs without feeds.
      in_flight: how many may be under way.
      overlap: tells, after the first run, whether more than one may.
      begin: gives, after that, what begins a run before the one before it is committed, or None.
    """
    fed = iter(repeat({}, feeds) if isinstance(feeds, int) else feeds)
    for first in fed:
        yield run(first)
        if in_flight > 1 and overlap():
            yield from _overlapping(run, fed, in_flight)
        elif in_flight > 1 and (begins := begin()) is not None:
            yield from _in_series(run, begins, fed, in_flight)
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
                    # no deadline: that of the run, which the user gives as for a single one
                    yield waiting.popleft().result()
        finally:  # after a failure, or when nobody wants the rest
            for future in waiting:
                future.cancel()


class _Step:
    """A run that is wanted next, or soon."""

    def __init__(self, feeds: Feeds):
        self.feeds = feeds
        self.begun: Begun | None = None


def _in_series(
    run: Callable[[Feeds], Any], begin: Begin, fed: Iterator[Feeds], in_flight: int
) -> Iterator[Any]:
    """What is committed, and in which order, is as if each began when it is asked for."""
    waiting: deque[_Step] = deque()
    failure: Exception | None = None
    try:
        while True:
            while failure is None and len(waiting) < in_flight:
                try:
                    waiting.append(_Step(next(fed)))
                except StopIteration:
                    break
                except Exception as error:  # it is not its turn yet
                    failure = error
            if not waiting:
                break
            _begin_all(begin, waiting)
            yield _next_result(run, waiting)
    finally:
        _withdraw_all(waiting)  # after a failure, or when nobody wants the rest
    if failure is not None:
        raise failure


@uninterrupted
def _next_result(run: Callable[[Feeds], Any], waiting: deque[_Step]) -> Any:
    step = waiting.popleft()
    # no deadline: that of the run, as above
    return run(step.feeds) if step.begun is None else step.begun.result()


@uninterrupted
def _withdraw_all(waiting: deque[_Step]) -> None:
    while waiting:  # the last first
        begun = waiting.pop().begun
        if begun is not None:
            begun.withdraw()


@uninterrupted
def _begin_all(begin: Begin, waiting: Iterable[_Step]) -> None:
    """Begin what has not begun, or was taken back, in order, as far as that can be."""
    before: Begun | None = None
    for step in waiting:
        if step.begun is not None and step.begun.void:
            step.begun.withdraw()
            step.begun = None
        if step.begun is None:
            step.begun = begin(step.feeds, before)
        if step.begun is None:
            return
        before = step.begun
