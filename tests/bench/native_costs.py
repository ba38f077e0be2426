"""What the native tier costs besides the step: calls, compiling, memory.

Part of `run.py native`; GRAPHFLOW_WORKLOADS=costs gives these numbers alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import interleaved, median_difference

import graphflow as tf

FOLDER = Path(__file__).parent / "peers"
TRAINED = ("W3", "W6")
ARENAS = ("W3", "W4", "W6", "W7", "W8")
BOUNDS = {
    "native_run_over_call_us": 5,
    "W3_cold_s": 3,
    "W3_warm_s": 0.3,
    **{f"{w}_arena_to_bound": 1.1 for w in ARENAS},
    **{f"{w}_memory_to_peer": 1.0 for w in TRAINED},
}
MEANING = {
    "native_call_us": "the native call of a plan of one op, us",
    "native_run_over_call_us": "session.run of it, one feed and one fetch, over that call, us",
    "native_update_us": "session.run of a variable's update, one feed and one fetch, us",
    "W3_cold_s": "W3, empty cache: from the run that asks for native code to code in place, s",
    "W3_warm_s": "the same, from the cache on disk, s",
    "W3_first_native_cold_s": "W3, empty cache: from the first run to the first native one, s",
    "W3_first_native_warm_s": "the same, from the cache on disk, s",
    **{f"{w}_arena_to_bound": f"{w}: arena / what is alive at once" for w in ARENAS},
    **{f"{w}_arena_mb": f"{w}: arena, MB" for w in ARENAS},
    **{f"{w}_memory_mb": f"{w}: peak memory above that of W1, MB" for w in TRAINED},
    **{f"{w}_memory_to_peer": f"{w}: that, graphflow / best peer" for w in TRAINED},
}
# A fresh process: runs W3 until native code is in place, and tells when.
PROGRAM = """
import json, sys, time, types
sys.path[:0] = [{peers!r}, {root!r}]
import harness
import graphflow
for name in ("tensorflow", "tensorflow.compat", "tensorflow.compat.v1"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["tensorflow.compat"].v1 = sys.modules["tensorflow.compat.v1"] = graphflow
import bench_tf1
from graphflow.execute.tiered import TieredProgram

programs, asked = [], []
usual = TieredProgram.__init__

def entered(self, *arguments):
    usual(self, *arguments)
    programs.append(self)
    submit = self._submit
    self._submit = lambda work: (asked.append(time.perf_counter()), submit(work))[1]

TieredProgram.__init__ = entered
options = harness.Options({workload!r}, "default", 2, 0.5)
step = bench_tf1.build(options)
programs.clear()
start = time.perf_counter()
while not (programs and programs[-1].native):
    step()
    time.sleep(0)
program = programs[-1]
now = time.perf_counter()
arena = program.native[0].plan.arena
print(json.dumps({{"first": now - start, "asked": now - asked[-1], "size": arena.size,
                  "bound": arena.bound}}))
"""


def numbers() -> dict[str, float]:
    """All of them; those that compare with peers only where GRAPHFLOW_PEERS tells their Python."""
    found = {**_calls(), **_compiling()}
    for workload in TRAINED:
        found |= _memory(workload)
    return found


def _calls() -> dict[str, float]:
    """A run of a cached plan and the native call inside it, in turns."""
    os.environ["GRAPHFLOW_TIER"] = "native"
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [8])
        y = tf.tanh(x)
        total = tf.Variable(np.zeros(8, np.float32))
        update = total.assign_add(x)
        session.run(total.initializer)
        feeds = {x: np.ones(8, np.float32)}
        session.run(y, feeds)
        session.run(update, feeds)
        (program,) = next(p for k, p in session._cache.items() if k[0] is y).executable._programs
        instance = program.native[0]._free[0]
        _, _, call = instance.calls[0][:3]
        works = {
            "call": lambda: call(instance.at, 0, 0),
            "run": lambda: session.run(y, feeds),
            "update": lambda: session.run(update, feeds),
        }
        times = interleaved(works, calls=5000)
    return {
        "native_call_us": statistics.median(times["call"]) * 1e6,
        "native_run_over_call_us": median_difference(times["run"], times["call"]) * 1e6,
        "native_update_us": statistics.median(times["update"]) * 1e6,
    }


def _compiling() -> dict[str, float]:
    """Medians of three processes each; the first of a cache is cold, the next ones are warm."""
    cold, warm = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(_placed("W3", folder))
            warm.append(_placed("W3", folder))
    result: dict[str, float] = {}
    for workload in ARENAS:
        with tempfile.TemporaryDirectory() as folder:
            run = _placed(workload, folder)
        result[f"{workload}_arena_to_bound"] = run["size"] / run["bound"]
        result[f"{workload}_arena_mb"] = run["size"] / 1e6
    for name, runs in (("cold", cold), ("warm", warm)):
        result[f"W3_{name}_s"] = statistics.median(r["asked"] for r in runs)
        result[f"W3_first_native_{name}_s"] = statistics.median(r["first"] for r in runs)
    return result


def _placed(workload: str, cache: str) -> Any:
    program = PROGRAM.format(peers=str(FOLDER), root=str(FOLDER.parents[2]), workload=workload)
    # As installed: with the bytecode that the first import leaves.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"GRAPHFLOW_TIER": "auto", "XDG_CACHE_HOME": cache}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _memory(workload: str) -> dict[str, float]:
    """Megabytes at most that a process of the workload needs, above one that runs W1."""
    sys.path.insert(0, str(FOLDER))
    import interleave

    peers = os.environ.get("GRAPHFLOW_PEERS", "")
    mine = f"graphflow={sys.executable} {FOLDER / 'bench_graphflow.py'}"
    found: dict[str, float] = {}
    for each in [mine, *(("tf1", "torch", "jax") if peers else ())]:
        name = each.partition("=")[0]
        found[name] = _peak(interleave, each, workload, peers) - _peak(
            interleave, each, "W1", peers
        )
    result = {f"{workload}_memory_mb": found.pop("graphflow")}
    result |= {f"{workload}_memory_{name}_mb": value for name, value in found.items()}
    if found:
        best = min(found.values())
        result[f"{workload}_memory_to_peer"] = result[f"{workload}_memory_mb"] / best
    return result


def _peak(interleave: Any, name: str, workload: str, peers: str) -> float:
    arguments = argparse.Namespace(
        workload=workload, dropout=0.5, python=sys.executable, peer_python=peers
    )
    (running,) = interleave.start([name], arguments)
    try:
        running.turn(1.0)
        status = Path(f"/proc/{running.process.pid}/status").read_text()
    finally:
        running.close()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
