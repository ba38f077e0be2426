"""Plans: what they hold, when they free, that they travel, and what they do not touch."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compile import Plan, compile_plan
from graphflow.rewrite import prune


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def plan_of(fetches: Any, feeds: Any = (), targets: Any = ()) -> Plan:
    graph = tf.get_default_graph()
    view = prune(graph, list(fetches), list(targets), list(feeds))
    return compile_plan(view.order, view.feeds, view.fetches, view.origins)


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def test_each_slot_is_freed_by_its_last_reader(session):
    x = tf.placeholder(tf.float32, [2])
    a = tf.exp(x, name="a")
    b = tf.tanh(a, name="b")
    c = tf.add(a, b, name="c")
    plan = plan_of([c], [x])
    slot = {step.name: step.outputs[0] for step in plan.steps}
    frees = {step.name: set(step.frees) for step in plan.steps}
    assert frees == {
        "a": {plan.inputs[0].slot},
        "b": set(),
        "c": {slot["a"], slot["b"]},
    }


def test_what_nobody_reads_is_freed_at_once(session):
    x = tf.placeholder(tf.float32, [4])
    top = tf.nn.top_k(x, 2)
    plan = plan_of([top.indices], [x])
    (step,) = [s for s in plan.steps if len(s.outputs) == 2]
    values, indices = step.outputs
    assert values in step.frees
    assert indices not in step.frees


def test_constants_and_results_are_never_freed(session):
    x = tf.placeholder(tf.float32, [2])
    shared = tf.constant([1.0, 2.0])
    y = x * shared
    z = y + shared
    plan = plan_of([y, z], [x])
    freed = {slot for step in plan.steps for slot in step.frees}
    assert not freed & {*plan.constants, *[output.slot for output in plan.outputs]}


@pytest.mark.parametrize("steps", [20, 60])
def test_a_chain_of_any_length_holds_few_values(session, monkeypatch, steps):
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    monkeypatch.setenv("GRAPHFLOW_VALIDATE", "0")
    size = 1 << 20
    x = tf.placeholder(tf.float32, [size])
    y = x
    for i in range(steps):
        y = tf.concat([y[1:], y[:1]], 0) if i % 2 else tf.maximum(y, float(i))
    mine = np.ones(size, np.float32)
    with tf.Session() as session:
        session.run(y, {x: mine})
        tracemalloc.start()
        try:
            session.run(y, {x: mine})
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4.5 * mine.nbytes


def test_a_segment_ends_where_shapes_depend_on_values(session):
    x = tf.placeholder(tf.float32, [None])
    kept = tf.boolean_mask(x * 2.0, x > 0.0)
    plan = plan_of([tf.reduce_sum(tf.exp(kept))], [x])
    dynamic = [i for i, step in enumerate(plan.steps) if step.opdef.dynamic]
    assert dynamic
    ends = [end for _, end in plan.segments]
    assert [i + 1 for i in dynamic] == ends[:-1]
    assert plan.segments[0][0] == 0
    assert ends[-1] == len(plan.steps)
    assert all(a[1] == b[0] for a, b in zip(plan.segments, plan.segments[1:], strict=False))


def test_bodies_are_plans_that_keep_their_effects(session):
    v = tf.Variable(0.0, name="v")
    x = tf.placeholder(tf.float32, [])

    def body(i: Any) -> Any:
        with tf.control_dependencies([v.assign_add(x, name="inside")]):
            return i + 1

    loop = tf.while_loop(lambda i: i < 3, body, [0])
    plan = plan_of([loop], [x])
    (step,) = [s for s in plan.steps if s.opdef.name == "While"]
    bodies = [b for b in step.attrs.values() if isinstance(b, Plan)]
    assert any("inside" in name for b in bodies for name in names(b))


def test_a_plan_pickles_with_its_bodies_and_constants(session):
    v = tf.Variable([1.0, 2.0])
    x = tf.placeholder(tf.float32, [2])
    y = tf.cond(tf.reduce_sum(x) > 0.0, lambda: x * v, lambda: tf.stack([x[0], 7.0]))
    plan = plan_of([y, v.assign(y)], [x])
    copy = pickle.loads(pickle.dumps(plan))
    assert str(copy) == str(plan)
    assert copy.segments == plan.segments
    assert copy.inputs == plan.inputs
    assert [s.opdef for s in copy.steps] == [s.opdef for s in plan.steps]  # by name, not by value
    for slot, value in plan.constants.items():
        np.testing.assert_array_equal(copy.constants[slot], value)


def test_a_plan_holds_no_graph(session):
    x = tf.placeholder(tf.float32, [2])
    y = tf.while_loop(lambda a: tf.reduce_sum(a) < 9.0, lambda a: a * x, [x])
    seen: set[int] = set()

    def visit(value: Any) -> None:
        assert not isinstance(value, (tf.Graph, tf.Tensor, tf.Operation)), value
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Plan):
            visit((value.steps, dict(value.constants), value.inputs, value.outputs))
        elif isinstance(value, (tuple, list)):
            for each in value:
                visit(each)
        elif isinstance(value, dict):
            visit(list(value.values()))

    visit(plan_of([y], [x]))


def test_steps_name_the_lines_of_their_operations(session):
    x = tf.placeholder(tf.float32, [2])
    y = tf.exp(x, name="y")  # this line
    (step,) = plan_of([y], [x]).steps
    assert step.where.endswith("# this line")
    assert "test_plan.py" in step.where


def test_text_tells_steps_frees_and_results(session):
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    plan = plan_of([tf.exp(tf.add(x, [1.0, 2.0]), name="y")], [x])
    lines = str(plan).splitlines()
    assert lines[0] == f"{plan.inputs[0].slot} = input 'x:0' float32(?, 2)"
    assert "constant float32[2]" in lines[1]
    assert any(line.startswith("RUN ") and "Exp(" in line for line in lines)
    assert any(line.startswith("FREE ") for line in lines)
    assert lines[-1] == f"return {plan.outputs[0].slot}"


def test_an_unfed_placeholder_is_found_before_anything_runs(session):
    v = tf.Variable(0)
    session.run(v.initializer)
    missing = tf.placeholder(tf.int32, [], name="missing")
    with pytest.raises(tf.errors.InvalidArgumentError, match="'missing' with dtype int32"):
        session.run([v.assign_add(1), v.assign(missing)])
    assert session.run(v) == 0


def test_feeds_that_are_kept_are_marked(session):
    v = tf.Variable([0.0, 0.0])
    x, y = tf.placeholder(tf.float32, [2]), tf.placeholder(tf.float32, [2])
    plan = plan_of([v.assign(tf.reshape(x, [2])), tf.exp(y)], [x, y])
    assert [port.keep for port in plan.inputs] == [True, False]
