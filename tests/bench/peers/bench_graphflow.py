# ruff: noqa: E402
"""graphflow in the place of TensorFlow: the program of bench_tf1.py, as it stands."""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parents[2])]

import harness  # noqa: I001  (first: it cleans the environment before NumPy loads)

import types

import graphflow

for name in ("tensorflow", "tensorflow.compat", "tensorflow.compat.v1"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["tensorflow.compat"].v1 = graphflow  # type: ignore[attr-defined]
sys.modules["tensorflow.compat.v1"] = graphflow

if __name__ == "__main__":
    import bench_tf1

    harness.main("graphflow", bench_tf1.build)
