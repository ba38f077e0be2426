"""Numbers of the placer: plans against proven optima and experts, planning time, the simulator
against real runs."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import graphflow as tf
from graphflow.place import place
from graphflow.place.devices import topology_of
from graphflow.place.exact import solve
from graphflow.place.place import search
from graphflow.rewrite import prune

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.place.experts import EXPERTS, ratio
from tests.place.problems import limited_problem

DAGS = 60
PROOF_SECONDS = 120.0
BOUNDS = {
    "optimum_geomean": 1.01,
    "optimum_max": 1.04,
    "expert_max": 1.0,
    "plan_5000_s": 0.7,
    "plan_100000_s": 20,
    "growth_per_op": 1.5,
    "simulator_error": 0.15,
}
MEANING = {
    "optimum_geomean": "heuristic plan / proven optimum, 60 DAGs, geometric mean",
    "optimum_max": "heuristic plan / proven optimum, worst",
    "expert_max": "plan / expert placement, worst of five networks",
    "plan_5000_s": "5,000 ops on 4 devices: planning, s",
    "plan_100000_s": "100,000 ops on 16 devices: planning, s",
    "growth_per_op": "planning time per op at 100,000 ops / at 5,000, both on 16 devices",
    "simulator_error": "simulated / real step, 2 processes, ops that wait: worst of 5 plans",
    "simulator_error_products": "the same with products, which need two free cores",
    "kendall_tau_products": "the same with products, which need two free cores",
    "kendall_tau": "order of the 5 plans, simulated against real: Kendall's tau (>= 0.8)",
}


def numbers() -> dict[str, Any]:
    """All of them."""
    return {**_optima(), **_experts(), **_planning(), **_real()}


def _optima() -> dict[str, float]:
    """The search, without the exact solver, against bounds that HiGHS proves.

    The program bounds live memory from below, so that a bound may be under the true optimum:
    the ratios err on the safe side.
    """
    ratios = []
    for seed in range(DAGS):
        problem = limited_problem(seed)
        schedule = search(problem, exact=False)[1]
        proof = solve(problem, schedule, nodes=None, seconds=PROOF_SECONDS)
        fits = not schedule.overflow
        ratios.append(schedule.makespan / proof.bound if fits else math.inf)
    return {
        "optimum_geomean": math.exp(sum(map(math.log, ratios)) / len(ratios)),
        "optimum_max": max(ratios),
    }


def _experts() -> dict[str, float]:
    return {"expert_max": max(ratio(name) for name in EXPERTS)}


def _planning() -> dict[str, float]:
    small = min(_plan_seconds(5_000, 4, seed) for seed in range(3))  # none is found already
    start = _plan_seconds(5_000, 16)
    large = _plan_seconds(100_000, 16)
    return {
        "plan_5000_s": small,
        "plan_100000_s": large,
        "growth_per_op": large / start / 20,
    }


def _plan_seconds(count: int, devices: int, seed: int = 0) -> float:
    """Seconds to place a graph of so many ops: lanes that exchange values now and then."""
    rng = random.Random(count + seed)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [256, 1024])
        lanes = [x * float(i) for i in range(24)]
        for op in _ops(count - 24):
            i, j = rng.randrange(24), rng.randrange(24)
            lanes[i] = tf.tanh(lanes[i]) if op % 8 else lanes[i] + lanes[j]
        view = prune(graph, lanes, [], [x])
    topology = topology_of([f"/job:w/task:{i // 4}/cpu:{i % 4}" for i in range(devices)])
    start = time.perf_counter()
    place(view, topology)
    return time.perf_counter() - start


def _ops(count: int) -> Iterator[int]:
    yield from range(count)


def _real() -> dict[str, float]:
    """Five plans of one graph on two workers: simulated, and run."""
    import real_runs

    found = {}
    for op, more in ((real_runs.waiting, ""), (real_runs.product, "_products")):
        pairs = real_runs.compare(op)
        errors = [abs(simulated / measured - 1) for simulated, measured in pairs]
        found |= {f"simulator_error{more}": max(errors), f"kendall_tau{more}": kendall(pairs)}
    return found


def kendall(pairs: list[tuple[float, float]]) -> float:
    """Kendall's tau of two rankings."""
    signs = [float(np.sign(a[0] - b[0]) * np.sign(a[1] - b[1])) for a, b in combinations(pairs, 2)]
    return sum(signs) / len(signs)
