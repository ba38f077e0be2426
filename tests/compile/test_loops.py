"""Arena, object cache, verifier and printing of the loop IR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.compile.loops import Access, Nest, Store
from graphflow.compile.loops.memory import Interval, arrange
from graphflow.compile.loops.nests import Pass, canonical, leaf, verify
from graphflow.compile.loops.values import Value
from graphflow.compile.native.cache import ObjectCache
from graphflow.ops.expression import apply

F32 = np.dtype(np.float32)


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 6)), max_size=25)
)
def test_nothing_alive_overlaps(found: list[tuple[int, int, int]]) -> None:
    intervals = [Interval(i, size, at, at + span) for i, (size, at, span) in enumerate(found)]
    arena = arrange(intervals)
    assert arena.bound <= arena.size
    for a in intervals:
        assert arena.offsets[a.key] % 64 == 0
        assert arena.offsets[a.key] + a.size <= max(arena.size, 1)
        for b in intervals[: a.key]:
            if a.first <= b.last and b.first <= a.last:
                begin, other = arena.offsets[a.key], arena.offsets[b.key]
                assert begin + a.size <= other or other + b.size <= begin


def test_the_cache_rebuilds_what_is_damaged(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put("key", b"machine code")
    assert cache.get("key") == b"machine code"
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    assert cache.get("key") is None
    assert not path.exists()
    cache.put("key", b"machine code")
    path.rename(tmp_path / "other.gfo")
    assert cache.get("other") is None  # the name is part of what is checked


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit=1000)
    for i in range(10):
        cache.put(f"key{i}", bytes(300))
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 1000
    assert cache.get("key9") is not None


def test_a_cache_that_cannot_be_written_costs_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = ObjectCache(tmp_path / "file")
    cache.put("key", b"code")
    assert cache.get("key") is None


def nest(stride: int = 1, offset: int = 0) -> Nest:
    x, y = Value((4, 8), F32, "outside"), Value((4, 8), F32)
    body = apply("tanh", leaf("arg", 0, F32))
    walk = Pass((Store(Access(y, (8, 1)), body),), (), ())
    return Nest("tanh", (4, 8), (Access(x, (8, stride), offset),), (walk,), chunks=4)


def test_the_verifier_finds_what_lies_outside() -> None:
    verify(nest())
    with pytest.raises(ValueError, match=r"elements 1\.\.32 of a buffer of 32"):
        verify(nest(offset=1))
    with pytest.raises(ValueError, match="buffer of 32"):
        verify(nest(stride=2))
    assert "tanh(x0)" in str(nest())


def test_axes_merge_where_all_accesses_allow_it() -> None:
    assert canonical((4, 8), [(8, 1), (8, 1)], False) == ((1, 32), [(32, 1), (32, 1)], None)
    shape, strides, length = canonical((100, 100), [(100, 1)], False)
    assert (shape, strides, length) == ((3, 4096), [(4096, 1)], 10000)
    assert canonical((4, 8), [(8, 1), (0, 1)], False)[0] == (4, 8)
    assert canonical((2, 4, 8), [(32, 8, 1), (4, 1, 0)], True)[0] == (8, 8)
