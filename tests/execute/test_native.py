"""The native tier against the reference tier, on programs and on random graphs."""

from __future__ import annotations

import ctypes
import gc
import itertools
import mmap
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as tf

Program = Callable[[], tuple[Any, dict[Any, Any]]]
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with tf.Graph().as_default():
        yield


def floats(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def native_programs(session: tf.Session) -> list[Any]:
    prepared = list(session._cache.values())
    return [n for p in prepared for q in p.executable._programs
            for n in getattr(q, "native", ())]  # fmt: skip


def both(program: Program, steps: int = 3, must: bool = True) -> tuple[list[Any], list[Any]]:
    """Results of some steps on each tier."""
    results = []
    for tier in ("reference", "native"):
        with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default():
            patch.setenv("GRAPHFLOW_TIER", tier)
            fetches, feeds = program()
            with tf.Session(seed=1) as session:
                session.run(tf.global_variables_initializer())
                results.append([session.run(fetches, feeds) for _ in range(steps)])
                if tier == "native" and must:
                    assert native_programs(session)
    return results[0], results[1]


def agree(program: Program, rtol: float = 2e-5, atol: float = 1e-5, **options: Any) -> None:
    for expected, got in zip(*both(program, **options), strict=True):
        for a, b in zip(_leaves(expected), _leaves(got), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in _leaves(part)]
    return [] if value is None else [np.asarray(value)]


# ---- programs


def reductions() -> Any:
    x = tf.placeholder(tf.float32, [None, 5])
    y = tf.tanh(x * 2.0 + 1.0)
    outputs = [y, tf.reduce_sum(y), tf.reduce_mean(y, 1), tf.reduce_sum(y, 0), tf.nn.softmax(y),
               tf.reduce_max(y, 1, keepdims=True), tf.nn.log_softmax(x)]  # fmt: skip
    return outputs, {x: floats(7, 5)}


def classifier(optimizer: Any) -> Program:
    def build() -> Any:
        x = tf.placeholder(tf.float32, [None, 20])
        labels = tf.placeholder(tf.int32, [None])
        h = tf.nn.relu(tf.matmul(x, tf.Variable(floats(20, 33) * 0.1)) + tf.Variable(floats(33)))
        logits = tf.nn.bias_add(tf.matmul(h, tf.Variable(floats(33, 4))), tf.Variable(floats(4)))
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        )
        update = optimizer().minimize(loss)
        return [loss, update, h], {x: floats(17, 20), labels: rng.integers(0, 4, 17)}

    return _repeatable(build)


def _repeatable(build: Program) -> Program:
    """Both tiers must draw the same numbers."""

    def program() -> Any:
        global rng
        rng = np.random.default_rng(3)
        return build()

    return program


def images(padding: str, channels: int) -> Program:
    def build() -> Any:
        x = tf.placeholder(tf.float32, [3, 8, 8, channels])
        first = tf.Variable(floats(3, 5, channels, 6) * 0.3)
        second = tf.Variable(floats(3, 3, 6, 4) * 0.3)
        h = tf.nn.relu(tf.nn.conv2d(x, first, strides=[1, 1, 1, 1], padding="SAME"))
        h = tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        y = tf.nn.conv2d(h, second, strides=[1, 1, 1, 1], padding=padding)
        loss = tf.reduce_sum(tf.square(y))
        return [y, *tf.gradients(loss, [x, first, second])], {x: floats(3, 8, 8, channels)}

    return _repeatable(build)


