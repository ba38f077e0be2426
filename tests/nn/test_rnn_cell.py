"""Cells and their wrappers: states, sizes, variables, dropout, devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.nn import rnn_cell


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        yield graph


def run(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feeds)


def test_first_states_have_the_form_of_the_cell() -> None:
    cell = rnn_cell.MultiRNNCell([rnn_cell.LSTMCell(3, num_proj=2), rnn_cell.GRUCell(4)])
    assert cell.state_size == (rnn_cell.LSTMStateTuple(3, 2), 4)
    assert cell.output_size == 4
    (c, h), g = cell.zero_state(5, tf.float64)
    assert [t.shape.as_list() for t in (c, h, g)] == [[5, 3], [5, 2], [5, 4]]
    batch = tf.placeholder(tf.int32, [])
    state = cell.zero_state(batch, tf.float16)
    assert state[1].shape.as_list() == [None, 4]
    assert run(state[0].h, {batch: 2}).shape == (2, 2)
    x = tf.placeholder(tf.float32, [None, 7])
    first = cell.get_initial_state(inputs=x)
    assert first[1].dtype is tf.float32
    assert run(first[1], {x: np.zeros((3, 7))}).shape == (3, 4)
    with pytest.raises(ValueError, match="batch_size"):
        cell.get_initial_state(batch_size=2)


def test_the_dtype_of_an_lstm_state() -> None:
    c, h = tf.zeros([1]), tf.zeros([1])
    assert rnn_cell.LSTMStateTuple(c, h).dtype is tf.float32
    with pytest.raises(TypeError, match="float64"):
        _ = rnn_cell.LSTMStateTuple(c, tf.zeros([1], tf.float64)).dtype


def test_cells_tell_their_variables() -> None:
    inner = rnn_cell.LSTMCell(3, use_peepholes=True, num_proj=2)
    cell = rnn_cell.MultiRNNCell([rnn_cell.DropoutWrapper(inner, 0.5), rnn_cell.GRUCell(2)])
    assert cell.trainable_weights == []
    tf.nn.dynamic_rnn(cell, tf.zeros([1, 2, 3]), dtype=tf.float32)
    assert cell.trainable_weights == cell.weights == tf.trainable_variables()
    assert len(inner.weights) == 6
    assert sum(int(np.prod(v.shape.as_list())) for v in inner.weights) == inner.count_params()
    assert all(v.op.type == "VarHandle" for v in tf.global_variables())


def test_a_cell_of_the_user_tells_what_it_made_with_get_variable() -> None:
    class Cell(rnn_cell.RNNCell):
        state_size = output_size = 2

        def call(self, inputs: Any, state: Any) -> Any:
            w = tf.get_variable("w", [2, 2])
            fixed = tf.get_variable("fixed", [2], trainable=False)
            new = tf.matmul(inputs + state, w) + fixed
            return new, new

    cell = Cell()
    tf.nn.dynamic_rnn(cell, tf.zeros([1, 2, 2]), dtype=tf.float32)
    assert [v.name for v in cell.trainable_weights] == ["rnn/cell/w:0"]
    assert [v.name for v in cell.non_trainable_weights] == ["rnn/cell/fixed:0"]


def test_cells_in_the_oldest_style_work() -> None:
    """`__call__` with a scope, and no call of the base class's constructor."""

    class Cell(rnn_cell.RNNCell):
        def __init__(self, n: int):
            self._n = n

        @property
        def state_size(self) -> int:
            return self._n

        @property
        def output_size(self) -> int:
            return self._n

        def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
            with tf.variable_scope(scope or type(self).__name__):
                new = state + tf.get_variable("w", [self._n]) * inputs
            return new, new

    outputs, _ = tf.nn.static_rnn(Cell(2), [tf.ones([1, 2])] * 3, dtype=tf.float32)
    assert [v.name for v in tf.global_variables()] == ["rnn/Cell/w:0"]
    once, _, thrice = run(outputs)
    np.testing.assert_allclose(3 * once, thrice, rtol=1e-6)


def test_a_scope_may_be_given_to_a_step() -> None:
    x, state = tf.zeros([1, 2]), tf.zeros([1, 3])
    rnn_cell.GRUCell(3)(x, state, scope="here")
    rnn_cell.MultiRNNCell([rnn_cell.BasicRNNCell(3)])(x, (state,), scope="there")
    names = [v.name for v in tf.global_variables()]
    assert names[0] == "here/gates/kernel:0"
    assert names[-2:] == [
        "there/cell_0/basic_rnn_cell/kernel:0",
        "there/cell_0/basic_rnn_cell/bias:0",
    ]


