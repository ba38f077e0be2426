"""A session whose steps are native code for two threads, compiled anew in each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import graphflow as tf


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tf.Session]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    config = tf.ConfigProto(intra_op_parallelism_threads=2)
    with tf.Graph().as_default(), tf.Session(config=config, seed=1) as session:
        yield session
