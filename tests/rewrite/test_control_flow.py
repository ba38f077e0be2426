"""Cond and While own bodies: what happens in them counts."""

import pytest

import graphflow.ops  # noqa: F401  (enters the ops)
from graphflow.base import dtypes
from graphflow.build.graph import Graph
from graphflow.ops import state
from graphflow.ops.control_flow import cond, while_loop
from graphflow.ops.sources import constant, placeholder
from graphflow.rewrite import prune, rewrite
from graphflow.rewrite.effects import Touch, is_droppable, is_pure, resource, touches


@pytest.fixture
def graph():
    graph = Graph()
    with graph.as_default():
        yield graph


def variable(name):
    return state.var_handle(shared_name=name, dims=(), dtype=dtypes.float32, name=name)


def test_effects_inside_are_effects_of_the_owner(graph):
    v, w = variable("v"), variable("w")
    z = placeholder(dtypes.bool_, ())
    y = cond(z, lambda: state.read_variable(v), lambda: state.assign_add_variable(w, constant(1.0)))
    assert set(touches(y.op)) == {Touch("read", resource(v)), Touch("write", resource(w))}
    assert not is_pure(y.op)
    assert not is_droppable(y.op)
    reads = cond(z, lambda: state.read_variable(v), lambda: constant(1.0))
    assert is_droppable(reads.op)
    assert not is_pure(reads.op)


def test_nested_captures_are_traced_to_the_variable(graph):
    v = variable("v")
    z = placeholder(dtypes.bool_, ())
    y = while_loop(
        lambda i: i < 3.0,
        lambda i: cond(z, lambda: i + state.read_variable(v), lambda: i + 1.0),
        [constant(0.0)],
    )
    assert touches(y.op) == (Touch("read", resource(v)),)


def test_a_loop_is_kept_as_it_is_and_its_inputs_are_simplified(graph):
    x = placeholder(dtypes.float32, ())
    y = while_loop(lambda i: i < 3.0, lambda i: i + 1.0, [x * 1.0])
    view = rewrite(prune(graph, [y], feeds=[x]), validate=True)
    (loop,) = (o for o in view.order if o.type == "While")
    assert loop.inputs[0] is x
    assert loop.attrs == y.op.attrs
    assert view.origins[loop] == (y.op,)
