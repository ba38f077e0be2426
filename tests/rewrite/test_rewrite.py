"""Passes: what they simplify, what they must leave alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow.ops as tf
from graphflow.base import dtypes
from graphflow.build import OPS
from graphflow.build.graph import Graph
from graphflow.build.opdef import op
from graphflow.ops import state
from graphflow.ops.evaluate import PureContext, run
from graphflow.ops.rules import same
from graphflow.ops.sources import constant, identity, no_op, placeholder
from graphflow.rewrite import FAST_MATH, PASSES, prune, rewrite
from tests.growth import assert_linear


@op("TestFails", infer=same, grad=None)
def fails(xp: Any, x: "T") -> Any:  # noqa: F821
    """Fails when it runs."""
    raise RuntimeError("as it should")


@op("TestRandom", infer=same, grad=None, random=True)
def noise(xp: Any, ctx: Any, x: "T") -> Any:  # noqa: F821
    """Random."""
    return x


@pytest.fixture
def graph():
    graph = Graph()
    with graph.as_default():
        yield graph


def simplify(graph, *fetches, feeds=(), targets=(), passes=PASSES):
    return rewrite(prune(graph, fetches, targets, feeds), passes, validate=True)


def types(view):
    return sorted(o.type for o in view.order)


def f32(*dims):
    return placeholder(dtypes.float32, dims)


def call(kind, *inputs, **attrs):
    return OPS[kind](*inputs, **attrs)


# ---- folding


def test_constants_are_folded(graph):
    y = constant([1.0, 2.0]) + constant(3.0)
    view = simplify(graph, y)
    assert types(view) == ["Const"]
    folded = view.fetches[0].op
    np.testing.assert_array_equal(folded.attrs["value"], [4.0, 5.0])
    assert (folded.name, folded.site) == (y.op.name, y.op.site)
    assert view.origins[folded] == (y.op,)
    assert y.op.type == "Add"  # the user's graph is as it was
    assert folded.name in graph.by_name
    assert graph.by_name[folded.name] is y.op


@pytest.mark.parametrize(
    "view_of",
    [
        lambda x: tf.broadcast_to(x[:1], [3, 4]),
        lambda x: tf.transpose(x),
        lambda x: tf.reverse(x, [1]),
        lambda x: x[:, ::2],
    ],
)
def test_a_folded_value_lies_in_memory_as_the_ops_own(graph, view_of):
    x = constant(np.arange(12.0).reshape(3, 4))
    y = view_of(x)
    values = {x: x.op.attrs["value"]}
    for operation in prune(graph, [y], [], [x]).order:
        results = run(operation, values, PureContext())
        values.update(zip(operation.outputs, results, strict=True))
    folded = simplify(graph, y).fetches[0].op.attrs["value"]
    np.testing.assert_array_equal(folded, values[y])
    assert folded.strides == values[y].strides  # products and sums round by them
    assert not folded.flags.writeable


def test_static_shapes_are_folded_and_their_inputs_dropped(graph):
    x = f32(2, 3)
    view = simplify(graph, call("Shape", call("Tanh", x)), call("Size", x), feeds=[x])
    assert types(view) == ["Const", "Const"]
    assert view.fetches[0].op.attrs["value"].tolist() == [2, 3]
    unknown = placeholder(dtypes.float32, (None, 3))
    assert types(simplify(graph, call("Shape", unknown), feeds=[unknown])) == ["Shape"]
    rank = simplify(graph, call("Rank", unknown), feeds=[unknown])
    assert rank.fetches[0].op.attrs["value"] == 2


def test_large_values_are_not_folded(graph):
    assert "Fill" in types(simplify(graph, call("Fill", constant([1000, 1000]), constant(0.0))))


def test_a_failure_is_left_to_the_run(graph):
    assert "TestFails" in types(simplify(graph, fails(constant(1.0))))


def test_random_numbers_are_drawn_in_the_run(graph):
    one, two = noise(constant(1.0)), noise(constant(1.0))
    assert types(simplify(graph, one, two)) == ["Const", "TestRandom", "TestRandom"]


def test_a_fed_constant_is_not_folded(graph):
    a = constant(1.0)
    view = simplify(graph, a + 1.0, feeds=[a])
    assert types(view) == ["Add", "Const"]


def test_a_constant_that_waits_is_not_folded(graph):
    v = state.var_handle(shared_name="v", dims=(), dtype=dtypes.float32)
    with graph.control_dependencies([state.assign_variable(v, constant(1.0))]):
        y = constant(2.0)
    view = simplify(graph, y + 1.0)
    assert "AssignVariable" in types(view)
    assert "Add" in types(view)


# ---- common subexpressions


def test_equal_operations_are_merged_and_keep_their_sites(graph):
    x = f32(2)
    one = call("Tanh", x)
    two = call("Tanh", x)
    view = simplify(graph, one, two, feeds=[x])
    assert types(view) == ["Tanh"]
    assert view.fetches[0] is view.fetches[1]
    assert view.origins[view.order[0]] == (one.op, two.op)


def test_constants_that_only_look_equal_stay_apart(graph):
    zeros = [constant(v) for v in (0.0, -0.0, 0, False, np.float64(0))]
    assert len(simplify(graph, *zeros).order) == 5


def test_reads_from_before_the_step_are_merged_others_not(graph):
    v = state.var_handle(shared_name="v", dims=(), dtype=dtypes.float32)
    before = [state.read_variable(v) for _ in range(2)]
    write = state.assign_add_variable(v, constant(1.0))
    with graph.control_dependencies([write]):
        later = state.read_variable(v)
    view = simplify(graph, *before, later)
    assert view.fetches[0] is view.fetches[1]
    assert view.fetches[2] is not view.fetches[0]
    assert view.fetches[0].op in view.after[write.op]


def test_writes_are_neither_merged_nor_dropped(graph):
    v = state.var_handle(shared_name="v", dims=(), dtype=dtypes.float32)
    writes = [state.assign_add_variable(v, constant(1.0)) for _ in range(2)]
    view = simplify(graph, *writes)
    assert types(view).count("AssignAddVariable") == 2
    c = constant([True])  # what the rule drops has an effect that is needed
    y = call("Select", c, identity(constant([1.0])), call("Reshape", writes[0], [1]))
    assert "AssignAddVariable" in types(simplify(graph, y))


def test_requested_devices_keep_operations_apart(graph):
    x = f32(2)
    ys = []
    for device in ("/cpu:0", "/cpu:1"):
        with graph.device(device):
            ys.append(call("Tanh", x))
    assert types(simplify(graph, *ys, feeds=[x])) == ["Tanh", "Tanh"]


# ---- algebra

SIMPLER = {
    "double negation": (lambda x: -(-x), []),  # noqa: B002
    "minus minus": (lambda x: x - (-call("Tanh", x)), ["Add", "Tanh"]),
    "times one": (lambda x: x * 1.0, []),
    "one times": (lambda x: 1.0 * x, []),
    "times ones": (lambda x: x * constant(1.0, shape=(2, 3)), []),
    "over one": (lambda x: x / 1.0, []),
    "minus zero": (lambda x: x - 0.0, []),
    "plus negative zero": (lambda x: x + constant(-0.0), []),
    "times minus one": (lambda x: x * -1.0, ["Neg"]),
    "over a power of two": (lambda x: x / 8.0, ["Const", "Mul"]),
    "to the first": (lambda x: x**1.0, []),
    "transposed twice": (lambda x: call("Transpose", call("Transpose", x)), []),
    "not transposed": (lambda x: call("Transpose", x, perm=(0, 1)), []),
    "reshaped back": (
        lambda x: call("Reshape", call("Reshape", x, constant([6])), constant([2, 3])),
        [],
    ),
    "reshaped twice": (
        lambda x: call("Reshape", call("Reshape", x, constant([6])), constant([3, 2])),
        ["Const", "Reshape"],
    ),
    "cast to itself": (lambda x: call("Cast", x, dtype=dtypes.float32), []),
    "cast and back": (
        lambda x: call("Cast", call("Cast", x, dtype=dtypes.float64), dtype=dtypes.float32),
        [],
    ),
    "stopped": (lambda x: call("StopGradient", identity(x)), []),
    "joined alone": (lambda x: call("ConcatV2", x, axis=0), []),
    "tiled once": (lambda x: call("Tile", x, constant([1, 1])), []),
    "not padded": (lambda x: call("Pad", x, constant([[0, 0], [0, 0]])), []),
    "expanded and squeezed": (
        lambda x: call("Squeeze", call("ExpandDims", x, axis=1), axis=(1,)),
        [],
    ),
    "same branches": (lambda x: call("Select", call("Less", x, -x), x, x), []),
    "chosen": (lambda x: call("SelectV2", constant(True), x, -x), []),
    "not chosen": (lambda x: call("SelectV2", constant(False), -x, x), []),
    "no choice": (lambda x: call("SelectV2", call("Less", x, 0.0), x, x), []),
    "square of minus": (lambda x: call("Square", -x), ["Square"]),
    "not equal": (lambda x: call("LogicalNot", call("Equal", x, -x)), ["Neg", "NotEqual"]),
    "chain": (lambda x: identity(-(-(identity(x) * 1.0 - 0.0)) / 1.0), []),  # noqa: B002
}


@pytest.mark.parametrize("name", SIMPLER)
def test_exact_rules(graph, name):
    build, left = SIMPLER[name]
    x = f32(2, 3)
    assert types(simplify(graph, build(x), feeds=[x])) == left


STAYS = {
    "plus zero": lambda x: x + 0.0,
    "minus negative zero": lambda x: x - constant(-0.0),
    "times zero": lambda x: x * 0.0,
    "minus itself": lambda x: x - x,
    "broadcast": lambda x: x * constant(1.0, shape=(1, 1, 1)),
    "over three": lambda x: x / 3.0,
    "over a denormal's inverse": lambda x: x / constant(2.0**127),
    "narrow and back": lambda x: call(
        "Cast", call("Cast", x, dtype=dtypes.float16), dtype=dtypes.float32
    ),
    "log of exp": lambda x: call("Log", call("Exp", x)),
    "minus difference": lambda x: -(x - call("Tanh", x)),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_is_not_exact_stays(graph, name):
    x = f32(2, 3)
    y = STAYS[name](x)
    assert y.op in simplify(graph, y, feeds=[x]).order


def test_an_unknown_rank_may_be_broadcast(graph):
    x = placeholder(dtypes.float32)
    y = x * constant([[1.0]])
    assert y.op in simplify(graph, y, feeds=[x]).order
    assert types(simplify(graph, x * 1.0, feeds=[x])) == []


def test_unknown_sizes_may_be_broadcast(graph):
    x, c = placeholder(dtypes.float32, (None,)), placeholder(dtypes.bool_, (None,))
    y = call("SelectV2", c, x, x)
    assert y.op in simplify(graph, y, feeds=[x, c]).order


def test_shapes_are_taken_of_the_first_input(graph):
    x = placeholder(dtypes.float32, (None, 3))
    y = call("Shape", call("Tanh", -x), out_type=dtypes.int64)
    view = simplify(graph, y, feeds=[x])
    assert types(view) == ["Shape"]
    assert view.fetches[0].op.inputs == (x,)
    assert view.fetches[0].dtype is dtypes.int64


def test_complex_numbers_times_one_stay(graph):
    x = placeholder(dtypes.complex64, (2,))
    assert "Mul" in types(simplify(graph, x * 1.0, feeds=[x]))


def test_rules_do_not_look_through_feeds_or_waiting_operations(graph):
    x = f32(2)
    inner = -x
    y = -inner
    assert y.op in simplify(graph, y, feeds=[x, inner]).order
    with graph.control_dependencies(
        [
            state.assign_variable(
                state.var_handle(shared_name="v", dims=(), dtype=dtypes.float32), constant(1.0)
            )
        ]
    ):
        gate = identity(x)
    view = simplify(graph, identity(gate), feeds=[x])
    assert types(view) == ["AssignVariable", "Const", "Identity", "VarHandle"]


def test_fetches_keep_their_positions(graph):
    x = f32(2)
    view = simplify(graph, identity(x), x, x * 1.0, x * 2.0, feeds=[x])
    assert view.fetches[:3] == (x, x, x)
    assert view.fetches[3].op.type == "Mul"


@pytest.mark.parametrize(
    "name", ["bfloat16", "float16", "float32", "float64", "complex64", "complex128", "int32"]
)
def test_rules_hold_in_every_dtype(graph, name):
    dtype = dtypes.as_dtype(name)
    x = placeholder(dtype, (None, 3))
    one, zero = (constant(v, dtype) for v in (1, 0))
    ys = [x * one, x - zero, x + zero, -(-x), x - (-x), call("Square", -x), (-x) * (-x)]  # noqa: B002
    view = prune(graph, ys, (), [x])
    for passes in (PASSES, PASSES + FAST_MATH):
        assert len(rewrite(view, passes, validate=True).order) < len(view.order)  # and no warning


def test_fast_math_is_a_table_of_its_own(graph):
    x = f32(2)
    y = call("Log", call("Exp", x)) + 0.0
    assert types(simplify(graph, y, feeds=[x], passes=PASSES + FAST_MATH)) == []
    z = x * 3.0 * 5.0
    view = simplify(graph, z, feeds=[x], passes=PASSES + FAST_MATH)
    assert types(view) == ["Const", "Mul"]


def test_names_stay_unique(graph):
    x = f32(2)
    ys = [(x * float(i)) / 8.0 for i in range(2, 6)]
    names = [o.name for o in simplify(graph, *ys, feeds=[x]).order]
    assert len(set(names)) == len(names)


# ---- dependencies


def test_edges_that_say_nothing_new_are_dropped(graph):
    v = state.var_handle(shared_name="v", dims=(), dtype=dtypes.float32)
    write = state.assign_variable(v, constant(1.0))
    with graph.control_dependencies([write]):
        gate = no_op()
    with graph.control_dependencies([gate, constant(0.0)]):
        last = identity(write)
    view = simplify(graph, last)
    assert view.after == {}
    assert last.op in view.order or write.op in view.order
    assert "NoOp" not in types(view)


# ---- laws

UNARY = ["Neg", "Abs", "Identity", "Tanh", "Square", "Relu", "StopGradient", "OnesLike"]
BINARY = ["Add", "Sub", "Mul", "RealDiv", "Maximum", "Minimum"]
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 0.25, 3.0, np.inf, np.nan])
SHAPES = st.sampled_from([(), (1,), (3,), (2, 3), (2, 1)])


@st.composite
def programs(draw):
    """(graph, feeds, fetches)."""
    graph = Graph()
    with graph.as_default():
        feeds = [f32(*draw(SHAPES)) for _ in range(2)]
        pool = [*feeds, *[constant(draw(NUMBERS), dtypes.float32) for _ in range(3)]]
        pool.append(constant(draw(NUMBERS), dtypes.float32, shape=(3,)))
        for _ in range(draw(st.integers(1, 25))):
            a, b = draw(st.sampled_from(pool)), draw(st.sampled_from(pool))
            kind = draw(st.sampled_from([*UNARY, *BINARY, "Transpose", "Select", "Reshape"]))
            if kind in UNARY or kind == "Transpose":
                pool.append(call(kind, a))
            elif kind == "Reshape":
                pool.append(call(kind, a, constant([-1])))
            elif kind == "Select":
                pool.append(call(kind, call("Less", a, a * 1.0), a, -(-a)))  # noqa: B002
            else:
                try:
                    pool.append(call(kind, a, b))
                except ValueError:
                    continue  # shapes that do not broadcast
        fetches = [*pool[-3:], draw(st.sampled_from(pool))]
    return graph, feeds, fetches


def compute(view, feeds):
    values = dict(feeds)
    for operation in view.order:
        if all(t in values for t in operation.outputs) and operation.outputs:
            continue
        results = run(operation, values, PureContext())
        for tensor, value in zip(operation.outputs, results, strict=True):
            values.setdefault(tensor, value)
    return [np.asarray(values[t]) for t in view.fetches]


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 3e38, 1e-40], np.float32)


@settings(deadline=None, max_examples=150)
@given(programs(), st.integers(0, 2**32 - 1))
def test_values_of_random_graphs_stay_to_the_bit(program, seed):
    graph, feeds, fetches = program
    rng = np.random.default_rng(seed)
    values = {t: np.asarray(rng.choice(SPECIAL, t.dims)) for t in feeds}
    view = prune(graph, fetches, (), feeds)
    simpler = rewrite(view)
    assert len(simpler.order) <= len(view.order) + 5
    for a, b in zip(compute(view, values), compute(simpler, values), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)  # NaN equals NaN, whatever its payload
        real = ~np.isnan(a)
        np.testing.assert_array_equal(np.signbit(a)[real], np.signbit(b)[real])
    again = rewrite(simpler)
    assert len(again.order) <= len(simpler.order)


def test_the_cost_is_linear(graph):
    def rewriting(size):
        x = y = f32(2)
        for _ in range(size):
            y = -(call("Tanh", identity(y)) * 1.5)
        return lambda: rewrite(prune(graph, [y], feeds=[x]))

    assert_linear(rewriting, 200)
    view = rewriting(2_500)()
    assert len(view.order) == 7_501
