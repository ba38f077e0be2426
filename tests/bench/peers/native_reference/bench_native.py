# ruff: noqa
"""The hand-written native reference: one C call per training step.

It stands for what generated code should reach: fused loops, static buffers, work
split over two threads, GEMM from the OpenBLAS bundled with NumPy. The C is built
with gcc on first use, into the folder for temporary files.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import harness  # first: it cleans the environment before NumPy loads

import ctypes
import hashlib
import subprocess
import tempfile

import numpy as np

import workloads as w

FLAGS = "-O3 -march=native -mprefer-vector-width=512 -ffast-math -fPIC -shared".split()
MODES = ("workers", "blas-threads")


def build(options):
    library = ctypes.CDLL(str(built_library()))
    connect(library, options)
    data = w.batch(options.workload)
    if options.workload == "W1":
        return chain_step(library, data)
    if options.workload == "W5":
        return fused_step(library, data)
    return training_step(library, options, *data)


def built_library():
    """Path of the shared library, named by the hash of flags and sources."""
    files = sorted([*HERE.glob("*.c"), *HERE.glob("*.h")])
    digest = hashlib.sha256(repr(FLAGS).encode() + b"".join(f.read_bytes() for f in files))
    folder = Path(tempfile.gettempdir()) / "native_reference"
    folder.mkdir(exist_ok=True)
    target = folder / f"steps-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        partial = target.with_suffix(".partial")
        sources = [str(f) for f in files if f.suffix == ".c"]
        subprocess.run(
            ["gcc", *FLAGS, *sources, "-o", str(partial), "-lm", "-lpthread"], check=True
        )
        partial.rename(target)
    return target


def openblas():
    """NumPy's own OpenBLAS: the wheel keeps it in numpy.libs beside the package."""
    folder = Path(np.__file__).parent.parent / "numpy.libs"
    return ctypes.CDLL(str(next(folder.glob("libscipy_openblas64*.so"))))


def connect(library, options):
    """Give the C code its GEMM, and decide who owns the threads: we or OpenBLAS."""
    blas = openblas()
    ours = options.mode == "workers"
    blas.scipy_openblas_set_num_threads64_(ctypes.c_int(1 if ours else options.threads))
    address = ctypes.cast(blas.scipy_cblas_sgemm64_, ctypes.c_void_p)
    library.runtime_init(address, ctypes.c_int(options.threads if ours else 1))


def function(library, name, arguments, result=None):
    found = getattr(library, name)
    found.argtypes = arguments
    found.restype = result
    return found


def chain_step(library, x):
    """W1: x [8] -> [8]."""
    y = np.empty_like(x)
    call = function(library, "w1_step", [ctypes.c_void_p] * 2)

    def step():
        call(x.ctypes.data, y.ctypes.data)  # looked up each time: a feed may be a new array
        return y.copy()

    return step


def fused_step(library, x):
    """W5: x [n] -> sum, gradient [n]."""
    gradient = np.empty_like(x)
    kinds = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_float]
    call = function(library, "w5_step", kinds, ctypes.c_float)

    def step():
        total = call(x.ctypes.data, gradient.ctypes.data, x.size, w.FUSED_A, w.FUSED_B)
        return total, gradient

    return step


def training_step(library, options, x, y):
    p = list(w.parameters(options.workload).values())
    addresses = (ctypes.c_void_p * len(p))(*[value.ctypes.data for value in p])
    name = initialise(library, options, addresses)
    call = function(library, f"{name}_step", [ctypes.c_void_p] * 2, ctypes.c_float)
    step = lambda: call(x.ctypes.data, y.ctypes.data)
    step.keep = p, addresses
    return step


def initialise(library, options, addresses):
    """Call wN_init with the sizes; returns 'wN'."""
    long = ctypes.c_long
    if options.workload in w.MLPS:
        mlp = w.MLPS[options.workload]
        sizes = (long * len(mlp.sizes))(*mlp.sizes)
        library.w2_init(ctypes.c_int(len(sizes) - 1), sizes, long(mlp.batch), addresses)
        return "w2"
    if options.workload == "W3":
        library.w3_init(long(w.CNN.batch), addresses, ctypes.c_int(options.dropout > 0))
        return "w3"
    if options.workload == "W4":
        sizes = (w.LSTM.steps, w.LSTM.batch, w.LSTM.inputs, w.LSTM.hidden, w.LSTM.classes)
        library.w4_init(*map(long, sizes), addresses)
        return "w4"
    b = w.BLOCK
    sizes = (b.batch, b.steps, b.width, b.heads, b.ff, b.vocab)
    library.w6_init(*map(long, sizes), addresses)
    return "w6"


if __name__ == "__main__":
    harness.main("native", build, modes=MODES)
