"""Kernels use only what CuPy has: its names, arguments and rules, without a CuPy at hand."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.ops.record_cupy import TABLE
from tests.ops.recorder import DeviceArray, Finding, Recorder
from tests.ops.registered import Context, cases_of, entries

CUPY = json.loads(TABLE.read_text())
ENTRIES = entries()
RUNNABLE = [n for n, e in ENTRIES.items() if cases_of(e)]


def run(entry: Any, case: Any, xp: Recorder) -> Any:
    """The kernel's result on device arrays; host inputs stay in host memory."""
    inputs = [
        x if i in entry.host or x.dtype == object else xp.asarray(x)
        for i, x in enumerate(case.inputs)
    ]
    before = (Context(xp),) if entry.takes_ctx else ()
    with np.errstate(all="ignore"):
        return entry.kernel(xp, *before, *inputs, **entry.complete(case.attrs))


@pytest.mark.parametrize("name", RUNNABLE)
def test_kernel_uses_what_cupy_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, xp = ENTRIES[name], Recorder(CUPY)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", xp.special())
    all_host = entry.host == set(range(len(entry.params)))  # then results are shapes, on the host
    for case in cases_of(entry):
        result = run(entry, case, xp)
        for value in result if isinstance(result, tuple) else (result,):
            numeric = isinstance(value, np.ndarray) and value.dtype != object
            on_host = numeric and not isinstance(value, DeviceArray)
            assert all_host or not on_host, "the result is a NumPy array"


@pytest.fixture
def xp() -> Recorder:
    return Recorder(CUPY)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda xp, x: xp.nditer(x),
        lambda xp, x: xp.sum(x, initial=1),
        lambda xp, x: xp.take(x, 0, mode="wrap"),
        lambda xp, x: xp.maximum.accumulate(x),
        lambda xp, x: xp.subtract.at(x, 0, 1),
        lambda xp, x: np.exp(x),
        lambda xp, x: np.concatenate([x, x]),
        lambda xp, x: x + np.ones(3),
        lambda xp, x: xp.add(x, np.ones(3)),
        lambda xp, x: x.sum(initial=1.0),
        lambda xp, x: x.byteswap().newbyteorder,
        lambda xp, x: xp.bitwise_and(x, 1),
    ],
)
def test_finds_what_cupy_lacks(xp: Recorder, wrong: Any) -> None:
    with pytest.raises((Finding, AttributeError)):
        wrong(xp, xp.asarray(np.ones(3)))


def test_lets_pass_what_cupy_has(xp: Recorder) -> None:
    x = xp.asarray(np.ones((2, 3)))
    y = xp.exp(x, dtype=np.float64) + 2 * x.T.reshape(2, 3)[:, ::-1]
    xp.add.at(y, (0, 0), 1.0)
    assert isinstance(y.sum(axis=0, keepdims=True), DeviceArray)
    assert isinstance(xp.sum(y), DeviceArray)
    assert {"exp", "add.at", "ndarray.sum"} <= xp.used


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="needs CuPy: extra gpucheck")
def test_the_table_is_that_of_the_installed_cupy() -> None:
    """Importing CuPy needs no GPU; in a process of its own, as it warns and stays loaded."""
    code = "import json; from tests.ops.record_cupy import record; print(json.dumps(record()))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == CUPY, "python -m tests.ops.record_cupy"
