"""The Levenshtein distance between sequences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import InvalidArgumentError
from graphflow.build import op
from graphflow.build.opdef import Array, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case
from graphflow.ops.known import known_dims
from graphflow.ops.rules import merge_dims, rank_is
from graphflow.ops.sparse import SparseTensor


def _spec(a_at: Tensor, a: Tensor, a_shape: Tensor, b_at: Tensor, b: Tensor, b_shape: Tensor,
          *, normalize: bool) -> Specs:  # fmt: skip
    for at, values, sizes in ((a_at, a, a_shape), (b_at, b, b_shape)):
        rank_is(at, 2, "indices of an edit distance")
        rank_is(values, 1, "values of an edit distance")
        rank_is(sizes, 1, "shapes of an edit distance")
    dims = merge_dims(a_shape.dims, b_shape.dims, "the ranks of hypothesis and truth")
    p, q = known_dims(a_shape), known_dims(b_shape)
    if p is None or q is None:
        rank = dims[0] if dims else None
        return [(None if rank is None else (None,) * (rank - 1), dtypes.float32)]
    pairs = zip(p[:-1], q[:-1], strict=True)
    both = [None if n is None or m is None else max(n, m) for n, m in pairs]
    return [(tuple(both), dtypes.float32)]


_CASES = [
    ([[0, 0], [0, 1], [2, 0]], [1, 2, 7], [3, 2], [[0, 0], [1, 0], [1, 1]], [1, 4, 4], [3, 2]),
    ([[0, 0]], [5], [1, 1], [[0, 0], [0, 1]], [5, 6], [2, 2]),
]


@op(
    "EditDistance",
    infer=_spec,
    grad=None,
    host=("a_at", "a", "a_shape", "b_at", "b", "b_shape"),
    cases=lambda s: [
        Case(tuple([np.array(x, np.int64) for x in case]), {"normalize": normalize})
        for case in _CASES
        for normalize in (True, False)
    ],
)
def _distance(
    xp: Any, a_at: Index, a: T, a_shape: Index, b_at: Index, b: T, b_shape: Index, *,
    normalize: Any = True,
) -> Array:  # fmt: skip
    """How many insertions, deletions and substitutions turn each sequence of a sparse tensor a
    into that of b, by default divided by the length of b."""
    if len(a_shape) != len(b_shape) or not len(a_shape):
        raise InvalidArgumentError(
            None, None, f"hypothesis and truth have shapes {a_shape.tolist()}, {b_shape.tolist()}"
        )
    sizes = np.maximum(a_shape, b_shape)[:-1]
    if sizes.size and sizes.min() < 0:
        raise InvalidArgumentError(None, None, f"sizes must not be negative: {sizes.tolist()}")
    rows = [_rows(at, values, shape) for at, values, shape in ((a_at, a, a_shape),
                                                               (b_at, b, b_shape))]  # fmt: skip
    result = np.zeros(sizes.tolist(), np.float32)
    for place in rows[0].keys() | rows[1].keys():
        given, wanted = [r.get(place, []) for r in rows]
        edits = float(_levenshtein(given, wanted))
        if normalize:
            edits = edits / len(wanted) if wanted else math.inf if edits else 0.0
        result[place] = edits
    return xp.asarray(result)


def _rows(at: Any, values: Any, shape: Any) -> dict[tuple[int, ...], list[Any]]:
    """The sequences by their places.

    Raises:
      InvalidArgumentError: indices do not fit the values or the shape.
    """
    if at.ndim != 2 or values.ndim != 1 or at.shape != (len(values), len(shape)):
        raise InvalidArgumentError(
            None, None, f"indices {at.shape} for {values.shape} values of rank {len(shape)}"
        )
    if at.size and not ((at >= 0).all() and (at < shape).all()):
        raise InvalidArgumentError(None, None, f"indices out of the shape {shape.tolist()}")
    found: dict[tuple[int, ...], list[Any]] = {}
    for place, value in zip(at.tolist(), values.tolist(), strict=True):
        found.setdefault(tuple(place[:-1]), []).append(value)
    return found


def _levenshtein(a: list[Any], b: list[Any]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            best = min(diagonal + (x != y), row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], best
    return row[-1]


def edit_distance(
    hypothesis: SparseTensor, truth: SparseTensor, normalize: bool = True,
    name: str = "edit_distance",
) -> Tensor:  # fmt: skip
    """The Levenshtein distance between the sequences in the last axis of two sparse tensors.

    Args:
      hypothesis, truth: `SparseTensor`s of one rank and dtype.
      normalize: divide by the length of the truth; infinite where that is 0, but 0 where both are.

    Returns:
      float32, of the shape without the last axis.

    Raises:
      TypeError: one is no `SparseTensor`, or their dtypes differ.
    """
    for given in (hypothesis, truth):
        if not isinstance(given, tuple) and not hasattr(given, "dense_shape"):
            raise TypeError(f"edit_distance takes SparseTensors, not {given!r}")
    a, b = SparseTensor.from_value(hypothesis), SparseTensor.from_value(truth)
    distance: Tensor = _distance(
        a.indices, a.values, a.dense_shape, b.indices, b.values, b.dense_shape,
        normalize=normalize, name=name,
    )  # fmt: skip
    return distance
