"""Backpropagation through time against its formula, whole and truncated, and what RNNs are for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.differentiate.check import check_gradients
from graphflow.nn import rnn_cell

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        yield graph


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


class BasicRNN:
    """h' = tanh([x, h] W + b) in NumPy, with its gradients written out."""

    def __init__(self, w: Array, b: Array):
        self.w, self.b = w, b
        self.dw, self.db = np.zeros_like(w), np.zeros_like(b)

    def forward(self, x: Array, first: Array, lengths: list[int]) -> Array:
        """All states, [time + 1, batch, units]; x is [batch, time, size]."""
        self.x, self.live = x, np.arange(x.shape[1])[:, None] < np.array(lengths)
        self.h = [first]
        for t in range(x.shape[1]):
            new = np.tanh(np.concatenate([x[:, t], self.h[-1]], 1) @ self.w + self.b)
            self.h.append(np.where(self.live[t][:, None], new, self.h[-1]))
        return np.stack(self.h)

    def backward(self, dy: Array, dh: Array) -> tuple[Array, Array]:
        """Gradients of inputs and first state, from those of outputs and of the last state."""
        size = self.x.shape[2]
        dx = np.zeros_like(self.x)
        for t in reversed(range(self.x.shape[1])):
            live = self.live[t][:, None]
            inner = np.where(live, (dh + dy[:, t]) * (1 - self.h[t + 1] ** 2), 0)
            both = np.concatenate([self.x[:, t], self.h[t]], 1)
            self.dw += both.T @ inner
            self.db += inner.sum(0)
            back = inner @ self.w.T
            dx[:, t] = back[:, :size]
            dh = np.where(live, back[:, size:], dh)
        return dx, dh


def loaded(session: Any, values: dict[str, Array]) -> None:
    session.run(tf.global_variables_initializer())
    for variable in tf.global_variables():
        variable.load(values[variable.op.name.rsplit("/", 1)[-1]], session)


@pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 2, 0]])
def test_gradients_are_those_of_the_formula(lengths: list[int]) -> None:
    x, first = normal(3, 5, 2), normal(3, 4, seed=1)
    w, b = normal(6, 4, seed=2) / 2, normal(4, seed=3) / 2
    dy, dh = normal(3, 5, 4, seed=4), normal(3, 4, seed=5)
    formula = BasicRNN(w, b)
    states = formula.forward(x, first, lengths)
    dx, dfirst = formula.backward(dy, dh)

    fed, begin = tf.constant(x), tf.constant(first)
    outputs, last = tf.nn.dynamic_rnn(rnn_cell.BasicRNNCell(4), fed, lengths, begin)
    total = tf.reduce_sum(outputs * dy) + tf.reduce_sum(last * dh)
    gradients = tf.gradients(total, [fed, begin, *tf.trainable_variables()])
    with tf.Session() as session:
        loaded(session, {"kernel": w, "bias": b})
        got = session.run([last, *gradients])
    for a, b in zip(got, [states[-1], dx, dfirst, formula.dw, formula.db], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def lstm_formula(x: Array, w: Array, b: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Gradients of sum(h * dy) by inputs, kernel and bias, for a forget bias of 1."""
    batch, time, size = x.shape
    n = w.shape[1] // 4
    c, h, kept = np.zeros((batch, n)), np.zeros((batch, n)), []
    for t in range(time):
        both = np.concatenate([x[:, t], h], 1)
        i, j, f, o = np.split(both @ w + b, 4, axis=1)
        i, j, f, o = sigmoid(i), np.tanh(j), sigmoid(f + 1), sigmoid(o)
        before, c = c, c * f + i * j
        h = np.tanh(c) * o
        kept.append((both, i, j, f, o, before, c))
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros_like(b)
    dc, dh = np.zeros((batch, n)), np.zeros((batch, n))
    for t in reversed(range(time)):
        both, i, j, f, o, before, c = kept[t]
        dh = dh + dy[:, t]
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        gates = [
            dc * j * i * (1 - i),
            dc * i * (1 - j**2),
            dc * before * f * (1 - f),
            dh * np.tanh(c) * o * (1 - o),
        ]
        inner = np.concatenate(gates, 1)
        dw += both.T @ inner
        db += inner.sum(0)
        back = inner @ w.T
        dx[:, t], dh, dc = back[:, :size], back[:, size:], dc * f
    return dx, dw, db


def test_gradients_of_an_lstm_are_those_of_the_formula() -> None:
    x, dy = normal(2, 6, 3), normal(2, 6, 4, seed=1)
    w, b = normal(7, 16, seed=2) / 2, normal(16, seed=3) / 2
    fed = tf.constant(x)
    outputs, _ = tf.nn.dynamic_rnn(rnn_cell.BasicLSTMCell(4), fed, dtype=tf.float64)
    wrt = [fed, *tf.trainable_variables()]
    gradients = tf.gradients(tf.reduce_sum(outputs * dy), wrt)
    with tf.Session() as session:
        loaded(session, {"kernel": w, "bias": b})
        got = session.run(gradients)
    for a, e in zip(got, lstm_formula(x, w, b, dy), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-11, atol=1e-13)


def test_truncated_gradients_stop_at_each_window() -> None:
    x, w, b = normal(2, 6, 3), normal(7, 4, seed=2) / 2, normal(4, seed=3) / 2
    dy = normal(2, 6, 4, seed=4)
    formula = BasicRNN(w, b)
    state, slopes = np.zeros((2, 4)), []
    for t in (0, 2, 4):
        state = formula.forward(x[:, t : t + 2], state, [2, 2])[-1]
        slopes.append(formula.backward(dy[:, t : t + 2], np.zeros((2, 4)))[0])

    fed, cell = tf.constant(x), rnn_cell.BasicRNNCell(4)
    last: Any = cell.zero_state(2, tf.float64)
    windows = []
    for t in (0, 2, 4):
        outputs, last = tf.nn.dynamic_rnn(
            cell, fed[:, t : t + 2], initial_state=tf.stop_gradient(last)
        )
        windows.append(outputs)
    total = tf.reduce_sum(tf.concat(windows, 1) * dy)
    gradients = tf.gradients(total, [fed, *tf.trainable_variables()])
    with tf.Session() as session:
        loaded(session, {"kernel": w, "bias": b})
        got = session.run([last, *gradients])
    expected = [state, np.concatenate(slopes, 1), formula.dw, formula.db]
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-14)


def test_the_state_may_be_carried_in_variables_from_run_to_run() -> None:
    """As programs train on a long text: window after window, the state assigned for the next."""
    x = normal(2, 6, 3)
    cell = rnn_cell.BasicLSTMCell(4)
    whole, end = tf.nn.dynamic_rnn(cell, tf.constant(x), dtype=tf.float64)
    carried = [
        tf.get_variable(name, [2, 4], tf.float64, tf.zeros_initializer(), trainable=False)
        for name in "ch"
    ]
    window = tf.placeholder(tf.float64, [2, 2, 3])
    first = rnn_cell.LSTMStateTuple(*[v.read_value() for v in carried])
    outputs, after = tf.nn.dynamic_rnn(cell, window, initial_state=first, scope="windows")
    with tf.control_dependencies([outputs]):
        keep = [v.assign(new) for v, new in zip(carried, after, strict=True)]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        parts = [session.run([outputs, *keep], {window: x[:, t : t + 2]})[0] for t in (0, 2, 4)]
        wanted, last = session.run([whole, end])
        np.testing.assert_array_equal(np.concatenate(parts, 1), wanted)
        np.testing.assert_array_equal(session.run(carried[1]), last.h)


def test_gradients_of_second_order() -> None:
    def function(x: Any, w: Any) -> Any:
        class Cell(rnn_cell.RNNCell):
            state_size = output_size = 2

            def call(self, inputs: Any, state: Any) -> Any:
                new = tf.tanh(tf.matmul(tf.concat([inputs, state], 1), w))
                return new * inputs, new

        outputs, state = tf.nn.dynamic_rnn(Cell(), x, [3, 1], dtype=tf.float64)
        return outputs, state

    check_gradients(function, [normal(2, 3, 2), normal(4, 2, seed=1)])


# ---- what recurrent networks are for


def trained(loss: Any, feeds: Any, steps: int, rate: float = 0.05) -> list[float]:
    """The loss before, and after so many steps on the same batch."""
    step = tf.train.AdamOptimizer(rate).minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(loss, feeds)
        for _ in range(steps):
            session.run(step, feeds)
        return [before, session.run(loss, feeds)]


def test_sequence_to_vector_learns_which_digit_came_first() -> None:
    tf.set_random_seed(1)
    digits = np.random.default_rng(0).integers(0, 3, (24, 6))
    lengths = np.random.default_rng(1).integers(1, 7, 24)
    x, n = tf.placeholder(tf.int32, [None, None]), tf.placeholder(tf.int32, [None])
    cell = rnn_cell.MultiRNNCell([rnn_cell.BasicLSTMCell(8), rnn_cell.GRUCell(8)])
    _, state = tf.nn.dynamic_rnn(cell, tf.one_hot(x, 3), n, dtype=tf.float32)
    logits = tf.layers.dense(state[-1], 3)
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=x[:, 0], logits=logits)
    )
    before, after = trained(loss, {x: digits, n: lengths}, 60)
    assert before > 1
    assert after < 0.2


def test_sequence_to_sequence_learns_to_repeat_with_a_delay() -> None:
    tf.set_random_seed(1)
    x = np.random.default_rng(0).integers(0, 2, (16, 8)).astype(np.float32)[..., None]
    delayed = np.concatenate([np.zeros((16, 1, 1), np.float32), x[:, :-1]], 1)
    cells = rnn_cell.BasicRNNCell(8), rnn_cell.BasicRNNCell(8)
    (forward, backward), _ = tf.nn.bidirectional_dynamic_rnn(*cells, x, dtype=tf.float32)
    y = tf.layers.dense(tf.concat([forward, backward], 2), 1)
    before, after = trained(tf.reduce_mean(tf.square(y - delayed)), {}, 80)
    assert after < before / 20


def test_vector_to_sequence_feeds_its_output_back() -> None:
    """A decoder that learns one number after the other, and stops where it is told to."""
    tf.set_random_seed(1)
    start = tf.constant([[0.2], [0.8]])
    wanted = np.stack([start_at * 0.8 ** np.arange(1, 6) for start_at in (0.2, 0.8)]).astype("f4")
    cell = rnn_cell.GRUCell(6)

    def loop(time: Any, output: Any, state: Any, _: Any) -> Any:
        finished = tf.fill([2], time >= 5)
        if output is None:
            return finished, start, cell.zero_state(2, tf.float32), tf.zeros([1]), None
        with tf.variable_scope("out", reuse=tf.AUTO_REUSE):
            emitted = tf.layers.dense(output, 1, name="dense")
        return finished, emitted, state, emitted, None

    emitted, _, _ = tf.nn.raw_rnn(cell, loop)
    y = tf.transpose(emitted.stack()[:, :, 0])
    assert y.shape.as_list() == [2, None]
    before, after = trained(tf.reduce_mean(tf.square(y - wanted)), {}, 100)
    assert after < before / 50


def test_encoder_and_decoder_learn_to_reverse() -> None:
    tf.set_random_seed(2)
    words = np.random.default_rng(0).integers(1, 4, (20, 3))
    source = tf.constant(words, tf.int32)
    target = tf.constant(words[:, ::-1].copy(), tf.int32)
    table = tf.get_variable("embedding", [4, 6])
    _, state = tf.nn.dynamic_rnn(
        rnn_cell.LSTMCell(16), tf.nn.embedding_lookup(table, source), dtype=tf.float32, scope="in"
    )
    shifted = tf.concat([tf.zeros([20, 1], tf.int32), target[:, :-1]], 1)
    outputs, _ = tf.nn.dynamic_rnn(
        rnn_cell.LSTMCell(16),
        tf.nn.embedding_lookup(table, shifted),
        initial_state=state,
        scope="out",
    )
    logits = tf.layers.dense(outputs, 4)
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)
    )
    before, after = trained(loss, {}, 80)
    assert before > 1
    assert after < 0.1
