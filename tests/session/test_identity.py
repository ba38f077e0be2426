"""Hashes of what runs compute, and of what they are fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import dtypes
from graphflow.session.identity import hash_of, identity


def double(x: Any) -> Any:
    return 2 * x


def triple(x: Any) -> Any:
    return 3 * x


def built(change: str = "") -> str:
    """The identity of a run of a graph with a bit of everything."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None], name="x")
        table = np.arange(3 if change != "constant" else 4, dtype=np.float32)
        y = tf.reduce_sum(x[:, None] * table, 1 if change != "axis" else 0, name="y")
        y += tf.random_uniform([], seed=1 if change != "seed" else 2)
        z = tf.py_func(double if change != "function" else triple, [y], tf.float32)
        with tf.control_dependencies([z] if change == "control" else []):
            i = tf.constant(0)
        with tf.device("/cpu:1" if change == "device" else ""):
            body = (lambda i: i + 1) if change != "body" else (lambda i: i + 2)
            n = tf.while_loop(lambda i: i < 3, body, (i,))
        w = tf.cond(x[0] > 0.0, lambda: y, lambda: y if change == "branch" else -y)
        return identity(graph, [z, n, w], [], [x])


@pytest.mark.parametrize(
    "change", ["constant", "axis", "seed", "function", "control", "body", "branch"]
)
def test_what_computes_something_else_has_another_one(change):
    assert built(change) != built()


def test_the_same_has_the_same():
    assert built() == built() == built("device")


def test_arrays_are_told_apart():
    arrays = [
        np.zeros(2), np.zeros(2, np.float32), np.zeros((2, 1)), np.array([0.0, -0.0]),
        np.zeros(0), np.zeros((0, 3)), np.array(0.0), np.array([b"a", b"bc"], object),
        np.array([b"ab", b"c"], object), np.zeros(2, dtypes.as_dtype("bfloat16").np),
    ]  # fmt: skip
    assert len({hash_of([array]) for array in arrays}) == len(arrays)
    assert hash_of([np.arange(6).reshape(2, 3).T]) == hash_of([np.arange(6).reshape(2, 3).T.copy()])
