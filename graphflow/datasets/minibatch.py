"""Shuffled mini-batches of arrays held in memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["batches"]


def batches(
    x: NDArray[Any], y: NDArray[Any], *, size: int, seed: int | None = None
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield one epoch of mini-batches `(x[rows], y[rows])`, each row once.

    With a `seed` the rows come in a random order that depends on it alone; pass another seed for
    another epoch. Without one they come as they lie. The last batch holds what is left, so it may
    be smaller than `size`.

    Raises:
        ValueError: `x` and `y` differ in length, or `size` is not positive. Raised by the call,
            not by the first batch.
    """
    if len(x) != len(y):
        raise ValueError(f"x and y differ in length: {len(x)} examples and {len(y)} labels")
    if size < 1:
        raise ValueError(f"size is {size}; a batch needs at least one row")
    rows = np.arange(len(x)) if seed is None else np.random.default_rng(seed).permutation(len(x))
    starts = range(0, len(x), size)
    return ((x[rows[i : i + size]], y[rows[i : i + size]]) for i in starts)
