"""What tests of native code are run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import graphflow as tf


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new default graph, and no code that was compiled before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with tf.Graph().as_default():
        yield
