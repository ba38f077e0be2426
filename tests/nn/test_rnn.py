"""Recurrent networks: loops against written-out steps, lengths, unknown shapes, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.nn import rnn_cell

Array = np.ndarray[Any, Any]
CELLS: dict[str, Callable[[], Any]] = {
    "basic": lambda: rnn_cell.BasicRNNCell(3),
    "gru": lambda: rnn_cell.GRUCell(3),
    "lstm": lambda: rnn_cell.LSTMCell(3, use_peepholes=True, num_proj=2),
    "stacked": lambda: rnn_cell.MultiRNNCell([rnn_cell.BasicLSTMCell(3), rnn_cell.GRUCell(2)]),
}


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        yield graph


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def run(fetches: Any, feeds: Any = None) -> Any:
    """Values, with variables that do not depend on the order in which they were made."""
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for i, variable in enumerate(tf.global_variables()):
            variable.load(normal(*variable.shape.as_list(), seed=i) / 2, session)
        return session.run(fetches, feeds)


def flat(structure: Any) -> list[Any]:
    if isinstance(structure, (tuple, list)):
        return [leaf for part in structure for leaf in flat(part)]
    return [structure]


def unrolled_both_ways(
    make: Callable[[], Any], x: Any, steps: int, lengths: Any = None
) -> tuple[Any, Any]:
    """Outputs [batch, time, size] and final state of a loop, and of written-out steps."""
    options: dict[str, Any] = {"dtype": tf.float64, "sequence_length": lengths}
    with tf.variable_scope("net"):
        loop = tf.nn.dynamic_rnn(make(), x, scope="rnn", **options)
    with tf.variable_scope("net", reuse=True):
        inputs = tf.unstack(x, num=steps, axis=1)
        outputs, state = tf.nn.static_rnn(make(), inputs, scope="rnn", **options)
    return loop, (tf.stack(outputs, axis=1), state)


@pytest.mark.parametrize("lengths", [None, [4, 1, 0], [2, 2, 2], [0, 0, 0]])
@pytest.mark.parametrize("name", CELLS)
def test_a_loop_gives_the_bits_of_the_written_out_steps(name: str, lengths: Any) -> None:
    x = tf.constant(normal(3, 4, 2))
    loop, written = unrolled_both_ways(CELLS[name], x, 4, lengths)
    got, expected = run([flat(loop), flat(written)])
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CELLS)
def test_their_gradients_agree(name: str) -> None:
    x = tf.constant(normal(3, 4, 2))
    loop, written = unrolled_both_ways(CELLS[name], x, 4, [4, 1, 3])
    results = []
    for structure in (loop, written):
        total = tf.add_n([tf.reduce_sum(tf.sin(t)) for t in flat(structure)])
        results.append(tf.gradients(total, [x, *tf.trainable_variables()]))
    for a, b in zip(*run(results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_differences(name: str) -> None:
    x = normal(2, 3, 2)
    fed = tf.placeholder(tf.float64, [2, None, 2])
    outputs, state = tf.nn.dynamic_rnn(CELLS[name](), fed, sequence_length=[3, 2], dtype=tf.float64)
    total = tf.add_n([tf.reduce_sum(tf.sin(t)) for t in [outputs, *flat(state)]])
    (gradient,) = tf.gradients(total, fed)
    got = run(gradient, {fed: x})
    direction = normal(2, 3, 2, seed=1)
    high, low = (run(total, {fed: x + s * 1e-5 * direction}) for s in (1, -1))
    np.testing.assert_allclose(np.sum(got * direction), (high - low) / 2e-5, rtol=1e-8)


# ---- lengths


def test_behind_the_end_outputs_are_zero_states_stay_and_nothing_depends_on_inputs() -> None:
    lengths = [5, 2, 0]
    x = tf.constant(normal(3, 5, 2))
    cell = rnn_cell.BasicLSTMCell(3)
    outputs, state = tf.nn.dynamic_rnn(cell, x, sequence_length=lengths, dtype=tf.float64)
    total = tf.reduce_sum(outputs) + tf.reduce_sum(state.c * 2.0)
    values, last, gradient = run([outputs, state, tf.gradients(total, x)[0]])
    for i, n in enumerate(lengths):
        assert not values[i, n:].any()
        assert not gradient[i, n:].any()
        assert np.all(gradient[i, :n] != 0)
        np.testing.assert_array_equal(last.h[i], values[i, n - 1] if n else np.zeros(3))
    assert not last.c[2].any()


@pytest.mark.parametrize("unroll", ["dynamic", "static"])
def test_nan_behind_the_end_does_no_harm(unroll: str) -> None:
    x = normal(2, 4, 2)
    x[1, 2:] = np.nan
    fed = tf.placeholder(tf.float64, [2, 4, 2])
    cell = rnn_cell.GRUCell(3)
    options: dict[str, Any] = {"sequence_length": [4, 2], "dtype": tf.float64}
    if unroll == "dynamic":
        outputs, state = tf.nn.dynamic_rnn(cell, fed, **options)
    else:
        rows, state = tf.nn.static_rnn(cell, tf.unstack(fed, axis=1), **options)
        outputs = tf.stack(rows)
    values = run([outputs, state], {fed: x})
    assert all(np.isfinite(v).all() for v in values)


def test_lengths_beyond_the_time_count_as_the_whole_time() -> None:
    x = tf.constant(normal(2, 3, 2))
    cell = rnn_cell.GRUCell(2)
    with tf.variable_scope("a", reuse=tf.AUTO_REUSE) as scope:
        whole = tf.nn.dynamic_rnn(cell, x, dtype=tf.float64, scope=scope)
        beyond = tf.nn.dynamic_rnn(cell, x, [9, 3], dtype=tf.float64, scope=scope)
    for a, b in zip(*run([whole, beyond]), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- shapes


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 4), (3, 2), (0, 3), (2, 0)])
def test_batch_and_time_may_be_unknown(batch: int, time: int, time_major: bool) -> None:
    dims = (time, batch, 2) if time_major else (batch, time, 2)
    fed = tf.placeholder(tf.float64, [None, None, 2])
    lengths = tf.placeholder(tf.int64, [None])
    cell = rnn_cell.MultiRNNCell([rnn_cell.BasicLSTMCell(3), rnn_cell.GRUCell(4)])
    outputs, state = tf.nn.dynamic_rnn(cell, fed, lengths, dtype=tf.float64, time_major=time_major)
    assert outputs.shape.as_list() == [None, None, 4]
    assert [s.shape.as_list() for s in flat(state)] == [[None, 3], [None, 3], [None, 4]]
    (gradient,) = tf.gradients(tf.reduce_sum(outputs), fed)
    feeds = {fed: normal(*dims), lengths: np.full(batch, time)}
    values, last, slope = run([outputs, state, gradient], feeds)
    assert values.shape == (*dims[:2], 4)
    assert slope.shape == dims
    assert [s.shape for s in flat(last)] == [(batch, 3), (batch, 3), (batch, 4)]
    if batch and time:
        np.testing.assert_array_equal(values[-1] if time_major else values[:, -1], last[1])


def test_static_shapes_are_known_where_those_of_the_inputs_are() -> None:
    x = tf.placeholder(tf.float32, [5, 7, 2])
    outputs, state = tf.nn.dynamic_rnn(rnn_cell.LSTMCell(3, num_proj=2), x, dtype=tf.float32)
    assert outputs.shape.as_list() == [5, 7, 2]
    assert [s.shape.as_list() for s in state] == [[5, 3], [5, 2]]


def test_inputs_and_outputs_may_be_structures_of_any_rank() -> None:
    class Pair(rnn_cell.RNNCell):
        @property
        def state_size(self) -> Any:
            return {"sum": tf.TensorShape([2, 3]), "n": 1}

        @property
        def output_size(self) -> Any:
            return (tf.TensorShape([2, 3]), 1)

        def call(self, inputs: Any, state: Any) -> Any:
            total, n = state["sum"] + inputs["a"], state["n"] + inputs["b"]
            return (total, n), {"sum": total, "n": n}

    a, b = normal(2, 4, 2, 3), normal(2, 4, 1)
    (sums, counts), last = tf.nn.dynamic_rnn(
        Pair(), {"a": tf.constant(a), "b": tf.constant(b)}, [4, 2], dtype=tf.float64
    )
    s, c, state = run([sums, counts, last])
    np.testing.assert_allclose(s[0], np.cumsum(a[0], axis=0), rtol=1e-14)
    np.testing.assert_allclose(c[1, :2], np.cumsum(b[1, :2], axis=0), rtol=1e-14)
    np.testing.assert_array_equal(state["sum"][1], s[1, 1])
    assert not s[1, 2:].any()


@pytest.mark.parametrize("unroll", ["dynamic", "static"])
def test_scalars_in_a_state_belong_to_no_sequence_and_go_on(unroll: str) -> None:
    class Counting(rnn_cell.RNNCell):
        state_size = (1, tf.TensorShape([]))
        output_size = 1

        def zero_state(self, batch_size: Any, dtype: Any) -> Any:
            return tf.zeros([batch_size, 1], dtype), tf.constant(0, tf.int32)

        def call(self, inputs: Any, state: Any) -> Any:
            total = state[0] + inputs * tf.cast(state[1], inputs.dtype)
            return total, (total, state[1] + 1)

    options: dict[str, Any] = {"sequence_length": [3, 1], "dtype": tf.float64}
    x = tf.ones([2, 4, 1], tf.float64)
    if unroll == "dynamic":
        _, (total, count) = tf.nn.dynamic_rnn(Counting(), x, **options)
    else:
        _, (total, count) = tf.nn.static_rnn(Counting(), tf.unstack(x, axis=1), **options)
    values, steps = run([total, count])
    np.testing.assert_array_equal(values, [[0 + 1 + 2], [0]])
    assert steps == 3  # behind the longest sequence nothing is computed


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32])
def test_values_and_gradients_have_the_dtype_of_the_cell(dtype: Any) -> None:
    x = tf.cast(normal(2, 3, 2), dtype)
    cell = rnn_cell.MultiRNNCell([rnn_cell.LSTMCell(3, use_peepholes=True), rnn_cell.GRUCell(2)])
    outputs, state = tf.nn.dynamic_rnn(cell, x, [3, 1], dtype=dtype)
    gradients = tf.gradients(tf.reduce_sum(outputs), tf.trainable_variables())
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        values = session.run([outputs, *flat(state), *gradients])
    assert {v.dtype.type for v in values} == {dtype.as_numpy_dtype}


# ---- what is refused


@pytest.mark.parametrize(
    ("error", "words", "build"),
    [
        (TypeError, "not an RNNCell", lambda c, x: tf.nn.dynamic_rnn(3, x, dtype=tf.float64)),
        (ValueError, "initial_state or dtype", lambda c, x: tf.nn.dynamic_rnn(c, x)),
        (ValueError, "shape", lambda c, x: tf.nn.dynamic_rnn(c, x[0], dtype=tf.float64)),
        (
            ValueError,
            "sequence_length",
            lambda c, x: tf.nn.dynamic_rnn(c, x, [1, 2, 3], dtype=tf.float64),
        ),
        (
            ValueError,
            "sequence_length",
            lambda c, x: tf.nn.dynamic_rnn(c, x, [[1, 2]], dtype=tf.float64),
        ),
        (
            ValueError,
            "known size",
            lambda c, x: tf.nn.dynamic_rnn(
                c, tf.placeholder(tf.float64, [2, 3, None]), dtype=tf.float64
            ),
        ),
        (
            TypeError,
            "float",
            lambda c, x: tf.nn.dynamic_rnn(c, tf.zeros([2, 3, 2], tf.int32), dtype=tf.float64),
        ),
        (TypeError, "list", lambda c, x: tf.nn.static_rnn(c, x, dtype=tf.float64)),
        (ValueError, "at least one", lambda c, x: tf.nn.static_rnn(c, [], dtype=tf.float64)),
        (TypeError, "callable", lambda c, x: tf.nn.raw_rnn(c, 3)),
        (
            (TypeError, ValueError),
            "structure",
            lambda c, x: tf.nn.dynamic_rnn(
                rnn_cell.BasicLSTMCell(2), x, initial_state=tf.zeros([2, 2], tf.float64)
            ),
        ),
        (ValueError, "at least one", lambda c, x: rnn_cell.MultiRNNCell([])),
        (TypeError, "list", lambda c, x: rnn_cell.MultiRNNCell(c)),
        (
            ValueError,
            "state_is_tuple",
            lambda c, x: rnn_cell.MultiRNNCell([rnn_cell.BasicLSTMCell(2)], state_is_tuple=False),
        ),
        (ValueError, "between 0 and 1", lambda c, x: rnn_cell.DropoutWrapper(c, 1.5)),
        (
            ValueError,
            "dtype",
            lambda c, x: rnn_cell.DropoutWrapper(c, variational_recurrent=True),
        ),
        (
            ValueError,
            "input_size",
            lambda c, x: rnn_cell.DropoutWrapper(
                c, 0.5, variational_recurrent=True, dtype=tf.float64
            ),
        ),
        (ValueError, "compatible", lambda c, x: rnn_cell.ResidualWrapper(c)(x[:, 0, :1], x[:, 0])),
    ],
)
def test_what_does_not_fit_is_refused(error: Any, words: str, build: Any) -> None:
    cell, x = rnn_cell.BasicRNNCell(2), tf.constant(normal(2, 3, 2))
    with pytest.raises(error, match=words):
        build(cell, x)


def test_a_batch_of_lengths_that_does_not_fit_fails_in_the_run() -> None:
    x, lengths = tf.placeholder(tf.float64, [None, 3, 2]), tf.placeholder(tf.int32, [None])
    outputs, _ = tf.nn.dynamic_rnn(rnn_cell.BasicRNNCell(2), x, lengths, dtype=tf.float64)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have shape"):
        run(outputs, {x: normal(2, 3, 2), lengths: [1, 2, 3]})
