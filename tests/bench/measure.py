"""Timing by interleaved rounds: hosts are shared, so only what runs in one round compares."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Work = Callable[[], object]


def seconds_per_call(work: Work, calls: int) -> float:
    """Mean seconds of one call, over a block of calls."""
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls


def interleaved(
    works: Mapping[str, Work], *, calls: int, rounds: int = 9, settling: int = 0
) -> dict[str, list[float]]:
    """Seconds per call of each work, one entry per round; in each round all have a turn.

    Args:
      works: what is measured.
      calls: in a turn.
      rounds: how many.
      settling: calls at the beginning of a turn that do not count: after another work has had the
        processors, the first ones take longer.
    """
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            if settling:
                seconds_per_call(work, settling)
            times[name].append(seconds_per_call(work, calls))
    return times


def median_difference(a: list[float], b: list[float]) -> float:
    """Median over rounds of a - b."""
    return statistics.median(x - y for x, y in zip(a, b, strict=True))


def median_ratio(a: list[float], b: list[float]) -> float:
    """Median over rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))
