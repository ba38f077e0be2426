"""Random numbers: the streams of TensorFlow's CPU kernels, counted per operation.

Every operation owns a stream: a key made of its two seeds, and a counter that the session
advances with each execution, as part of the run's transaction.  So the numbers depend neither on
placement nor on order, and with an explicit op seed they are TensorFlow's.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import as_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.convert import is_symbolic
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import Array, Index, Integer, OpDef, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops import philox
from graphflow.ops.cases import Case
from graphflow.ops.known import constant_value, shape_from
from graphflow.ops.rules import same, whole
from graphflow.ops.shape_ops import shape_tensor
from graphflow.ops.windows import elements

DEFAULT_GRAPH_SEED: Final = 87654321  # where only the op's seed is given
MAX_SEED: Final = 2**31 - 1


def get_seed(op_seed: int | None) -> tuple[int | None, int | None]:
    """TensorFlow's two seeds for an operation of the default graph.

    Both None where neither the graph nor the operation has a seed: the session then takes its
    own.  With the graph's alone, the operation's is its number in the graph.
    """
    root = get_default_graph().root
    if root.seed is None and op_seed is None:
        return None, None
    first = DEFAULT_GRAPH_SEED if root.seed is None else root.seed
    second = root.next_id if op_seed is None else op_seed
    seeds = whole(first, "a seed") % MAX_SEED, whole(second, "a seed") % MAX_SEED
    return (0, MAX_SEED) if seeds == (0, 0) else seeds


def set_random_seed(seed: int | None) -> None:
    """Set the seed of the default graph; None takes it away."""
    get_default_graph().root.seed = None if seed is None else whole(seed, "a seed")


# ---- entries


def stream_key(ctx: Any, seed: int, seed2: int, stream: int) -> tuple[int, int]:
    """Key and upper counter; both seeds 0 mean that the program gave none."""
    return (seed, seed2) if seed or seed2 else (ctx.seed, stream)


def _counted(ctx: Any, size: int, seed: int, seed2: int, stream: int) -> tuple[int, int, int]:
    """Key, upper counter and first block of an execution that makes `size` numbers."""
    start = ctx.counter(stream, size * philox.RESERVED) if size else 0
    return (*stream_key(ctx, seed, seed2, stream), start)


def sizes_of(shape: Any) -> tuple[int, ...]:
    """The value of a shape input.

    Raises:
      InvalidArgumentError: it is no vector, or has a negative size.
    """
    values = np.asarray(shape)
    sizes = tuple([int(n) for n in values.reshape(-1)])
    if values.ndim > 1 or any(n < 0 for n in sizes):
        raise InvalidArgumentError(
            None, None, f"a shape must be a vector of sizes >= 0, not {values.tolist()}"
        )
    return sizes


def _check_memory(xp: Any, size: int, dtype: DType) -> None:
    """Fail at once, with MemoryError, where so many numbers cannot be: blocks are made in turns."""
    if size * dtype.size > 1 << 30:
        xp.empty(min(size, 1 << 62), dtype.np)


def _described(shape: Tensor, *_: Tensor, dtype: DType, **__: Any) -> Specs:
    return [(static_sizes(shape), dtype)]


def static_sizes(shape: Tensor) -> Any:
    """What is known of the sizes that a shape input gives.

    Raises:
      ShapeError: they are known to be no shape.
    """
    value = constant_value(shape)
    if value is None:
        return shape_from(shape)
    try:
        return sizes_of(value)
    except InvalidArgumentError as error:  # what the run would say is an error of building here
        raise ShapeError(error.message) from None


def _cases(*sizes: tuple[int, ...], kinds: tuple[DType, ...]) -> Any:
    seeds = {"seed": 1, "seed2": 2, "stream": 0}
    return lambda s: [
        Case((np.array(size, np.int32),), {"dtype": kind, **seeds}, grad=False)
        for size in sizes
        for kind in kinds
    ]


def _key_cases(s: Any) -> Any:
    seeds = {"seed": 1, "seed2": 2, "stream": 0}
    return [Case((np.array((3, 5), np.int32),), seeds, grad=False)]


_FLOATS = (dtypes.float16, dtypes.float32, dtypes.float64)
_SIZES: tuple[tuple[int, ...], ...] = ((), (7,), (2, 0), (3, 5))


def _filler(name: str, sample: Any, doc: str, flops: float) -> OpDef:
    """An op that fills a shape from a distribution."""

    def kernel(
        xp: Any, ctx: Any, shape: Index, *, dtype: Any, seed: Any = 0, seed2: Any = 0, stream: Any
    ) -> Array:
        sizes = sizes_of(shape)
        size = math.prod(sizes)
        _check_memory(xp, size, dtype)
        key = _counted(ctx, size, seed, seed2, stream)
        return sample(xp, *key, size, dtype).reshape(sizes)

    kernel.__doc__ = doc
    kernel.__name__ = kernel.__qualname__ = name
    enter = op(
        name,
        infer=_described,
        grad=None,
        random=True,
        host=("shape",),
        cost=lambda shape, **_: flops * elements(static_sizes(shape)),
        cases=_cases(*_SIZES, kinds=_FLOATS),
    )
    return enter(kernel)


_uniform = _filler(
    "RandomUniform", philox.uniform, "Numbers of [0, 1), of the given shape and dtype.", 60.0
)
_normal = _filler(
    "RandomStandardNormal",
    philox.normal,
    "Numbers of mean 0 and deviation 1, of the given shape and dtype.",
    100.0,
)
_truncated = _filler(
    "TruncatedNormal",
    philox.truncated_normal,
    "Standard normal numbers inside (-2, 2), of the given shape and dtype.",
    250.0,
)


def _integer_spec(shape: Tensor, minval: Tensor, maxval: Tensor, **_: Any) -> Specs:
    if minval.dtype not in (dtypes.int32, dtypes.int64):
        raise DTypeError(f"random integers are int32 or int64, not {minval.dtype.name}")
    return [(static_sizes(shape), minval.dtype)]


@op(
    "RandomUniformInt",
    infer=_integer_spec,
    grad=None,
    random=True,
    host=("shape", "minval", "maxval"),
    cases=lambda s: [
        Case(
            (np.array(size, np.int32), kind(low), kind(high)),
            {"seed": 1, "seed2": 2, "stream": 0},
            grad=False,
        )
        for size in _SIZES
        for kind, low, high in ((np.int32, -5, 5), (np.int64, -(2**62), 2**62))
    ],
)
def _integers(
    xp: Any,
    ctx: Any,
    shape: Index,
    minval: Integer,
    maxval: Integer,
    *,
    seed: Any = 0,
    seed2: Any = 0,
    stream: Any,
) -> Array:
    """Integers of [minval, maxval), of the given shape.

    As TensorFlow's, they are remainders of 32 (int64: 64) random bits: slightly uneven where
    the range is no power of two.
    """
    sizes = sizes_of(shape)
    low, high = int(minval), int(maxval)
    if low >= high:
        raise InvalidArgumentError(None, None, f"need minval < maxval, got {low} >= {high}")
    dtype = as_dtype(np.asarray(minval).dtype)
    size = math.prod(sizes)
    _check_memory(xp, size, dtype)
    words = philox.bits(xp, *_counted(ctx, size, seed, seed2, stream), size, dtype)
    unsigned = words.dtype.type
    offset = unsigned(low % 2 ** (8 * dtype.size))
    return (words % unsigned(high - low) + offset).view(dtype.np).reshape(sizes)


@op(
    "RandomShuffle",
    infer=same,
    grad=None,
    random=True,
    cases=lambda s: [
        Case((s.normal(*shape),), {"seed": 1, "seed2": 2, "stream": 0}, grad=False)
        for shape in ((), (1,), (0, 3), (7,), (5, 2))
    ],
)
def _shuffle(xp: Any, ctx: Any, value: T, *, seed: Any = 0, seed2: Any = 0, stream: Any) -> Array:
    """The rows of value in random order (Fisher and Yates)."""
    if value.ndim == 0 or value.size <= 1 or value.shape[0] <= 1:
        return value.copy()
    count = value.shape[0]
    needed = (count + 2) // 4  # blocks for count - 1 words
    start = ctx.counter(stream, needed)
    words = philox.blocks(np, *stream_key(ctx, seed, seed2, stream), start, needed).reshape(-1)
    order = list(range(count))
    for i, word in enumerate(words[: count - 1].tolist()):
        j = i + word % (count - i)
        order[i], order[j] = order[j], order[i]
    return value[xp.asarray(order)]


def _key_spec(shape: Tensor, **_: Any) -> Specs:
    return [((3,), dtypes.uint64)]


@op("PhiloxKey", infer=_key_spec, grad=None, random=True, host=("shape",), cases=_key_cases)
def philox_key(
    xp: Any, ctx: Any, shape: Index, *, seed: Any = 0, seed2: Any = 0, stream: Any
) -> Array:
    """What an execution draws from: key, and the low and the high half of the counter.

    Native code makes the numbers from it; the stream advances as when a kernel makes them.
    """
    key, upper, start = _counted(ctx, math.prod(sizes_of(shape)), seed, seed2, stream)
    base = (upper << 64) + start
    low, high = base & (2**64 - 1), (base >> 64) & (2**64 - 1)
    return xp.asarray(np.array([key & (2**64 - 1), low, high], np.uint64))


# ---- TensorFlow's functions


def add_random(entry: OpDef, *inputs: Any, seed: int | None, name: str | None, **attrs: Any) -> Any:
    """Add a random operation with its seeds and a stream of its own."""
    root = get_default_graph().root
    with root.lock:  # the stream is the number the operation gets, or a smaller unused one
        first, second = get_seed(seed)
        return entry(
            *inputs, seed=first or 0, seed2=second or 0, stream=root.next_id, name=name, **attrs
        )


def tensor_of_sizes(shape: Any) -> Tensor:
    """The tensor of a shape that users wrote.

    Raises:
      ShapeError: a static size is unknown or negative.
    """
    parts = shape if isinstance(shape, (list, tuple)) else (shape,)
    if any(is_symbolic(part) for part in parts):
        return shape_tensor(shape)
    dims = as_dims(shape)
    if dims is None or None in dims:
        raise ShapeError(f"a shape must have known sizes >= 0, not {shape}")
    return as_tensor(np.array(dims, np.int32), name="shape")


def _floating(dtype: Any) -> DType:
    found = as_dtype(dtype)
    if not found.is_floating:
        raise DTypeError(f"random numbers of this kind are floating, not {found.name}")
    return found


def random_uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Numbers spread evenly over [minval, maxval).

    Args:
      shape: the result's shape; a tensor or a sequence of sizes.
      minval, maxval: the range; numbers or tensors. By default [0, 1); integers need maxval.
      dtype: float16, bfloat16, float32, float64, int32 or int64.
      seed: the operation's seed.

    Raises:
      ValueError: maxval is missing for integers.
    """
    dtype = as_dtype(dtype)
    if maxval is None:
        if dtype.is_integer:
            raise ValueError(f"random_uniform of {dtype.name} needs maxval")
        maxval = 1
    with get_default_graph().name_scope(name or "random_uniform") as scope:
        sizes = tensor_of_sizes(shape)
        low = as_tensor(minval, dtype, "min")
        high = as_tensor(maxval, dtype, "max")
        if dtype.is_integer:
            return add_random(_integers, sizes, low, high, seed=seed, name=scope)
        number = add_random(_uniform, sizes, dtype=_floating(dtype), seed=seed, name=None)
        return _scaled(number, high - low, low, scope)


