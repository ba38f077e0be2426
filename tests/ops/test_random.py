"""Random ops: TensorFlow's streams, seeds, counters, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import gammainc, gammaincinv

import graphflow as tf
from graphflow.base import dtypes, errors
from graphflow.build import OPS
from graphflow.ops import categorical, philox
from tests.ops.record_random import FILE, RUNS, cases

RECORDED = dict(np.load(FILE))
CASES = cases()


class Counters:
    """The part of a run's context that random kernels use."""

    seed = 99

    def __init__(self) -> None:
        self.values: dict[int, int] = {}

    def counter(self, stream: int, amount: int) -> int:
        before = self.values.get(stream, 0)
        self.values[stream] = before + amount
        return before


def call(op: str, arguments: dict[str, Any], ctx: Any) -> Any:
    """An entry's kernel on the arguments of TensorFlow's op."""
    given = dict(arguments)
    if "output_dtype" in given:
        given["dtype"] = given.pop("output_dtype")
    entry = OPS[op]
    if "dtype" in given:
        given["dtype"] = dtypes.as_dtype(given["dtype"])
    inputs = [np.asarray(given.pop(p)) for p in entry.params]
    assert entry.kernel is not None
    return entry.kernel(np, ctx, *inputs, stream=0, **given)


@pytest.mark.parametrize("key", CASES)
def test_successive_runs_give_tensorflows_numbers(key: str) -> None:
    op, arguments = CASES[key]
    ctx = Counters()
    found = np.stack([call(op, arguments, ctx) for _ in range(RUNS)])
    expected = RECORDED[key]
    assert found.dtype == expected.dtype
    if "ormal" in op:  # logarithm, sine and cosine round differently
        np.testing.assert_array_max_ulp(found, expected, 4)
    elif op == "RandomGamma":
        same_gammas(found, expected)
    else:
        np.testing.assert_array_equal(found, expected)


