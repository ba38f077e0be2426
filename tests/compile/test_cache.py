"""The object cache on disk: shared, checked, bounded, and rebuilt where it is damaged."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compile.native import jit
from graphflow.compile.native.cache import ObjectCache


def test_what_is_damaged_counts_as_missing(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    for damage in (lambda b: b[:-1] + b"X", lambda b: b[:-1], lambda b: b[:10], lambda b: b""):
        cache.put("key", b"machine code")
        assert cache.get("key") == b"machine code"
        (path,) = tmp_path.iterdir()
        path.write_bytes(damage(path.read_bytes()))
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


def test_nothing_unfinished_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "killed.new"
    left.write_bytes(b"half")
    young = tmp_path / "young.new"
    young.write_bytes(b"another process is writing it")
    os.utime(left, (time.time() - 7200, time.time() - 7200))
    ObjectCache(tmp_path).put("key", b"code")
    assert not left.exists()
    assert young.exists()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        ObjectCache(tmp_path).put("more", b"code")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key.gfo", "young.new"]


def test_many_may_share_a_folder(tmp_path: Path) -> None:
    def use(worker: int) -> int:
        cache = ObjectCache(tmp_path, limit=4000)
        found = 0
        for i in range(120):
            key = f"key{(i * (worker + 1)) % 9}"
            code = cache.get(key)
            assert code in (None, key.encode() * 100)
            found += code is not None
            cache.put(key, key.encode() * 100)
        return found

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(8)))
    assert sum(found)
    assert not list(tmp_path.glob("*.new"))


def test_a_session_takes_code_from_the_cache_and_rebuilds_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    compiled = []
    usual = jit._compiled

    def counted(text: str) -> bytes:
        compiled.append(text)
        return usual(text)

    monkeypatch.setattr(jit, "_compiled", counted)

    def run() -> None:
        with tf.Graph().as_default(), tf.Session() as session:
            x = tf.placeholder(tf.float32, [3])
            for _ in range(2):
                got = session.run(tf.exp(x) * 2.0, {x: [0.0, 1.0, 2.0]})
            np.testing.assert_allclose(got, 2 * np.exp([0.0, 1.0, 2.0]), rtol=1e-6)

    run()
    assert len(compiled) == 1
    run()
    assert len(compiled) == 1  # from the disk
    (path,) = (tmp_path / "graphflow" / "objects").glob("*.gfo")
    path.write_bytes(path.read_bytes()[:-5] + b"wrong")
    run()
    assert len(compiled) == 2
    run()
    assert len(compiled) == 2
