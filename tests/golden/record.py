"""Record TensorFlow's values of the programs in the tables beside this file.

    python -m tests.golden.record [table ...]

needs TensorFlow 2.18 or later, of which it uses `tensorflow.compat.v1`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TABLES = (
    "losses", "sampling", "sampled", "images", "arrays", "text", "writes", "speech", "flow",
    "state", "numerics", "training", "families", "chances",
)  # fmt: skip


def programs(table: str) -> Any:
    return importlib.import_module(f"tests.golden.{table}").PROGRAMS


def file_of(table: str) -> Path:
    return HERE / "data" / f"{table}.npz"


def values(tf: Any, program: Any, runs: int) -> list[Any]:
    """What a program's tensors are in the first runs of a new session."""
    with tf.Graph().as_default():
        tensors = program(tf)
        init = [tf.global_variables_initializer(), tf.local_variables_initializer()]
        # one thread: TensorFlow splits some random streams by its number of threads
        config = tf.ConfigProto(
            intra_op_parallelism_threads=1,
            inter_op_parallelism_threads=1,
            allow_soft_placement=True,  # for programs on a GPU that have strings, too
        )
        with tf.Session(config=config) as session:
            session.run(init)
            return [value for _ in range(runs) for value in session.run(tensors)]


def main(tables: list[str]) -> None:
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    for table in tables or TABLES:
        found = {}
        chosen = programs(table)
        for name, program in chosen.items():
            for i, value in enumerate(values(tf, program, chosen.runs)):
                value = np.asarray(value)
                found[f"{name}/{i}"] = value.astype("S") if value.dtype == object else value
        np.savez_compressed(file_of(table), **found)


if __name__ == "__main__":
    main(sys.argv[1:])
