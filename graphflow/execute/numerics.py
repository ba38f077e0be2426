"""What the last bits of results depend on, beside the program and its input."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np


class Numerics(NamedTuple):
    """Equal ones give equal bits.

    Attributes:
      tier: which tier executes: "reference", "native", or "auto", where the clock decides.
      threads: of a matrix product, and of a native step, which is split among them; 0: as the
        library chooses.
      library: NumPy's version, the BLAS that it calls, and the compiler of native code.
      kernels: digest of the instructions for which NumPy chooses its loops.
    """

    tier: str
    threads: int
    library: str
    kernels: str


def numerics(tier: str, threads: int) -> Numerics:
    """Those of this process."""
    config: Any = np.show_config(mode="dicts")
    blas = config["Build Dependencies"].get("blas", {})
    library = f"NumPy {np.__version__}, {blas.get('name')} {blas.get('version')}"
    if tier == "native":
        library += f", llvmlite {version('llvmlite')}"
    features = getattr(np._core._multiarray_umath, "__cpu_features__", {})  # type: ignore[attr-defined]
    used = ",".join(sorted(name for name, has in features.items() if has))
    digest = hashlib.blake2b(used.encode(), digest_size=8).hexdigest()
    return Numerics(tier, threads, library, digest)
