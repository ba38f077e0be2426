"""Numbers of the op set: how much there is, how well it is checked, how long that takes."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import graphflow as tf
from graphflow.differentiate.check import check_gradients
from tests.ops import mutation
from tests.ops.registered import call, cases_of, checked_inputs, entries

HERE = Path(__file__).parent
USAGE = HERE / "data" / "api_usage.tsv"
BOUNDS = {"worst_gradient_error": 1e-5, "op_suite_s": 180}
MEANING = {
    "ops": "ops registered",
    "ops_with_gradient": "ops with a gradient",
    "symbols_resolved": "share of the 400 most used symbols of TensorFlow 1 that resolve",
    "gradient_checks": "numeric derivatives compared, first and second order",
    "worst_gradient_error": "worst relative error of a gradient",
    "mutants": "broken gradient rules tried",
    "mutation_kill_rate": "share of them that the checks notice",
    "ops_with_tensorflow_values": "ops compared with TensorFlow's recorded values",
    "op_suite_s": "pytest tests/ops tests/nn tests/differentiate, s",
    "op_suite_cpu_s": "the same, CPU time, which other programs lengthen less",
}


def numbers() -> dict[str, Any]:
    """All of them."""
    known = entries()
    return {
        "ops": len(known),
        "ops_with_gradient": sum(entry.grad is not None for entry in known.values()),
        "symbols_resolved": _resolved(),
        **_gradients(),
        **_mutants(),
        "ops_with_tensorflow_values": _recorded(),
        **_suite(),
    }


def missing() -> list[str]:
    """The symbols that do not resolve, most used first."""
    rows = [line.split("\t")[0] for line in USAGE.read_text().splitlines()[1:]]
    return [symbol for symbol in rows if symbol.startswith("tf.") and not _resolves(symbol)]


def _resolves(symbol: str) -> bool:
    found: Any = tf
    for part in symbol.split(".")[1:]:
        try:
            found = getattr(found, part)
        except AttributeError:
            return False
    return True


def _resolved() -> float:
    count = sum(line.startswith("tf.") for line in USAGE.read_text().splitlines())
    return 1 - len(missing()) / count


def _gradients() -> dict[str, float]:
    checked, worst = 0, 0.0
    for entry in mutation.differentiable():
        for case in cases_of(entry):
            which = checked_inputs(entry, case)
            if case.grad and which:
                order = 2 if case.second else 1
                report = check_gradients(call(entry, case), case.inputs, which, order)
                checked, worst = checked + report.checked, max(worst, report.worst)
    return {"gradient_checks": checked, "worst_gradient_error": worst}


def _mutants() -> dict[str, float]:
    chosen = mutation.differentiable()
    counts: Counter[str] = Counter()
    alive = len(mutation.survivors(chosen, counts))
    count, missed = mutation.unsummed(chosen)
    total = sum(counts.values()) + count
    return {"mutants": total, "mutation_kill_rate": 1 - (alive + len(missed)) / total}


def _recorded() -> int:
    from tests.ops.golden.store import read

    return len({made.op for made in read()})


def _suite() -> dict[str, float]:
    root = HERE.parents[1]
    folders = ("tests/ops", "tests/nn", "tests/differentiate")
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *folders], cwd=root, capture_output=True, text=True
    )
    if not re.search(r"\d+ passed", done.stdout) or done.returncode:
        raise RuntimeError(f"the op suite fails:\n{done.stdout[-2000:]}")
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"op_suite_s": seconds, "op_suite_cpu_s": cpu}
