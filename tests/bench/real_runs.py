"""Five plans of one graph on two worker processes: what the simulator says, what the clock says.

Each plan is asked for by devices.  Costs of ops come from traced steps of the first plan (all on
one worker) and of the last; links and starts from `calibrate`.  The graph takes tens of
milliseconds, so that what Ray does aside is small beside it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import graphflow as tf
from graphflow.place.profile import Profile
from graphflow.session.planner import Planner

SIDE = 512
CHAINS, LENGTH = 4, 6
ROUNDS = 40
PLANS = {
    "one worker": lambda chain, step: 0,
    "three chains to one": lambda chain, step: int(chain == 0),
    "halves": lambda chain, step: chain // 2,
    "pipeline": lambda chain, step: step // (LENGTH // 2),
    "to and fro": lambda chain, step: (chain + step) % 2,
}


def build(plan: Any) -> tuple[Any, Any]:
    """(placeholder, fetch): chains of products that are added up."""
    x = tf.placeholder(tf.float32, [], name="x")
    ends = []
    for chain in range(CHAINS):
        with tf.device(f"/job:worker/task:{plan(chain, 0)}"):
            y = tf.fill([SIDE, SIDE], x * (chain + 1.0))
        for step in range(LENGTH):
            with tf.device(f"/job:worker/task:{plan(chain, step)}"):
                y = tf.matmul(y, tf.fill([SIDE, SIDE], x))
        ends.append(y)
    with tf.device("/job:worker/task:0"):
        return x, tf.reduce_sum(tf.add_n(ends))


def compare() -> list[tuple[float, float]]:
    """(simulated, measured) seconds of a step of each plan."""
    with tf.Cluster(workers=2) as cluster, tempfile.TemporaryDirectory() as folder:
        sessions = []
        for plan in PLANS.values():
            with tf.Graph().as_default() as graph:
                x, y = build(plan)
            sessions.append((tf.Session(graph=graph, cluster=cluster), x, y))
        path = Path(folder) / "calibration.json"
        topology = sessions[0][0].calibrate(path)
        profile = Profile()
        for session, x, y in sessions:
            session.run(y, {x: 0.01})
        for session, x, y in (sessions[0], sessions[-1]):
            placement = session.placement(y, {x: 0.01})
            operations = {o.name: o for o in placement.subgraph.order}
            profile.observe(fastest_spans(session, x, y), operations, placement.model)
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
    return list(zip(simulated, map(min, measured), strict=True))


def fastest_spans(session: Any, x: Any, y: Any) -> list[Any]:
    """Of each op the fastest call: what else runs on the machine only ever adds."""
    least: dict[tuple[str, str], Any] = {}
    bare = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    for _ in range(ROUNDS // 2):
        told = tf.RunMetadata()
        session.run(y, {x: 0.01}, bare, told)
        for span in told.step_stats:
            key = span.op, span.device
            least[key] = min(span, least.get(key, span), key=lambda s: s.seconds)
    return list(least.values())


if __name__ == "__main__":
    for name, (simulated, measured) in zip(PLANS, compare(), strict=True):
        print(f"{name:20} simulated {simulated * 1e3:7.2f} ms, measured {measured * 1e3:7.2f} ms")
