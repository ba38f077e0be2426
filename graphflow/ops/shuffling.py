"""The order of shuffled rows as a function of their number: nothing is kept between the batches."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from graphflow.base.errors import GraphError
from graphflow.build.opdef import Array, Integer, Specs, op
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case
from graphflow.ops.rules import same, whole

_ROUNDS: Final = 4  # enough for a permutation that nobody can tell from a random one
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MIXERS: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def _places(number: Tensor, *, rows: Any, seed: Any) -> Specs:
    """Without rows the search for one would have no end."""
    whole(seed, "seed")
    most = np.iinfo(number.dtype.np).max
    if not 1 <= whole(rows, "rows") <= most:
        raise GraphError(f"rows must be from 1 to {most}, as numbers are {number.dtype.name}")
    return same(number)


@op(
    "ShuffledRow",
    infer=_places,
    grad=None,
    cost=lambda number, **_: 60.0 * np.prod([d or 1 for d in number.dims or ()]),
    cases=lambda s: [
        Case((np.arange(start, start + 12).reshape(shape),), {"rows": rows, "seed": 3}, grad=False)
        for start, shape, rows in ((0, (12,), 7), (40, (3, 4), 1), (-5, (2, 6), 1000))
    ],
)
def shuffled_row(xp: Any, number: Integer, *, rows: int, seed: int = 0) -> Array:
    """The row that is at a place of endless passes over rows, each in another random order.

    Pass e is number // rows.  Its order is a permutation that takes no memory: a Feistel network of
    four rounds on the numbers below a power of four (Luby and Rackoff, SIAM J. Comput. 17, 1988),
    applied until the result is a row (Black and Rogaway, CT-RSA 2002, "cycle walking"); its rounds
    mix as SplitMix64 does (Steele, Lea and Flood, OOPSLA 2014).
    """
    rows, seed = int(rows), int(seed)
    flat = number.reshape(-1).astype(np.int64)
    turn = flat // rows
    key = _mixed(xp.asarray(turn.astype(np.uint64)) * np.uint64(_GOLDEN) + np.uint64(seed % 2**64))
    half = max(1, ((rows - 1).bit_length() + 1) // 2)
    row = _permuted((flat - turn * rows).astype(np.uint64), key, half)
    while True:
        outside = row >= np.uint64(rows)
        if not bool(outside.any()):
            return row.astype(number.dtype).reshape(number.shape)
        row = xp.where(outside, _permuted(row, key, half), row)


def _permuted(value: Any, key: Any, half: int) -> Any:
    """Numbers below 4 ** half, each to another one."""
    width, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = value >> width, value & mask
    for number in range(1, _ROUNDS + 1):
        left, right = right, left ^ (_mixed(right ^ (key + np.uint64(number))) & mask)
    return (left << width) | right


def _mixed(value: Any) -> Any:
    for shift, factor in _MIXERS:
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    return value ^ (value >> np.uint64(31))
