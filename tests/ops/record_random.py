"""Record the numbers of TensorFlow's random ops over successive runs.

    python -m tests.ops.record_random

needs TensorFlow 2.18 or later, of which it uses `tensorflow.compat.v1`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "data" / "random.npz"
RUNS = 3
SEEDS = ((0, 7), (11, 2**31 + 5), (2**40 + 3, 2**63 - 1))
FLOATS = ("RandomUniform", "RandomStandardNormal", "TruncatedNormal")
ALPHAS = (0.05, 0.3, 0.9, 1.0, 1.5, 30.0, 1e4)
RATES = (0.0, 0.1, 3.0, 9.9, 10.0, 11.0, 50.0, 1e4)
RANGES = (
    ("int32", -7, 100),
    ("int32", -(2**31), 2**31 - 1),
    ("int64", -5, 10),
    ("int64", -(2**63), 2**63 - 1),
)


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Key -> op and arguments, seeds among them."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for seed, seed2 in SEEDS:
        seeds = {"seed": seed, "seed2": seed2}
        for op in FLOATS:
            for dtype in ("float16", "float32", "float64"):
                # 130 groups of four: some need more than their first eight words
                for shape in ((3, 7), (520,)) if seed == 11 else ((5,),):
                    key = f"{op} {dtype} {shape} {seed}"
                    found[key] = op, {"shape": shape, "dtype": dtype, **seeds}
        for dtype, low, high in RANGES:
            key = f"int {dtype} {low} {high} {seed}"
            limits = {"minval": np.array(low, dtype), "maxval": np.array(high, dtype)}
            found[key] = "RandomUniformInt", {"shape": (7,), **limits, **seeds}
        for size in (1, 2, 5, 6, 33):
            key = f"shuffle {size} {seed}"
            found[key] = "RandomShuffle", {"value": np.arange(size), **seeds}
        found |= _of_parameters(seeds)
    return found


def _of_parameters(seeds: dict[str, int]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Distributions whose parameters are inputs; one seed draws many, to count what flips."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    many, seed = seeds["seed"] == 11, seeds["seed"]
    for dtype in ("float16", "float32", "float64"):
        shape = np.array([400 if many and dtype == "float32" else 20], np.int32)
        given = {"shape": shape, "alpha": np.array(ALPHAS, dtype), **seeds}
        found[f"gamma {dtype} {seed}"] = "RandomGamma", given
        logits = np.random.default_rng(3).normal(size=(3, 6)).astype(dtype)
        logits[0, 2] = -np.inf
        given = {"logits": logits, "num_samples": np.array(31, np.int32), **seeds}
        for kind in ("int32", "int64"):
            key = f"multinomial {dtype} {kind} {seed}"
            found[key] = "Multinomial", {**given, "output_dtype": kind}
    for dtype in ("float16", "float32", "float64", "int32", "int64"):
        shape = np.array([900 if many and dtype == "int32" else 30], np.int32)
        given = {"shape": shape, "rate": np.array(RATES), "dtype": dtype, **seeds}
        found[f"poisson {dtype} {seed}"] = "RandomPoissonV2", given
    return found


def main() -> None:
    import tensorflow as tf

    # One thread, from the first session on: TensorFlow splits the stream of Multinomial by threads.
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
    )
    values = {}
    for key, (op, arguments) in cases().items():
        with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
            result = getattr(tf.raw_ops, op)(**arguments)
            values[key] = np.stack([session.run(result) for _ in range(RUNS)])
    np.savez_compressed(FILE, **values)


if __name__ == "__main__":
    main()
