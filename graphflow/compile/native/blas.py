"""The GEMM of the OpenBLAS that NumPy's wheel bundles, by address."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Blas(NamedTuple):
    """What native code needs of it.

    Attributes:
      gemm: address of cblas_sgemm with 64-bit integers.
      set_threads, get_threads: how many threads OpenBLAS itself uses, in the whole process.
    """

    gemm: int
    set_threads: int
    get_threads: Callable[[], int]


@cache
def find_blas() -> Blas | None:
    """NumPy's OpenBLAS; None for a NumPy that is built otherwise."""
    folder = Path(np.__file__).parent.parent / "numpy.libs"
    for path in sorted(folder.glob("libscipy_openblas64*")):
        library = ctypes.CDLL(str(path))
        try:
            gemm, put, get = [
                getattr(library, f"scipy_{name}64_")
                for name in ("cblas_sgemm", "openblas_set_num_threads", "openblas_get_num_threads")
            ]
        except AttributeError:
            continue
        gemm_at, put_at = [ctypes.cast(f, ctypes.c_void_p).value or 0 for f in (gemm, put)]
        return Blas(gemm_at, put_at, get)
    return None
