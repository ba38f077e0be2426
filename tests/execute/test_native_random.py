"""Random numbers of native code: the reference tier's, from the same counters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.execute.programs import native_programs


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def draws(tier: str, shape: Any) -> tuple[list[Any], list[Any]]:
    """What some steps draw, and the programs that did."""
    with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default():
        patch.setenv("GRAPHFLOW_TIER", tier)
        x = tf.placeholder(tf.float32, [None, *shape[1:]])
        numbers = tf.random_uniform(tf.shape(x), seed=7)
        outputs = [numbers, tf.nn.dropout(x * 2.0, rate=0.3), tf.random_uniform(shape, -1.0, 3.0),
                   tf.random_uniform(shape, -9, 17, tf.int32) * 2,
                   tf.transpose(numbers) + tf.random_normal(shape[::-1]),
                   tf.random_uniform(shape, dtype=tf.float64) - 0.5,
                   tf.truncated_normal(shape) * 2.0]  # fmt: skip
        feeds = {x: np.ones(shape, np.float32)}
        with tf.Session(seed=2**61 + 12345) as session:
            found = [session.run(outputs, feeds) for _ in range(3)]
            traced = tf.RunMetadata()
            options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
            found.append(session.run(outputs, feeds, options, traced))
            found.append(session.run(outputs, feeds))
            return found, native_programs(session) if tier == "native" else []


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (64, 129), (3, 2, 5)])
def test_same_bits_on_both_tiers(shape: Any) -> None:
    expected, _ = draws("reference", shape)
    got, programs = draws("native", shape)
    assert programs
    (called,) = programs[0].plan.called.values()  # the others are made in the loops
    assert "TruncatedNormal" in called
    for a, b in zip(expected, got, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
