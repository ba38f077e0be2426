"""CUDA C++ of the loop IR: the same nests as the native tier's, on the CPU and through NVRTC."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compile.cuda import NoSource
from graphflow.compile.loops import Access, Nest, Store
from graphflow.compile.loops.cuda import BLOCK, cuda_kernel
from graphflow.compile.loops.nests import Pass, leaf
from graphflow.compile.loops.values import Value
from tests.execute.programs import classifier, floats, reductions
from tests.gpu import nvrtc
from tests.gpu.nests import Machine, Program, compiled, kernels
from tests.gpu.shim import build, launch

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
needs_nvrtc = pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: extra gpucheck")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def fused() -> Any:
    """The elementwise chain, its sum and its gradient: W5 of the benchmarks."""
    x = tf.Variable(floats(10_007))
    a, b = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [])
    total = tf.reduce_sum(tf.sigmoid(a * x + b) * tf.tanh(x) - tf.exp(-x * x))
    return [total, tf.gradients(total, x)[0]], {a: np.float32(1.1), b: np.float32(0.3)}


def dropped() -> Any:
    x = tf.placeholder(tf.float32, [9, 33])
    kept = tf.nn.dropout(x, rate=0.4, seed=5)
    return [kept, tf.reduce_sum(kept, 0), tf.reduce_max(kept, 1)], {x: floats(9, 33)}


def embedded() -> Any:
    """Rows by an index, and their gradients added up by it."""
    ids = tf.placeholder(tf.int32, [4, 6])
    table = tf.Variable(floats(9, 5))
    found = tf.gather(table, ids)
    rows = tf.tanh(tf.reshape(found, [24, 5]))
    numbers = tf.reshape(ids, [24]) - 1  # a negative one is left out
    return [found, tf.unsorted_segment_sum(rows, numbers, 9)], {
        ids: np.random.default_rng(0).integers(0, 9, (4, 6)).astype(np.int32)
    }


PROGRAMS: dict[str, Program] = {
    "fused": fused, "reductions": reductions, "dropout": dropped, "embedding": embedded,
    "adam": classifier(lambda: tf.train.AdamOptimizer(0.01)),
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("name", PROGRAMS)
def test_steps_run_as_on_the_reference_tier(name: str, tmp_path: Path) -> None:
    step = compiled(PROGRAMS[name])
    machine = Machine(step, tmp_path)
    machine.run()
    assert not machine.faults[0]
    compared = 0
    for view, expected in zip(step.special.outputs, _flat(step.expected), strict=True):
        np.testing.assert_allclose(machine.output(view), expected, rtol=1e-4, atol=2e-5)
        compared += 1
    assert compared == len(step.special.outputs) > 0


def _flat(values: Any) -> list[Any]:
    return [v for v in values if v is not None]


@needs_compiler
@pytest.mark.parametrize("schedule", ["1", "2"])
def test_no_barrier_is_missing(
    schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMU_SCHED", schedule)  # a warp at a time: whole warps run ahead
    step = compiled(reductions)
    machine = Machine(step, tmp_path)
    machine.run()
    for view, expected in zip(step.special.outputs, step.expected, strict=True):
        np.testing.assert_allclose(machine.output(view), expected, rtol=1e-4, atol=2e-5)


@needs_compiler
def test_an_index_outside_is_reported(tmp_path: Path) -> None:
    f32 = np.dtype(np.float32)
    x, at, y = (
        Value((3, 4), f32, "outside"),
        Value((3,), np.dtype(np.int32), "outside"),
        Value((3,), f32),
    )
    loads = (Access(x, (4, 1)), Access(at, (1, 0)))
    walk = Pass((), (), (Store(Access(y, (1, 0)), leaf("pick", (0, 1), f32)),))
    kernel = cuda_kernel(Nest("pick", (3, 4), loads, (walk,), chunks=3), "pick")
    library = build(kernel.source, tmp_path)
    rows = np.arange(12, dtype=np.float32)
    for index, wrong in (([0, 3, 2], 0), ([0, 4, 2], 1), ([0, -1, 2], 1)):
        out, faults = np.zeros(3, np.float32), np.zeros(1, np.int32)
        memory = {id(x): rows, id(at): np.int32(index), id(y): out}
        launch(library, "pick", 2, BLOCK, [*[memory[id(v)] for v in kernel.values], faults])
        assert faults[0] == wrong
        assert out[[0, 2]].tolist() == [0.0, 10.0]


def test_what_needs_64_bit_indices_is_refused() -> None:
    f32 = np.dtype(np.float32)
    x = Value((2**16, 2**16), f32, "outside")
    walk = Pass((Store(Access(Value(x.shape, f32), (2**16, 1)), leaf("arg", 0, f32)),), (), ())
    with pytest.raises(NoSource, match="64-bit"):
        cuda_kernel(Nest("n", x.shape, (Access(x, (2**16, 1)),), (walk,), chunks=2**16), "n")


@needs_nvrtc
@pytest.mark.parametrize("name", PROGRAMS)
def test_nvrtc_compiles_the_steps(name: str) -> None:
    source = "".join(k.source for k in kernels(compiled(PROGRAMS[name])).values())
    for gpu in ("sm_80", "sm_90"):
        assert nvrtc.compile_source(source, gpu)[:4] == b"\x7fELF"