def random_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Normally distributed numbers.

    Args:
      shape: the result's shape; a tensor or a sequence of sizes.
      mean, stddev: numbers or tensors that broadcast to the shape.
      dtype: a floating dtype.
      seed: the operation's seed.
    """
    return _normal_like(_normal, "random_normal", shape, mean, stddev, dtype, seed, name)


def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Normally distributed numbers, none further than two deviations from the mean.

    Args: as of `random_normal`.
    """
    return _normal_like(_truncated, "truncated_normal", shape, mean, stddev, dtype, seed, name)


def _normal_like(
    entry: OpDef,
    default: str,
    shape: Any,
    mean: Any,
    stddev: Any,
    dtype: Any,
    seed: int | None,
    name: str | None,
) -> Tensor:
    dtype = _floating(dtype)
    with get_default_graph().name_scope(name or default) as scope:
        sizes = tensor_of_sizes(shape)
        centre = as_tensor(mean, dtype, "mean")
        width = as_tensor(stddev, dtype, "stddev")
        number = add_random(entry, sizes, dtype=dtype, seed=seed, name=None)
        return _scaled(number, width, centre, scope)


def _scaled(number: Tensor, factor: Tensor, offset: Tensor, name: str) -> Tensor:
    return OPS["Add"](number * factor, offset, name=name)


def random_shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """The rows of a tensor in random order."""
    return add_random(_shuffle, value, seed=seed, name=name)
