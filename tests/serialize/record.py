"""Record what TensorFlow writes for the programs, and the values it computes of it.

python -m tests.serialize.record          # in an environment with TensorFlow
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.serialize.programs import PROGRAMS

FILE = Path(__file__).parent / "data" / "tensorflow.npz"


def values(tf: Any, fetches: list[str]) -> list[Any]:
    """The tensors of the default graph in a new session."""
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Session(config=config) as session:
        return [np.asarray(v) for v in session.run(list(fetches))]


def built(tf: Any, name: str) -> tuple[Any, list[str], list[Any]]:
    """A program's `GraphDef`, the names of what it returns, and their values."""
    with tf.Graph().as_default() as graph:
        names = [t.name for t in PROGRAMS[name](tf)]
        return graph.as_graph_def(), names, values(tf, names)


def main() -> None:
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    found: dict[str, Any] = {}
    for name in PROGRAMS:
        graph_def, names, computed = built(tf, name)
        found[f"{name}/graph"] = np.frombuffer(graph_def.SerializeToString(), np.uint8)
        found[f"{name}/names"] = np.array(names)
        for i, value in enumerate(computed):
            found[f"{name}/{i}"] = value.astype("S") if value.dtype == object else value
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
