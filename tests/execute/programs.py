"""Programs for both tiers, and what tells their results apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphflow as tf

Program = Callable[[], tuple[Any, dict[Any, Any]]]
rng = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def native_programs(session: tf.Session) -> list[Any]:
    prepared = list(session._cache.values())
    return [n for p in prepared for q in p.executable._programs
            for n in getattr(q, "native", ())]  # fmt: skip


def both(program: Program, steps: int = 3, must: bool = True) -> tuple[list[Any], list[Any]]:
    """Results of some steps on each tier."""
    results = []
    for tier in ("reference", "native"):
        with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default():
            patch.setenv("GRAPHFLOW_TIER", tier)
            fetches, feeds = program()
            with tf.Session(seed=1) as session:
                session.run(tf.global_variables_initializer())
                results.append([session.run(fetches, feeds) for _ in range(steps)])
                if tier == "native" and must:
                    assert native_programs(session)
    return results[0], results[1]


def agree(program: Program, rtol: float = 2e-5, atol: float = 1e-5, **options: Any) -> None:
    for expected, got in zip(*both(program, **options), strict=True):
        for a, b in zip(leaves_of(expected), leaves_of(got), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def leaves_of(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in leaves_of(part)]
    return [] if value is None else [np.asarray(value)]


# ---- programs


def reductions() -> Any:
    x = tf.placeholder(tf.float32, [None, 5])
    y = tf.tanh(x * 2.0 + 1.0)
    outputs = [y, tf.reduce_sum(y), tf.reduce_mean(y, 1), tf.reduce_sum(y, 0), tf.nn.softmax(y),
               tf.reduce_max(y, 1, keepdims=True), tf.nn.log_softmax(x)]  # fmt: skip
    return outputs, {x: floats(7, 5)}


def classifier(optimizer: Any) -> Program:
    def build() -> Any:
        x = tf.placeholder(tf.float32, [None, 20])
        labels = tf.placeholder(tf.int32, [None])
        h = tf.nn.relu(tf.matmul(x, tf.Variable(floats(20, 33) * 0.1)) + tf.Variable(floats(33)))
        logits = tf.nn.bias_add(tf.matmul(h, tf.Variable(floats(33, 4))), tf.Variable(floats(4)))
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        )
        update = optimizer().minimize(loss)
        return [loss, update, h], {x: floats(17, 20), labels: rng.integers(0, 4, 17)}

    return repeatable(build)


def repeatable(build: Program) -> Program:
    """Both tiers must draw the same numbers."""

    def program() -> Any:
        rng.bit_generator.state = np.random.default_rng(3).bit_generator.state
        return build()

    return program


def images(padding: str, channels: int) -> Program:
    def build() -> Any:
        x = tf.placeholder(tf.float32, [3, 8, 8, channels])
        first = tf.Variable(floats(3, 5, channels, 6) * 0.3)
        second = tf.Variable(floats(3, 3, 6, 4) * 0.3)
        h = tf.nn.relu(tf.nn.conv2d(x, first, strides=[1, 1, 1, 1], padding="SAME"))
        h = tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        y = tf.nn.conv2d(h, second, strides=[1, 1, 1, 1], padding=padding)
        loss = tf.reduce_sum(tf.square(y))
        return [y, *tf.gradients(loss, [x, first, second])], {x: floats(3, 8, 8, channels)}

    return repeatable(build)


def cells() -> Any:
    x = tf.placeholder(tf.float32, [6, 5, 4])
    weight = tf.Variable(floats(7, 12) * 0.5)
    own = tf.Variable(floats(3, 12) * 0.5)
    h = c = tf.zeros([6, 3])
    for z in tf.unstack(x, axis=1):
        wide = tf.concat([weight, weight[:, :0]], 1)
        gates = tf.matmul(tf.concat([z, h], 1), wide) + tf.matmul(h, own)
        i, f, o, g = tf.split(gates, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
    return [h, *tf.gradients(tf.reduce_sum(h * h), [weight, own])], {x: floats(6, 5, 4)}
