"""Which tier runs a step, and when the other takes over."""

from __future__ import annotations

import time
import warnings
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.execute import compiling, tiered, tiers
from tests.execute.programs import native_programs
from tests.until import PATIENCE, until

pytestmark = pytest.mark.usefixtures("graph")


def programs(session: tf.Session) -> list[Any]:
    return [q for p in session._cache.values() for q in p.executable._programs]


def test_the_reference_tier_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    x = tf.placeholder(tf.float32, [3])
    with tf.Session() as session:
        for _ in range(5):
            session.run(tf.exp(x), {x: [0.0, 1.0, 2.0]})
        assert {type(p).__name__ for p in programs(session)} == {"Program"}


def test_native_code_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    x = tf.placeholder(tf.float32, [3])
    with tf.Session() as session:
        session.run(tf.exp(x), {x: [0.0, 1.0, 2.0]})
        assert native_programs(session)


def test_an_unknown_tier_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "fast")
    with pytest.raises(ValueError, match=r"GRAPHFLOW_TIER='fast'.*auto, reference, native"):
        tf.Session()


def test_code_takes_over_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step waits for the compiler, and none is lost or done twice."""
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")
    usual = tiers.Tiers._build
    hold = []

    def slow(*arguments: Any) -> Any:
        while not hold:
            time.sleep(0.001)
        return usual(*arguments)

    monkeypatch.setattr(tiers.Tiers, "_build", slow)
    total = tf.Variable(np.zeros(3, np.float32))
    step = total.assign_add([1.0, 2.0, 3.0] + tf.random_uniform([3]) * 0.0)
    with tf.Session() as session:
        session.run(total.initializer)
        for _ in range(5):
            session.run(step)  # the compiler is held: the reference tier runs them
        assert not native_programs(session)
        hold.append(True)
        count = 5
        while not native_programs(session):
            session.run(step)
            count += 1
        for _ in range(3):
            got = session.run(step)
        np.testing.assert_allclose(got, np.float32([1, 2, 3]) * (count + 3))


def test_the_second_run_is_native_where_compiling_is_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for the compiler, but no longer than the first run has taken."""
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")
    limits: list[float] = []

    def patient(compiled: Any, timeout: float) -> Any:
        """Waits for longer: on a busy machine it is not quick."""
        limits.append(timeout)
        return futures.wait(compiled, PATIENCE)

    monkeypatch.setattr(tiered, "wait", patient)
    x = tf.placeholder(tf.float32, [3])
    slow = tf.py_func(lambda v: (time.sleep(0.05), v)[1], [tf.exp(x)], tf.float32)
    steps = [tf.tanh(x) * 2.0 + i for i in range(4)]
    with tf.Session() as session:
        for _ in range(2):
            start = time.perf_counter()
            session.run([slow, *steps], {x: [0.0, 1.0, 2.0]})
            limits.append(time.perf_counter() - start)
        assert native_programs(session)
    first, limit, _ = limits
    assert 0.05 <= limit <= first


def test_many_threads_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")
    x = tf.placeholder(tf.float32, [3])
    y = tf.exp(x) * 2.0
    with tf.Session() as session, ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            list(pool.map(lambda _: session.run(y, {x: [0.0, 1.0, 2.0]}), range(16)))
        while not native_programs(session):
            session.run(y, {x: [0.0, 1.0, 2.0]})
        assert len(programs(session)[0]._signatures) == 1


def test_the_shapes_used_last_stay_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    monkeypatch.setattr(tiered, "_SIGNATURES", 2)
    x = tf.placeholder(tf.float32, [None])
    y = tf.exp(x) * 2.0
    with tf.Session() as session:

        def run(n: int) -> None:
            np.testing.assert_allclose(session.run(y, {x: np.zeros(n)}), np.full(n, 2.0))

        run(1)
        (program,) = programs(session)
        for n in (2, 1, 3, 1):  # 1 is used again before each new one
            run(n)
        assert [key[0] for key in program._signatures] == [(3,), (1,)]


def chain(length: int) -> None:
    x = tf.placeholder(tf.float32, [8])
    y = x
    for i in range(length):
        y = y * 0.999 if i % 2 else tf.tanh(y)
    with tf.Session() as session:
        got = session.run(y, {x: np.ones(8)})
        (program,) = native_programs(session)
        assert not program.plan.called
        expected = np.ones(8, np.float32)
        for i in range(length):
            expected = expected * np.float32(0.999) if i % 2 else np.tanh(expected)
        np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_a_long_chain_needs_no_recursion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    chain(3000)  # Python's stack ends at 1000


@pytest.mark.slow
def test_a_very_long_chain_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    chain(50_000)


@pytest.mark.parametrize("tier", ["auto", "native"])
def test_a_failure_to_compile_is_told_once_with_the_ops_and_the_run_goes_on(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphflow.compile.native import kernels

    def broken(self: Any) -> Any:
        raise RuntimeError("no such instruction")

    monkeypatch.setenv("GRAPHFLOW_TIER", tier)
    monkeypatch.setattr(kernels._Writer, "kernel", broken)
    monkeypatch.setattr(compiling, "_warned", set())
    x = tf.placeholder(tf.float32, [None])

    def building(session: tf.Session) -> bool:
        reports = [str(session.explain(fetches, {x: np.ones(n)})) for n in (3, 4)]
        return any("while native code is compiled" in report for report in reports)

    fetches = [tf.exp(x, name="grown"), tf.tanh(x) * tf.reduce_sum(x, name="whole")]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):  # sessions
            with tf.Session() as session:
                for n in (3, 4, 3, 4, 3, 4):
                    value = np.ones(n, np.float32)
                    got = session.run(fetches, {x: value})
                    np.testing.assert_allclose(got[0], np.exp(value))
                until(lambda: not building(session))
                report = str(session.explain(fetches, {x: np.ones(3)}))
                assert "the reference tier: native code could not be built: no such" in report
    (warning,) = [str(w.message) for w in told]
    assert "RuntimeError: no such instruction" in warning
    assert "in the code of " in warning
    assert "grown" in warning
    assert "the reference tier runs the plan" in warning


def test_each_device_of_a_session_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")
    x = tf.placeholder(tf.float32, [None, 400])
    with tf.device("/cpu:0"):
        total = tf.Variable(np.zeros(400, np.float32))
        ahead = tf.exp(x)
    with tf.device("/cpu:1"):
        back = tf.tanh(ahead) * 2.0
    with tf.device("/cpu:0"):
        step = total.assign_add(tf.reduce_sum(back + ahead, 0))
    config = tf.ConfigProto(device_count={"CPU": 2}, intra_op_parallelism_threads=1)
    with tf.Session(config=config) as session:
        session.run(total.initializer)
        wanted = np.zeros(400, np.float32)
        value = np.linspace(-1, 1, 1200, dtype=np.float32).reshape(3, 400)
        while len(native_programs(session)) < 2:
            session.run(step, {x: value})
            wanted += (2 * np.tanh(np.exp(value)) + np.exp(value)).sum(0)
        told = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        for _ in range(3):
            got = session.run(step, {x: value}, options, told)
            wanted += (2 * np.tanh(np.exp(value)) + np.exp(value)).sum(0)
        np.testing.assert_allclose(got, wanted, rtol=1e-4)
        assert {s.op for s in told.step_stats} == {"Native", "Send", "Recv"}
        assert "native code" in str(session.explain(step, {x: value}))
