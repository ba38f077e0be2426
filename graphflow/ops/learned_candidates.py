"""A candidate sampler that learns how frequent classes are from the true classes it is given."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import InvalidArgumentError
from graphflow.build import as_tensor, op
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import Array, Index, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.candidates import Distribution, Words, candidates_spec, sample_candidates
from graphflow.ops.cases import Case
from graphflow.ops.filling import ones, ones_like
from graphflow.ops.public import composite
from graphflow.ops.random import add_random
from graphflow.ops.rules import merge_dims
from graphflow.ops.segments import unsorted_segment_sum
from graphflow.ops.shape_ops import reshape
from graphflow.ops.sources import identity
from graphflow.ops.variables import Variable


def _spec(true_classes: Tensor, counts: Tensor, *, range_max: int, **attrs: Any) -> Specs:
    merge_dims(counts.dims, (range_max,), "counts, one for each class")
    return candidates_spec(true_classes, range_max=range_max, **attrs)


def _counted(counts: Any, **_: Any) -> Distribution:
    ends = np.cumsum(counts)
    total = int(ends[-1])

    def draw(words: Words) -> int:
        return int(np.searchsorted(ends, words.below(total, 32), side="right"))

    return Distribution(draw, lambda classes: counts[classes].astype(np.float32) / total)


@op(
    "LearnedUnigramCandidateSampler",
    infer=_spec,
    grad=None,
    random=True,
    host=("true_classes", "counts"),
    cases=lambda s: [
        Case(
            (s.integers(5, 3, 2, dtype=np.int64), s.integers(7, 5, low=1, dtype=np.int64)),
            {"num_true": 2, "num_sampled": 4, "unique": unique, "range_max": 5, "seed": 1,
             "seed2": 2, "stream": 0},
            grad=False,
        )
        for unique in (True, False)
    ],
)  # fmt: skip
def _learned(
    xp: Any, ctx: Any, true_classes: Index, counts: Index, *, num_true: Any, num_sampled: Any,
    unique: Any, range_max: Any, seed: Any = 0, seed2: Any = 0, stream: Any,
) -> tuple[Array, ...]:  # fmt: skip
    """Classes drawn as often as they were counted, with the expected counts of true classes and
    of candidates."""
    table = counts.astype(np.int64)
    if table.shape != (range_max,) or not 0 < int(table.sum()) < 2**31 or table.min() < 1:
        raise InvalidArgumentError(
            None, None, f"counts of {range_max} classes must be >= 1: {counts.tolist()}"
        )
    attrs = {
        "num_true": num_true, "num_sampled": num_sampled, "unique": unique,
        "range_max": range_max, "seed": seed, "seed2": seed2, "stream": stream, "counts": table,
    }  # fmt: skip
    return sample_candidates(xp, ctx, true_classes, _counted, attrs)


def learned_unigram_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int | None = None,
    name: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Classes to train against, as frequent as they were among the true classes so far.

    The session counts the true classes of each run, beginning with 1 for each class.

    Args and Returns as of `uniform_candidate_sampler`.
    """
    with composite(name, "LearnedUnigramCandidateSampler", true_classes):
        classes = as_tensor(true_classes, dtypes.int64)
        seen = Variable(
            lambda: ones([range_max], dtypes.int64), trainable=False, collections=[], name="seen"
        )
        counts = seen.initialized_value()
        parts = add_random(
            _learned, classes, counts, seed=seed, name=None, num_true=num_true,
            num_sampled=num_sampled, unique=unique, range_max=range_max,
        )  # fmt: skip
        flat = reshape(classes, [-1])
        more = unsorted_segment_sum(ones_like(flat), flat, range_max)
        with get_default_graph().control_dependencies([parts[0]]):
            update = seen.assign(counts + more, read_value=False)
        with get_default_graph().control_dependencies([update]):
            candidates, true_counts, sampled_counts = [identity(p) for p in parts]
        return candidates, true_counts, sampled_counts
