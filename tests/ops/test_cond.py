"""Branches: values, gradients of every order, captures, structures and errors."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.build import OPS, Graph, Tensor, as_tensor
from graphflow.differentiate import gradients
from graphflow.differentiate.check import check_gradients
from graphflow.ops.bodies import restricted
from graphflow.ops.cond import case, cond, switch_case
from graphflow.ops.evaluate import PureContext, evaluate, run
from graphflow.ops.sources import constant, no_op, placeholder
from graphflow.ops.while_loop import while_loop

Pair = collections.namedtuple("Pair", "a b")


@pytest.fixture(autouse=True)
def graph() -> Any:
    with Graph().as_default() as graph:
        yield graph


def scalar(name: str = "x") -> Tensor:
    return placeholder(dtypes.float64, (), name=name)


def flag(name: str = "p") -> Tensor:
    return placeholder(dtypes.bool_, (), name=name)


def test_takes_the_chosen_branch() -> None:
    x, p = scalar(), flag()
    y = cond(p, lambda: x * 2.0, lambda: x - 1.0)
    assert evaluate([y], {x: np.float64(3), p: np.True_}) == [6.0]
    assert evaluate([y], {x: np.float64(3), p: np.False_}) == [2.0]


def test_names_are_those_of_tensorflow() -> None:
    y = cond(flag(), lambda: constant(1), lambda: constant(2))
    assert y.name == "cond/Merge:0"
    assert cond(flag(), lambda: constant(1), lambda: constant(2), name="c").name == "c/Merge:0"


def test_old_argument_names() -> None:
    y = cond(constant(True), fn1=lambda: constant(1), fn2=lambda: constant(2))
    assert evaluate([y]) == [1]
    with pytest.raises(TypeError, match="true_fn or fn1"):
        cond(constant(True), lambda: 1, lambda: 2, fn1=lambda: 3)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("chosen", [True, False])
def test_gradients_equal_those_without_cond(order: int, chosen: bool) -> None:
    x, p = scalar(), flag()
    branches = (lambda: OPS["Sin"](x) * x, lambda: OPS["Exp"](x * 2.0))
    y, plain = cond(p, *branches), branches[not chosen]()
    for _ in range(order):
        (y,), (plain,) = gradients(y, x), gradients(plain, x)
    feeds = {x: np.float64(0.7), p: np.bool_(chosen)}
    np.testing.assert_array_equal(*evaluate([y, plain], feeds))


@pytest.mark.parametrize("chosen", [True, False])
def test_gradients_are_right(chosen: bool) -> None:
    def function(x: Any, w: Any) -> Any:
        p = constant(chosen)
        return cond(
            p,
            lambda: [OPS["Tanh"](x * w) * x, OPS["Exp"](w)],
            lambda: [OPS["Sin"](w) * w, x],
        )

    check_gradients(function, [np.array([0.3, -0.8]), np.array([1.1, 0.4])])


def test_nan_of_the_other_branch_does_no_harm() -> None:
    x, p = scalar(), flag()
    y = cond(p, lambda: OPS["Sqrt"](x) / x, lambda: x * 3.0)
    (g,) = gradients(y, x)
    (second,) = gradients(g, x)
    got = evaluate([y, g, second], {x: np.float64(0), p: np.False_})
    assert got == [0.0, 3.0, 0.0]


def test_gradient_of_what_one_branch_ignores_is_zero() -> None:
    x, p = placeholder(dtypes.float64, (None,)), flag()
    y = cond(p, lambda: x * x, lambda: constant(np.ones(2)))
    (g,) = gradients(y, x)
    got = evaluate([g], {x: np.array([1.0, 2.0]), p: np.False_})[0]
    np.testing.assert_array_equal(got, [0.0, 0.0])


def test_no_gradient_where_no_branch_depends_on_it() -> None:
    x, p = scalar(), flag()
    y = cond(p, lambda: constant(1.0), lambda: constant(2.0))
    assert gradients(y, x) == [None]


def test_nested_conds_have_gradients() -> None:
    x, p, q = scalar(), flag(), flag("q")

    def inner() -> Any:
        return cond(q, lambda: OPS["Sin"](x) * x, lambda: x * x * x)

    y = cond(p, inner, lambda: x)
    (g,) = gradients(y, x)
    (second,) = gradients(g, x)
    at = 0.9
    feeds = {x: np.float64(at), p: np.True_, q: np.False_}
    np.testing.assert_allclose(evaluate([g, second], feeds), [3 * at**2, 6 * at], rtol=1e-14)
    feeds[q] = np.True_
    wanted = [np.cos(at) * at + np.sin(at), 2 * np.cos(at) - at * np.sin(at)]
    np.testing.assert_allclose(evaluate([g, second], feeds), wanted, rtol=1e-14)
    feeds[p] = np.False_
    assert evaluate([g, second], feeds) == [1.0, 0.0]


def test_a_loop_in_a_branch_has_gradients() -> None:
    def function(x: Any) -> Any:
        def loop() -> Any:
            return while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, OPS["Sin"](a) * x), (0, x))[
                1
            ]

        return [cond(constant(True), loop, lambda: x), cond(constant(False), loop, lambda: x * x)]

    check_gradients(function, [np.array(0.8)])


def test_gradients_inside_a_branch() -> None:
    x, p = scalar(), flag()
    y = cond(p, lambda: gradients(x * x * x, x)[0], lambda: x)
    (g,) = gradients(y, x)
    assert evaluate([y, g], {x: np.float64(2), p: np.True_}) == [12.0, 12.0]


def test_plans_built_before_a_gradient_keep_their_outputs() -> None:
    x, p = scalar(), flag()
    y = cond(p, lambda: OPS["Sin"](x) * x, lambda: x)
    before = y.op.outputs
    gradients(y, x)
    assert y.op.outputs[: len(before)] == before
    assert len(y.op.outputs) > len(before)
    assert len(y.op.specs) == len(y.op.outputs)


def test_structures_come_back() -> None:
    p = flag()
    y = cond(
        p,
        lambda: {"b": Pair(constant(1), [constant(2.0)]), "a": constant(3)},
        lambda: {"a": constant(6), "b": Pair(constant(4), [constant(5.0)])},
    )
    assert isinstance(y["b"], Pair)
    assert evaluate([y["b"].a, y["b"].b[0], y["a"]], {p: np.False_}) == [4, 5.0, 6]


@pytest.mark.parametrize(("strict", "kind"), [(False, Tensor), (True, list)])
def test_strict_keeps_a_list_of_one(strict: bool, kind: type) -> None:
    y = cond(flag(), lambda: [constant(1)], lambda: [constant(2)], strict=strict)
    assert isinstance(y, kind)


def test_an_operation_stands_for_the_predicate() -> None:
    p = flag()
    y = cond(p, no_op, no_op)
    assert evaluate([y], {p: np.False_}) == [False]


def test_static_shapes_are_merged() -> None:
    x = placeholder(dtypes.float32, (2, None))
    y = cond(flag(), lambda: x, lambda: constant(np.zeros((2, 3), np.float32)))
    assert y.dims == (2, None)
    assert cond(flag(), lambda: x, lambda: constant(1.0)).dims is None


def test_devices_hold_inside() -> None:
    inside: list[Any] = []
    with Graph().as_default() as graph, graph.device("/cpu:1"):
        cond(flag(), lambda: inside.append(constant(1)) or inside[0], lambda: constant(2))
    assert inside[0].device.endswith("CPU:1")


def test_control_dependencies_reach_the_operation(graph: Graph) -> None:
    outside = no_op("outside")

    def branch() -> Any:
        with graph.control_dependencies([outside]):
            pass
        from graphflow.build.defaults import get_default_graph

        with get_default_graph().control_dependencies([outside]):
            return constant(1)

    y = cond(flag(), branch, lambda: constant(2))
    assert outside in y.op.control_inputs


@pytest.mark.parametrize(
    ("then", "orelse", "error", "match"),
    [
        (lambda: constant(1), lambda: constant(1.0), ValueError, "int32 in one branch"),
        (lambda: [constant(1), constant(2)], lambda: constant(1), ValueError, "different struct"),
        (lambda: (constant(1),) * 2, lambda: [constant(1)] * 2, TypeError, "differ in type"),
        (lambda: None, lambda: constant(1), ValueError, "true_fn must return"),
        (list, list, ValueError, "at least one"),
        (3, lambda: constant(1), TypeError, "true_fn must be callable"),
    ],
)
def test_errors_of_building(then: Any, orelse: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        cond(flag(), then, orelse)


def test_a_python_bool_is_no_predicate() -> None:
    with pytest.raises(TypeError, match="Python bool"):
        cond(True, lambda: 1, lambda: 2)


def test_errors_name_the_line() -> None:
    with pytest.raises(GraphError) as caught:
        cond(flag(), lambda: constant(1), lambda: constant(1.0))  # this line
    assert "this line" in "".join(caught.value.__notes__)
    with pytest.raises(ShapeError, match="must be a scalar"):
        cond(placeholder(dtypes.bool_, (2,)), lambda: constant(1), lambda: constant(2))


def test_case_takes_the_first_that_is_true() -> None:
    x = scalar()
    y = case([(x < 1.0, lambda: constant(1)), (x < 2.0, lambda: constant(2))], lambda: constant(3))
    assert [evaluate([y], {x: np.float64(v)})[0] for v in (0, 1, 2)] == [1, 2, 3]


def test_case_without_default_needs_one() -> None:
    x = scalar()
    y = case([(x < 1.0, lambda: constant(1)), (x < 2.0, lambda: constant(2))])
    assert [evaluate([y], {x: np.float64(v)})[0] for v in (0, 1)] == [1, 2]


def test_case_checks_its_predicates() -> None:
    x = scalar()
    pairs = [(x < 1.0, lambda: constant(1)), (x < 2.0, lambda: constant(2))]
    y = case(pairs)
    z = case(pairs, lambda: constant(3), exclusive=True)
    checks = [op for op in y.graph.operations if op.type == "CheckCount"]
    feeds: dict[Any, Any] = {x: np.float64(5)}
    with pytest.raises(InvalidArgumentError, match="0 predicates"):
        evaluate([checks[0].outputs[0]], feeds)
    feeds = {x: np.float64(0)}
    with pytest.raises(InvalidArgumentError, match="2 predicates"):
        evaluate([z], feeds)


def test_case_takes_a_dict_and_rejects_others() -> None:
    p = constant(True)
    assert evaluate([case({p: lambda: constant(1)}, lambda: constant(2))]) == [1]
    with pytest.raises(TypeError, match="pairs"):
        case([p], lambda: constant(2))


def test_switch_case() -> None:
    i = placeholder(dtypes.int32, ())
    fns = [lambda: constant(10), lambda: constant(20), lambda: constant(30)]
    y = switch_case(i, fns)
    z = switch_case(i, {0: fns[0], 2: fns[2]}, default=lambda: constant(-1))
    got = [evaluate([y, z], {i: np.int32(k)}) for k in (0, 1, 2, 7)]
    assert got == [[10, 10], [20, -1], [30, 30], [30, -1]]
    with pytest.raises(GraphError, match="twice"):
        switch_case(i, [(0, fns[0]), (0, fns[1])])


def test_what_is_not_used_is_not_computed() -> None:
    x = scalar()
    y = cond(flag(), lambda: OPS["Sin"](x) * x, lambda: x)
    gradients(y, x)
    operation = y.op
    attrs = restricted(operation, {0})
    assert [len(attrs[key].outputs) for key in ("then", "orelse")] == [1, 1]
    assert attrs["wanted"] == (True, *[False] * (len(operation.outputs) - 1))
    values = operation.opdef.kernel(np, PureContext(), np.True_, *[np.float64(2)] * 2, **attrs)
    assert values[0] == np.sin(2.0) * 2.0
    assert set(values[1:]) == {None}


def test_the_kernel_gives_every_output() -> None:
    x, p = scalar(), flag()
    y = cond(p, lambda: [OPS["Sin"](x) * x, x], lambda: [x, x])
    gradients(y[0], x)
    values = {p: np.False_, **{t: np.float64(1) for t in y[0].op.inputs[1:]}}
    assert len(run(y[0].op, values, PureContext())) == len(y[0].op.outputs)


def test_numpy_predicates_and_tensors_of_outer_bodies() -> None:
    y = cond(as_tensor(np.True_), lambda: constant(1), lambda: constant(2))
    assert evaluate([y]) == [1]