def same_gammas(found: Any, expected: Any) -> None:
    """Within 4 ulp, up to 8 for float64 where 1 + c * x cancels; what flips, or is off, counts.

    A sample flips when rounding accepts what TensorFlow rejects: from there it is another number.
    """
    tiny = np.finfo(found.dtype).tiny  # TensorFlow flushes what is smaller to 0
    found, expected = np.maximum(found, tiny), np.maximum(expected, tiny)
    flips = np.abs(found - expected) > 1e-2 * expected
    kept, wanted = found[~flips], expected[~flips]
    off = np.abs(kept - wanted) > 4 * np.spacing(np.minimum(kept, wanted))
    assert flips.sum() + off.sum() <= found.size // 10_000
    np.testing.assert_array_max_ulp(kept, wanted, 8 if found.dtype == np.float64 else 4)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        (0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**128 - 1, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            0x0370734413198A2E85A308D3243F6A88,
            0x299F31D0A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers(counter: int, key: int, expected: str) -> None:
    """Those of Random123, the authors' own library."""
    words = philox.blocks(np, key, counter >> 64, counter & (2**64 - 1), 1)
    assert " ".join(f"{w:08x}" for w in words[0]) == expected


def test_the_counter_carries_into_its_upper_half() -> None:
    straight = philox.blocks(np, 1, 5, 2**64 - 2, 4)
    np.testing.assert_array_equal(straight[2:], philox.blocks(np, 1, 6, 0, 2))
    np.testing.assert_array_equal(straight[:2], philox.blocks(np, 1, 5, 2**64 - 2, 2))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = philox.blocks(np, 1, 2, 3, 50, stride=7, width=2)
    monkeypatch.setattr(philox, "CHUNK", 8)
    np.testing.assert_array_equal(philox.blocks(np, 1, 2, 3, 50, stride=7, width=2), whole)


@pytest.mark.parametrize("size", [1, 3, 4, 11])
def test_pieces_of_a_sample_do_not_show(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(categorical, "_DRAWN", size)
    keys = [key for key in CASES if CASES[key][0] == "Multinomial"]
    assert keys
    for key in keys:
        test_successive_runs_give_tensorflows_numbers(key)


def test_truncated_normal_draws_again_where_a_group_is_short() -> None:
    """Two blocks hold four float64 numbers: fewer than two fit in 4 of 10,000 groups."""
    found = philox.truncated_normal(np, 1, 2, 0, 20_000, dtypes.float64)
    assert abs(found).max() < 2
    assert len(np.unique(found)) == len(found)
    assert found.std() == pytest.approx(0.8796, abs=0.02)


# ---- seeds


def run_twice(make: Any, graph_seed: int | None = None) -> tuple[Any, Any]:
    """A program's values in two runs of one session."""
    with tf.Graph().as_default():
        tf.set_random_seed(graph_seed)
        made = make()
        with tf.Session() as session:
            return session.run(made), session.run(made)


def test_runs_go_on_and_sessions_begin_again() -> None:
    first, second = run_twice(lambda: tf.random_uniform([3], seed=1))
    again, _ = run_twice(lambda: tf.random_uniform([3], seed=1))
    assert (first != second).all()
    np.testing.assert_array_equal(first, again)


def test_two_ops_of_one_seed_have_streams_of_their_own() -> None:
    values, _ = run_twice(lambda: [tf.random_uniform([3], seed=1), tf.random_uniform([3], seed=1)])
    np.testing.assert_array_equal(values[0], values[1])


def test_the_graphs_seed_alone_tells_ops_apart() -> None:
    def make() -> list[Any]:
        return [tf.random_uniform([3]), tf.random_uniform([3])]

    values, _ = run_twice(make, 5)
    again, _ = run_twice(make, 5)
    other, _ = run_twice(make, 6)
    assert (values[0] != values[1]).all()
    np.testing.assert_array_equal(values, again)
    assert (np.array(values) != np.array(other)).all()


def test_without_a_seed_ops_and_sessions_differ() -> None:
    def make() -> list[Any]:
        return [tf.random_uniform([3]), tf.random_uniform([3])]

    values, second = run_twice(make)
    other, _ = run_twice(make)
    assert len(np.unique([values, second, other])) == 18


def test_seeds_are_tensorflows() -> None:
    with tf.Graph().as_default():
        assert tf.get_seed(None) == (None, None)
        assert tf.get_seed(3) == (87654321, 3)
        tf.set_random_seed(2**31 - 1)
        assert tf.get_seed(2**31 - 1) == (0, 2**31 - 1)
        assert tf.get_seed(4) == (0, 4)


def test_a_random_op_is_neither_pure_nor_folded() -> None:
    with tf.Graph().as_default():
        assert not tf.random_uniform([3]).op.inputs[0].op.opdef.random
        assert not OPS["RandomUniform"].pure


# ---- gradients


def test_gammas_move_with_alpha_as_their_quantiles_do() -> None:
    rates = np.array([0.4, 1.0, 3.0, 500.0, 2e5])
    with tf.Graph().as_default(), tf.Session() as session:
        alpha = tf.placeholder(tf.float64, [None])
        y = tf.random_gamma([6], alpha, dtype=tf.float64, seed=3)
        weights = np.cos(np.arange(30.0)).reshape(6, 5)
        (slope,) = tf.gradients(y, alpha, weights)
        got, sample = session.run([slope, y], {alpha: rates})
        with pytest.raises(LookupError, match="once only"):
            tf.gradients(slope, alpha)
    step = 1e-3 * np.minimum(rates, rates**0.5)
    level = gammainc(rates, sample)
    ahead, behind = [
        [gammaincinv(rates + k * sign * step, level) for k in (1, 2)] for sign in (1, -1)
    ]
    numeric = (8 * (ahead[0] - behind[0]) - (ahead[1] - behind[1])) / (12 * step)
    np.testing.assert_allclose(got, (weights * numeric).sum(0), rtol=1e-7)


# ---- arguments


def test_shapes_may_be_computed_by_the_run() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        n = tf.placeholder(tf.int32, [])
        made = tf.random_normal([n, 3], seed=1)
        assert made.shape.as_list() == [None, 3]
        assert session.run(made, {n: 2}).shape == (2, 3)
        with pytest.raises(errors.InvalidArgumentError, match="sizes >= 0"):
            session.run(made, {n: -1})


def test_names_are_tensorflows() -> None:
    with tf.Graph().as_default() as graph:
        assert tf.random_uniform([2], seed=1).name == "random_uniform:0"
        assert tf.random_normal([2], seed=1, name="r").name == "r:0"
        assert graph.get_operation_by_name("random_uniform/RandomUniform").type == "RandomUniform"
        assert tf.random_uniform([2], maxval=3, dtype=tf.int32).op.type == "RandomUniformInt"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: tf.random_uniform([2], dtype=tf.int32), "needs maxval"),
        (lambda: tf.random_uniform([None, 2]), "known sizes"),
        (lambda: tf.random_uniform([-1, 2]), "known sizes"),
        (lambda: tf.random_normal([2], dtype=tf.int32), "floating"),
        (lambda: tf.random_uniform([2], 0, 5, tf.uint8), "int32 or int64"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, error: str) -> None:
    with tf.Graph().as_default(), pytest.raises((ValueError, TypeError), match=error):
        make()


def test_an_empty_range_is_refused() -> None:
    with (
        tf.Graph().as_default(),
        tf.Session() as session,
        pytest.raises(errors.InvalidArgumentError, match="need minval < maxval, got 5 >= 5"),
    ):
        session.run(tf.random_uniform([2], 5, 5, tf.int32))


def test_zero_numbers_use_up_nothing() -> None:
    ctx = Counters()
    empty = call("RandomUniform", {"shape": (0, 3), "dtype": "float32", "seed": 1}, ctx)
    assert empty.shape == (0, 3)
    assert not ctx.values
