"""Products that add to what their result holds: updates, residuals, biases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compile.loops.accumulate import accumulate
from graphflow.compile.loops.fuse import fuse
from graphflow.compile.loops.nests import Access, Nest, Product, Unit
from graphflow.compile.loops.values import Map, Multiply, Value, View, whole
from graphflow.compile.loops.verify import verify
from graphflow.compile.native import build, places
from graphflow.ops.expression import Node, apply

F32 = np.dtype(np.float32)
RATE = 0.1


@pytest.fixture(autouse=True)
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    with tf.Graph().as_default():
        yield


# ---- tasks


def argument(number: int) -> Node:
    return Node("arg", (), F32, number)


def product(m: int = 6, k: int = 4, n: int = 5) -> Multiply:
    a, b = Value((m, k), F32, "outside"), Value((k, n), F32, "outside")
    return Multiply(Value((m, n), F32), ((whole(a), whole(b)),), "product")


def mapped(body: Node, *inputs: View) -> Map:
    return Map(Value(inputs[0].shape, F32), inputs, body, "map")


def traffic(units: list[Unit]) -> int:
    """Elements of values of the result's size that are read or written; a product that holds
    nothing clears its result first."""
    total = 0
    for unit in units:
        if isinstance(unit, Product):
            loads = () if unit.start is None else unit.start.loads
            touched = [unit.out.value] * 3 + [a.value for a in loads if all(a.strides)]
        else:
            touched = [a.value for a, _ in unit.accesses if all(a.strides)]
        total += sum(v.size for v in touched)
    return total


def test_an_update_is_one_product_with_less_traffic() -> None:
    first = product()
    old = Value((6, 5), F32, "outside")
    step = mapped(apply("multiply", argument(0), RATE), whole(first.out))
    update = mapped(apply("subtract", argument(0), argument(1)), whole(old), whole(step.out))
    tasks = [first, step, update]
    (apart, (one,)) = [
        fuse(found, [update.out]) for found in (tasks, accumulate(tasks, {id(update.out)}))
    ]
    assert len(apart) == 2
    assert isinstance(one, Product)
    assert one.factors == (float(np.float32(-RATE)),)
    assert one.start is not None
    assert one.names == ("product", "map")
    verify(one)
    assert (traffic(apart), traffic([one])) == (6 * 30, 4 * 30)


def test_products_that_are_added_up_join_with_their_factors() -> None:
    first, second = product(k=4), product(k=7)
    half = mapped(apply("divide", argument(0), 2.0), whole(first.out))
    bias = View(Value((5,), F32, "outside"), (6, 5), (0, 1))
    body = apply("subtract", apply("add", argument(0), argument(2)), argument(1))
    total = mapped(body, whole(half.out), whole(second.out), bias)
    (found,) = accumulate([first, second, half, total], {id(total.out)})
    assert isinstance(found, Multiply)
    assert found.terms == (*first.terms, *second.terms)
    assert found.factors == (0.5, -1.0)
    assert found.start is not None
    assert found.start.inputs == (bias,)


def test_a_rest_with_a_sum_in_it_takes_its_factor() -> None:
    """w - 0.1 * (product + 0.01 w): weight decay."""
    first = product()
    old = Value((6, 5), F32, "outside")
    decayed = apply("add", argument(0), apply("multiply", argument(1), 0.01))
    gradient = mapped(decayed, whole(first.out), whole(old))
    body = apply("subtract", argument(0), apply("multiply", argument(1), RATE))
    update = mapped(body, whole(old), whole(gradient.out))
    (found,) = accumulate([first, gradient, update], {id(update.out)})
    assert isinstance(found, Multiply)
    assert found.start is not None
    assert {id(v.value) for v in found.start.inputs} == {id(old)}


def _rectified(first: Multiply) -> list[Any]:
    return [mapped(apply("maximum", argument(0), 0.0), whole(first.out))]


def _twice_used(first: Multiply) -> list[Any]:
    one = mapped(apply("add", argument(0), 1.0), whole(first.out))
    return [one, mapped(apply("exp", argument(0)), whole(first.out))]


def _nothing_left(first: Multiply) -> list[Any]:
    body = apply("add", argument(1), apply("multiply", argument(0), 0.0))
    return [mapped(body, whole(first.out), whole(Value((6, 5), F32, "outside")))]


def _not_in_order(first: Multiply) -> list[Any]:
    across = View(first.out, (5, 6), (1, 5))
    return [mapped(apply("add", argument(0), 1.0), across)]


def _squared(first: Multiply) -> list[Any]:
    return [mapped(apply("multiply", argument(0), argument(0)), whole(first.out))]


@pytest.mark.parametrize("users", [_rectified, _twice_used, _nothing_left, _not_in_order, _squared])
def test_what_is_not_linear_stays(users: Callable[[Multiply], list[Any]]) -> None:
    """A factor of 0 is no factor: GEMM would drop what is NaN."""
    first = product()
    tasks = [first, *users(first)]
    assert accumulate(tasks, {id(t.out) for t in tasks[1:]}) == tasks


def test_a_loop_that_goes_on_with_the_result_keeps_it_in_registers() -> None:
    first = product()
    biased = mapped(apply("add", argument(0), 1.0), whole(first.out))
    after = mapped(apply("tanh", argument(0)), whole(biased.out))
    tasks = [first, biased, after]
    assert accumulate(tasks, {id(after.out)}) == tasks
    assert len(accumulate(tasks, {id(after.out), id(biased.out)})) == 2  # it is stored anyway


def test_the_verifier_knows_what_a_start_is() -> None:
    first = product()
    old = Value((6, 5), F32, "outside")
    total = mapped(apply("add", argument(0), argument(1)), whole(old), whole(first.out))
    (unit,) = fuse(accumulate([first, total], {id(total.out)}), [total.out])
    assert isinstance(unit, Product)
    start = unit.start
    assert start is not None
    verify(unit)
    narrow = replace(start, shape=(6, 4))
    elsewhere = replace(unit.out, value=Value((6, 5), F32))
    for broken in (
        replace(unit, start=narrow),
        replace(unit, out=elsewhere),
        replace(unit, start=replace(start, loads=(unit.out,))),
        replace(unit, factors=(1.0, 1.0)),
        replace(unit, start=replace(start, loads=(Access(old, (5, 1), 1),))),
    ):
        with pytest.raises(ValueError, match="map"):
            verify(broken)


# ---- programs


def units_of(session: tf.Session, fetches: Any, feeds: Any) -> list[Unit]:
    found = [r.native for r in session.explain(fetches, feeds) if r.native is not None]
    return [u for native in found for units in native.units for u in units]


def floats(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32) * 0.1


def run(program: Callable[[], Any], steps: int = 3, **options: Any) -> tuple[Any, list[Unit]]:
    with tf.Graph().as_default():
        fetches, feeds = program()
        config = tf.ConfigProto(**{"intra_op_parallelism_threads": 2, **options})
        with tf.Session(config=config) as session:
            session.run(tf.global_variables_initializer())
            return [session.run(fetches, feeds) for _ in range(steps)], units_of(
                session, fetches, feeds
            )


def regression(optimizer: Any, rows: int = 40, inner: int = 8, columns: int = 24) -> Any:
    """A layer of weights [inner, columns], and a bias."""

    def build() -> Any:
        x = tf.placeholder(tf.float32, [rows, inner])
        w = tf.Variable(floats(inner, columns))
        y = tf.matmul(x, w) + tf.Variable(floats(columns))
        loss = tf.reduce_mean(tf.square(tf.tanh(y)))
        with tf.control_dependencies([optimizer().minimize(loss)]):
            return [loss, w.read_value()], {x: floats(rows, inner)}

    return build


def scheduled(fed: float) -> Any:
    """Gradient descent at a rate that is fed, and falls with the steps."""

    def build() -> Any:
        start = tf.placeholder(tf.float32, [])
        step = tf.Variable(0, trainable=False)
        rate = start / (1.0 + tf.cast(step, tf.float32)) + start * start
        x = tf.placeholder(tf.float32, [6, 8])
        w = tf.Variable(floats(8, 5))
        loss = tf.reduce_mean(tf.square(tf.matmul(x, w)))
        update = tf.train.GradientDescentOptimizer(rate).minimize(loss, global_step=step)
        with tf.control_dependencies([update]):
            return [loss, w.read_value()], {x: floats(6, 8), start: np.float32(fed)}

    return build


def residual() -> Any:
    """[batch, steps, width] through two layers that add to what was there."""
    x = tf.placeholder(tf.float32, [3, 7, 12])
    h = x
    for _ in range(2):
        flat = tf.matmul(tf.reshape(h, [21, 12]), tf.Variable(floats(12, 12)))
        h = h + tf.reshape(flat, [3, 7, 12]) + tf.Variable(floats(12))
    return [h], {x: floats(3, 7, 12)}


def wide() -> Any:
    """A product whose columns are shared by two workers."""
    x = tf.placeholder(tf.float32, [8, 512])
    return [tf.matmul(x, tf.Variable(floats(512, 1030))) + tf.Variable(floats(8, 1030))], {
        x: floats(8, 512)
    }


def gradient_descent() -> Any:
    return tf.train.GradientDescentOptimizer(RATE)


def momentum() -> Any:
    return tf.train.MomentumOptimizer(RATE, 0.9)


@pytest.mark.parametrize(
    ("program", "starts"),
    [
        (regression(gradient_descent), 1),
        (regression(gradient_descent, 64, 300, 300), 1),
        (regression(momentum), 1),
        (scheduled(0.3), 1),
        (scheduled(0.0), 1),
        (residual, 2),
        (wide, 1),
    ],
    ids=["descent", "descent of two workers", "momentum", "schedule", "still", "residual", "wide"],
)
def test_programs_agree_with_the_reference_tier(
    program: Any, starts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, units = run(program)
    assert sum(isinstance(u, Product) and u.start is not None for u in units) == starts
    again, _ = run(program)
    with monkeypatch.context() as patch:
        patch.setenv("GRAPHFLOW_TIER", "reference")
        with tf.Graph().as_default():
            fetches, feeds = program()
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                expected = [session.run(fetches, feeds) for _ in range(3)]
    for a, b, c in zip(found, again, expected, strict=True):
        for x, y, z in zip(a, b, c, strict=True):
            np.testing.assert_array_equal(x, y)
            np.testing.assert_allclose(x, z, rtol=2e-5, atol=2e-6)


def test_an_update_needs_no_loop_and_no_gradient_in_memory() -> None:
    _, units = run(regression(gradient_descent))
    weights = [
        u for u in units
        if isinstance(u, Nest) and any(a.value.shape == (8, 24) for a, _ in u.accesses)
    ]  # fmt: skip
    assert not weights


def test_where_each_operation_rounds_for_itself_products_stay_apart() -> None:
    _, units = run(regression(gradient_descent), deterministic=True)
    assert any(isinstance(u, Product) for u in units)
    assert not any(isinstance(u, Product) and u.start is not None for u in units)


def test_what_was_committed_is_not_overwritten() -> None:
    """The update goes to a buffer of its own: what was fetched before stays."""
    with tf.Graph().as_default():
        (loss, w), feeds = regression(gradient_descent)()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            held = [session.run([loss, w], feeds)[1] for _ in range(6)]
            copies = [h.copy() for h in held]
            for _ in range(6):
                session.run(loss, feeds)
            for a, b in zip(held, copies, strict=True):
                np.testing.assert_array_equal(a, b)


def stream(depth: int = 3, width: int = 64) -> Any:
    """Layers that read what the one before has added up, and add to it."""
    x = tf.placeholder(tf.float32, [96, width])
    h = tf.tanh(x)
    for _ in range(depth):
        inner = tf.nn.relu(tf.matmul(h, tf.Variable(floats(width, width))))
        h = h + tf.matmul(inner, tf.Variable(floats(width, width)))
    return [tf.matmul(h, tf.Variable(floats(width, 2)))], {x: floats(96, width)}


@pytest.mark.parametrize("threads", [1, 2])
def test_what_nothing_else_reads_is_added_to_in_place(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits without; a product never overwrites its own factor."""
    found = []
    for apart in (False, True):
        if apart:
            monkeypatch.setattr(places, "overlays", lambda units, uses, split: [])
        monkeypatch.setattr(build, "_SMALL", 0)
        with tf.Graph().as_default():
            fetches, feeds = stream()
            config = tf.ConfigProto(intra_op_parallelism_threads=threads)
            with tf.Session(config=config) as session:
                session.run(tf.global_variables_initializer())
                result = session.run(fetches, feeds)
                (report,) = session.explain(fetches, feeds)
                found.append((session.run(fetches, feeds), result, report.native))
    (twice, once, native), (expected, _, other) = found
    np.testing.assert_array_equal(twice, expected)
    np.testing.assert_allclose(once, expected, rtol=1e-5, atol=1e-6)
    starts = [u for s in native.units for u in s if isinstance(u, Product) and u.start is not None]
    roots = native.arena.roots
    assert len(starts) == 3
    assert all(id(u.out.value) in roots for u in starts)
    assert native.arena.size < other.arena.size


