"""session.explain: what was fused, what was not and why, memory and code, by the user's lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with tf.Graph().as_default():
        yield


def step() -> tuple[Any, Any, Any]:
    x = tf.placeholder(tf.float32, [None, 6], name="x")
    w = tf.Variable(np.ones((6, 4), np.float32), name="w")
    hidden = tf.tanh(tf.matmul(x, w) * 2.0, name="hidden")
    lost = tf.reduce_sum(tf.math.lgamma(hidden + 2.0, name="lost"), name="loss")
    return [lost, w.assign_sub(tf.gradients(lost, w)[0])], {x: np.ones((3, 6), np.float32)}, w


@pytest.mark.parametrize("tier", ["auto", "native"])
def test_a_step_is_explained_before_it_was_run(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", tier)
    fetches, feeds, w = step()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        explained = session.explain(fetches, feeds)
        assert (session.run(w) == 1).all()  # nothing was changed
        (report,) = explained
    text = str(explained)
    assert "native code" in text
    assert "'x:0' (3, 6)" in text
    assert "product [3, 4]" in text
    assert "Tanh 'hidden' " in text
    assert "test_explain.py" in text
    assert "hidden = tf.tanh(" in text  # the user's line
    assert "Lgamma 'lost': there is no native code for gammaln; " in text
    assert "arena of " in text
    assert "define void @step" in report.llvm
    assert "tanh(" in report.ir
    assert "__global__" in report.cuda
    assert "\nstep:" in report.assembly


def test_the_reference_tier_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    x = tf.placeholder(tf.float32, [2])
    with tf.Session() as session:
        text = str(session.explain(x + 1.0, {x: [1.0, 2.0]}))
    assert "1 steps: the reference tier, on /job:localhost" in text


def test_input_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    queue = tf.FIFOQueue(3, [tf.float32], shapes=[[2]])
    taken = tf.tanh(queue.dequeue())
    with tf.Session() as session:
        session.run(queue.enqueue([[1.0, 2.0]]))
        assert str(session.explain(taken)) == ""
        assert session.run(queue.size()) == 1


def test_explain_refuses_what_run_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    x = tf.placeholder(tf.float32, [2])
    with tf.Session() as session:
        with pytest.raises(ValueError, match="Cannot feed value of shape"):
            session.explain(x + 1.0, {x: [1.0]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value"):
            session.explain(x + 1.0)
        v = tf.Variable(0.0)
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
            session.explain(tf.tanh(v))
