"""What the tables of programs have in common.

A program takes the module `tf`, TensorFlow's or graphflow, and returns tensors to fetch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Program = Callable[[Any], list[Any]]


class Programs(dict[str, Program]):
    """name -> program.

    Attributes:
      runs: in how many runs of one session the tensors are fetched.
      ulp: by how many units in the last place numbers may differ; None: by 1e-9, float32 by 2e-5.
    """

    def __init__(self, runs: int = 1, ulp: int | None = None):
        self.runs = runs
        self.ulp = ulp

    def register(self, function: Program) -> Program:
        self[function.__name__] = function
        return function


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def uniform(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).uniform(size=shape)


def with_gradients(tf: Any, function: Callable[..., Any], *arrays: Any) -> list[Any]:
    """The result, and the gradients of a weighted sum of it."""
    inputs = [tf.constant(a) for a in arrays]
    y = function(*inputs)
    weights = tf.reshape(tf.range(1, tf.size(y) + 1), tf.shape(y))
    total = tf.reduce_sum(y * tf.cos(tf.cast(weights, y.dtype)))
    found = [g for g in tf.gradients(total, inputs) if g is not None]
    return [y, *[tf.convert_to_tensor(g) for g in found]]
