"""Native code in loops and branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.execute import bodies
from graphflow.execute.bodies import TieredBody
from graphflow.execute.program import Program

pytestmark = pytest.mark.usefixtures("graph")

X = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)


def bodies_of(session: tf.Session) -> list[Program]:
    """All bodies of what has run."""
    waiting = [
        getattr(p, "reference", p) for s in session._cache.values() for p in s.executable._programs
    ]
    found: list[Program] = []
    while waiting:
        found += waiting[-1].bodies
        waiting += waiting.pop().bodies
    return found


def natives(session: tf.Session) -> list[Any]:
    return [s.native for b in bodies_of(session) if isinstance(b, TieredBody)
            for s in b._signatures.values() if s.native is not None]  # fmt: skip


def step(x: Any, y: Any) -> Any:
    return tf.tanh(x * 0.5 + y) * tf.sigmoid(y) - 0.1


def power(x: Any) -> Any:
    return tf.while_loop(lambda i, v: i < 6, lambda i, v: (i + 1, step(v, x)), (0, x))[1]


def nested(x: Any) -> Any:
    def inner(v: Any) -> Any:
        return tf.while_loop(lambda j, u: j < 3, lambda j, u: (j + 1, step(u, x)), (0, v))[1]

    return tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, step(inner(v), v)), (0, x))[1]


def branching(x: Any) -> Any:
    def body(i: Any, v: Any) -> Any:
        odd = tf.equal(i % 2, 1)
        return i + 1, tf.cond(odd, lambda: step(v, x), lambda: step(x, v) * tf.exp(-v * v))

    return tf.while_loop(lambda i, v: i < 5, body, (0, x))[1]


def scanned(x: Any) -> Any:
    return tf.scan(lambda a, row: step(a, row) + tf.square(row), x, tf.zeros([5]))


def captured(x: Any) -> Any:
    w = tf.get_variable("w", [5, 5], initializer=tf.random_normal_initializer(seed=2))
    body = lambda i, v: (i + 1, tf.nn.relu(tf.matmul(v, w) + x) - 0.1 * v)  # noqa: E731
    return tf.while_loop(lambda i, v: i < 4, body, (0, x))[1]


def unrolled(x: Any) -> Any:
    rows = tf.reshape(tf.tile(x, [1, 3]), [4, 3, 5])
    cell = tf.nn.rnn_cell.LSTMCell(6, initializer=tf.random_normal_initializer(seed=1))
    return tf.nn.dynamic_rnn(cell, rows, sequence_length=[3, 1, 2, 0], dtype=tf.float32)[0]


LOOPS: list[Callable[[Any], Any]] = [power, nested, branching, scanned, captured, unrolled]


INPUTS = {"plain": X, "nan": X * np.float32(np.nan), "empty": X[:0]}
CASES = [
    pytest.param(loop, x, id=f"{loop.__name__}-{name}")
    for loop in LOOPS
    for name, x in INPUTS.items()
    if len(x) or loop not in (scanned, unrolled)  # over rows, of which there are none
]


@pytest.mark.parametrize(("loop", "x"), CASES)
def test_loops_and_their_gradients_agree(
    loop: Callable[[Any], Any], x: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = tf.placeholder(tf.float32, x.shape)
    y = loop(fed)
    fetches = [y, *tf.gradients(y, [fed, *tf.trainable_variables()])]
    results = {}
    for tier in ("reference", "native"):
        monkeypatch.setenv("GRAPHFLOW_TIER", tier)
        with tf.Session(seed=1) as session:
            session.run(tf.global_variables_initializer())
            results[tier] = [session.run(fetches, {fed: x}) for _ in range(2)]
            assert bool(natives(session)) == (tier == "native")
    for found in results["native"]:
        for a, b in zip(found, results["reference"][0], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_calls_of_kernels_are_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a gradient takes from lists it takes first: one native call does the rest."""
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    fed = tf.placeholder(tf.float32, X.shape)
    (gradient,) = tf.gradients(power(fed), [fed])
    with tf.Session() as session:
        session.run(gradient, {fed: X})
        plans = [native.plan for native in natives(session)]
    assert [len(plan.codes) for plan in plans] == [1, 1]
    assert any(plan.called for plan in plans)


