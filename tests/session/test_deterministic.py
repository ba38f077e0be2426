"""ConfigProto(deterministic=True): the same bits in each process, and the tier fixed before."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.session import options
from tests.execute.programs import native_programs


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")


def program() -> tuple[Any, Any]:
    x = tf.placeholder(tf.float32, [None, 40])
    w = tf.Variable(tf.random_normal([40, 30]))
    hidden = tf.nn.dropout(tf.tanh(tf.matmul(x, w)), rate=0.3)
    loss = tf.reduce_mean(tf.square(hidden) + hidden)
    return x, [loss, tf.train.AdamOptimizer(0.01).minimize(loss)]


def losses(config: Any, runs: int = 4) -> list[str]:
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        x, fetches = program()
        session.run(tf.global_variables_initializer())
        feed = {x: np.linspace(-1, 1, 320).reshape(8, 40)}
        return [float(session.run(fetches, feed)[0]).hex() for _ in range(runs)]


def test_the_first_step_is_native_and_processes_agree(tmp_path: Path) -> None:
    script = """
        import graphflow as tf
        from tests.session.test_deterministic import losses
        print(losses(tf.ConfigProto(deterministic=True)))
        """
    root = Path(tf.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "XDG_CACHE_HOME": str(tmp_path / "other")}
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert printed.strip() == str(losses(tf.ConfigProto(deterministic=True)))


def test_no_step_that_counts_runs_on_another_tier() -> None:
    with (
        tf.Graph().as_default(),
        tf.Session(config=tf.ConfigProto(deterministic=True)) as session,
    ):
        x, fetches = program()
        session.run(tf.global_variables_initializer())
        assert not native_programs(session)  # what runs once is not compiled
        session.run(fetches, {x: np.ones((8, 40))})
        assert native_programs(session)
        assert session._target.numerics.tier == "native"  # type: ignore[attr-defined]


@pytest.mark.parametrize("cpus", [2, 3])
def test_bits_do_not_depend_on_where_the_graph_is_cut(cpus: int) -> None:
    """Each operation rounds for itself: a * b + c is no single instruction on one device, and two
    on others."""

    def run(devices: list[str]) -> Any:
        rng = np.random.default_rng(0)
        a, b, c = (tf.constant(rng.normal(size=50).astype(np.float32)) for _ in range(3))
        x = tf.placeholder(tf.float32, [50])
        with tf.device(devices[0]):
            product = a * x
        with tf.device(devices[-1]):
            y = product + b
            z = y * c - product
        config = tf.ConfigProto(
            device_count={"CPU": cpus}, intra_op_parallelism_threads=1, deterministic=True
        )
        with tf.Session(config=config) as session:
            for _ in range(2):
                got = session.run(z, {x: np.linspace(-2, 3, 50)})
            assert len(native_programs(session)) == len(set(devices))
            return got

    with tf.Graph().as_default():
        whole = run(["/cpu:0"])
        np.testing.assert_array_equal(run(["/cpu:0", f"/cpu:{cpus - 1}"]), whole)


def test_tensorflows_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_deterministic", False)
    assert not tf.ConfigProto().deterministic
    tf.config.experimental.enable_op_determinism()
    with tf.Graph().as_default(), tf.Session() as session:
        assert session._target.numerics.tier == "native"  # type: ignore[attr-defined]
        assert session.seed == 0


@pytest.mark.parametrize("n", [5, 16, 100, 257])
def test_rows_are_added_up_in_one_way_whatever_else_is_done(n: int) -> None:
    """On one device, the sums share a loop with much else."""

    def run(second: str) -> Any:
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float32, [6, n])
            with tf.device("/cpu:0"):
                y = tf.tanh(x) + x * 0.3
                first = [tf.reduce_sum(y * y, 1), tf.nn.softmax(y)]
            with tf.device(second):
                last = [tf.reduce_sum(y, 1), tf.reduce_mean(tf.exp(y) * x, 1)]
            config = tf.ConfigProto(
                device_count={"CPU": 2}, intra_op_parallelism_threads=1, deterministic=True
            )
            with tf.Session(config=config) as session:
                values = np.random.default_rng(n).normal(size=(6, n))
                found = session.run([*first, *last], {x: values})
                assert native_programs(session)
                return found

    for one, two in zip(run("/cpu:0"), run("/cpu:1"), strict=True):
        np.testing.assert_array_equal(one, two)
