"""Classes drawn with given probabilities, with the numbers of TensorFlow's CPU kernel."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Index, Real, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops import philox
from graphflow.ops.cases import Case
from graphflow.ops.known import constant_value
from graphflow.ops.public import composite
from graphflow.ops.random import add_random, stream_key
from graphflow.ops.rules import rank_is

_DRAWN: Final = 1 << 20  # samples at a time: 8 MB of numbers, whatever the size of the result


def _multinomial_spec(logits: Tensor, num_samples: Tensor, *, dtype: DType, **_: Any) -> Specs:
    rows, _classes = rank_is(logits, 2, "logits")
    count = constant_value(num_samples)
    if count is not None and int(count) < 0:
        raise ShapeError(f"num_samples must be >= 0, not {int(count)}")
    return [((rows, None if count is None else int(count)), dtype)]


@op(
    "Multinomial",
    infer=_multinomial_spec,
    grad=None,
    random=True,
    host=("num_samples",),
    cases=lambda s: [
        Case(
            (s.normal(rows, 4), np.array(count, np.int32)),
            {"dtype": dtype, "seed": 1, "seed2": 2, "stream": 0},
            grad=False,
        )
        for rows, count, dtype in [
            (2, 5, dtypes.int64),
            (1, 0, dtypes.int32),
            (0, 3, dtypes.int64),
        ]
    ],
)
def _multinomial(
    xp: Any,
    ctx: Any,
    logits: Real,
    num_samples: Index,
    *,
    dtype: Any,
    seed: Any = 0,
    seed2: Any = 0,
    stream: Any,
) -> Array:
    """Classes drawn with probabilities softmax(logits): [batch, num_samples] of [batch, classes].

    TensorFlow splits the batch over its threads, and so its numbers depend on how many it has;
    these are those of one thread.
    """
    batch, classes = logits.shape
    count = int(num_samples)
    if count < 0 or (not classes and batch):
        raise InvalidArgumentError(
            None, None, f"{count} samples of {classes} classes: need >= 0 and > 0"
        )
    result = xp.empty((batch, count), dtype.np)  # where it cannot be, that is known at once
    if not result.size:
        return result
    reserved = batch * (-(-count // 4) * 4) * 2 * philox.RESERVED
    key = stream_key(ctx, seed, seed2, stream)
    start = ctx.counter(stream, reserved)
    finite = xp.isfinite(logits)
    highest = xp.max(xp.where(finite, logits, -math.inf), axis=1, keepdims=True)
    highest = xp.where(xp.isfinite(highest), highest, 0.0).astype(np.float64)
    weights = xp.where(finite, xp.exp(logits.astype(np.float64) - highest), 0.0)
    totals = xp.cumsum(weights, axis=1)
    height = max(1, _DRAWN // count)  # rows of which all samples are drawn together
    for top in range(0, batch, height):
        rows = range(top, min(top + height, batch))
        for left in range(0, count, _DRAWN):
            width = min(_DRAWN, count - left)
            drawn = _uniforms(xp, key, start, top * count + left, len(rows) * width)
            for i, u in zip(rows, drawn.reshape(len(rows), width), strict=True):
                places = xp.searchsorted(totals[i], u * totals[i, -1], side="right")
                result[i, left : left + width] = places
    return result


def _uniforms(xp: Any, key: tuple[int, int], start: int, first: int, count: int) -> Array:
    """Numbers first, first + 1, ... of a stream of float64 in [0, 1)."""
    skipped = first % 2  # a block gives two
    drawn = philox.uniform(xp, *key, start + first // 2, skipped + count, dtypes.float64)
    return drawn[skipped:]


def multinomial(
    logits: Any,
    num_samples: Any,
    seed: int | None = None,
    name: str | None = None,
    output_dtype: Any = None,
) -> Tensor:
    """Classes drawn with probabilities softmax(logits).

    Args:
      logits: [batch, classes]; -inf for a class that is never drawn.
      num_samples: how many per row.
      seed: the operation's seed.
      output_dtype: int64 (default) or int32.

    Returns:
      [batch, num_samples].
    """
    kind = dtypes.int64 if output_dtype is None else as_dtype(output_dtype)
    if kind not in (dtypes.int32, dtypes.int64):
        raise DTypeError(f"classes are int32 or int64, not {kind.name}")
    with composite(name, "multinomial", logits):
        return add_random(
            _multinomial,
            as_tensor(logits),
            as_tensor(num_samples),
            dtype=kind,
            seed=seed,
            name=None,
        )


def categorical(
    logits: Any,
    num_samples: Any,
    dtype: Any = None,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """`multinomial` under its newer name."""
    return multinomial(logits, num_samples, seed, name or "categorical", dtype)
