"""Numbers of the core: building, running, importing, large graphs, messages on a cluster."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
from measure import interleaved, median_difference, seconds_per_call

import graphflow as tf

CHAIN = 1000
SMALL = np.ones((4, 3), np.float32)
BOUNDS = {
    "add_op_us": 20,
    "session_run_us": 25,
    "reference_overhead_us": 2.5,
    "import_s": 0.5,
    "first_result_10000_s": 3,
    "growth_per_op": 1.5,
    "calls_per_worker_and_step": 1,
}
MEANING = {
    "add_op_us": "adding an op to a graph, us",
    "session_run_us": "session.run of a cached plan of one op, us",
    "reference_overhead_us": "reference tier per small op, over the bare NumPy call, us",
    "import_s": "import graphflow, s",
    "first_result_10000_s": "10,000 ops: from run to the first result, s",
    "first_result_100000_s": "100,000 ops: from run to the first result, s",
    "growth_per_op": "time per op at 100,000 ops / at 10,000",
    "calls_per_worker_and_step": "messages per worker and step",
}


def numbers() -> dict[str, Any]:
    """All of them."""
    return {
        **_building(),
        **_running(),
        "import_s": _import_seconds(),
        **_large_graphs(),
        "calls_per_worker_and_step": _calls_per_step(),
    }


def _building() -> dict[str, float]:
    def build(count: int) -> float:
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float32, [4, 3])
            y = tf.constant(SMALL)
            return seconds_per_call(lambda: tf.add(x, y), count)

    build(1000)
    return {"add_op_us": statistics.median(build(5000) for _ in range(7)) * 1e6}


def _running() -> dict[str, float]:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [4, 3])
        one = tf.negative(x)
        chain = x
        for _ in range(CHAIN):
            chain = tf.tanh(chain)

        def bare() -> None:
            y = SMALL
            for _ in range(CHAIN):
                y = np.tanh(y)

        feeds = {x: SMALL}
        single = interleaved({"run": lambda: session.run(one, feeds)}, calls=2000)
        chains = interleaved(
            {"graphflow": lambda: session.run(chain, feeds), "numpy": bare}, calls=20
        )
    overhead = median_difference(chains["graphflow"], chains["numpy"]) / CHAIN
    return {
        "session_run_us": statistics.median(single["run"]) * 1e6,
        "reference_overhead_us": overhead * 1e6,
    }


def _import_seconds() -> float:
    program = (
        "import time; start = time.perf_counter(); import graphflow; "
        "print(time.perf_counter() - start)"
    )
    # As installed: with the bytecode that the first import leaves.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program]
    runs = [subprocess.check_output(command, env=environment) for _ in range(6)]
    return statistics.median(float(run) for run in runs[1:])


def _large_graphs() -> dict[str, float]:
    small = statistics.median(_first_result(10_000) for _ in range(3))
    large = _first_result(100_000)
    return {
        "first_result_10000_s": small,
        "first_result_100000_s": large,
        "growth_per_op": large / small / 10,
    }


def _first_result(count: int) -> float:
    """Seconds from `run` to the result, for a graph whose ops cannot be folded or merged."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [4, 3])
        lanes = [x, x * 2.0]
        for i in range((count - 1) // 2):
            lanes = [tf.tanh(lanes[1]), lanes[0] + lanes[i % 2]]
        start = time.perf_counter()
        session.run(lanes, {x: SMALL})
        return time.perf_counter() - start


def _calls_per_step(steps: int = 50) -> float:
    with tf.Graph().as_default(), tf.Cluster(workers=2) as cluster:
        x = tf.placeholder(tf.float32, [4, 3])
        with tf.device("/job:worker/task:0"):
            left = tf.tanh(x)
        with tf.device("/job:worker/task:1"):
            right = tf.reduce_sum(left)
        with tf.Session(cluster=cluster) as session:
            session.run(right, {x: SMALL})
            before = session.target.statistics()
            for _ in range(steps):
                session.run(right, {x: SMALL})
            after = session.target.statistics()
    kinds = ("steps", "notices", "loads")
    return max(sum(after[w].get(k, 0) - before[w].get(k, 0) for k in kinds) / steps for w in after)
