"""Candidate samplers: classes to train against, with the probability of having been drawn.

The streams and the way in which numbers become classes are TensorFlow's.  Sampling happens in
host memory: a class is drawn at a time, and again while it was drawn before.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Index, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops import philox
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.filling import ones, ones_like
from graphflow.ops.filling import range as range_
from graphflow.ops.public import composite
from graphflow.ops.random import add_random, stream_key
from graphflow.ops.rules import merge_dims

BLOCKS: Final = 512  # of the stream, per candidate
CHUNK: Final = 64  # blocks made at a time
TRIES: Final = 1000  # per candidate


class Words:
    """The 32-bit words of a stream, one after the other."""

    def __init__(self, seed: int, seed2: int, start: int):
        self._words = self._generate(seed, seed2, start)

    @staticmethod
    def _generate(seed: int, seed2: int, start: int) -> Iterator[int]:
        while True:
            yield from philox.blocks(np, seed, seed2, start, CHUNK).reshape(-1).tolist()
            start += CHUNK

    def word(self) -> int:
        return next(self._words)

    def single(self) -> np.float32:
        """float32 in [0, 1)."""
        number: np.float32 = philox.unit32(np.array([self.word()], np.uint32))[0]
        return number

    def double(self) -> float:
        """float64 in [0, 1)."""
        return float(philox.unit64(np.array([self.word(), self.word()], np.uint32))[0])

    def below(self, n: int, bits: int) -> int:
        """An integer of [0, n) without bias, from 32 or 64 bits."""
        draw = self.word if bits == 32 else self._long
        if n & (n - 1) == 0:
            return draw() & (n - 1)
        least = (2**bits - 1) % n + 1
        while (number := draw()) < least:
            pass
        return number % n

    def _long(self) -> int:
        return self.word() | self.word() << 32


class Distribution(NamedTuple):
    """How classes are drawn, and the probability of each."""

    draw: Callable[[Words], int]
    probability: Callable[[Any], Any]


def _uniform(range_max: int, **_: Any) -> Distribution:
    return Distribution(
        lambda words: words.below(range_max, 64),
        lambda classes: np.full(np.shape(classes), 1.0 / range_max),
    )


def _log_uniform(range_max: int, **_: Any) -> Distribution:
    scale = math.log1p(range_max)
    return Distribution(
        lambda words: (int(math.exp(words.double() * scale)) - 1) % range_max,
        lambda classes: np.log((classes + 2.0) / (classes + 1.0)) / scale,
    )


def _fixed(unigrams: tuple[float, ...], distortion: float, reserved: int, num_shards: int,
           shard: int, **_: Any) -> Distribution:  # fmt: skip
    return _tabulated(unigrams, distortion, reserved, num_shards, shard)


@lru_cache(maxsize=64)
def _tabulated(
    unigrams: tuple[float, ...], distortion: float, reserved: int, num_shards: int, shard: int
) -> Distribution:
    """Draws by Walker's alias method; classes of other shards have probability 0."""
    counts = [0.0] * reserved + [float(np.float32(u) ** np.float32(distortion)) for u in unigrams]
    weights = np.array(counts[shard::num_shards], np.float32)
    total = float(np.sum(weights.astype(np.float64)))
    chance, alias = _alias_table(weights)
    count = len(weights)

    def draw(words: Words) -> int:
        r = words.single()
        i = words.below(count, 32)
        return (i if r < chance[i] else alias[i]) * num_shards + shard

    def probability(classes: Any) -> Any:
        mine = classes % num_shards == shard
        return np.where(mine, weights[np.where(mine, classes // num_shards, 0)] / total, 0.0)

    return Distribution(draw, probability)


def _alias_table(weights: Any) -> tuple[Any, list[int]]:
    scaled = [float(w) * len(weights) / float(np.sum(weights.astype(np.float64))) for w in weights]
    alias = list(range(len(scaled)))
    low = [i for i, p in enumerate(scaled) if p < 1]
    high = [i for i, p in enumerate(scaled) if p >= 1]
    while low and high:
        small, large = low.pop(), high.pop()
        alias[small] = large
        scaled[large] -= 1.0 - scaled[small]
        (low if scaled[large] < 1 else high).append(large)
    for i in (*low, *high):  # 1 but for rounding
        scaled[i], alias[i] = 1.0, i
    return np.array(scaled, np.float32), alias


# ---- the entries


def candidates_spec(true_classes: Tensor, *, num_true: int, num_sampled: int, unique: bool,
          range_max: int, **_: Any) -> Specs:  # fmt: skip
    dims = true_classes.dims
    if dims is not None and (len(dims) != 2 or dims[1] not in (None, num_true)):
        raise ShapeError(f"true_classes must be [batch, {num_true}], not {format_dims(dims)}")
    if num_sampled < 1 or range_max < 1 or (unique and num_sampled > range_max):
        raise GraphError(
            f"{num_sampled} {'unique ' if unique else ''}candidates cannot be drawn from "
            f"{range_max} classes"
        )
    rows = dims[0] if dims is not None else None
    return [
        ((num_sampled,), dtypes.int64),
        ((rows, num_true), dtypes.float32),
        ((num_sampled,), dtypes.float32),
    ]


def _expected(probability: Any, count: int, tries: int) -> Any:
    """How often a class of that probability is expected among the candidates."""
    if tries == count:
        return probability * count
    return -np.expm1(tries * np.log1p(-probability))


def sample_candidates(
    xp: Any, ctx: Any, true_classes: Any, make: Any, attrs: dict[str, Any]
) -> tuple[Array, ...]:
    count, unique = attrs["num_sampled"], attrs["unique"]
    if true_classes.ndim != 2 or true_classes.shape[1] != attrs["num_true"]:
        raise InvalidArgumentError(
            None, None,
            f"true_classes must be [batch, {attrs['num_true']}], not {true_classes.shape}",
        )  # fmt: skip
    seeds = attrs["seed"], attrs["seed2"], attrs["stream"]
    distribution = make(**attrs)
    words = Words(*stream_key(ctx, *seeds), ctx.counter(seeds[2], count * BLOCKS))
    chosen: dict[int, None] = {}
    drawn: list[int] = []
    tries = 0
    most = TRIES * (count + 100)  # where almost all draws give the same class, nothing else ends
    while len(drawn) < count:
        tries += 1
        if tries > most:
            raise InvalidArgumentError(
                None, None, f"{tries} draws give {len(drawn)} different classes, not {count}"
            )
        candidate = distribution.draw(words)
        if unique and candidate in chosen:
            continue
        chosen[candidate] = None
        drawn.append(candidate)
    candidates = np.array(drawn, np.int64)
    classes = np.asarray(true_classes).astype(np.int64)
    if classes.size and not (classes.min() >= 0 and classes.max() < attrs["range_max"]):
        raise InvalidArgumentError(
            None, None, f"true_classes must be in [0, {attrs['range_max']}): {classes.tolist()}"
        )
    counts = [_expected(distribution.probability(c), count, tries) for c in (classes, candidates)]
    return (
        xp.asarray(candidates),
        *[xp.asarray(np.asarray(c).astype(np.float32)) for c in counts],
    )


def _cases(**more: Any) -> Any:
    def cases(s: Sampler) -> list[Case]:
        attrs = {"num_true": 2, "range_max": 9, "seed": 1, "seed2": 2, "stream": 0, **more}
        return [
            Case(
                (s.integers(9, rows, 2, dtype=np.int64),),
                {**attrs, "num_sampled": count, "unique": unique},
                grad=False,
            )
            for rows, count, unique in [(3, 4, True), (2, 9, True), (0, 12, False)]
        ]

    return cases


def _enter(name: str, make: Any, doc: str) -> Any:
    def kernel(
        xp: Any,
        ctx: Any,
        true_classes: Index,
        *,
        num_true: Any,
        num_sampled: Any,
        unique: Any,
        range_max: Any,
        seed: Any = 0,
        seed2: Any = 0,
        stream: Any,
    ) -> tuple[Array, ...]:
        attrs = {
            "num_true": num_true,
            "num_sampled": num_sampled,
            "unique": unique,
            "range_max": range_max,
            "seed": seed,
            "seed2": seed2,
            "stream": stream,
        }
        return sample_candidates(xp, ctx, true_classes, make, attrs)

    kernel.__doc__ = doc
    return op(
        name, infer=candidates_spec, grad=None, random=True, host=("true_classes",), cases=_cases()
    )(kernel)


_uniform_op = _enter(
    "UniformCandidateSampler",
    _uniform,
    "Classes drawn evenly, and the expected counts of true classes and of candidates.",
)
_log_uniform_op = _enter(
    "LogUniformCandidateSampler",
    _log_uniform,
    "Classes drawn with probabilities that fall as 1 / (class + 1), with expected counts.",
)


@op(
    "FixedUnigramCandidateSampler",
    infer=candidates_spec,
    grad=None,
    random=True,
    host=("true_classes",),
    cases=_cases(unigrams=(3.0, 1.0, 2.0, 2.0, 4.0, 1.0, 1.0, 2.0, 5.0)),
)
def _fixed_op(
    xp: Any,
    ctx: Any,
    true_classes: Index,
    *,
    num_true: Any,
    num_sampled: Any,
    unique: Any,
    range_max: Any,
    unigrams: Any,
    distortion: Any = 1.0,
    reserved: Any = 0,
    num_shards: Any = 1,
    shard: Any = 0,
    seed: Any = 0,
    seed2: Any = 0,
    stream: Any,
) -> tuple[Array, ...]:
    """Classes drawn with given counts to the power of a distortion, with expected counts."""
    attrs = {k: v for k, v in locals().items() if k not in ("xp", "ctx", "true_classes")}
    return sample_candidates(xp, ctx, true_classes, _fixed, attrs)


# ---- TensorFlow's functions


def _public(entry: Any, name: str, how: str) -> Callable[..., Any]:
    def sampler(
        true_classes: Any,
        num_true: int,
        num_sampled: int,
        unique: bool,
        range_max: int,
        seed: int | None = None,
        name: str | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = add_random(
            entry,
            as_tensor(true_classes, dtypes.int64),
            seed=seed,
            name=name,
            num_true=num_true,
            num_sampled=num_sampled,
            unique=unique,
            range_max=range_max,
        )
        return found

    sampler.__name__ = sampler.__qualname__ = name
    sampler.__doc__ = f"""Classes to train against, {how}.

    Args:
      true_classes: int64 [batch, num_true].
      num_true: how many classes each example has.
      num_sampled: how many candidates to draw for the whole batch.
      unique: draw no class twice.
      range_max: classes are in [0, range_max).
      seed: the operation's seed.
      name: its name.

    Returns:
      The candidates, int64 [num_sampled]; how often each true class is expected to have been
      drawn, float32 [batch, num_true]; the same of the candidates, float32 [num_sampled].
    """
    return sampler


uniform_candidate_sampler = _public(_uniform_op, "uniform_candidate_sampler", "evenly")
log_uniform_candidate_sampler = _public(
    _log_uniform_op,
    "log_uniform_candidate_sampler",
    "with probabilities log((k + 2) / (k + 1)) / log(range_max + 1)",
)


def fixed_unigram_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    vocab_file: str = "",
    distortion: float = 1.0,
    num_reserved_ids: int = 0,
    num_shards: int = 1,
    shard: int = 0,
    unigrams: Any = (),
    seed: int | None = None,
    name: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Classes to train against, drawn with given counts.

    Args:
      true_classes, num_true, num_sampled, unique, range_max: as of `uniform_candidate_sampler`.
      vocab_file: a file whose lines end with ",count", one per class; or
      unigrams: the counts.
      distortion: power to which the counts are raised; 0 makes them even.
      num_reserved_ids: classes that come before those of the counts and are never drawn.
      num_shards, shard: draw only classes k with k % num_shards == shard.
      seed: the operation's seed.

    Raises:
      ValueError: both or none of vocab_file and unigrams are given, or not range_max counts.
    """
    if bool(vocab_file) == bool(len(unigrams)):
        raise GraphError("give either vocab_file or unigrams")
    counts = _read_counts(vocab_file) if vocab_file else [float(u) for u in unigrams]
    if len(counts) + num_reserved_ids != range_max:
        raise GraphError(
            f"{len(counts)} counts and {num_reserved_ids} reserved ids for {range_max} classes"
        )
    found: tuple[Tensor, Tensor, Tensor] = add_random(
        _fixed_op,
        as_tensor(true_classes, dtypes.int64),
        seed=seed,
        name=name,
        num_true=num_true,
        num_sampled=num_sampled,
        unique=unique,
        range_max=range_max,
        unigrams=tuple(counts),
        distortion=distortion,
        reserved=num_reserved_ids,
        num_shards=num_shards,
        shard=shard,
    )
    return found


def all_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    seed: int | None = None,
    name: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """All classes, to test against: the candidates are 0, ..., num_sampled - 1.

    Args and Returns as of `uniform_candidate_sampler`; every expected count is 1.
    """
    with composite(name, "AllCandidateSampler", true_classes):
        classes = as_tensor(true_classes, dtypes.int64)
        merge_dims(classes.dims, (None, num_true), "true_classes")
        return (
            range_(num_sampled, dtype=dtypes.int64),
            ones_like(classes, dtypes.float32),
            ones([num_sampled]),
        )


def _read_counts(path: str) -> list[float]:
    with open(os.fspath(path), encoding="utf-8") as lines:
        return [float(line.rsplit(",", 1)[-1]) for line in lines if line.strip()]
