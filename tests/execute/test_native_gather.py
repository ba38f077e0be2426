"""Gathers and scatters of native code: rows in order, and indices that are out of range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.execute.programs import agree, both, floats, native_programs, repeatable

pytestmark = pytest.mark.usefixtures("graph")


def embedding() -> Any:
    """Rows of a table, looked up, trained, and a second variable that takes rows."""
    rng = np.random.default_rng(3)
    ids = tf.placeholder(tf.int32, [4, 6])
    table = tf.Variable(rng.normal(0, 1, (9, 5)).astype(np.float32))
    total = tf.Variable(np.zeros((9, 5), np.float32))
    found = tf.nn.embedding_lookup(table, ids)
    loss = tf.reduce_sum(tf.tanh(found) ** 2)
    step = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    counted = tf.scatter_add(total, ids, found)
    return [loss, step, found, counted], {ids: rng.integers(0, 9, (4, 6))}


def test_an_embedding_is_trained_without_leaving_native_code() -> None:
    expected, got = both(embedding)
    for a, b in zip(expected, got, strict=True):
        for x, y in zip(a, b, strict=True):
            if x is not None:
                np.testing.assert_allclose(y, x, rtol=2e-6, atol=2e-6)
    fetches, feeds = embedding()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFLOW_TIER", "native")
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            session.run(fetches, feeds)
            (program,) = native_programs(session)
            assert not program.plan.called


def test_repeated_rows_are_added_in_order() -> None:
    values = floats(200, 3) * np.float32(1e4) + floats(200, 3)
    ids = np.random.default_rng(0).integers(0, 4, 200)

    def program() -> Any:
        x, at = tf.placeholder(tf.float32, [200, 3]), tf.placeholder(tf.int64, [200])
        total = tf.Variable(np.ones((4, 3), np.float32))
        sums = tf.unsorted_segment_sum(tf.transpose(tf.transpose(x)) * 1.0, at - 1, 4)
        return [sums, tf.scatter_sub(total, at, x)], {x: values, at: ids}

    for a, b in zip(*both(program), strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)  # to the last bit: the order is the same


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gathers_along_every_axis(axis: int) -> None:
    x_value, at_value = floats(3, 4, 5), np.array([[2, 0], [1, 2]], np.int32)

    def program() -> Any:
        x = tf.placeholder(tf.float32, [3, 4, 5])
        at = tf.placeholder(tf.int32, [2, 2])
        taken = tf.gather(tf.exp(x), at, axis=axis)
        column = tf.gather(tf.reduce_sum(x, [1, 2]), at)  # one index per column
        doubled = tf.gather(x, at * 1, axis=axis)
        return [taken * 2.0, column, doubled], {x: x_value, at: at_value}

    for a, b in zip(*both(program), strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(y, x, rtol=1e-6, atol=1e-6)


def test_a_table_of_one_row_is_read_behind_the_loop_that_computes_it() -> None:
    """What is gathered is over the table's own space, and would be computed in one loop with it."""

    def program() -> Any:
        x, at = tf.placeholder(tf.float32, [1, 5]), tf.placeholder(tf.int32, [1])
        y = tf.tanh(x)
        return [tf.gather(y, at) * 2.0, tf.gather(y, [0]) + x], {x: floats(1, 5), at: [0]}

    agree(repeatable(program))


@pytest.mark.parametrize("wrong", [9, -1, 2**31 - 1])
@pytest.mark.parametrize("which", ["gather", "scatter"])
def test_an_index_out_of_range_is_the_reference_tiers_error(
    wrong: int, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    ids = tf.placeholder(tf.int32, [3])
    table = tf.Variable(floats(9, 5))
    fetch = tf.nn.embedding_lookup(table, ids) * 2.0
    if which == "scatter":
        fetch = tf.scatter_add(table, ids, tf.ones([3, 5]) * 2.0)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(fetch, {ids: [0, 8, 3]})
        assert native_programs(session)
        before = session.run(table)
        with pytest.raises(tf.errors.InvalidArgumentError, match=str(wrong)):
            session.run(fetch, {ids: [0, wrong, 3]})
        np.testing.assert_array_equal(session.run(table), before)
        session.run(fetch, {ids: [1, 2, 3]})
