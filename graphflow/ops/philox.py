"""Philox 4x32-10 and TensorFlow's distributions over it, vectorised over NumPy or CuPy.

A stream is a key of two 32-bit words and a 128-bit counter; block i is ten rounds of a bijection
of counter + i, so that any part of a stream is computed by itself.  Source: Salmon, Moraes, Dror
and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; key, counter and the mapping to
numbers are those of TensorFlow's `PhiloxRandom` and `random_distributions.h`, bit by bit.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from graphflow.base.dtypes import DType
from graphflow.build.opdef import Array

ROUNDS: Final = 10
MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
WEYL: Final = (0x9E3779B9, 0xBB67AE85)
LOW: Final = 0xFFFFFFFF
CHUNK: Final = 1 << 14  # blocks at a time: the ten rounds stay in the cache
# TensorFlow reserves this many blocks per output, for samplers that reject.
RESERVED: Final = 256


def blocks(
    xp: Any, seed: int, seed2: int, start: int, count: int, stride: int = 1, width: int = 1
) -> Array:
    """Random words: uint32 [count, 4 * width].

    Args:
      seed: the key, 64 bits.
      seed2: the upper half of the counter, 64 bits.
      start: blocks skipped from the beginning of the stream.
      count: rows.
      stride: blocks from the start of one row to that of the next.
      width: blocks per row.
    """
    parts = [
        _rounds(xp, seed, seed2, start, first, min(CHUNK, count - first), stride, width)
        for first in range(0, count, CHUNK)
    ]
    if len(parts) == 1:
        return parts[0]
    return xp.concatenate(parts) if parts else xp.empty((0, 4 * width), np.uint32)


def _rounds(
    xp: Any, seed: int, seed2: int, start: int, first: int, count: int, stride: int, width: int
) -> Array:
    offset = xp.arange(count, dtype=np.uint64)[:, None] * np.uint64(stride)
    offset = offset + xp.arange(width, dtype=np.uint64)
    return blocks_at(xp, seed, seed2, start + first * stride, offset).reshape(count, 4 * width)


def blocks_at(xp: Any, seed: int, seed2: int, start: int, offset: Array) -> Array:
    """The blocks at given places: uint32 [*offset.shape, 4] of uint64 offsets from `start`."""
    base = (seed2 << 64) + start
    low = offset + np.uint64(base & (2**64 - 1))
    carried = low < offset
    high = carried.astype(np.uint64) + np.uint64((base >> 64) & (2**64 - 1))
    mask, shift = np.uint64(LOW), np.uint64(32)
    # Words are kept in uint64, whose upper half takes the products.
    words = [low & mask, low >> shift, high & mask, high >> shift]
    keys = [seed & LOW, (seed >> 32) & LOW]
    for _ in range(ROUNDS):
        first_product = words[0] * np.uint64(MULTIPLIERS[0])
        second_product = words[2] * np.uint64(MULTIPLIERS[1])
        words = [
            (second_product >> shift) ^ words[1] ^ np.uint64(keys[0]),
            second_product & mask,
            (first_product >> shift) ^ words[3] ^ np.uint64(keys[1]),
            first_product & mask,
        ]
        keys = [(k + w) & LOW for k, w in zip(keys, WEYL, strict=True)]
    return xp.stack(words, axis=-1).astype(np.uint32)


# ---- words to numbers: random bits are the mantissa of a number in [1, 2)


def unit32(words: Array) -> Array:
    """uint32 to float32 in [0, 1)."""
    return ((words & 0x7FFFFF) | (127 << 23)).view(np.float32) - np.float32(1)


def unit64(words: Array) -> Array:
    """Pairs of uint32 along the last axis, the high half first, to float64 in [0, 1)."""
    high = (words[..., 0::2] & 0xFFFFF).astype(np.uint64) << np.uint64(32)
    bits = high | words[..., 1::2].astype(np.uint64) | np.uint64(1023 << 52)
    return bits.view(np.float64) - 1.0


def unit(words: Array, dtype: DType) -> Array:
    """Uniform numbers in [0, 1): as many as words, half as many for float64."""
    if dtype.name == "float64":
        return unit64(words)
    if dtype.name == "float16":
        bits = (words & 0x3FF).astype(np.uint16) | np.uint16(15 << 10)
        return bits.view(np.float16) - np.float16(1)
    if dtype.name == "bfloat16":
        bits = (words & 0x7F).astype(np.uint16) | np.uint16(127 << 7)
        return bits.view(dtype.np) - dtype.np.type(1)
    return unit32(words)


def normal_pairs(xp: Any, words: Array, double: bool) -> Array:
    """Standard normal numbers by Box and Muller, sine before cosine.

    Computed in float64 also where TensorFlow does it in float32, so that they are rounded once
    and do not depend on a library's sine: a few ulp from TensorFlow's.
    """
    uniform = unit64(words) if double else unit32(words)
    tiny = np.float64(1e-7) if double else np.float32(1e-7)
    radius = xp.sqrt(-2.0 * xp.log(xp.maximum(uniform[..., 0::2], tiny).astype(np.float64)))
    angle = 2.0 * math.pi * uniform[..., 1::2].astype(np.float64)
    if not double:
        angle = angle.astype(np.float32).astype(np.float64)
    pairs = xp.stack([xp.sin(angle) * radius, xp.cos(angle) * radius], axis=-1)
    return pairs.reshape(*pairs.shape[:-2], pairs.shape[-2] * pairs.shape[-1])


# ---- distributions: `size` numbers from block `start` of a stream on


def per_block(dtype: DType) -> int:
    """Numbers that one block gives."""
    return 2 if dtype.size == 8 else 4


def uniform(xp: Any, seed: int, seed2: int, start: int, size: int, dtype: DType) -> Array:
    """Floating numbers in [0, 1)."""
    words = blocks(xp, seed, seed2, start, -(-size // per_block(dtype)))
    return unit(words, dtype).reshape(-1)[:size]


def bits(xp: Any, seed: int, seed2: int, start: int, size: int, dtype: DType) -> Array:
    """Unsigned integers of the width of `dtype`, 4 or 8 bytes."""
    words = blocks(xp, seed, seed2, start, -(-size // per_block(dtype)))
    if dtype.size == 8:
        low = words[..., 0::2].astype(np.uint64)
        words = low | (words[..., 1::2].astype(np.uint64) << np.uint64(32))
    return words.reshape(-1)[:size]


def normal(xp: Any, seed: int, seed2: int, start: int, size: int, dtype: DType) -> Array:
    """Standard normal numbers."""
    words = blocks(xp, seed, seed2, start, -(-size // per_block(dtype)))
    return normal_pairs(xp, words, dtype.size == 8).reshape(-1)[:size].astype(dtype.np)


def truncated_normal(xp: Any, seed: int, seed2: int, start: int, size: int, dtype: DType) -> Array:
    """Standard normal numbers, those outside (-2, 2) drawn again.

    Each group of 4 (float64: 2) outputs has blocks of its own, `RESERVED` per output word, from
    which it takes the first numbers that fit.
    """
    group = per_block(dtype)
    count = -(-size // group)
    stride = group * RESERVED // 4
    result = xp.zeros((count, group), np.float64)
    rows = xp.arange(count)
    width = 2  # nearly always enough
    found, full = _fitting(xp, blocks(xp, seed, seed2, start, count, stride, width), dtype)
    result[rows] = found
    while not bool(full.all()):
        rows = rows[~full]
        width *= 4
        words = xp.concatenate(
            [blocks(xp, seed, seed2, start + int(r) * stride, 1, 1, width) for r in rows]
        )
        found, full = _fitting(xp, words, dtype)
        result[rows] = found
    return result.reshape(-1)[:size].astype(dtype.np)


def _fitting(xp: Any, words: Array, dtype: DType) -> tuple[Array, Array]:
    """The first numbers of each row inside (-2, 2), and whether there were enough."""
    numbers = normal_pairs(xp, words, dtype.size == 8)
    if dtype.size < 8:  # TensorFlow compares in float32
        numbers = numbers.astype(np.float32).astype(np.float64)
    fits = xp.abs(numbers) < 2.0
    rank = xp.cumsum(fits, axis=1)
    group = per_block(dtype)
    row, column = xp.nonzero(fits & (rank <= group))
    found = xp.zeros((len(words), group), np.float64)
    found[row, rank[row, column] - 1] = numbers[row, column]
    return found, rank[:, -1] >= group
