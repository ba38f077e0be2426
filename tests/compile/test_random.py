"""Philox as an expression against the kernels' Philox."""

from __future__ import annotations

import numpy as np
import pytest

from graphflow.base import dtypes
from graphflow.compile.loops.random import integer, uniform
from graphflow.ops import philox
from graphflow.ops.expression import compute


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
