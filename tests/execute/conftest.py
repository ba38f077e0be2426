"""What tests of native code are run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import graphflow as tf
from tests.execute.programs import rng

_START = rng.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Whichever tests ran before: sums that nearly cancel are right to fewer digits."""
    rng.bit_generator.state = _START


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new default graph, and no code that was compiled before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with tf.Graph().as_default():
        yield