# ---- wrappers


def test_residuals() -> None:
    x, state = tf.constant([[1.0, 2.0]]), tf.zeros([1, 2])
    plain = rnn_cell.BasicRNNCell(2)
    a, _ = plain(x, state)
    b, _ = rnn_cell.ResidualWrapper(plain)(x, state)
    c, _ = rnn_cell.ResidualWrapper(plain, lambda i, o: i * o)(x, state)
    y, added, product = run([a, b, c])
    np.testing.assert_allclose(added - y, [[1, 2]], rtol=1e-6)
    np.testing.assert_allclose(product / y, [[1, 2]], rtol=1e-6)


def test_a_device_is_asked_for_in_steps_and_first_states() -> None:
    cell = rnn_cell.DeviceWrapper(rnn_cell.GRUCell(2), "/cpu:0")
    state = cell.zero_state(1, tf.float32)
    y, _ = cell(tf.zeros([1, 2]), state)
    assert state.device == y.device
    assert y.device.lower().endswith("cpu:0")


def test_a_probability_of_one_adds_nothing() -> None:
    cell = rnn_cell.DropoutWrapper(rnn_cell.GRUCell(2), 1.0, tf.constant(1.0), 1)
    cell(tf.zeros([1, 2]), tf.zeros([1, 2]))
    names = [op.name for op in tf.get_default_graph().get_operations()]
    assert not any("dropout" in name for name in names)


def test_a_probability_may_be_fed() -> None:
    keep = tf.placeholder_with_default(1.0, [])
    cell = rnn_cell.DropoutWrapper(rnn_cell.GRUCell(50), output_keep_prob=keep)
    y, _ = cell(tf.ones([4, 3]), tf.zeros([4, 50]))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        whole = session.run(y)
        half = session.run(y, {keep: 0.5})
    assert np.all(whole != 0)
    assert 40 < np.sum(half == 0) < 160
    np.testing.assert_allclose(half[half != 0], 2 * whole[half != 0], rtol=1e-5)


def test_the_memory_is_not_dropped_unless_the_filter_says_so() -> None:
    inner = rnn_cell.BasicLSTMCell(40)
    first = rnn_cell.LSTMStateTuple(tf.ones([1, 40]), tf.ones([1, 40]))
    results = []
    for visitor in (
        None,
        lambda _: True,
        lambda s: rnn_cell.LSTMStateTuple(c=True, h=False) if isinstance(s, tuple) else True,
    ):
        cell = rnn_cell.DropoutWrapper(
            inner, state_keep_prob=0.5, dropout_state_filter_visitor=visitor
        )
        results.append(cell(tf.ones([1, 2]), first)[1])
    dropped = [[bool(np.any(part == 0)) for part in state] for state in run(results)]
    assert dropped == [[False, True], [True, True], [True, False]]


def test_variational_dropout_drops_the_same_in_each_step_and_other_things_in_each_run() -> None:
    cell = rnn_cell.DropoutWrapper(
        rnn_cell.GRUCell(30), output_keep_prob=0.5, variational_recurrent=True, dtype=tf.float32
    )
    outputs, _ = tf.nn.dynamic_rnn(cell, tf.ones([2, 6, 3]), dtype=tf.float32)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        a, b = [session.run(outputs) == 0 for _ in range(2)]
    for masks in (a, b):
        assert np.all(masks == masks[:1, :1])
        assert 0 < masks[0, 0].sum() < 30
    assert np.any(a != b)


def test_a_state_saver_gives_and_takes_states() -> None:
    class Saver:
        def __init__(self) -> None:
            self.variables = {
                name: tf.get_variable(name, [2, 3], initializer=tf.zeros_initializer())
                for name in ("c", "h")
            }

        def state(self, name: str) -> Any:
            return self.variables[name].read_value()

        def save_state(self, name: str, value: Any) -> Any:
            return self.variables[name].assign(value).op

    inputs = [tf.ones([2, 2])] * 2
    saver, cell = Saver(), rnn_cell.BasicLSTMCell(3)
    outputs, state = tf.nn.static_state_saving_rnn(cell, inputs, saver, ("c", "h"))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        first = session.run([outputs[-1], state])
        np.testing.assert_array_equal(session.run(saver.variables["h"]), first[1].h)
        assert np.any(session.run(outputs[-1]) != first[0])
