"""What is needed, in which order, with which feeds."""

from typing import Any

import numpy as np
import pytest

from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build.body import build_body
from graphflow.build.graph import Graph
from graphflow.build.opdef import op
from graphflow.ops import state
from graphflow.ops.queues import FIFOQueue
from graphflow.ops.rules import same
from graphflow.ops.sources import constant, identity, no_op, placeholder
from graphflow.rewrite import prune
from tests.growth import assert_linear


@op("TestSplit", infer=lambda x: [(x.dims, x.dtype)] * 2, grad=None)
def split(xp: Any, x: "T") -> Any:  # noqa: F821
    """Two outputs."""
    return x, x


@op("TestEmit", infer=same, grad=None, effect="output")
def emit(xp: Any, x: "T") -> Any:  # noqa: F821
    """An effect without a resource."""
    return x


@op("TestBranch", infer=lambda pred, *rest, body: [((), dtypes.float32)], grad=None)
def branch(xp: Any, ctx: Any, pred: "Bool", *rest: "Each", body: Any) -> Any:  # noqa: F821
    """Runs a body."""
    return ctx.call(body, rest)[0]


@pytest.fixture
def graph():
    graph = Graph()
    with graph.as_default():
        yield graph


def names(view):
    return [o.name for o in view.order]


def variable(name):
    return state.var_handle(shared_name=name, dims=(), dtype=dtypes.float32, name=name)


def waits(view, later, earlier):
    """Does `later` wait for `earlier`, by data or order?"""
    stack, seen = [later], set()
    while stack:
        operation = stack.pop()
        if operation is earlier:
            return True
        if operation not in seen:
            seen.add(operation)
            stack += [t.op for t in operation.inputs if t not in view.feeds]
            stack += view.after.get(operation, ())
    return False


def check_order(view):
    """Every operation comes after all that it waits for."""
    place = {o: i for i, o in enumerate(view.order)}
    feeds = set(view.feeds)
    for operation in view.order:
        for before in [t.op for t in operation.inputs if t not in feeds]:
            assert place[before] < place[operation]
        for before in view.after.get(operation, ()):
            assert place[before] < place[operation]


def test_only_what_is_needed_stays(graph):
    a = constant(1.0, name="a")
    identity(a, name="unused")
    y = identity(a, name="y")
    assert names(prune(graph, [y])) == ["a", "y"]


def test_feeding_cuts(graph):
    a = constant(1.0, name="a")
    b = identity(a, name="b")
    y = identity(b, name="y")
    assert names(prune(graph, [y], feeds=[b])) == ["y"]
    assert names(prune(graph, [y, b], feeds=[b])) == ["y"]
    assert names(prune(graph, [b], feeds=[b])) == []
    assert names(prune(graph, [b], [b.op], feeds=[b])) == ["a", "b"]  # asked to run, too
    assert names(prune(graph, [b], feeds=[y])) == ["a", "b"]  # the fed tensor is superfluous


def test_other_outputs_of_a_fed_operation_are_computed(graph):
    x = constant(1.0, name="x")
    p, q = split(x, name="split")
    assert names(prune(graph, [identity(p, name="y"), q], feeds=[p])) == ["x", "split", "y"]
    assert names(prune(graph, [graph.get_tensor_by_name("y:0")], feeds=[p])) == ["y"]


def test_control_dependencies_are_needed(graph):
    first = no_op(name="first")
    with graph.control_dependencies([first]):
        y = constant(1.0, name="y")
    late = no_op(name="late")
    graph.add_control_input(y.op, late)
    view = prune(graph, [y])
    assert names(view) == ["first", "late", "y"]
    assert view.after[y.op] == (first, late)


def test_waiting_for_a_fed_placeholder_is_waiting_for_nothing(graph):
    x = placeholder(dtypes.float32, name="x")
    with graph.control_dependencies([x]):
        y = constant(1.0, name="y")
    assert names(prune(graph, [y], feeds=[x])) == ["y"]


def test_a_cycle_names_both_lines(graph):
    a = identity(constant(1.0), name="a")
    b = identity(a, name="b")
    graph.add_control_input(a.op, b.op)
    with pytest.raises(GraphError, match=r"'a' \(built at .*test_prune.*'b' \(built at .*test_pr"):
        prune(graph, [b])


def test_elements_of_other_graphs_are_refused(graph):
    with Graph().as_default():
        other = constant(1.0)
    with pytest.raises(GraphError, match=r"not in the graph that is run"):
        prune(graph, [other])


def test_a_body_is_pruned_like_a_graph(graph):
    outside = constant(1.0)
    body, y = build_body(lambda x: identity(outside), [((), dtypes.float32)])
    view = prune(body, [y], feeds=[*body.inputs, *body.captures.values()])
    assert [o.type for o in view.order] == ["Identity"]


# ---- the order of effects