def cells() -> Any:
    x = tf.placeholder(tf.float32, [6, 5, 4])
    weight = tf.Variable(floats(7, 12) * 0.5)
    own = tf.Variable(floats(3, 12) * 0.5)
    h = c = tf.zeros([6, 3])
    for z in tf.unstack(x, axis=1):
        wide = tf.concat([weight, weight[:, :0]], 1)
        gates = tf.matmul(tf.concat([z, h], 1), wide) + tf.matmul(h, own)
        i, f, o, g = tf.split(gates, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
    return [h, *tf.gradients(tf.reduce_sum(h * h), [weight, own])], {x: floats(6, 5, 4)}


@pytest.mark.parametrize(
    "program",
    [
        _repeatable(reductions),
        classifier(lambda: tf.train.AdamOptimizer(0.01)),
        classifier(lambda: tf.train.MomentumOptimizer(0.1, 0.9)),
        images("SAME", 1),
        images("VALID", 16),
        _repeatable(cells),
    ],
    ids=["reductions", "adam", "momentum", "narrow images", "wide images", "cells"],
)
def test_programs_give_the_reference_tiers_results(program: Program) -> None:
    agree(program, rtol=1e-4, atol=1e-4)


def test_special_values_go_through() -> None:
    values = np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, 3e38, -3e38])

    def program() -> Any:
        x = tf.placeholder(tf.float32, [8])
        return [tf.tanh(x), tf.exp(x), tf.sigmoid(x), tf.nn.relu(x), tf.maximum(x, 0.5), x * x,
                tf.minimum(x, 1.0), tf.sign(x), tf.is_nan(x), tf.sqrt(x), x > 0.0,
                ], {x: values}  # fmt: skip

    agree(program)


def test_integers_and_bools() -> None:
    def program() -> Any:
        x = tf.placeholder(tf.int32, [2, 3])
        y = x * 3 - 7
        return [y, y > x, tf.cast(y, tf.float32) * 0.5, tf.logical_and(y > 0, x > 0),
                tf.maximum(x, y), tf.where(y > 0, x, y),
                ], {x: rng.integers(-5, 5, (2, 3))}  # fmt: skip

    agree(_repeatable(program))


# ---- random graphs

_UNARY = [tf.tanh, tf.sigmoid, tf.nn.relu, tf.square, tf.negative, tf.abs, tf.exp, tf.nn.softmax,
          lambda x: tf.reduce_sum(x, -1, keepdims=True), lambda x: tf.reduce_mean(x, 0),
          tf.reduce_max, lambda x: tf.transpose(x) if len(x.shape) == 2 else x,
          lambda x: tf.reshape(x, [-1]), lambda x: tf.cast(x > 0.1, tf.float32),
          lambda x: x[1:], lambda x: tf.reverse(x, [-1]), lambda x: tf.concat([x, x], 0),
          lambda x: tf.pad(x, [[1, 0]] * len(x.shape)), lambda x: tf.erf(x) ** 3.0,
          lambda x: tf.gather(x, [int(x.shape[0]) - 1, 0]) if x.shape[0] else x,
          lambda x: tf.random_uniform(x.shape, seed=3) * x,
          lambda x: tf.random_normal(x.shape, seed=5) + x,
          lambda x: tf.math.lgamma(tf.abs(x) + 1.0)]  # fmt: skip
_BINARY = [tf.add, tf.subtract, tf.multiply, tf.maximum, tf.minimum, tf.squared_difference]


def _grown(choices: list[tuple[int, int, int]], leaves: list[Any]) -> list[Any]:
    """A graph from numbers: each makes an op of earlier results, where the shapes allow it."""
    values = list(leaves)
    for kind, a, b in choices:
        x, y = values[a % len(values)], values[b % len(values)]
        try:
            if kind < len(_UNARY):
                found = _UNARY[kind](x) if len(x.shape) else tf.tanh(x)
            elif kind < len(_UNARY) + len(_BINARY):
                found = _BINARY[kind - len(_UNARY)](x, y)
            else:
                found = tf.matmul(x, y, transpose_a=bool(a % 2), transpose_b=bool(b % 2)) * 0.1
        except ValueError:
            continue
        values.append(tf.clip_by_value(found, -10.0, 10.0))
    return values[len(leaves) :]


_SIZES = st.tuples(*[st.sampled_from([1, 2, 3, 5, 17, 0])] * 2)
_CHOICES = st.lists(
    st.tuples(st.integers(0, len(_UNARY) + len(_BINARY)), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
    max_size=14,
)
_EXAMPLES = int(os.environ.get("GRAPHFLOW_EXAMPLES", "40"))  # with --hypothesis-seed: a longer hunt


@settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=_SIZES, choices=_CHOICES, special=st.booleans())
def test_random_graphs(
    sizes: tuple[int, int], choices: list[tuple[int, int, int]], special: bool
) -> None:
    m, n = sizes

    def program() -> Any:
        x = tf.placeholder(tf.float32, [m, n])
        y = tf.placeholder(tf.float32, [n])
        v = tf.Variable(floats(m, n))
        outputs = _grown(choices, [x, y, v.value()]) or [x + y]
        update = v.assign_add(tf.ones([m, n]) * tf.reduce_mean(outputs[-1]))
        feeds = {x: floats(n, m).T, y: floats(2 * n)[::2]}  # strides of all kinds
        if special:
            odd = np.resize(_ODD, m * n).reshape(n, m).T
            feeds[x] = np.where(np.arange(n) % 3 == 1, odd, feeds[x]).astype(np.float32)
        return [*outputs, update], feeds

    agree(_repeatable(program), rtol=1e-3, atol=1e-3, steps=2, must=False)


