"""The native tier against the reference tier, on programs; and what users may rely on."""

from __future__ import annotations

import gc
import threading
import warnings
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.execute.programs import (
    Program,
    agree,
    both,
    cells,
    classifier,
    floats,
    images,
    leaves_of,
    native_programs,
    reductions,
    repeatable,
    rng,
)

pytestmark = pytest.mark.usefixtures("graph")


@pytest.mark.parametrize(
    "program",
    [
        repeatable(reductions),
        classifier(lambda: tf.train.AdamOptimizer(0.01)),
        classifier(lambda: tf.train.MomentumOptimizer(0.1, 0.9)),
        images("SAME", 1),
        images("VALID", 16),
        repeatable(cells),
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


def test_a_constant_of_both_zeros_keeps_them() -> None:
    def program() -> Any:
        x = tf.placeholder(tf.float32, [2])
        return [x / tf.constant([0.0, -0.0]), tf.concat([[0.0, -0.0], x], 0)], {x: np.ones(2)}

    expected, found = both(program)
    assert expected[0][0].tolist() == found[0][0].tolist() == [np.inf, -np.inf]
    assert np.signbit(found[0][1]).tolist() == [False, True, False, False]


def test_integers_and_bools() -> None:
    def program() -> Any:
        x = tf.placeholder(tf.int32, [2, 3])
        y = x * 3 - 7
        return [y, y > x, tf.cast(y, tf.float32) * 0.5, tf.logical_and(y > 0, x > 0),
                tf.maximum(x, y), tf.where(y > 0, x, y),
                ], {x: rng.integers(-5, 5, (2, 3))}  # fmt: skip

    agree(repeatable(program))


def test_what_is_assigned_under_another_shape() -> None:
    """The variable held what had been computed, in its first shape."""

    def program() -> Any:
        x = tf.placeholder(tf.float32, [6])
        v, w = tf.Variable(floats(2, 3)), tf.Variable(floats(3, 1, 2))
        y = tf.tanh(x)
        fetches = [v.assign(tf.reshape(y, [2, 3])), w.assign(tf.reshape(y, [3, 1, 2])), y]
        return [*fetches, v * 2.0, tf.exp(w)], {x: floats(6)}

    expected, found = both(repeatable(program))
    for a, b in zip(leaves_of(expected), leaves_of(found), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_one_array_as_images_of_two_shapes() -> None:
    """With equal heights, widths and filters they shared their unfolded rows."""

    def program() -> Any:
        x = tf.placeholder(tf.float32, [2, 4, 4, 3])
        shapes = [[2, 4, 4, 3], [3, 4, 4, 2]]
        images = [tf.reshape(x, shape) for shape in shapes]
        filters = [floats(2, 2, shape[3], 5) for shape in shapes]
        outputs = [tf.nn.conv2d(image, f, [1, 1, 1, 1], "SAME")
                   for image, f in zip(images, filters, strict=True)]  # fmt: skip
        return outputs, {x: floats(2, 4, 4, 3)}

    agree(repeatable(program))


def test_steps_over_more_elements_than_a_block_has() -> None:
    """The last block is shorter, in either direction."""

    def program() -> Any:
        x = tf.placeholder(tf.float32, [10_000])
        outputs = [tf.tanh(x[::2]), tf.abs(x[::-2]), tf.reverse(x, [0]) * 2.0,
                   tf.gather(tf.reshape(x, [2, 5000]), [1]) + 1.0]  # fmt: skip
        return outputs, {x: floats(10_000)}

    agree(repeatable(program))


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

    for a, b in zip(leaves_of(run(True)), leaves_of(run(False)), strict=True):
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
