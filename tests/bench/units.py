"""Where the time of a native step goes: per loop nest and product, of each worker.

python tests/bench/units.py W3          the slowest first
python tests/bench/units.py W3 --order  in the order of execution
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER / "peers"), str(FOLDER.parents[1])]
os.environ["GRAPHFLOW_TIER"] = "native"

import bench_graphflow  # noqa: E402, F401  (first: it cleans the environment before NumPy loads)
import bench_tf1  # noqa: E402
import harness  # noqa: E402
import numpy as np  # noqa: E402

from graphflow.compile.native import build  # noqa: E402
from graphflow.execute import native  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload")
    parser.add_argument("--order", action="store_true")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--lines", type=int, default=60)
    options = parser.parse_args()
    programs: list[Any] = []
    _watch(programs)
    step = bench_tf1.build(harness.Options(options.workload, "graph", 2, 0.5))
    for _ in range(5):
        step()
    program = max(programs, key=lambda p: sum(map(len, p.plan.units)))
    found = []
    begin = time.perf_counter()
    for _ in range(options.steps):
        step()
        found.append([_times(program.plan, i) for i in range(len(program.plan.codes))])
    rate = _rate()
    wall = (time.perf_counter() - begin) / options.steps
    print(f"{options.workload}: {wall * 1e3:.3f} ms a step, {program.plan.workers} workers")
    for segment, units in enumerate(program.plan.units):
        times = np.median([f[segment] for f in found], axis=0) / rate * 1e6
        _print(units, times, options)


def _watch(programs: list[Any]) -> None:
    original, plain = build.build_native, native.NativeProgram.__init__

    def timed(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, timed=True, **options)

    def noted(self: Any, *arguments: Any) -> None:
        plain(self, *arguments)
        programs.append(self)

    build.build_native = timed
    native.NativeProgram.__init__ = noted  # type: ignore[method-assign]


def _times(plan: Any, segment: int) -> Any:
    """Cycles [workers, units, (waiting, working)]."""
    import ctypes

    units = len(plan.units[segment])
    at = plan.codes[segment].variable("times")
    stamps = np.ctypeslib.as_array(
        ctypes.cast(at, ctypes.POINTER(ctypes.c_int64)), (plan.workers, units, 3)
    )
    return np.diff(stamps, axis=2).copy()


def _rate() -> float:
    """Cycles of the time stamp counter in a second."""
    from graphflow.compile.native.jit import function, load

    code = load(
        "declare i64 @llvm.readcyclecounter()\ndefine void @now(ptr %p) {\n"
        "  %n = call i64 @llvm.readcyclecounter()\n  store i64 %n, ptr %p\n  ret void\n}"
    )
    import ctypes

    now, cell, stamps = function(code.address("now"), ctypes.c_void_p), ctypes.c_int64(), []
    for pause in (0.0, 0.05):
        time.sleep(pause)
        now(ctypes.addressof(cell))
        stamps.append((cell.value, time.perf_counter()))
    (a, s), (b, t) = stamps
    return (b - a) / (t - s)


def _print(units: Any, times: Any, options: Any) -> None:
    order = list(range(len(units)))
    if not options.order:
        order.sort(key=lambda i: -times[:, i].sum())
    waits, works = times[:, :, 0].sum(axis=1), times[:, :, 1].sum(axis=1)
    print(f"us per worker: working {works.round(1)}, waiting {waits.round(1)}")
    for i in order[: options.lines]:
        shown = _brief(units[i])
        print(
            f"{i:5d} work {' '.join(f'{t:8.1f}' for t in times[:, i, 1])}   "
            f"wait {' '.join(f'{t:7.1f}' for t in times[:, i, 0])}   {shown}"
        )


def _brief(unit: Any) -> str:
    if hasattr(unit, "shape"):
        return f"nest {unit.name} {list(unit.shape)} in {unit.chunks} chunks"
    batch = f"{list(unit.batch)} x " if unit.batch else ""
    terms = f"{len(unit.terms)} of " if len(unit.terms) > 1 else ""
    k = max(unit.inner)
    return f"product {unit.name}: {terms}{batch}[{unit.m}, {k}] x [{k}, {unit.n}]"


if __name__ == "__main__":
    main()
