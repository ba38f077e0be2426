"""What tests of native code are run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import graphflow as tf
from graphflow.execute import buffers, native
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


@pytest.fixture
def garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of native code begins with memory in which every float is -24.2, so that what is
    read before it was written shows."""
    usual_memory, usual_run, usual_take = buffers.aligned, native._Instance.run, buffers.Ring.take

    def spoilt(array: Any) -> Any:
        array.reshape(-1).view("uint8")[...] = 0xC1
        return array

    def aligned(*arguments: Any) -> Any:
        array, memory, address = usual_memory(*arguments)
        return spoilt(array), memory, address

    def take(ring: Any) -> Any:
        array, address = usual_take(ring)
        return spoilt(array), address

    def run(instance: Any, *arguments: Any) -> Any:
        for array in (instance.arena, *[instance.held[entry] for entry in instance.fixed]):
            spoilt(array)
        return usual_run(instance, *arguments)

    for module in (buffers, native):
        monkeypatch.setattr(module, "aligned", aligned)
    monkeypatch.setattr(buffers.Ring, "take", take)
    monkeypatch.setattr(native._Instance, "run", run)
