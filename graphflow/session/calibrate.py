"""Measure devices and links by running small graphs on them: a few seconds, once per machine.

Each number is the least of several runs: what else runs on a machine only ever adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphflow.build import Graph
from graphflow.ops.arithmetic import add
from graphflow.ops.elementary import negative
from graphflow.ops.filling import fill
from graphflow.ops.matmul import matmul
from graphflow.ops.sources import placeholder
from graphflow.place.devices import Device, Link, Starts, Topology
from graphflow.place.profile import Profile, cache_folder, load, machine, store
from graphflow.session.options import RunMetadata, RunOptions

SIDE = 512  # of a matrix: 27 MFLOP hide what a call costs
LARGE = 1 << 22  # elements of a large vector: 16 MB, more than a core's cache
CHAIN = 200  # tiny ops
HOPS = 4  # of a value between two devices
RUNS = 5
PAIRS = 6  # links that are measured; others of the same kind are taken to be like them

Open = Callable[[Graph], Any]


def calibrated(
    open_session: Open, topology: Topology, path: Path | None
) -> tuple[Topology, Profile]:
    """What was stored for these devices on this machine, else what is measured now, and stored.

    Args:
      open_session: graph -> session on the devices.
      topology: the devices.
      path: the file; None: one in the user's cache.
    """
    names = [d.name for d in topology.devices]
    path = path or cache_folder() / f"calibration-{machine()}-{len(names)}.json"
    known = load(path, names)
    if known is None:
        known = measure(open_session, topology), Profile()
        store(*known, path)
    return known


def measure(open_session: Open, topology: Topology) -> Topology:
    """The topology with measured speeds, links and starts."""
    names = [d.name for d in topology.devices]
    step = _steps(open_session, names[:1])
    devices = tuple([_device(open_session, d) for d in topology.devices])
    links: dict[tuple[str, str], Link] = {}
    kinds: dict[tuple[Any, ...], Link] = {}
    for a in names:
        for b in names:
            if a == b:
                continue
            assumed = topology.link(a, b)
            kind = assumed, topology[a].kind, topology[b].kind
            if kind not in kinds or len(links) < PAIRS:
                kinds[kind] = _link(open_session, a, b, step)
            links[a, b] = kinds[kind]
    return Topology(devices, links, _starts(open_session, topology, step))


def _best(run: Callable[[], object], runs: int = RUNS) -> float:
    """Least seconds of several calls, after one that pays for compiling."""
    run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _device(open_session: Open, device: Device) -> Device:
    with Graph().as_default() as graph, graph.device(device.name):
        one = placeholder("float32", [])
        matrix = fill([SIDE, SIDE], one)
        product = matrix
        for _ in range(4):
            product = matmul(product, matrix)
        vector = fill([LARGE], one)
        total = vector
        for _ in range(4):
            total = add(total, vector)
        tiny = one
        for _ in range(CHAIN):
            tiny = add(tiny, one)  # which no rule simplifies, as it does two negations
    with open_session(graph) as session:
        spans = _spans(session, [product.op, total.op], {one: 1.0})
        chain = _best(lambda: session.run(tiny, {one: 1.0}))
        short = _best(lambda: session.run(_first_of(graph, tiny), {one: 1.0}))
    launch = max(1e-8, (chain - short) / (CHAIN - 1))
    flops = 2.0 * SIDE**3 / spans["MatMul"]
    return replace(device, flops=flops, bandwidth=12.0 * LARGE / spans["Add"], launch=launch)


def _first_of(graph: Graph, last: Any) -> Any:
    """The first of the tiny ops."""
    operation = last.op
    while operation.inputs[0].op.type != "Placeholder":
        operation = operation.inputs[0].op
    return operation.outputs[0]


def _spans(session: Any, targets: list[Any], feeds: Any) -> dict[str, float]:
    """Op type -> least seconds of one call."""
    least: dict[str, float] = {}
    for _ in range(RUNS):
        told = RunMetadata()
        session.run(targets, feeds, RunOptions(trace_level=RunOptions.FULL_TRACE), told)
        for span in told.step_stats:
            least[span.op] = min(span.seconds, least.get(span.op, span.seconds))
    return least


def _steps(open_session: Open, names: list[str]) -> float:
    """Seconds of a step that does next to nothing on each of the devices."""
    with Graph().as_default() as graph:
        one = placeholder("float32", [])
        tiny = []
        for name in names:
            with graph.device(name):
                tiny.append(negative(one))
    with open_session(graph) as session:
        return _best(lambda: session.run(tiny, {one: 1.0}), 20)


def _starts(open_session: Open, topology: Topology, step: float) -> Starts:
    first, device, process = topology.devices[0], 0.0, 0.0
    assumed = topology.starts
    same = [d for d in topology.devices[1:] if d.process == first.process]
    other = [d for d in topology.devices if d.process != first.process]
    device = assumed.device
    if same:
        device = max(0.0, _steps(open_session, [first.name, same[0].name]) - step)
    process = assumed.process
    if other:
        process = max(0.0, _steps(open_session, [first.name, other[0].name]) - step)
    return Starts(step, device, process)


def _link(open_session: Open, a: str, b: str, step: float) -> Link:
    """From the time that a value takes to and fro, small and large."""
    small, large = (_hops(open_session, a, b, size) for size in (1, LARGE // 4))
    here = _hops(open_session, a, a, LARGE // 4)
    together = _steps(open_session, [a, b])
    alpha = max(1e-7, (small - together) / HOPS)
    moving = max(1e-9, (large - small - max(0.0, here - step)) / HOPS)
    beta = LARGE / moving  # LARGE / 4 elements of four bytes
    with Graph().as_default() as graph:
        one = placeholder("float32", [])
        with graph.device(a):
            value = fill([LARGE // 4], one)
        with graph.device(b):
            end = add(value, one)
    with open_session(graph) as session:
        sending = _spans(session, [end.op], {one: 1.0}).get("Send", 0.0)
    return Link(alpha, beta, min(1.0, sending / (alpha + moving)))


def _hops(open_session: Open, a: str, b: str, size: int) -> float:
    with Graph().as_default() as graph:
        one = placeholder("float32", [])
        with graph.device(a):
            value = fill([size], one)
        for hop in range(HOPS):
            with graph.device(a if hop % 2 else b):
                value = add(value, one)
    with open_session(graph) as session:
        return _best(lambda: session.run(value.op, {one: 1.0}))
