"""Small graphs that are run to see how long something takes.

What is measured alone is the least of several runs, as what else runs on a machine only ever
adds.  Where devices are to meet each other, it is the second least: the least may be the run in
which they did not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from graphflow.build import Graph
from graphflow.ops.arithmetic import add
from graphflow.ops.elementary import negative
from graphflow.ops.filling import fill
from graphflow.ops.math import add_n
from graphflow.ops.matmul import matmul
from graphflow.ops.sources import placeholder
from graphflow.place.devices import Host
from graphflow.session.options import RunMetadata, RunOptions

SIDE = 512  # of a matrix: 27 MFLOP hide what a call costs, and 1 MB what a message does
LARGE = 1 << 22  # elements of a large vector: 16 MB, more than a core's cache
CHAIN = 200  # tiny ops
HOPS = 4  # of a value between two devices
SENT = 8  # values while both ends are at work
RUNS = 7
FREE = 0.95  # who gets as much of a machine as that shares nothing that is worth a number

Open = Callable[[Graph], Any]
Sums = dict[tuple[str, str], float]  # (op type, device) -> seconds of all its calls in a run


def best(run: Callable[[], object], runs: int) -> float:
    """Least seconds of several calls, after one that pays for compiling."""
    run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def second(values: list[float]) -> float:
    """The second least."""
    return sorted(values)[1]


def sums(
    session: Any, targets: list[Any], feeds: Any, typical: Callable[[list[float]], float]
) -> Sums:
    """Seconds of all calls of each type of op on each device, as is typical of several runs."""
    runs: dict[tuple[str, str], list[float]] = {}
    for _ in range(RUNS):
        told = RunMetadata()
        session.run(targets, feeds, RunOptions(trace_level=RunOptions.FULL_TRACE), told)
        found: Sums = {}
        for span in told.step_stats:
            found[span.op, span.device] = found.get((span.op, span.device), 0.0) + span.seconds
        for key, value in found.items():
            runs.setdefault(key, []).append(value)
    return {key: typical(values) for key, values in runs.items()}


def speeds(open_session: Open, device: str) -> tuple[float, float, float]:
    """Flops and bytes per second of a device, and seconds that starting an op takes."""
    with Graph().as_default() as graph, graph.device(device):
        one = placeholder("float32", [])
        ends = _products(one, 4).op, _additions(one, 4).op
        first = tiny = add(one, one)
        for _ in range(CHAIN - 1):
            tiny = add(tiny, one)  # which no rule simplifies, as it does two negations
    with open_session(graph) as session:
        found = sums(session, list(ends), {one: 1.0}, min)
        chain = best(lambda: session.run(tiny, {one: 1.0}), RUNS)
        short = best(lambda: session.run(first, {one: 1.0}), RUNS)
    launch = max(1e-8, (chain - short) / (CHAIN - 1))
    return (
        4 * 2.0 * SIDE**3 / found["MatMul", device],
        4 * 12.0 * LARGE / found["Add", device],
        launch,
    )


def _products(one: Any, count: int) -> Any:
    matrix = product = fill([SIDE, SIDE], one)
    for _ in range(count):
        product = matmul(product, matrix)
    return product


def _additions(one: Any, count: int) -> Any:
    vector = total = fill([LARGE], one)
    for _ in range(count):
        total = add(total, vector)
    return total


def steps(open_session: Open, devices: Sequence[str]) -> float:
    """Seconds of a step that does next to nothing on each of the devices."""
    with Graph().as_default() as graph:
        one = placeholder("float32", [])
        tiny = []
        for device in devices:
            with graph.device(device):
                tiny.append(negative(one))
    with open_session(graph) as session:
        return best(lambda: session.run(tiny, {one: 1.0}), 4 * RUNS)


def hops(open_session: Open, a: str, b: str, size: int) -> float:
    """Seconds of a step in which so many floats go to and fro."""
    with Graph().as_default() as graph:
        one = placeholder("float32", [])
        with graph.device(a):
            value = fill([size], one)
        for hop in range(HOPS):
            with graph.device(a if hop % 2 else b):
                value = add(value, one)
    with open_session(graph) as session:
        return best(lambda: session.run(value.op, {one: 1.0}), RUNS)


class Traffic(NamedTuple):
    """What sending one matrix takes from two devices that compute.

    Attributes:
      held: seconds of the call that sends it.
      source, target: seconds that the work of the two takes longer: whatever does it counts,
        copies, threads and processes that need the same cores.
    """

    held: float
    source: float
    target: float


def traffic(open_session: Open, a: str, b: str) -> Traffic:
    """From products on both devices, without and with sends from the first to the second."""
    quiet, busy = (_at_work(open_session, a, b, sends) for sends in (False, True))
    more = (max(0.0, busy["MatMul", d] - quiet["MatMul", d]) / SENT for d in (a, b))
    return Traffic(busy.get(("Send", a), 0.0) / SENT, *more)


def _at_work(open_session: Open, a: str, b: str, sends: bool) -> Sums:
    """Products on both devices, those of the first sent to the second or not."""
    with Graph().as_default() as graph:
        one = placeholder("float32", [])
        with graph.device(a):
            matrix = product = fill([SIDE, SIDE], one)
            made = [product := matmul(product, matrix) for _ in range(SENT)]
        with graph.device(b):
            other = _products(one, 2 * SENT)  # still at work when the last value comes
        with graph.device(b if sends else a):
            total = add_n(made)
    with open_session(graph) as session:
        return sums(session, [total.op, other.op], {one: 1e-3}, second)


def sharing(open_session: Open, devices: Sequence[str]) -> Host:
    """What the devices of one machine share: the same work on one of them, and on all."""
    alone = _crowd(open_session, devices[:1])
    count = len(devices)
    shares = [count * a / b for a, b in zip(alone, _crowd(open_session, devices), strict=True)]
    return Host(*[max(1.0, s) if s < FREE * count else float("inf") for s in shares])


def _crowd(open_session: Open, devices: Sequence[str]) -> list[float]:
    """Seconds of products and of additions on each of the devices, in the mean."""
    with Graph().as_default() as graph:
        one = placeholder("float32", [])
        ends = []
        for device in devices:
            with graph.device(device):
                product = _products(one, SENT)
                # After the products, so that each kind of work meets its own.
                ends.append(_additions(product[0, 0], SENT).op)
    with open_session(graph) as session:
        found = sums(session, ends, {one: 1e-3}, second)
    return [sum([found[op, d] for d in devices]) / len(devices) for op in ("MatMul", "Add")]