# None whose sum may overflow on the way, or not, by the order in which it is added up.
_ODD = np.float32([np.nan, np.inf, -np.inf, -0.0, 1e-45, 1e20])


@settings(max_examples=_EXAMPLES // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=_SIZES, choices=_CHOICES, where=st.lists(st.integers(0, 1), min_size=1))
def test_random_graphs_have_the_same_bits_on_two_devices(
    sizes: tuple[int, int], choices: list[tuple[int, int, int]], where: list[int]
) -> None:
    """What is fused does not count in a deterministic session: each operation rounds for itself."""
    m, n = sizes

    def run(where: list[int]) -> Any:
        with tf.Graph().as_default() as graph:
            turns = itertools.cycle(where)
            with graph.device(lambda op: f"/cpu:{next(turns)}"):
                x = tf.placeholder(tf.float32, [m, n])
                outputs = _grown(choices, [x, x * 0.5]) or [x + 1.0]
            config = tf.ConfigProto(
                device_count={"CPU": 2}, intra_op_parallelism_threads=1, deterministic=True
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("GRAPHFLOW_TIER", "native")
                with tf.Session(config=config) as session:
                    return [session.run(outputs, {x: values}) for _ in range(2)]

    values = np.random.default_rng(1).normal(size=(m, n))
    whole = run([0])
    for first, second in zip(run(where), whole, strict=True):
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_value_that_is_stored_in_parts_is_read_when_they_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the parts of a padded nothing there is one, as large as the whole."""
    from graphflow.execute import buffers, native

    usual = buffers.aligned

    def dirty(*arguments: Any) -> Any:
        array, memory, address = usual(*arguments)
        memory[...] = 0xC1  # -24 in each float
        return array, memory, address

    monkeypatch.setattr(buffers, "aligned", dirty)
    monkeypatch.setattr(native, "aligned", dirty)
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    x, y = tf.placeholder(tf.float32, [0]), tf.placeholder(tf.float32, [1])
    one = tf.abs(y) + 1.0
    padded = tf.pad(x, [[1, 0]])
    outputs = [one, padded, tf.minimum(padded, one) * 2.0, tf.tanh(padded) + one]
    with tf.Session() as session:
        for _ in range(2):
            found = session.run(outputs, {x: np.zeros(0), y: np.ones(1)})
            assert [float(v[0]) for v in found] == [2.0, 0.0, 0.0, 2.0]


# ---- what users may rely on


@pytest.mark.parametrize("size", [3, 3000])
def test_fetched_arrays_never_change(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    x = tf.placeholder(tf.float32, [size])
    v = tf.Variable(tf.zeros([size]))
    outputs = [x * 2.0, v.assign_add(x)]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        held = []
        for i in range(12):
            a, b = session.run(outputs, {x: np.full(size, i, np.float32)})
            held.append((a[1:], b, i))  # a view holds the array, too
            a[0] = b[0] = -1.0  # the user's own
        del a, b
        gc.collect()
        for _ in range(12):
            session.run(outputs, {x: np.full(size, 7.0, np.float32)})
        for view, array, i in held:
            assert (view == 2 * i).all()
            assert (array[1:] == i * (i + 1) / 2).all()


def test_a_label_out_of_range_is_the_reference_tiers_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    logits = tf.placeholder(tf.float32, [None, 3])
    labels = tf.placeholder(tf.int32, [None])
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    total = tf.Variable(0.0)
    update = total.assign_add(tf.reduce_sum(loss))
    with tf.Session() as session:
        session.run(total.initializer)
        session.run(update, {logits: floats(2, 3), labels: [0, 2]})
        before = session.run(total)
        with pytest.raises(tf.errors.InvalidArgumentError, match="label value of 3"):
            session.run(update, {logits: floats(2, 3), labels: [0, 3]})
        assert session.run(total) == before
        session.run(update, {logits: floats(2, 3), labels: [1, 1]})


def test_shapes_are_specialised_and_the_tier_swaps_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")
    x = tf.placeholder(tf.float32, [None, 4])
    y = tf.nn.softmax(tf.exp(-x))
    with tf.Session() as session:
        for rows in (3, 5, 3, 3, 5, 1, 0):
            value = floats(rows, 4)
            exponentials = np.exp(np.exp(-value))
            expected = exponentials / exponentials.sum(axis=1, keepdims=True)
            for _ in range(3):
                np.testing.assert_allclose(session.run(y, {x: value}), expected, rtol=1e-5)
    assert not [t for t in threading.enumerate() if t.name.startswith("graphflow")]


def test_same_bits_with_the_team_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphflow.execute.team import Team

    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    values = floats(300, 400)
    weights = floats(400, 500)

    def run(alone: bool) -> list[Any]:
        with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default():
            if alone:
                patch.setattr(Team, "run", lambda self, step, phases, serial, table: serial(table))
            x = tf.placeholder(tf.float32, [300, 400])
            y = tf.tanh(tf.matmul(x, tf.constant(weights)))
            config = tf.ConfigProto(intra_op_parallelism_threads=2)
            outputs = [y, tf.reduce_sum(y), tf.reduce_sum(y, 0), tf.reduce_mean(y, 1)]
            with tf.Session(config=config) as session:
                found = [session.run(outputs, {x: values}) for _ in range(3)]
                assert native_programs(session)[0].plan.workers == 2
                return found

    for a, b in zip(_leaves(run(True)), _leaves(run(False)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_runs_of_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    x = tf.placeholder(tf.float32, [64, 64])
    v = tf.Variable(tf.zeros([]))
    step = v.assign_add(tf.reduce_sum(x))
    with tf.Session() as session:
        session.run(v.initializer)
        failures = []

        def work() -> None:
            try:
                for _ in range(20):
                    session.run(step, {x: np.ones((64, 64), np.float32)})
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert session.run(v) == 4 * 20 * 64 * 64


def test_a_compile_failure_leaves_the_reference_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphflow.compile.native import build

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no code today")

    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    monkeypatch.setattr(build, "load", fail)
    x = tf.placeholder(tf.float32, [4])
    with tf.Session() as session, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            np.testing.assert_allclose(session.run(tf.tanh(x) * 2.0, {x: np.zeros(4)}), 0)
    assert [w for w in caught if "no code today" in str(w.message) and "Tanh" in str(w.message)]


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
    programs = [classifier(lambda: tf.train.AdamOptimizer(0.01)), _repeatable(cells),
                images("SAME", channels), _repeatable(reductions)]  # fmt: skip
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
    programs = [classifier(lambda: tf.train.AdamOptimizer(0.01)), _repeatable(cells),
                images("SAME", 1), images("SAME", 16), _repeatable(reductions)]  # fmt: skip
    draw = np.random.default_rng(7)
    for _ in range(12):
        choices = [tuple(row) for row in draw.integers(0, len(_UNARY) + len(_BINARY) + 1, (8, 3))]
        programs.append(_repeatable(partial(_edged, choices, int(draw.integers(1, 40)))))
    for program in programs:
        fetches, feeds = program()
        for tensor, value in feeds.items():
            array, _, _ = at_the_edge(value.shape, tensor.dtype.np)
            array[...] = value
            feeds[tensor] = array
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for _ in range(3):
                session.run(fetches, feeds)
            assert native_programs(session)
    print("read nothing else")


def _edged(choices: Any, n: int) -> Any:
    x = tf.placeholder(tf.float32, [n, n + 3])
    return [*_grown(choices, [x]), tf.tanh(x)], {x: floats(n, n + 3)}


def test_nothing_is_read_outside_of_the_buffers(tmp_path: Path) -> None:
    environment = {
        **os.environ, "GRAPHFLOW_TIER": "native", "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(tf.__file__).parents[1]),
    }  # fmt: skip
    script = "from tests.execute.test_native import run_at_the_edge as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "read nothing else"), done.stderr[-2000:]
