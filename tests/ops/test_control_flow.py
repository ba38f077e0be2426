"""Branches and loops in sessions: variables, effects, random numbers, errors of runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def initialise(session: Any) -> None:
    session.run(tf.global_variables_initializer())


def variable(value: Any, name: str | None = None) -> Any:
    return tf.Variable(np.asarray(value, np.float64), name=name)


def repeat(function: Any, first: Any, times: Any) -> Any:
    return tf.while_loop(lambda i, _: i < times, lambda i, a: (i + 1, function(a)), (0, first))[1]


def test_an_assignment_runs_when_its_branch_does(session: Any) -> None:
    v = variable(1.0)
    p = tf.placeholder(tf.bool, ())

    def then() -> Any:
        v.assign_add(10.0)  # nothing depends on it
        return tf.constant(1)

    y = tf.cond(p, then, lambda: tf.constant(2))
    initialise(session)
    assert session.run(y, {p: False}) == 2
    assert session.run(v) == 1.0
    assert session.run(y, {p: True}) == 1
    assert session.run(v) == 11.0


def test_assignments_returned_from_branches(session: Any) -> None:
    v = variable(0.0)
    p = tf.placeholder(tf.bool, ())
    y = tf.cond(p, lambda: v.assign(5.0).op, lambda: v.assign(7.0).op)
    initialise(session)
    session.run(y, {p: True})
    assert session.run(v) == 5.0
    session.run(tf.group(y), {p: False})
    assert session.run(v) == 7.0


def test_each_iteration_sees_the_writes_of_the_one_before(session: Any) -> None:
    v = variable(1.0)

    def body(i: Any, seen: Any) -> Any:
        with tf.control_dependencies([v.assign(v.read_value() * 2.0)]):
            return i + 1, seen + v.read_value()

    _, seen = tf.while_loop(lambda i, _: i < 3, body, (0, np.float64(0)))
    initialise(session)
    assert session.run(seen) == 2 + 4 + 8
    assert session.run(v) == 8.0


def test_a_failing_iteration_leaves_no_trace(session: Any) -> None:
    v = variable(0.0)
    sizes = tf.constant([1, 1, 2])

    def body(i: Any, a: Any) -> Any:
        v.assign_add(1.0)
        return i + 1, tf.reshape(a, [sizes[i]])  # this line

    y = tf.while_loop(
        lambda i, _: i < 3,
        body,
        (0, tf.placeholder_with_default(np.ones(1), [None])),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
    )
    initialise(session)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        session.run(y)
    assert "this line" in "".join(caught.value.__notes__)
    assert session.run(v) == 0.0


def test_gradients_of_variables_in_branches_and_loops(session: Any) -> None:
    w, u = variable([0.5, -1.0], "w"), variable([2.0, 3.0], "u")
    x = tf.constant(np.array([0.3, 0.9]))

    def model(branch: Any, loop: Any) -> Any:
        return tf.reduce_sum(loop(branch(x)))

    looped = model(
        lambda a: tf.cond(tf.constant(True), lambda: a * w, lambda: a * u),
        lambda a: repeat(lambda b: tf.sin(b) * w + u, a, 3),
    )

    def unrolled(a: Any) -> Any:
        for _ in range(3):
            a = tf.sin(a) * w + u
        return a

    plain = model(lambda a: a * w, unrolled)
    initialise(session)
    for _ in range(2):
        both = [tf.gradients(looped, [w, u]), tf.gradients(plain, [w, u])]
        got, wanted = session.run(both)
        np.testing.assert_allclose(got, wanted, rtol=1e-13)
        looped, plain = (sum(tf.reduce_sum(g * g) for g in found) for found in both)


@pytest.mark.parametrize("times", [0, 3])
def test_gradient_of_an_embedding_in_a_loop(session: Any, times: int) -> None:
    table = variable(np.arange(6.0).reshape(3, 2))
    ids = tf.constant([0, 2, 2])

    def body(i: Any, total: Any) -> Any:
        return i + 1, total + tf.square(tf.gather(table, [ids[i]]))

    total = tf.while_loop(lambda i, _: i < times, body, (0, np.zeros((1, 2))))[1]
    (g,) = tf.gradients(total, table)
    assert isinstance(g, tf.IndexedSlices)
    (second,) = tf.gradients(tf.square(g.values), table)
    initialise(session)
    dense = np.array([[0, 2], [0, 0], [16, 20]]) if times else np.zeros((3, 2))
    np.testing.assert_array_equal(session.run(tf.convert_to_tensor(g)), dense)
    wanted = np.array([[0, 8], [0, 0], [64, 80]]) if times else np.zeros((3, 2))
    np.testing.assert_array_equal(session.run(tf.convert_to_tensor(second)), wanted)
    step = tf.train.GradientDescentOptimizer(0.25).minimize(total)
    session.run(step)
    np.testing.assert_array_equal(session.run(table), np.arange(6.0).reshape(3, 2) - dense / 4)


def test_gradient_of_an_embedding_in_nested_loops(session: Any) -> None:
    table = variable(np.arange(6.0).reshape(3, 2))

    def outer(i: Any, total: Any) -> Any:
        return i + 1, repeat(lambda t: t + tf.gather(table, [i]), total, i + 1)

    total = tf.while_loop(lambda i, _: i < 3, outer, (0, np.zeros((1, 2))))[1]
    (g,) = tf.gradients(total, table)
    initialise(session)
    np.testing.assert_array_equal(session.run(tf.convert_to_tensor(g)), [[1] * 2, [2] * 2, [3] * 2])


def test_training_through_a_loop(session: Any) -> None:
    w = variable(0.0)
    loss = tf.square(repeat(lambda a: a * 0.5 + w, np.float64(0), 4) - 3.0)
    step = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    initialise(session)
    before = session.run(loss)
    for _ in range(50):
        session.run(step)
    assert session.run(loss) < before * 1e-6


def test_a_variable_made_in_a_loop_is_made_once(session: Any) -> None:
    def body(i: Any, a: Any) -> Any:
        w = tf.get_variable("w", (), tf.float32, tf.constant_initializer(3.0))
        return i + 1, a * w

    y = tf.while_loop(lambda i, _: i < 2, body, (0, 1.0))[1]
    assert [v.name for v in tf.global_variables()] == ["w:0"]
    (g,) = tf.gradients(y, tf.global_variables())
    initialise(session)
    assert session.run([y, g]) == [9.0, 6.0]


def test_its_first_value_cannot_come_from_the_loop(session: Any) -> None:
    with pytest.raises(ValueError, match="lifted out"):
        tf.while_loop(lambda a: a < 1.0, lambda a: tf.Variable(a * 2.0) + a, [tf.constant(0.0)])


def test_each_iteration_draws_other_numbers(session: Any) -> None:
    draws = tf.map_fn(lambda _: tf.random_uniform([]), tf.zeros([4]))
    first, second = session.run(draws), session.run(draws)
    assert len({*first.tolist(), *second.tolist()}) == 8


def test_the_gradient_uses_the_numbers_that_were_drawn(session: Any) -> None:
    x = tf.constant(1.0)
    kept: list[Any] = []

    def body(i: Any, a: Any) -> Any:
        kept.append(tf.random_uniform([], 1.0, 2.0))
        return i + 1, a * kept[-1]

    y = tf.while_loop(lambda i, _: i < 3, body, (0, x))[1]
    got, slope = session.run([y, tf.gradients(y, x)[0]])
    np.testing.assert_allclose(got, slope, rtol=1e-6)


def test_a_plan_made_before_the_gradient_still_runs(session: Any) -> None:
    x = tf.placeholder(tf.float64, ())
    y = repeat(lambda a: tf.sin(a) * x, x, 3)
    z = tf.cond(x > 0.0, lambda: tf.sin(x) * x, lambda: x)
    before = session.run([y, z], {x: 0.5})
    slopes = tf.gradients([y, z], x)
    session.run(slopes, {x: 0.5})
    assert session.run([y, z], {x: 0.5}) == before


def test_a_loop_that_does_not_end_can_be_timed_out(session: Any) -> None:
    y = tf.while_loop(lambda i: i >= 0, lambda i: i * 0, [0])
    options = tf.RunOptions(timeout_in_ms=200)
    with pytest.raises(tf.errors.DeadlineExceededError):
        session.run(y, options=options)


def test_parameters_of_other_threads_graphs(session: Any) -> None:
    """Loops of two threads at once keep apart."""
    n = tf.placeholder(tf.int32, ())
    y = tf.while_loop(lambda i, _: i < n, lambda i, t: (i + 1, t + i), (0, 0))[1]
    found: dict[int, Any] = {}

    def run(k: int) -> None:
        found[k] = session.run(y, {n: k})

    threads = [threading.Thread(target=run, args=(k,)) for k in (10, 200, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: k * (k - 1) // 2 for k in (10, 200, 30)}


def test_on_two_devices() -> None:
    config = tf.ConfigProto(device_count={"CPU": 2})
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        x = tf.placeholder(tf.float64, ())
        with tf.device("/cpu:1"):
            y = repeat(lambda a: tf.sin(a) * x, x, 3)
        with tf.device("/cpu:0"):
            z = tf.cond(y > 0.0, lambda: y * x, lambda: x)
        plain = x
        for _ in range(3):
            plain = tf.sin(plain) * x
        plain = plain * x
        got, wanted = session.run([tf.gradients(z, x), tf.gradients(plain, x)], {x: 0.7})
        np.testing.assert_allclose(got, wanted, rtol=1e-14)


def _nested(written_out: bool) -> list[Any]:
    """Rows mapped through three steps, each a scan or not, with captures; of both orders."""
    rows = tf.constant(np.random.default_rng(0).normal(size=(3, 4)))
    w = tf.get_variable("w", initializer=np.full(4, 0.7))
    k = tf.constant(np.linspace(0.5, 1.0, 4))
    steps = tf.get_variable("steps", initializer=0, trainable=False)

    def scanned(v: Any) -> Any:
        if not written_out:
            return tf.scan(lambda c, e: tf.sin(c * e[0]) + e[1], (w, v), initializer=v[0])
        c, found = v[0], []
        for j in range(4):
            c = tf.sin(c * w[j]) + v[j]
            found.append(c)
        return tf.stack(found)

    def body(i: Any, v: Any) -> Any:
        with tf.control_dependencies([steps.assign_add(1)]):
            return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: scanned(v), lambda: v * k - w)

    def row(v: Any) -> Any:
        if written_out:
            return scanned(scanned(v) * k - w)
        return tf.while_loop(lambda i, _: i < 3, body, [0, v])[1]

    y = tf.stack([row(rows[i]) for i in range(3)]) if written_out else tf.map_fn(row, rows)
    inputs = [rows, w, k]
    first = tf.gradients(tf.reduce_sum(y * y), inputs)
    second = tf.gradients([tf.reduce_sum(g * g) for g in first], inputs)
    return [steps.read_value(), y, *first, *second]


def test_a_branch_in_a_loop_in_a_map_with_assignments_has_gradients_of_both_orders() -> None:
    found = []
    for written_out in (False, True):
        with tf.Graph().as_default(), tf.Session() as session:
            fetches = _nested(written_out)
            session.run(tf.global_variables_initializer())
            found.append(session.run(fetches[1:]))
            counted = session.run(fetches[0])
        assert counted == (0 if written_out else 9)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, 1e-12, 1e-12)
