"""Philox as an expression against the kernels' Philox."""

from __future__ import annotations

import numpy as np
import pytest

from graphflow.base import dtypes
from graphflow.compile.loops.random import integer, logarithm, normal, sine, uniform, uniform64
from graphflow.ops import philox
from graphflow.ops.expression import Node, compute


@pytest.mark.parametrize(
    ("seed", "seed2", "start"),
    [(1, 2, 0), (2**64 - 1, 2**64 - 1, 5), (77, 3, 2**64 - 2), (2**62 + 5, 12, 2**70 + 2**64 - 1)],
)
def test_expression_gives_the_kernels_bits(seed: int, seed2: int, start: int) -> None:
    size = 1001
    base = (seed2 << 64) + start
    key, low, high = [np.uint64(n % 2**64) for n in (seed, base, base >> 64)]
    with np.errstate(over="ignore"):
        got = compute(uniform(), [key, low, high, np.arange(size)])
        small = compute(integer(-5, 7), [key, low, high, np.arange(size)])
        large = compute(integer(-(2**31), 2**31 - 1), [key, low, high, np.arange(size)])
    np.testing.assert_array_equal(got, philox.uniform(np, seed, seed2, start, size, dtypes.float32))
    words = philox.bits(np, seed, seed2, start, size, dtypes.uint32)
    np.testing.assert_array_equal(small, (words % np.uint32(12)).astype(np.int32) - 5)
    wide = words.astype(np.int64) % (2**32 - 1) - 2**31
    np.testing.assert_array_equal(large, wide.astype(np.int32))


@pytest.mark.parametrize(
    ("seed", "seed2", "start"), [(1, 2, 0), (2**64 - 1, 2**64 - 1, 5), (77, 3, 2**64 - 2)]
)
def test_floats_of_two_words(seed: int, seed2: int, start: int) -> None:
    size = 20_001
    base = (seed2 << 64) + start
    words = [np.uint64(n % 2**64) for n in (seed, base, base >> 64)]
    with np.errstate(over="ignore"):
        double = compute(uniform64(), [*words, np.arange(size)])
        drawn = compute(normal(), [*words, np.arange(size)])
    stream = np, seed, seed2, start, size
    np.testing.assert_array_equal(double, philox.uniform(*stream, dtypes.float64))
    np.testing.assert_array_equal(drawn, philox.normal(*stream, dtypes.float32))


def test_logarithm_and_sine_are_right_to_the_last_bits() -> None:
    mpmath = pytest.importorskip("mpmath")
    argument = Node("arg", (), np.dtype(np.float64), 0)
    ahead = Node("arg", (), np.dtype(np.float64), 1)
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.random(2000, np.float32), 1 - 2.0 ** -np.arange(1, 24), [1e-7, 0.5]])
    x = np.maximum(x.astype(np.float64), 1e-7)
    angles = (2 * np.pi * x).astype(np.float32).astype(np.float64)
    quarters = np.arange(len(x)) % 2.0
    with mpmath.workprec(200):
        logs = np.array([float(mpmath.log(v)) for v in x])
        sines = np.array([float(mpmath.cos(a) if q else mpmath.sin(a))
                          for a, q in zip(angles, quarters, strict=True)])  # fmt: skip
    for got, wanted in ((compute(logarithm(argument), [x]), logs),
                        (compute(sine(argument, ahead), [angles, quarters]), sines)):  # fmt: skip
        assert np.max(np.abs(got - wanted) / np.spacing(np.abs(wanted))) <= 2