def test_shapes_that_change_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")

    def body(i: Any, v: Any) -> Any:
        return i + 1, tf.concat([v, tf.tanh(v[-1:]) * 0.5 + tf.exp(-v[:1])], 0)

    y = tf.while_loop(
        lambda i, v: i < 20, body, (0, tf.ones([1])), [tf.TensorShape([]), tf.TensorShape([None])]
    )[1]
    wanted = [np.float32(1)]
    for _ in range(20):
        wanted.append(np.tanh(wanted[-1]) * np.float32(0.5) + np.exp(-wanted[0]))
    with tf.Session() as session:
        np.testing.assert_allclose(session.run(y), wanted, rtol=1e-5)
        (body_program,) = [b for b in bodies_of(session) if isinstance(b, TieredBody)]
        assert len(body_program._signatures) == bodies._SIGNATURES


def test_a_body_that_changes_something_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    total = tf.Variable(np.zeros(5, np.float32))

    def body(i: Any, v: Any) -> Any:
        with tf.control_dependencies([tf.assign_add(total, v * 0.5 + 1.0)]):
            return i + 1, step(v, v)

    y = tf.while_loop(lambda i, v: i < 4, body, (0, tf.constant(X[0])))[1]
    with tf.Session() as session:
        session.run(total.initializer)
        session.run(y)
        assert not natives(session)
        assert session.run(total).sum() > 15.0


def test_a_fault_has_the_users_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    fed = tf.placeholder(tf.float32, [5])

    def body(i: Any, v: Any) -> Any:
        return i + 2, tf.tanh(v) * 0.5 + tf.gather(fed, i) * tf.exp(-v)  # here

    y = tf.while_loop(lambda i, v: i < 8, body, (0, fed))[1]
    with tf.Session() as session:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"index 6 is not in") as found:
            session.run(y, {fed: X[0]})
        assert natives(session)
    assert any("# here" in note for note in found.value.__notes__)


def test_a_run_stays_with_what_it_has_begun_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that comes while a loop runs is for the next run."""
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")
    asked: list[Callable[[], None]] = []
    monkeypatch.setattr("graphflow.execute.tiers.Tiers._submit", lambda t, f: asked.append(f))
    seen: list[int] = []

    def look(v: Any) -> Any:
        for compile_now in asked:
            compile_now()
        asked.clear()
        seen.append(len(natives(session)))
        return v

    fed = tf.placeholder(tf.float32, X.shape)

    def body(i: Any, v: Any) -> Any:
        looked = tf.py_func(look, [v], tf.float32)
        looked.set_shape(X.shape)
        inner = tf.while_loop(lambda j, u: j < 2, lambda j, u: (j + 1, step(u, fed)), (0, looked))
        return i + 1, inner[1]

    y = tf.while_loop(lambda i, v: i < 3, body, (0, fed))[1]
    used = []
    usual = bodies.TieredBody._choice

    def choice(*arguments: Any) -> Any:
        used.append(usual(*arguments))
        return used[-1]

    monkeypatch.setattr(bodies.TieredBody, "_choice", choice)
    with tf.Session() as session:
        results = [session.run(y, {fed: X}) for _ in range(3)]
    assert seen == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert [native is not None for native in used] == [False, False, True]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_allclose(results[2], results[0], rtol=1e-5)


def test_where_bits_are_fixed_bodies_run_one_by_one() -> None:
    fed = tf.placeholder(tf.float32, X.shape)
    with tf.Session(config=tf.ConfigProto(deterministic=True)) as session:
        session.run(power(fed), {fed: X})
        assert not any(isinstance(b, TieredBody) for b in bodies_of(session))


def test_explain_tells_of_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    fed = tf.placeholder(tf.float32, X.shape)
    with tf.Session() as session:
        told = str(session.explain(power(fed), {fed: X}))
    assert "a body, native code" in told
