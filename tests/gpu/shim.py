"""CUDA C++ on the CPU: built by g++ with `cuda_cpu.h`, launched through ctypes.

The environment variable EMU_SCHED picks how the threads of a block take turns: 0 round robin,
1 and 2 adversarial, a warp at a time, which alone find missing barriers reliably.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
# No contraction: a GPU may fuse a * b + c, NumPy does not.
FLAGS = ["-O1", "-std=c++17", "-shared", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=off", "-w"]
COLLECTIVE = re.compile(r"__syncthreads|__syncwarp|__shfl|__ballot|__any_sync|__all_sync")
KERNEL = re.compile(
    r'extern\s+"C"\s*__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\('
)
SCALARS = {
    np.float32: ctypes.c_float, np.float64: ctypes.c_double, np.int32: ctypes.c_int32,
    np.int64: ctypes.c_int64,
}  # fmt: skip


def build(source: str, folder: Path) -> ctypes.CDLL:
    """The source as a library, in that folder, by its content.

    Raises:
      RuntimeError: g++ refuses it; the message is g++'s.
    """
    names = KERNEL.findall(source)
    head = f'#define EMU_NEEDS_SYNC {int(bool(COLLECTIVE.search(source)))}\n#include "cuda_cpu.h"\n'
    text = head + source + "".join(f"EMU_EXPORT({name})\n" for name in names)
    library = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        unit = library.with_suffix(".cpp")
        unit.write_text(text)
        command = ["g++", *FLAGS, f"-I{HERE}", str(unit), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[:4000])
    return ctypes.CDLL(str(library))


def launch(library: Any, name: str, grid: int, block: int, arguments: Any, shared: int = 0) -> None:
    """Run a kernel; arrays are passed by address, NumPy scalars by value."""
    values = [_argument(a) for a in arguments]
    pointers = [ctypes.cast(ctypes.pointer(v), ctypes.c_void_p) for v in values]
    packed = (ctypes.c_void_p * len(pointers))(*pointers)
    three = ctypes.c_uint * 3
    function = getattr(library, f"{name}__emu")
    function(three(grid, 1, 1), three(block, 1, 1), ctypes.c_size_t(shared), packed)


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return SCALARS[type(value)](value.item())
