"""The native tier against the reference tier, on random graphs."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as tf
from tests.execute.programs import agree, floats, repeatable
from tests.execute.random_graphs import BINARY, UNARY, grown

pytestmark = pytest.mark.usefixtures("graph")

_SIZES = st.tuples(*[st.sampled_from([1, 2, 3, 5, 17, 0])] * 2)
_CHOICES = st.lists(
    st.tuples(st.integers(0, len(UNARY) + len(BINARY)), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
    max_size=14,
)
_EXAMPLES = int(os.environ.get("GRAPHFLOW_EXAMPLES", "40"))  # with --hypothesis-seed: a longer hunt


@settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=_SIZES, choices=_CHOICES, special=st.booleans())
def test_random_graphs(
    sizes: tuple[int, int], choices: list[tuple[int, int, int]], special: bool
) -> None:
    m, n = sizes

    def program() -> Any:
        x = tf.placeholder(tf.float32, [m, n])
        y = tf.placeholder(tf.float32, [n])
        v = tf.Variable(floats(m, n))
        outputs = grown(choices, [x, y, v.value()]) or [x + y]
        update = v.assign_add(tf.ones([m, n]) * tf.reduce_mean(outputs[-1]))
        feeds = {x: floats(n, m).T, y: floats(2 * n)[::2]}  # strides of all kinds
        if special:
            odd = np.resize(_ODD, m * n).reshape(n, m).T
            feeds[x] = np.where(np.arange(n) % 3 == 1, odd, feeds[x]).astype(np.float32)
        return [*outputs, update], feeds

    agree(repeatable(program), rtol=1e-3, atol=1e-3, steps=2, must=False)


# None whose sum may overflow on the way, or not, by the order in which it is added up.
_ODD = np.float32([np.nan, np.inf, -np.inf, -0.0, 1e-45, 1e20])


@settings(max_examples=_EXAMPLES // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=_SIZES, choices=_CHOICES, where=st.lists(st.integers(0, 1), min_size=1))
def test_random_graphs_have_the_same_bits_on_two_devices(
    sizes: tuple[int, int], choices: list[tuple[int, int, int]], where: list[int]
) -> None:
    """What is fused does not count in a deterministic session: each operation rounds for itself."""
    m, n = sizes

    def run(where: list[int]) -> Any:
        with tf.Graph().as_default() as graph:
            turns = itertools.cycle(where)
            with graph.device(lambda op: f"/cpu:{next(turns)}"):
                x = tf.placeholder(tf.float32, [m, n])
                outputs = grown(choices, [x, x * 0.5]) or [x + 1.0]
            config = tf.ConfigProto(
                device_count={"CPU": 2}, intra_op_parallelism_threads=1, deterministic=True
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("GRAPHFLOW_TIER", "native")
                with tf.Session(config=config) as session:
                    return [session.run(outputs, {x: values}) for _ in range(2)]

    values = np.random.default_rng(1).normal(size=(m, n))
    whole = run([0])
    for first, second in zip(run(where), whole, strict=True):
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)
