"""Recurrent programs that run under TensorFlow and under graphflow: name -> program.

A program takes the module `tf` and returns tensors.  `record_rnn.py` keeps TensorFlow's values and
names of variables, `test_rnn_against_tensorflow.py` compares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Program = Callable[[Any], list[Any]]
PROGRAMS: dict[str, Program] = {}
LENGTHS = [4, 2, 0]


def program(function: Program) -> Program:
    PROGRAMS[function.__name__] = function
    return function


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def with_gradients(tf: Any, results: Any, inputs: list[Any]) -> list[Any]:
    """The tensors of a structure, and the gradients of a weighted sum of them."""
    tensors = flat(results)
    total = 0.0
    for y in tensors:
        weights = tf.reshape(tf.range(1, tf.size(y) + 1), tf.shape(y))
        total += tf.reduce_sum(y * tf.cos(tf.cast(weights, y.dtype)))
    wrt = [*inputs, *tf.trainable_variables()]
    return [*tensors, *[g for g in tf.gradients(total, wrt) if g is not None]]


def flat(structure: Any) -> list[Any]:
    if isinstance(structure, (tuple, list)):
        return [leaf for part in structure for leaf in flat(part)]
    return [structure]


def weighted(tf: Any) -> Any:
    """A scope whose variables have fixed values."""

    def initial(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
        return tf.constant(normal(*[int(n) for n in shape], seed=7) / 2, dtype)

    return tf.variable_scope("model", initializer=initial, dtype=tf.float64)


def steps(tf: Any, make: Callable[[Any], Any], size: Any, count: int = 2) -> list[Any]:
    """Steps of a cell from a state that is not zero."""
    with weighted(tf):
        cell = make(tf.nn.rnn_cell)
        inputs = [tf.constant(normal(3, 2, seed=i)) for i in range(count)]
        first = size(lambda n: tf.constant(normal(3, n, seed=9)))
        state, results = first, []
        for x in inputs:
            y, state = cell(x, state)
            results += [y, *flat(state)]
        return with_gradients(tf, results, [*inputs, *flat(first)])


@program
def basic_rnn(tf: Any) -> list[Any]:
    return steps(tf, lambda c: c.BasicRNNCell(4), lambda zeros: zeros(4))


@program
def basic_rnn_relu(tf: Any) -> list[Any]:
    return steps(tf, lambda c: c.BasicRNNCell(4, tf.nn.relu), lambda zeros: zeros(4))


@program
def gru(tf: Any) -> list[Any]:
    return steps(tf, lambda c: c.GRUCell(4), lambda zeros: zeros(4))


@program
def basic_lstm(tf: Any) -> list[Any]:
    return steps(
        tf,
        lambda c: c.BasicLSTMCell(4, forget_bias=0.3),
        lambda zeros: tf.nn.rnn_cell.LSTMStateTuple(zeros(4), zeros(4)),
    )


@program
def basic_lstm_of_one_state(tf: Any) -> list[Any]:
    return steps(tf, lambda c: c.BasicLSTMCell(4, state_is_tuple=False), lambda zeros: zeros(8))


@program
def lstm(tf: Any) -> list[Any]:
    return steps(
        tf,
        lambda c: c.LSTMCell(4, forget_bias=0.3, name="mine"),
        lambda zeros: tf.nn.rnn_cell.LSTMStateTuple(zeros(4), zeros(4)),
    )


@program
def lstm_with_everything(tf: Any) -> list[Any]:
    return steps(
        tf,
        lambda c: c.LSTMCell(
            4, use_peepholes=True, cell_clip=0.6, num_proj=3, proj_clip=0.4, activation=tf.sin
        ),
        lambda zeros: tf.nn.rnn_cell.LSTMStateTuple(zeros(4), zeros(3)),
        3,
    )


@program
def lstm_of_one_state(tf: Any) -> list[Any]:
    return steps(
        tf,
        lambda c: c.LSTMCell(4, use_peepholes=True, num_proj=3, state_is_tuple=False),
        lambda zeros: zeros(7),
    )


@program
def stacked(tf: Any) -> list[Any]:
    def make(c: Any) -> Any:
        inner = c.ResidualWrapper(c.GRUCell(4))
        return c.MultiRNNCell([c.BasicRNNCell(4), inner, c.DeviceWrapper(c.GRUCell(3), "/cpu:0")])

    return steps(tf, make, lambda zeros: (zeros(4), zeros(4), zeros(3)))


@program
def stacked_of_one_state(tf: Any) -> list[Any]:
    return steps(
        tf,
        lambda c: c.MultiRNNCell([c.BasicRNNCell(4), c.GRUCell(3)], state_is_tuple=False),
        lambda zeros: zeros(7),
    )


def user_cell(tf: Any) -> Any:
    class Accumulator(tf.nn.rnn_cell.RNNCell):
        """A cell in the old style, with variables made in `call`."""

        @property
        def state_size(self) -> Any:
            return (2, tf.TensorShape([2]))

        @property
        def output_size(self) -> int:
            return 2

        def call(self, inputs: Any, state: Any) -> Any:
            w = tf.get_variable("w", [2, 2])
            total = state[0] + tf.matmul(inputs, w)
            return total * state[1], (total, tf.sin(state[1] + inputs))

    return Accumulator()


@program
def a_cell_of_the_user(tf: Any) -> list[Any]:
    return steps(tf, lambda _: user_cell(tf), lambda zeros: (zeros(2), zeros(2)), 3)


def model(tf: Any) -> Any:
    c = tf.nn.rnn_cell
    return c.MultiRNNCell([c.LSTMCell(3, num_proj=2), c.GRUCell(4)])


@program
def dynamic(tf: Any) -> list[Any]:
    x = tf.constant(normal(3, 5, 2))
    with weighted(tf):
        return with_gradients(tf, tf.nn.dynamic_rnn(model(tf), x, dtype=tf.float64), [x])


@program
def dynamic_with_lengths(tf: Any) -> list[Any]:
    x = tf.constant(normal(3, 5, 2))
    with weighted(tf):
        results = tf.nn.dynamic_rnn(model(tf), x, sequence_length=LENGTHS, dtype=tf.float64)
        return with_gradients(tf, results, [x])


@program
def dynamic_time_major(tf: Any) -> list[Any]:
    x, first = tf.constant(normal(5, 3, 2)), tf.constant(normal(3, 4, seed=9))
    with weighted(tf):
        cell = tf.nn.rnn_cell.GRUCell(4)
        results = tf.nn.dynamic_rnn(
            cell, x, sequence_length=LENGTHS, initial_state=first, time_major=True, scope="here"
        )
        return with_gradients(tf, results, [x, first])


@program
def dynamic_of_a_cell_of_the_user(tf: Any) -> list[Any]:
    x = tf.constant(normal(3, 5, 2))
    with weighted(tf):
        results = tf.nn.dynamic_rnn(user_cell(tf), x, LENGTHS, dtype=tf.float64)
        return with_gradients(tf, results, [x])


@program
def static(tf: Any) -> list[Any]:
    inputs = [tf.constant(normal(3, 2, seed=i)) for i in range(4)]
    with weighted(tf):
        results = tf.nn.static_rnn(model(tf), inputs, dtype=tf.float64)
        return with_gradients(tf, results, inputs)


@program
def static_with_lengths(tf: Any) -> list[Any]:
    inputs = [tf.constant(normal(3, 2, seed=i)) for i in range(6)]
    with weighted(tf):
        results = tf.nn.static_rnn(model(tf), inputs, dtype=tf.float64, sequence_length=LENGTHS)
        return with_gradients(tf, results, inputs)


@program
def both_ways(tf: Any) -> list[Any]:
    x = tf.constant(normal(3, 5, 2))
    c = tf.nn.rnn_cell
    with weighted(tf):
        results = tf.nn.bidirectional_dynamic_rnn(
            c.BasicLSTMCell(3), c.GRUCell(4), x, sequence_length=LENGTHS, dtype=tf.float64
        )
        more = tf.nn.bidirectional_dynamic_rnn(
            c.GRUCell(2), c.GRUCell(2), x, dtype=tf.float64, time_major=True, scope="other"
        )
        return with_gradients(tf, [results, more], [x])


@program
def static_both_ways(tf: Any) -> list[Any]:
    inputs = [tf.constant(normal(3, 2, seed=i)) for i in range(5)]
    c = tf.nn.rnn_cell
    with weighted(tf):
        results = tf.nn.static_bidirectional_rnn(
            c.BasicLSTMCell(3),
            c.GRUCell(4),
            inputs,
            dtype=tf.float64,
            sequence_length=LENGTHS,
        )
        more = tf.nn.static_bidirectional_rnn(
            c.GRUCell(2), c.GRUCell(2), inputs, dtype=tf.float64, scope="other"
        )
        return with_gradients(tf, [results, more], inputs)


@program
def raw(tf: Any) -> list[Any]:
    """`dynamic_rnn` from its parts, with the sum of the inputs in the loop state."""
    x, lengths = tf.constant(normal(5, 3, 2)), tf.constant(LENGTHS)
    entries = tf.TensorArray(tf.float64, 5).unstack(x)
    with weighted(tf):
        cell = tf.nn.rnn_cell.BasicLSTMCell(3)

        def loop(time: Any, output: Any, state: Any, total: Any) -> Any:
            if output is None:
                state, total = cell.zero_state(3, tf.float64), tf.zeros([3, 2], tf.float64)
            finished = time >= lengths
            inputs = tf.cond(
                tf.reduce_all(finished),
                lambda: tf.zeros([3, 2], tf.float64),
                lambda: entries.read(time),
            )
            return finished, inputs, state, output, total + inputs

        outputs, state, total = tf.nn.raw_rnn(cell, loop)
        return with_gradients(tf, [outputs.stack(), state, total], [x])


@program
def encoder_and_greedy_decoder(tf: Any) -> list[Any]:
    """The decoder takes the embedding of the word it found most likely before."""
    words, size, batch = 5, 3, 2
    c = tf.nn.rnn_cell
    source = tf.constant(normal(batch, 4, 2))
    with weighted(tf):
        _, state = tf.nn.dynamic_rnn(
            c.GRUCell(size), source, sequence_length=[4, 3], dtype=tf.float64, scope="encoder"
        )
        table = tf.get_variable("embedding", [words, 2])
        kernel = tf.get_variable("out", [size, words])
        cell = c.GRUCell(size)

        def loop(time: Any, output: Any, last: Any, _: Any) -> Any:
            finished = time >= tf.constant([3, 5])
            if output is None:
                first = tf.nn.embedding_lookup(table, tf.zeros([batch], tf.int32))
                return finished, first, state, tf.zeros([words], tf.float64), None
            logits = tf.matmul(output, kernel)
            word = tf.nn.embedding_lookup(table, tf.argmax(logits, 1))
            return finished, word, last, logits, None

        logits, last, _ = tf.nn.raw_rnn(cell, loop, scope="decoder")
        variables = tf.trainable_variables()
        results = [logits.stack(), last]
        total = tf.reduce_sum(results[0] * normal(5, batch, words)) + tf.reduce_sum(last)
        gradients = [tf.convert_to_tensor(g) for g in tf.gradients(total, [source, *variables])]
        return [*results, *gradients]


@program
def truncated(tf: Any) -> list[Any]:
    """Two windows; no gradient goes from the second to the first."""
    x = tf.constant(normal(3, 6, 2))
    with weighted(tf):
        cell = tf.nn.rnn_cell.BasicLSTMCell(3)
        first, state = tf.nn.dynamic_rnn(cell, x[:, :3], dtype=tf.float64)
        state = tf.nn.rnn_cell.LSTMStateTuple(*[tf.stop_gradient(s) for s in state])
        second, state = tf.nn.dynamic_rnn(cell, x[:, 3:], initial_state=state)
        return with_gradients(tf, [first, second, state], [x])


@program
def dropouts(tf: Any) -> list[Any]:
    """Seeded dropout gives TensorFlow's numbers, in each step of a loop the next ones."""
    x = tf.constant(normal(3, 5, 2), tf.float32)
    tf.set_random_seed(5)
    results = []
    c = tf.nn.rnn_cell
    with weighted(tf), tf.variable_scope("single", dtype=tf.float32):
        for i, options in enumerate(
            [
                {"input_keep_prob": 0.6, "output_keep_prob": 0.7, "state_keep_prob": 0.8},
                {"output_keep_prob": tf.constant(0.5)},
                {
                    "variational_recurrent": True,
                    "input_size": 2,
                    "dtype": tf.float32,
                    "input_keep_prob": 0.6,
                    "output_keep_prob": 0.7,
                    "state_keep_prob": 0.5,
                },
            ]
        ):
            for unroll in ("dynamic", "static"):
                with tf.variable_scope(f"{unroll}_{i}"):
                    cell = c.MultiRNNCell([c.DropoutWrapper(c.LSTMCell(3), seed=42, **options)])
                    if unroll == "dynamic":
                        # One iteration at a time: TensorFlow's random ops would overtake.
                        results.append(
                            tf.nn.dynamic_rnn(cell, x, dtype=tf.float32, parallel_iterations=1)
                        )
                    else:
                        inputs = tf.unstack(x, axis=1)
                        results.append(tf.nn.static_rnn(cell, inputs, dtype=tf.float32))
    return with_gradients(tf, results, [x])


@program
def shared(tf: Any) -> list[Any]:
    """One cell in two networks, and cells in scopes that are reused."""
    x = tf.constant(normal(3, 4, 2))
    c = tf.nn.rnn_cell
    with weighted(tf):
        cell = c.GRUCell(2)
        a = tf.nn.dynamic_rnn(cell, x, dtype=tf.float64, scope="one")
        b = tf.nn.dynamic_rnn(cell, x * 2, dtype=tf.float64, scope="two")
        results = [a, b]
        for _ in range(2):
            with tf.variable_scope("again", reuse=tf.AUTO_REUSE):
                results.append(tf.nn.dynamic_rnn(c.BasicRNNCell(2), x, dtype=tf.float64))
        return with_gradients(tf, results, [x])
