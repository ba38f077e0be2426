"""Steps that reference kernels cut into several native calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.execute.programs import both


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_strips_leave_values_of_other_calls_alone(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    widths = (16, 16, 32, 32)
    shapes = zip((1, *widths), widths, strict=False)
    filters = [rng.normal(0, 0.1, (3, 3, a, b)).astype(np.float32) for a, b in shapes]
    images = rng.normal(0, 1, (8, 28, 28, 1)).astype(np.float32)

    def program() -> Any:
        x = tf.placeholder(tf.float32, images.shape)
        weights = [tf.Variable(value) for value in filters]
        h = x
        for i, w in enumerate(weights):
            h = tf.nn.relu(tf.nn.conv2d(h, w, strides=[1, 1, 1, 1], padding="SAME"))
            if i == cut:  # there is no native code for it
                h = h + 0.01 * tf.math.lgamma(h + 2.0)
        loss = tf.reduce_sum(h * h)
        return [loss, *tf.gradients(loss, weights)], {x: images}

    expected, got = both(program, steps=1)
    for a, b in zip(expected[0], got[0], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * np.abs(a).max())
