"""The CUDA C++ of elementwise ops: run on the CPU against NumPy, compiled by NVRTC where it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphflow.compile.cuda import NoSource, elementwise
from graphflow.ops.expression import Node, compute, scalar_expression
from tests.gpu import nvrtc
from tests.gpu.fake_cupy import FakeCupy
from tests.gpu.shim import build, launch
from tests.ops.registered import as_dtype, cases_of, entries

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
needs_nvrtc = pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: extra gpucheck")
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}
BROADCASTS = [((257,), (37, 257)), ((4, 1, 5), (1, 3, 1)), ((), (3, 7)), ((6, 7), (6, 7))]


def expressions(floating: str) -> list[tuple[str, Node, Any]]:
    """Kernel name, expression and case, for the entries that CUDA C++ can say."""
    found = []
    for name, entry in entries().items():
        cases = cases_of(entry) if entry.elementwise else []
        for i, case in enumerate(cases[1::4] or cases):  # one of them broadcasts; g++ is slow
            typed = as_dtype(case, floating)
            attrs = entry.complete(typed.attrs)
            root = scalar_expression(entry, [x.dtype for x in typed.inputs], **attrs)
            if root is not None:
                found.append((f"{name}_{i}", root, typed))
    return found


def sources(floating: str) -> tuple[str, list[tuple[str, Node, Any]], set[str]]:
    """One text of all kernels, what they compute, and the names of those without a source."""
    texts, kept, without = [], [], set()
    for name, root, case in expressions(floating):
        try:
            texts.append(elementwise(name, root, [x.shape for x in case.inputs]))
            kept.append((name, root, case))
        except NoSource:
            without.add(name.split("_")[0])
    return "".join(texts), kept, without


def run(cupy: FakeCupy, module: Any, name: str, root: Node, inputs: Any) -> Any:
    shape = np.broadcast_shapes(*[x.shape for x in inputs])
    # an element that nobody writes shows
    out = cupy.full(shape, np.nan if root.dtype.kind == "f" else 77, root.dtype)
    arrays = [cupy.asarray(np.ascontiguousarray(x)) for x in inputs]
    module.get_function(name)((3,), (32,), [*arrays, out])
    return cupy.asnumpy(out)


@pytest.fixture
def cupy(tmp_path: Path) -> FakeCupy:
    return FakeCupy(folder=tmp_path)


@needs_compiler
@pytest.mark.parametrize("floating", TOLERANCE)
def test_every_elementwise_op_runs_as_numpy(floating: str, cupy: FakeCupy) -> None:
    text, kept, without = sources(floating)
    module = cupy.RawModule(code=text)
    assert len({name.split("_")[0] for name, *_ in kept}) > 60
    assert without <= {"Betainc", "Digamma", "Erfinv", "FloorMod", "Igamma", "Igammac", "Polygamma",
                       "Zeta", "LeftShift", "RightShift", "Conj", "FloorDiv"}  # fmt: skip
    for name, root, case in kept:
        got = run(cupy, module, name, root, case.inputs)
        with np.errstate(all="ignore"):
            wanted = np.asarray(compute(root, case.inputs))
        tolerance = TOLERANCE[floating] if wanted.dtype.kind == "f" else 0
        np.testing.assert_allclose(got, wanted, 4 * tolerance, tolerance, err_msg=name)
    assert cupy.launches == [name for name, *_ in kept]


def add_mul() -> Node:
    x, y = [Node("arg", (), np.dtype(np.float32), i) for i in (0, 1)]
    return x * y + x


@needs_compiler
@pytest.mark.parametrize("shapes", BROADCASTS)
def test_broadcasts(shapes: Any, cupy: FakeCupy) -> None:
    rng = np.random.default_rng(0)
    x, y = [np.asarray(rng.standard_normal(s), np.float32) for s in shapes]
    module = cupy.RawModule(code=elementwise("fused", add_mul(), shapes))
    np.testing.assert_array_equal(run(cupy, module, "fused", add_mul(), [x, y]), x * y + x)


@needs_compiler
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("i < 35u", "i < 34u"),
        ("i += threads", "i += threads + 1"),
        ("rest % 7u", "rest % 6u"),
        (" * 1u]", " * 0u]"),
        ("(float)(x0 * x1)", "(float)(x0 * x0)"),
    ],
)
def test_mutants_give_other_results(old: str, new: str, tmp_path: Path) -> None:
    source = elementwise("fused", add_mul(), [(5, 7), (7,)])
    assert old in source, "the mutation no longer applies"
    rng = np.random.default_rng(0)
    x, y = [np.asarray(rng.standard_normal(s), np.float32) for s in ((5, 7), (7,))]
    library = build(source.replace(old, new), tmp_path)
    out = np.full((5, 7), np.nan, np.float32)
    launch(library, "fused", 1, 16, [x, y, out])
    assert not np.array_equal(out, x * y + x)


@needs_compiler
def test_kernels_refuse_what_is_no_device_memory(cupy: FakeCupy) -> None:
    kernel = cupy.RawModule(code=elementwise("fused", add_mul(), [(4,), (4,)])).get_function(
        "fused"
    )
    x = cupy.asarray(np.ones((4, 4), np.float32))
    for wrong in (np.ones(4, np.float32), x[:, 0]):
        with pytest.raises(AssertionError, match=r"no array of the device|no strides"):
            kernel((1,), (4,), [x[0], wrong, x[1]])
    assert not cupy.launches


def test_what_it_cannot_say_is_refused() -> None:
    half = Node("arg", (), np.dtype(np.float16), 0)
    with pytest.raises(NoSource, match="float16"):
        elementwise("k", half + 1.0, [(3,)])
    with pytest.raises(NoSource, match="64-bit"):
        elementwise("k", add_mul(), [(2**16, 2**16), ()])


@needs_nvrtc
@pytest.mark.parametrize("floating", TOLERANCE)
def test_nvrtc_compiles_every_source(floating: str) -> None:
    text, *_ = sources(floating)
    for gpu in ("sm_80", "sm_90"):
        assert nvrtc.compile_source(text, gpu)[:4] == b"\x7fELF"


@needs_nvrtc
def test_nvrtc_refuses_what_is_not_there() -> None:
    with pytest.raises(nvrtc.CompileError, match="missing"):
        nvrtc.compile_source('extern "C" __global__ void k(float* x) { x[0] = missing(1.f); }')