def test_a_read_before_any_write_moves_to_the_front(graph):
    v = variable("v")
    write = state.assign_variable(v, constant(2.0), name="write")
    read = state.read_variable(v, name="read")
    view = prune(graph, [read, write])
    assert names(view)[:2] == ["v", "read"]
    assert waits(view, write.op, read.op)
    check_order(view)


def test_a_read_after_a_write_stays_after_it(graph):
    v = variable("v")
    one = state.assign_variable(v, constant(1.0), name="one")
    with graph.control_dependencies([no_op(), one]):
        read = state.read_variable(v, name="read")
    two = state.assign_variable(v, constant(2.0), name="two")
    view = prune(graph, [read, two])
    assert waits(view, read.op, one.op)
    assert waits(view, two.op, read.op)
    check_order(view)


def test_handles_of_one_variable_are_known_as_one(graph):
    v = variable("v")
    body, _ = build_body(lambda: state.assign_variable(v, constant(3.0)), [])
    again = variable("v")
    owner = branch(constant(True), v, body=body, name="owner")
    later = state.assign_variable(again, constant(1.0), name="later")
    read = state.read_variable(v, name="read")
    view = prune(graph, [later, owner, read])
    assert waits(view, later.op, owner.op)
    assert waits(view, owner.op, read.op)
    check_order(view)


def reading_branch(v, *inputs):
    body, y = build_body(lambda *_: state.read_variable(v), [((), dtypes.float32)] * len(inputs))
    body.outputs.append(y)
    return branch(constant(True), *inputs, v, body=body)


def test_a_branch_that_reads_runs_before_the_write(graph):
    v = variable("v")
    write = state.assign_variable(v, constant(2.0))
    owner = reading_branch(v)
    view = prune(graph, [owner, write])
    assert waits(view, write.op, owner.op)
    check_order(view)


def test_where_that_closes_a_cycle_the_branch_joins_the_serial_order(graph):
    v, w = variable("v"), variable("w")
    write_v = state.assign_variable(v, constant(2.0))
    write_w = state.assign_variable(w, constant(2.0))
    read_w = reading_branch(w, write_v)
    read_v = reading_branch(v, write_w)
    view = prune(graph, [read_v, read_w])
    check_order(view)
    for read, write in ((read_v, write_v), (read_w, write_w)):
        assert waits(view, read.op, write.op) or waits(view, write.op, read.op)


def test_crossed_reads_and_writes_close_no_cycle(graph):
    """Each write depends on a read that the other write would have to wait for."""
    v, w = variable("v"), variable("w")
    set_v = state.assign_variable(v, constant(1.0))
    with graph.control_dependencies([set_v]):
        old_w = state.read_variable(w)
    set_w = state.assign_variable(w, constant(1.0))
    with graph.control_dependencies([set_w]):
        old_v = state.read_variable(v)
    view = prune(graph, [old_v, old_w])
    check_order(view)
    assert waits(view, set_v.op, old_v.op)
    assert waits(view, set_w.op, old_w.op)


def test_feeding_a_read_feeds_the_variable(graph):
    v = variable("v")
    fed, other = state.read_variable(v, name="fed"), state.read_variable(v, name="other")
    y = identity(other, name="y")
    view = prune(graph, [y, other, fed], feeds=[fed])
    assert [o.name for o in view.order] == ["y"]
    assert view.order[0].inputs == (fed,)
    assert view.fetches[1:] == (fed, fed)
    write = state.assign_variable(v, y, name="write")
    with graph.control_dependencies([write]):
        later = state.read_variable(v, name="later")
    view = prune(graph, [identity(later), y], feeds=[fed])
    assert "later" in names(view)  # what the step has written is not the fed value
    assert "other" not in names(view)
    check_order(view)


def test_outputs_keep_the_order_of_creation(graph):
    x = constant(1.0)
    one, two = emit(x, name="one"), emit(x, name="two")
    view = prune(graph, [two, one])
    assert waits(view, two.op, one.op)


def test_what_goes_into_a_queue_and_comes_out_keeps_its_order(graph):
    queue = FIFOQueue(4, dtypes.float32, ((),))
    put = queue.enqueue(constant(1.0))
    got = queue.dequeue()
    again = queue.enqueue(constant(2.0))
    view = prune(graph, [got], [again, put])
    assert waits(view, got.op, put)
    assert waits(view, again, got.op)


def test_the_cost_is_linear(graph):
    def pruning(size):
        x = y = placeholder(dtypes.float32)
        for _ in range(size):
            y = identity(y)
        return lambda: prune(graph, [y], feeds=[x])

    assert len(pruning(20_000)().order) == 20_000
    assert_linear(pruning, 2_000)


def test_results_are_frozen(graph):
    view = prune(graph, [constant(np.float32(1))])
    with pytest.raises(AttributeError):
        view.order = ()
