"""Inputs to check an op's entry with; each entry may bring its own `cases`.

A `cases` function takes a `Sampler` and returns `Case`s: they feed the numeric gradient check,
the comparison of inferred with computed shapes, and the array-module conformance check.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Values = np.ndarray[Any, Any]

SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (1,), (2, 3), (0,), (2, 0, 3), (2, 1, 3))
PAIRS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((), ()),
    ((2, 3), (2, 3)),
    ((2, 3), ()),
    ((), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((1, 3), (2, 3)),
    ((2, 3, 1), (3, 2)),
    ((0, 3), (1, 3)),
    ((0,), ()),
)


@dataclass(frozen=True)
class Case:
    """One call of an op.

    Attributes:
      inputs: the arrays; floating ones are float64, since gradients are checked there.
      attrs: the attributes.
      check: indices of the inputs whose gradient is checked; None: all floating ones.
      grad: False where no gradient exists at this point (tested for values alone).
      second: False where the second order is not checked (say why beside it).
    """

    inputs: tuple[Any, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    check: tuple[int, ...] | None = None
    grad: bool = True
    second: bool = True


class Sampler:
    """Random inputs, the same ones for the same op."""

    def __init__(self, name: str):
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def normal(self, *shape: int) -> Values:
        """Standard normal numbers, none within 0.05 of zero (away from kinks)."""
        x = self.rng.standard_normal(shape)
        return np.asarray(np.where(np.abs(x) < 0.05, 0.5, x))

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Values:
        return np.asarray(self.rng.uniform(low, high, shape))

    def positive(self, *shape: int) -> Values:
        """Numbers in [0.5, 2.5)."""
        return self.uniform(*shape, low=0.5, high=2.5)

    def distinct(self, *shape: int) -> Values:
        """Numbers of which no two are closer than 0.1: for maxima and sorting."""
        n = int(np.prod(shape, dtype=int))
        return np.asarray((self.rng.permutation(n) * 0.1 - n * 0.05 + 0.03).reshape(shape))

    def integers(self, high: int, *shape: int, low: int = 0, dtype: Any = np.int32) -> Values:
        return np.asarray(self.rng.integers(low, high, shape)).astype(dtype)

    def booleans(self, *shape: int) -> Values:
        return np.asarray(self.rng.integers(0, 2, shape).astype(bool))


def unary(low: float = -2.0, high: float = 2.0, **attrs: Any) -> Any:
    """Cases of an elementwise op of one input within a range."""
    return lambda s: [Case((s.uniform(*shape, low=low, high=high),), attrs) for shape in SHAPES]


def binary(low: float = -2.0, high: float = 2.0, **attrs: Any) -> Any:
    """Cases of an elementwise op of two inputs that broadcast."""

    def cases(s: Sampler) -> list[Case]:
        return [
            Case((s.uniform(*a, low=low, high=high), s.uniform(*b, low=low, high=high)), attrs)
            for a, b in PAIRS
        ]

    return cases
