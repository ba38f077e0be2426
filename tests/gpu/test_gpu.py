"""On a real GPU: every op's cases by CuPy against NumPy, and whole sessions.  `pytest -m gpu`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.execute.devices import GpuDevice, count_gpus
from tests.golden.record import programs, values
from tests.golden.test_golden import CASES, agree
from tests.gpu.programs import PROGRAMS, run_on
from tests.ops.registered import Context, as_dtype, cases_of, entries

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not count_gpus(), reason="needs a GPU that CuPy can use"),
]
ENTRIES = entries()
RUNNABLE = [name for name, entry in ENTRIES.items() if cases_of(entry)]
TOLERANCE = {"float64": 1e-10, "float32": 2e-4}  # CUDA's functions err by a few ulp, sums more
# What is unique but for signs, or but for the order of equal elements.
UNSIGNED = ("OrthogonalFactor", "Qr", "SelfAdjointEigV2", "Svd")


def run(entry: Any, case: Any, xp: Any, put: Any) -> list[Any]:
    inputs = [x if i in entry.host else put(x) for i, x in enumerate(case.inputs)]
    before = (Context(xp),) if entry.takes_ctx else ()
    with np.errstate(all="ignore"):
        result = entry.kernel(xp, *before, *inputs, **entry.complete(case.attrs))
    return list(result) if isinstance(result, tuple) else [result]


@pytest.fixture(scope="module")
def device() -> GpuDevice:
    return GpuDevice("/job:localhost/replica:0/task:0/device:GPU:0")


@pytest.mark.parametrize("floating", TOLERANCE)
@pytest.mark.parametrize("name", RUNNABLE)
def test_kernel_computes_what_numpy_computes(name: str, floating: str, device: GpuDevice) -> None:
    entry = ENTRIES[name]
    for case in cases_of(entry):
        typed = as_dtype(case, floating)
        wanted = run(entry, typed, np, lambda x: x)
        got = [device.get(y) for y in run(entry, typed, device.xp, device.put)]
        for a, b in zip(wanted, got, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            if a.dtype.kind not in "fc":
                np.testing.assert_array_equal(b, a)
                continue
            if name in UNSIGNED:
                a, b = np.abs(a), np.abs(b)
            finite = np.abs(a[np.isfinite(a)])
            scale = float(finite.max()) if finite.size else 1.0
            tolerance = TOLERANCE[floating]
            np.testing.assert_allclose(b, a, tolerance, tolerance * max(scale, 1.0))


@pytest.mark.parametrize("name", PROGRAMS)
def test_session_computes_what_the_cpu_computes(name: str) -> None:
    for a, b in zip(
        run_on("/cpu:0", PROGRAMS[name]), run_on("/gpu:0", PROGRAMS[name]), strict=True
    ):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b, a, 1e-3, 1e-3)


@pytest.mark.parametrize(("table", "name"), CASES, ids=lambda x: x)
def test_programs_give_tensorflows_values(table: str, name: str) -> None:
    def on_the_device(library: Any) -> list[Any]:
        with library.device("/gpu:0"):
            return list(programs(table)[name](library))

    agree(table, name, values(tf, on_the_device, programs(table).runs), slack=10)
