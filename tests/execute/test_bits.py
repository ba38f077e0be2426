"""The bits of the native tier's sums and products depend on the plan, not on the threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.execute import tiers
from graphflow.execute.team import Team

Program = Callable[[], tuple[list[Any], dict[Any, Any]]]


def floats(*shape: int) -> Any:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def sums(rows: int, columns: int) -> Program:
    """Reductions, softmax, and the sums of batch normalisation."""

    def build() -> Any:
        x = tf.placeholder(tf.float32, [rows, columns])
        y = tf.exp(tf.tanh(x) * 1.7)
        mean, variance = tf.nn.moments(y, [0])
        scale, shift = [tf.constant(floats(columns)) for _ in range(2)]
        normed = tf.nn.batch_normalization(y, mean, variance, shift, scale, 1e-3)
        loss = tf.reduce_sum(tf.square(normed) * y)
        found = [tf.reduce_sum(y), tf.reduce_sum(y, 0), tf.reduce_sum(y, 1), tf.reduce_mean(x),
                 tf.reduce_max(y), tf.nn.softmax(x), tf.nn.log_softmax(y), mean, variance, normed,
                 loss, *tf.gradients(loss, [x, scale, shift])]  # fmt: skip
        return found, {x: floats(rows, columns)}

    return build


def products() -> Any:
    """Products that are cut by rows, by columns, by the batch, and a sum over images; one begins
    with a bias."""
    x = tf.placeholder(tf.float32, [7, 19, 23, 40])
    images = tf.tanh(x)
    filters = tf.constant(floats(3, 3, 40, 33))
    y = tf.nn.conv2d(images, filters, [1, 1, 1, 1], "SAME")
    tall = tf.matmul(tf.reshape(y, [7 * 19 * 23, 33]), tf.constant(floats(33, 61)))
    wide = tf.matmul(tf.reshape(y, [7, 19 * 23 * 33]), tf.constant(floats(19 * 23 * 33, 143)))
    batch = tf.matmul(tf.reshape(y, [7, 19 * 23, 33]), tf.constant(floats(7, 33, 29)))
    loss = sum(tf.reduce_sum(tf.square(t)) for t in (tall, wide, batch))
    biased = tf.matmul(tf.reshape(y, [7 * 19 * 23, 33]), tf.constant(floats(33, 37))) + floats(37)
    return [y, tall, wide, batch, biased, *tf.gradients(loss, [x, filters])], {
        x: floats(7, 19, 23, 40)
    }


def results(program: Program, shares: int, threads: int, repeats: int = 2) -> list[list[Any]]:
    """What the program gives, cut in so many shares, which so many threads take."""
    with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default():
        patch.setenv("GRAPHFLOW_TIER", "native")
        patch.setenv("GRAPHFLOW_VALIDATE", "0")  # each graph up to six times: half of all time
        patch.setattr(tiers, "_cores", lambda: threads)
        started = []
        usual = Team.__init__

        def noted(self: Team, *arguments: int) -> None:
            usual(self, *arguments)
            started.append((self.shares, self.threads))

        patch.setattr(Team, "__init__", noted)
        fetches, feeds = program()
        config = tf.ConfigProto(intra_op_parallelism_threads=shares)
        with tf.Session(config=config) as session:
            found = [session.run(fetches, feeds) for _ in range(repeats)]
            plans = [n.plan for p in session._cache.values()
                     for q in p.executable._programs for n in q.native]  # fmt: skip
            assert [plan.workers for plan in plans] == [shares]
        assert started == [(shares, min(shares, threads))]
        return found


def same(found: list[Any], expected: list[Any]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = tmp_path_factory.getbasetemp() / "code"  # of all tests here
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


@pytest.mark.parametrize(
    ("program", "shares"),
    [(sums(1037, 513), 3), (sums(1037, 513), 4), (sums(31, 16411), 4), (products, 4)],
    ids=["tall sums, 3", "tall sums, 4", "wide sums, 4", "products, 4"],
)
def test_any_number_of_threads_gives_the_bits_of_the_plan(program: Program, shares: int) -> None:
    expected, *_ = results(program, shares, threads=1)
    for threads in range(1, shares + 1):
        for found in results(program, shares, threads):
            same(found, expected)


@pytest.mark.parametrize("program", [sums(1037, 513), sums(31, 16411)], ids=["tall", "wide"])
def test_sums_are_trees_of_their_own_however_they_are_cut(program: Program) -> None:
    """Products are not: BLAS gives a part of a matrix other bits than the whole."""
    expected, *_ = results(program, shares=1, threads=1)
    for shares in (2, 3, 4):
        same(results(program, shares, threads=2)[0], expected)


def in_pairs(terms: Any) -> Any:
    """Sums of rows: neighbours first."""
    while terms.shape[1] > 1:
        last = terms[:, len(terms[0]) // 2 * 2 :]
        terms = np.concatenate([terms[:, :-1:2] + terms[:, 1::2], last], 1)
    return terms[:, 0]


@pytest.mark.parametrize("columns", [1, 2, 7, 10, 15])
def test_short_rows_are_added_up_in_pairs_whatever_else_a_loop_does(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    x = floats(9, columns)
    x[2, -1], x[3, 0] = np.inf, np.nan
    config = tf.ConfigProto(deterministic=True)
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        given = tf.placeholder(tf.float32, x.shape)
        terms = tf.tanh(given) * given
        row = tf.reduce_sum(terms, 1)
        fetches = [terms, row, tf.reduce_sum(terms * 0.5, 1), terms - tf.expand_dims(row, 1)]
        for _ in range(2):
            found = session.run(fetches, {given: x})
        for _ in range(2):
            alone = session.run(tf.reduce_sum(given, 1), {given: found[0]})
    np.testing.assert_array_equal(found[1], in_pairs(found[0]))
    np.testing.assert_array_equal(found[1], alone)
    np.testing.assert_array_equal(found[2], in_pairs(found[0] * np.float32(0.5)))


@pytest.mark.parametrize("shape", [(40, 30), (1, 4096)])
def test_a_sum_over_all_is_added_up_in_the_same_way_whatever_else_a_loop_does(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of an array alone went through blocks, one beside sums of rows through these."""
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    config = tf.ConfigProto(deterministic=True, intra_op_parallelism_threads=1)
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        x = tf.placeholder(tf.float32, shape)
        total, feeds = tf.reduce_sum(x), {x: floats(*shape)}
        alone = session.run(total, feeds)
        assert session.run([total, tf.reduce_sum(x, 1)], feeds)[0] == alone
        assert session.run([total, tf.nn.softmax(x), tf.reduce_sum(x, 0)], feeds)[0] == alone
        assert session.run([total, x + tf.reduce_max(x, 0)], feeds)[0] == alone
