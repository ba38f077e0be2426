"""Five plans of one graph on two worker processes: what the simulator says, what the clock says.

The ops are matrix products, or waits, which hold a device for a known time as a kernel on an
accelerator does: on a machine whose cores others use, too, two processes that compute slow each
other down, and only the waits say how good the simulator is.

Each plan is asked for by devices.  Costs of ops come from traced steps of the first plan (all on
one worker) and of the last; links, what they take from devices, and starts from `calibrate`.
Calls and steps alike count by their lower quartiles: least times of calls do not add up to a least
time of a step, and whatever else runs on the machine moves the medians.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import graphflow as tf
from graphflow.place.profile import Profile, extents
from graphflow.session.planner import Planner

SIDE = 512
CHAINS, LENGTH = 4, 6
WAIT = 4e-3  # seconds
ROUNDS = 40
PLANS = {
    "one worker": lambda chain, step: 0,
    "three chains to one": lambda chain, step: int(chain == 0),
    "halves": lambda chain, step: chain // 2,
    "pipeline": lambda chain, step: step // (LENGTH // 2),
    "to and fro": lambda chain, step: (chain + step) % 2,
}


def wait(y: Any) -> Any:
    """Holds the device, and gives its argument."""
    time.sleep(WAIT)
    return y


def product(y: Any, x: Any) -> Any:
    return tf.matmul(y, tf.fill([SIDE, SIDE], x))


def waiting(y: Any, x: Any) -> Any:
    waited = tf.py_func(wait, [y], tf.float32, stateful=False)
    waited.set_shape([SIDE, SIDE])
    return waited


def build(plan: Any, op: Any) -> tuple[Any, Any]:
    """(placeholder, fetch): chains of ops that are added up."""
    x = tf.placeholder(tf.float32, [], name="x")
    ends = []
    for chain in range(CHAINS):
        with tf.device(f"/job:worker/task:{plan(chain, 0)}"):
            y = tf.fill([SIDE, SIDE], x * (chain + 1.0))
        for step in range(LENGTH):
            with tf.device(f"/job:worker/task:{plan(chain, step)}"):
                y = op(y, x)
        ends.append(y)
    with tf.device("/job:worker/task:0"):
        return x, tf.reduce_sum(tf.add_n(ends))


def compare(op: Any) -> list[tuple[float, float]]:
    """(simulated, measured) seconds of a step of each plan."""
    with tf.Cluster(workers=2) as cluster, tempfile.TemporaryDirectory() as folder:
        sessions = []
        for plan in PLANS.values():
            with tf.Graph().as_default() as graph:
                x, y = build(plan, op)
            sessions.append((tf.Session(graph=graph, cluster=cluster), x, y))
        path = Path(folder) / "calibration.json"
        topology = sessions[0][0].calibrate(path)
        profile = Profile()
        for session, x, y in sessions:
            session.run(y, {x: 0.01})
        for session, x, y in (sessions[0], sessions[-1]):
            placement = session.placement(y, {x: 0.01})
            operations = {o.name: o for o in placement.subgraph.order}
            profile.observe(typical_spans(session, x, y), operations, placement.model)
        measured: list[list[float]] = [[] for _ in sessions]
        for _ in range(ROUNDS):
            for times, (session, x, y) in zip(measured, sessions, strict=True):
                start = time.perf_counter()
                session.run(y, {x: 0.01})
                times.append(time.perf_counter() - start)
        simulated = []
        for session, x, y in sessions:
            session._cache.clear()
            session._planner = Planner(topology, profile)
            simulated.append(session.placement(y, {x: 0.01}).predicted)
            session.close()
    return list(zip(simulated, map(quartile, measured), strict=True))


def quartile(values: Iterable[Any], key: Any = None) -> Any:
    """The value that a quarter of them is below."""
    ordered = sorted(values, key=key)
    return ordered[len(ordered) // 4]


def typical_spans(session: Any, x: Any, y: Any) -> list[Any]:
    """One call of each op on each device, as it usually is."""
    calls: dict[tuple[str, str], list[Any]] = {}
    full = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    for _ in range(ROUNDS // 2):
        told = tf.RunMetadata()
        session.run(y, {x: 0.01}, full, told)
        for span in extents(told.step_stats):
            calls.setdefault((span.op, span.device), []).append(span)
    return [quartile(each, key=lambda span: span.seconds) for each in calls.values()]


if __name__ == "__main__":
    for each in (waiting, product):
        for name, (simulated, measured) in zip(PLANS, compare(each), strict=True):
            print(f"{each.__name__} {name:20} {simulated * 1e3:7.2f} ms, {measured * 1e3:7.2f} ms")
