"""Native code touches nothing but its buffers, and reads nothing that was not written."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.execute.programs import (
    agree,
    cells,
    classifier,
    floats,
    images,
    native_programs,
    reductions,
    repeatable,
)
from tests.execute.random_graphs import Case, drawn

pytestmark = pytest.mark.usefixtures("graph")


@pytest.mark.usefixtures("garbage")
def test_a_value_that_is_stored_in_parts_is_read_when_they_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the parts of a padded nothing there is one, as large as the whole."""
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    x, y = tf.placeholder(tf.float32, [0]), tf.placeholder(tf.float32, [1])
    one = tf.abs(y) + 1.0
    padded = tf.pad(x, [[1, 0]])
    outputs = [one, padded, tf.minimum(padded, one) * 2.0, tf.tanh(padded) + one]
    with tf.Session() as session:
        for _ in range(2):
            found = session.run(outputs, {x: np.zeros(0), y: np.ones(1)})
            assert [float(v[0]) for v in found] == [2.0, 0.0, 0.0, 2.0]


@pytest.mark.usefixtures("garbage")
@pytest.mark.parametrize("shape", [(2, 2), (3, 1, 5)])
def test_what_is_computed_per_row_is_stored_among_the_parts_of_a_value(shape: Any) -> None:
    """Behind the loop over the row, or out of what another loop gives."""

    def program() -> Any:
        x = tf.placeholder(tf.float32, shape)
        total = tf.reduce_sum(x, -1, keepdims=True)
        peak = tf.reduce_max(x, -1, keepdims=True) - 1.0
        before = [[1, 0]] * len(shape)
        outputs = [tf.pad(total, before), tf.pad(peak, [[0, 2]] * len(shape)),
                   tf.concat([x, total, x - peak, peak], -1), tf.stack([total, peak], 1),
                   tf.tanh(tf.pad(tf.tanh(total), before)) + 1.0]  # fmt: skip
        return outputs, {x: floats(*shape)}

    agree(repeatable(program), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 16])
def test_nothing_is_written_outside_of_the_buffers(
    monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    from graphflow.execute import buffers, native

    canary, width, made = 0xA5, 4096, []

    def guarded(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Any, Any, int]:
        size = int(np.prod(shape, dtype=int)) * dtype.itemsize
        memory = np.full(size + 2 * width + 64, canary, np.uint8)
        start = width + (-(memory.ctypes.data + width)) % 64
        made.append((memory, start, start + size))
        array = memory[start : start + size].view(dtype).reshape(shape)
        return array, memory, memory.ctypes.data + start

    monkeypatch.setattr(buffers, "aligned", guarded)
    monkeypatch.setattr(native, "aligned", guarded)
    programs = [classifier(lambda: tf.train.AdamOptimizer(0.01)), repeatable(cells),
                images("SAME", channels), repeatable(reductions)]  # fmt: skip
    for program in programs:
        agree(program, rtol=1e-4, atol=1e-3)  # gradients of hundreds, which cancel
    assert len(made) > 20
    for memory, begin, end in made:
        assert (memory[:begin] == canary).all()
        assert (memory[end:] == canary).all()


def at_the_edge(shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any, int]:
    """As `buffers.aligned`: an array behind whose last byte lies a page that nobody may read."""
    page = mmap.PAGESIZE
    size = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    pages = -(-size // page)
    memory = np.frombuffer(mmap.mmap(-1, (pages + 1) * page), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(memory.ctypes.data + pages * page), page, 0) == 0
    array = memory[pages * page - size : pages * page].view(dtype).reshape(shape)
    return array, memory, array.ctypes.data


def run_at_the_edge() -> None:
    """What `test_nothing_is_read_outside_of_the_buffers` runs in a process of its own."""
    from graphflow.execute import buffers, native

    buffers.aligned = native.aligned = at_the_edge
    programs = [classifier(lambda: tf.train.AdamOptimizer(0.01)), repeatable(cells),
                images("SAME", 1), images("SAME", 16), repeatable(reductions)]  # fmt: skip
    draw = np.random.default_rng(7)
    random = [partial(_flat, drawn(draw)) for _ in range(12)]
    natives = 0
    for program in [*programs, *random]:
        fetches, feeds = program()
        for tensor, value in feeds.items():
            array, _, _ = at_the_edge(value.shape, tensor.dtype.np)
            array[...] = value
            feeds[tensor] = array
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for _ in range(3):
                session.run(fetches, feeds)
            natives += bool(native_programs(session))
    assert natives > len(programs) + len(random) // 2
    print("read nothing else")


def _flat(case: Case) -> Any:
    exact, loose, feeds = case.build()
    return [*exact, *loose], feeds


def test_nothing_is_read_outside_of_the_buffers(tmp_path: Path) -> None:
    environment = {
        **os.environ, "GRAPHFLOW_TIER": "native", "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(tf.__file__).parents[1]),
    }  # fmt: skip
    script = "from tests.execute.test_native_memory import run_at_the_edge as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "read nothing else"), done.stderr[-2000:]