def test_a_rate_of_zero_hides_no_nan() -> None:
    rate = tf.placeholder(tf.float32, [])
    x = tf.placeholder(tf.float32, [6, 8])
    base = floats(6, 5)
    y = tf.constant(base) - rate * tf.matmul(x, tf.constant(floats(8, 5)))
    values = floats(6, 8)
    values[2, 3] = np.nan
    with tf.Session() as session:
        still, moved = [session.run(y, {x: values, rate: r}) for r in (0.0, 0.5)]
        (product,) = units_of(session, y, {x: values, rate: 0.0})
    assert isinstance(product, Product)
    for found in (still, moved):
        assert np.isnan(found).any(1).tolist() == [i == 2 for i in range(6)]
        assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(np.delete(still, 2, 0), np.delete(base, 2, 0))


# ---- random sums

_EXAMPLES = int(os.environ.get("GRAPHFLOW_EXAMPLES", "12"))  # with a seed: a longer hunt
_KINDS = ["product", "row", "whole", "scaled", "fed", "chain"]
_TERMS = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.sampled_from([-1, 1, 0.5, 3])), min_size=2, max_size=6
)


@settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(terms=_TERMS, m=st.sampled_from([1, 2, 9, 33]), n=st.sampled_from([1, 3, 16, 40]))
def test_random_sums(terms: list[tuple[str, float]], m: int, n: int) -> None:
    def program() -> Any:
        x, number = tf.placeholder(tf.float32, [m, 5]), tf.placeholder(tf.float32, [])
        total: Any = tf.matmul(x, tf.constant(floats(5, n)))
        for kind, factor in terms:
            if kind == "product":
                total = total + tf.matmul(x * 2.0, tf.constant(floats(5, n))) * factor
            elif kind == "row":
                total = tf.constant(floats(n)) - total
            elif kind == "whole":
                total = total + tf.tanh(tf.constant(floats(m, n))) * factor
            elif kind == "scaled":
                total = total * factor
            elif kind == "fed":
                total = (total + number) * number
            else:
                total = tf.matmul(total, tf.constant(floats(n, n))) + total / 2.0
        return [total, tf.reduce_sum(total)], {x: floats(m, 5), number: np.float32(0.7)}

    found, _ = run(program, steps=1)
    with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default():
        patch.setenv("GRAPHFLOW_TIER", "reference")
        fetches, feeds = program()
        with tf.Session() as session:
            expected = session.run(fetches, feeds)
    for a, b in zip(found[0], expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * (1 + np.abs(b).max()))
