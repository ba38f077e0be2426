# ruff: noqa
"""Command line, timing and the --serve protocol of every benchmark script.

    python bench_X.py --workload W2 --steps 100     one JSON line with the times
    python bench_X.py --workload W2 --serve         driven by interleave.py

A step feeds NumPy arrays, runs forward, backward and update, and brings back the
loss as a Python float (W1: the 8 floats; W5: the sum and the gradient, as NumPy).
"""

import environment  # noqa: F401  (unsets OpenBLAS variables before NumPy loads)

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass

import numpy as np

import workloads


@dataclass(frozen=True)
class Options:
    """What a script's ``build(options) -> step`` needs to know."""

    workload: str
    mode: str
    threads: int
    dropout: float


def main(name, build, modes=("default",)):
    """Run the benchmark ``build`` under the common command line."""
    arguments = _parse(modes)
    options = Options(arguments.workload, arguments.mode, arguments.threads, arguments.dropout)
    start = time.perf_counter()
    step = build(options)
    first = checksum(step())
    first_seconds = time.perf_counter() - start
    for _ in range(arguments.warmup):
        step()
    head = {
        "implementation": name,
        "mode": options.mode,
        "workload": options.workload,
        "first_s": round(first_seconds, 3),
        "first": first,
    }
    if arguments.serve:
        _serve(head, step)
    else:
        _report(head, step, arguments.steps, options.threads)


def checksum(result):
    """A float (or list of floats) that tells whether two steps computed the same."""
    if isinstance(result, (tuple, list)):
        return [checksum(part) for part in result]
    return float(np.asarray(result, np.float64).sum())


def times_of(step, *, seconds=None, steps=None):
    """Seconds of each single step, for a number of steps or a time span."""
    clock = time.perf_counter
    end = clock() + seconds if seconds is not None else None
    times = []
    while (steps is None or len(times) < steps) and (end is None or clock() < end):
        start = clock()
        step()
        times.append(clock() - start)
    return times


def _parse(modes):
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--workload", required=True, choices=(*workloads.NAMES, *workloads.OTHER_SIZES)
    )
    parser.add_argument("--mode", default=modes[0], choices=modes)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.5, help="W3 only; 0 to compare losses")
    parser.add_argument("--serve", action="store_true", help="time spans on stdin, JSON on stdout")
    return parser.parse_args()


def _serve(head, step):
    print(json.dumps({"ready": True, **head}), flush=True)
    for line in sys.stdin:
        print(json.dumps(times_of(step, seconds=float(line))), flush=True)


def _report(head, step, steps, threads):
    times = times_of(step, steps=steps)
    figures = {
        "threads": threads,
        "steps": steps,
        "median_s": statistics.median(times),
        "min_s": min(times),
        "mean_s": statistics.fmean(times),
        "last": checksum(step()),
    }
    print(json.dumps({**head, **figures}))
