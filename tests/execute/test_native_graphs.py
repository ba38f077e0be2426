"""The native tier against the reference tier, on random graphs, in memory full of garbage."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compile.loops import gather, nests, shares, strips, sums
from graphflow.compile.native import build
from graphflow.execute import compiling
from tests.execute.random_graphs import OPS, Case

pytestmark = pytest.mark.usefixtures("graph", "garbage")

_SIZE = st.sampled_from([1, 2, 3, 5, 17, 0])
_CHOICE = st.tuples(
    st.integers(0, len(OPS) - 1), st.integers(0, 3), st.integers(0, 11), st.integers(0, 10**9)
)
_CASES = st.builds(
    Case,
    st.tuples(_SIZE, _SIZE, _SIZE),
    st.lists(_CHOICE, min_size=3, max_size=16),
    st.integers(0, 3),
    st.integers(0, 2**18 - 1),
)
_EXAMPLES = int(os.environ.get("GRAPHFLOW_EXAMPLES", "32"))  # with --hypothesis-seed: a longer hunt
_SETTINGS = settings(max_examples=_EXAMPLES, suppress_health_check=list(HealthCheck))


def steps(
    case: Case,
    tier: str,
    wanted: Callable[[int], bool] = lambda i: True,
    device: Callable[[Any], str | None] = lambda op: "/cpu:0",
    patches: Any = (),
    **options: Any,
) -> tuple[list[dict[int, Any]], int]:
    """Values of two steps, by the number of the output; and how many outputs are exact."""
    with tf.Graph().as_default() as graph, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFLOW_TIER", tier)
        patch.setattr(compiling, "_warned", set())  # each failure is told
        for module, name, value in patches:
            patch.setattr(module, name, value)
        with graph.device(device):
            exact, loose, feeds = case.build()
        outputs = [*exact, *loose]
        chosen = {i: y for i, y in enumerate(outputs) if wanted(i) or i == len(outputs) - 1}
        with tf.Session(seed=1, config=tf.ConfigProto(**options)) as session:
            session.run(tf.global_variables_initializer())
            return [session.run(chosen, feeds) for _ in range(2)], len(exact)


# Small steps, too, are shared by two workers, go through blocks, and run in strips.
_SHARED = [(build, "_SMALL", 0), (sums, "_ALONE", 0), (shares, "_ALONE", 0), (shares, "_TINY", 0),
           (nests, "BLOCK", 16), (gather, "_NARROW", 2), (strips, "_CACHE", 256),
           (strips, "_THIN", 1)]  # fmt: skip


@_SETTINGS
@given(case=_CASES, fetched=st.integers(0, 2**14 - 1), exact=st.booleans(), shared=st.booleans())
def test_random_graphs(case: Case, fetched: int, exact: bool, shared: bool) -> None:
    """Whatever is fetched: that decides what is fused."""
    expected, sure = steps(case, "reference")
    options = {"intra_op_parallelism_threads": 1 + shared, "deterministic": exact}
    patches = _SHARED if shared else []
    found, _ = steps(case, "native", lambda i: bool(fetched >> i & 1), patches=patches, **options)
    for want, got in zip(expected, found, strict=True):
        largest = max([1.0, *[_largest(v) for v in want.values()]])
        for i, value in got.items():
            assert value.dtype == want[i].dtype
            if i < sure:
                np.testing.assert_array_equal(value, want[i])
            else:
                np.testing.assert_allclose(value, want[i], rtol=1e-3, atol=1e-4 * largest)


def _largest(value: Any) -> float:
    return float(np.abs(value).max(initial=0)) if value.dtype.kind == "f" else 0.0


@settings(_SETTINGS, max_examples=_EXAMPLES // 8)
@given(case=_CASES, where=st.lists(st.integers(0, 1), min_size=1))
def test_random_graphs_have_the_same_bits_on_two_devices(case: Case, where: list[int]) -> None:
    """What is fused does not count in a deterministic session: each operation rounds for itself."""

    def run(where: list[int]) -> Any:
        turns = itertools.cycle(where)

        def device(op: Any) -> str | None:
            """A loop must share one with its gradient."""
            return None if op.type in ("While", "Cond") else f"/cpu:{next(turns)}"

        return steps(
            case, "native", device=device, device_count={"CPU": 2},
            intra_op_parallelism_threads=1, deterministic=True,
        )[0]  # fmt: skip

    for first, second in zip(run(where), run([0]), strict=True):
        for i, value in first.items():
            np.testing.assert_array_equal(value, second[i])
