"""Random graphs: the values and gradients that jax computes in float64."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from graphflow.build import OPS
from tests.ops.mutation import broken, mutants
from tests.peers.compare import by_jax, compare
from tests.peers.graphs import program

Answers = Callable[[int], list[Any]]


@pytest.fixture(scope="module")
def answers() -> Iterator[Answers]:
    """jax's results by seed, on the CPU and in float64."""
    fast = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ.setdefault("XLA_FLAGS", fast)  # a graph runs once: compiling is what costs
    jax = pytest.importorskip("jax", reason="needs jax: pip install graphflow[peers]")
    pytest.importorskip("jax.scipy.special")  # a part that is not imported with the rest
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield functools.cache(lambda seed: by_jax(jax, program(seed)))
    jax.config.update("jax_enable_x64", before)


def check(answers: Answers, seeds: Sequence[int]) -> None:
    left = 0
    for seed in seeds:
        graph = program(seed)
        worst = compare(graph, answers(seed))
        left += worst is None
        assert worst is None or worst <= 1, f"seed {seed}: {worst:.3g} times the bound; {graph}"
    assert left <= len(seeds) // 4, f"{left} of {len(seeds)} graphs were badly conditioned"


@pytest.mark.peers
@pytest.mark.timeout(600)
@pytest.mark.parametrize("start", range(0, 200, 50))
def test_random_graphs_agree(answers: Answers, start: int) -> None:
    check(answers, range(start, start + 50))


@pytest.mark.peers
def test_what_is_zero_but_for_rounding_agrees(answers: Answers) -> None:
    """The slope of a mean of a softmax, the lgamma of 2: one library rounds to 0, one does not."""
    check(answers, (1115, 1338))


@pytest.mark.peers
def test_a_folded_factor_rounds_as_the_one_that_was_computed(answers: Answers) -> None:
    """Broadcast constants: folded into contiguous ones, they took another way through BLAS."""
    check(answers, (2942, 3270))


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("start", range(1000, 4000, 500))
def test_thousands_of_random_graphs_agree(answers: Answers, start: int) -> None:
    check(answers, range(start, start + 500))


def test_graphs_use_the_whole_table() -> None:
    seen = Counter(step.name for seed in range(200) for step in program(seed).steps)
    assert len(seen) >= 50
    assert min(seen.values()) >= 3, seen


@pytest.mark.peers
@pytest.mark.parametrize("op", ["Tanh", "Mul", "Sum", "MatMul", "GatherV2", "Softmax", "Pad"])
def test_a_broken_gradient_is_noticed(answers: Answers, op: str) -> None:
    mutant = next(m for m in mutants(OPS[op]) if m.kind == "nudge by 1 %")
    with broken(mutant):
        verdicts = (compare(program(seed), answers(seed)) for seed in range(50))
        assert any(v is not None and v > 1 for v in verdicts), str(mutant)
