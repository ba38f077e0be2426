"""Loops: values and gradients against unrolled graphs, captures, shapes, nesting, errors."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphflow.base import dtypes
from graphflow.base.shapes import TensorShape
from graphflow.build import OPS, Graph, Tensor, as_tensor
from graphflow.differentiate import gradients
from graphflow.differentiate.check import check_gradients
from graphflow.ops.bodies import restricted
from graphflow.ops.cond import cond
from graphflow.ops.evaluate import PureContext, evaluate
from graphflow.ops.sources import constant, placeholder
from graphflow.ops.tensor_array import TensorArray
from graphflow.ops.while_loop import while_loop

Pair = collections.namedtuple("Pair", "a b")


@pytest.fixture(autouse=True)
def graph() -> Any:
    with Graph().as_default() as graph:
        yield graph


def repeat(function: Callable[[Any], Any], first: Any, times: Any, **options: Any) -> Any:
    """The function applied so many times in a loop."""
    return while_loop(
        lambda i, _: i < times, lambda i, a: (i + 1, function(a)), (0, first), **options
    )[1]


def test_counts() -> None:
    n = placeholder(dtypes.int32, ())
    i, total = while_loop(lambda i, t: i < n, lambda i, t: (i + 1, t + i), [0, 0])
    for k in (0, 1, 5):
        assert evaluate([i, total], {n: np.int32(k)}) == [k, sum(range(k))]


def test_names_are_those_of_tensorflow() -> None:
    y = while_loop(lambda i: i < 3, lambda i: i + 1, [0])
    assert y.name == "while/Exit:0"


@pytest.mark.parametrize("times", [0, 1, 2, 5])
def test_gradients_equal_the_unrolled_ones(times: int) -> None:
    x = placeholder(dtypes.float64, ())
    n = placeholder(dtypes.int32, ())
    looped = repeat(lambda a: OPS["Sin"](a) * x, x, n)
    plain: Any = x
    for _ in range(times):
        plain = OPS["Sin"](plain) * x
    for order in range(3):
        (looped,), (plain,) = gradients(looped, x), gradients(plain, x)
        if plain is None:  # the derivative of a constant
            plain = constant(np.float64(0))
        got, wanted = evaluate([looped, plain], {x: np.float64(0.7), n: np.int32(times)})
        if order == 0:
            np.testing.assert_array_equal(got, wanted)
        np.testing.assert_allclose(got, wanted, rtol=1e-14)


def test_first_and_second_order_with_captures() -> None:
    def function(x: Any, w: Any, b: Any) -> Any:
        return repeat(lambda a: OPS["Tanh"](OPS["MatMul"](a, w) + b), x, 3)

    rng = np.random.default_rng(0)
    check_gradients(function, [rng.standard_normal(s) for s in ((2, 3), (3, 3), (3,))])


def test_zero_iterations_have_the_gradient_of_the_first_value() -> None:
    x, w = placeholder(dtypes.float64, (2,)), placeholder(dtypes.float64, (2,))
    y = repeat(lambda a: a * w, x, 0)
    feeds = {x: np.ones(2), w: np.full(2, 3.0)}
    got = evaluate(gradients(y, [x, w]), feeds)
    np.testing.assert_array_equal(got, [[1, 1], [0, 0]])


def test_several_variables_that_swap() -> None:
    def function(a: Any, b: Any, c: Any) -> Any:
        out = while_loop(
            lambda i, *_: i < 4,
            lambda i, a, b, c: (i + 1, b * a, OPS["Sin"](c), a),
            (0, a, b, c),
        )
        return out[1:]

    check_gradients(function, [np.array(0.5), np.array(1.2), np.array(-0.4)])


def test_a_variable_that_nothing_reads_keeps_its_gradient() -> None:
    x = placeholder(dtypes.float64, ())
    _, a, b = while_loop(
        lambda i, *_: i < 2, lambda i, a, b: (i + 1, a * 2.0, constant(np.float64(1))), (0, x, x)
    )
    assert evaluate(gradients(a, x), {x: np.float64(1)}) == [4.0]
    assert evaluate(gradients(b, x), {x: np.float64(1)}) == [0.0]


def test_loop_in_loop() -> None:
    def function(x: Any, w: Any) -> Any:
        return repeat(lambda a: repeat(lambda b: OPS["Sin"](b) * w, a, 2) + x, x, 3)

    check_gradients(function, [np.array(0.6), np.array(0.9)])


def test_inner_count_depends_on_the_outer_loop() -> None:
    x = placeholder(dtypes.float64, ())
    _, y = while_loop(
        lambda i, _: i < 4,
        lambda i, a: (i + 1, repeat(lambda b: b * x, a, i)),
        (0, x),
    )
    (g,) = gradients(y, x)
    (second,) = gradients(g, x)
    at = 1.1
    wanted = [at**7, 7 * at**6, 42 * at**5]
    np.testing.assert_allclose(evaluate([y, g, second], {x: np.float64(at)}), wanted, rtol=1e-13)


def test_cond_in_loop() -> None:
    def function(x: Any, w: Any) -> Any:
        def step(i: Any, a: Any) -> Any:
            even = OPS["Equal"](OPS["FloorMod"](i, 2), 0)
            return i + 1, cond(even, lambda: OPS["Sin"](a) * w, lambda: a * x)

        return while_loop(lambda i, _: i < 5, step, (0, x))[1]

    check_gradients(function, [np.array(0.6), np.array(0.9)])


def test_loop_in_cond_in_loop() -> None:
    def function(x: Any) -> Any:
        def step(i: Any, a: Any) -> Any:
            return i + 1, cond(i < 2, lambda: repeat(lambda b: OPS["Sin"](b) + x, a, 2), lambda: a)

        return while_loop(lambda i, _: i < 3, step, (0, x))[1]

    check_gradients(function, [np.array(0.6)])


def test_gradients_inside_a_body() -> None:
    """Gradient descent on (a - x)^2 in a loop, differentiated by x."""
    x = placeholder(dtypes.float64, ())

    def step(a: Any) -> Any:
        loss = OPS["Square"](a - x) * a
        return a - 0.1 * gradients(loss, a)[0]

    y = repeat(step, constant(np.float64(2)), 3)
    (g,) = gradients(y, x)
    eps = 1e-6
    above, below, got = (
        *[evaluate([y], {x: np.float64(0.5 + e)})[0] for e in (eps, -eps)],
        evaluate([g], {x: np.float64(0.5)})[0],
    )
    np.testing.assert_allclose(got, (above - below) / (2 * eps), rtol=1e-8)


def test_gradient_of_an_outer_loop_taken_inside_a_branch() -> None:
    x = placeholder(dtypes.float64, ())
    y = repeat(lambda a: OPS["Sin"](a) * x, x, 3)
    inside = cond(constant(True), lambda: gradients(y, x)[0], lambda: x)
    outside = gradients(y, x)[0]
    got = evaluate([inside, outside], {x: np.float64(0.7)})
    assert got[0] == got[1]


def test_nothing_runs_after_the_last_iteration() -> None:
    x = placeholder(dtypes.float64, ())
    y = repeat(lambda a: OPS["Sqrt"](a - 1.0), x, 2)
    got = evaluate([y, *gradients(y, x)], {x: np.float64(5)})
    np.testing.assert_allclose(got, [1.0, 0.125])


def test_growing_shapes_need_an_invariant() -> None:
    x = placeholder(dtypes.float64, (1,))

    def body(i: Any, a: Any) -> Any:
        return i + 1, OPS["ConcatV2"](a, a * 2.0, axis=0)

    with pytest.raises(ValueError, match="no invariant of the loop") as caught:
        while_loop(lambda i, _: i < 3, body, (0, x))  # this line
    assert "this line" in "".join(caught.value.__notes__)
    shapes = (TensorShape([]), TensorShape([None]))
    _, y = while_loop(lambda i, _: i < 2, body, (0, x), shape_invariants=shapes)
    assert y.dims == (None,)
    total = OPS["Sum"](y * y, axis=None)
    got = evaluate([y, *gradients(total, x)], {x: np.array([1.5])})
    np.testing.assert_array_equal(got[0], [1.5, 3, 3, 6])
    np.testing.assert_allclose(got[1], [2 * 1.5 * (1 + 4 + 4 + 16)])


def test_an_invariant_must_hold_at_the_start() -> None:
    with pytest.raises(ValueError, match="enters the loop with"):
        while_loop(lambda a: True, lambda a: a, [constant([1])], shape_invariants=[[2]])
    with pytest.raises(ValueError, match="do not match"):
        while_loop(lambda a: True, lambda a: a, [constant([1])], shape_invariants=[[2], [3]])


def test_unknown_shapes_pass() -> None:
    x = placeholder(dtypes.float64)
    y = repeat(lambda a: a * x, x, 2)
    got = evaluate([y, *gradients(y, x)], {x: np.array([1.0, 2.0])})
    np.testing.assert_array_equal(got, [[1, 8], [3, 12]])


def test_structures_come_back() -> None:
    first = {"b": Pair(constant(1), constant(2)), "a": [constant(3)]}

    def body(i: Any, s: Any) -> Any:
        return i + 1, {"b": Pair(s["b"].b, s["b"].a), "a": [s["a"][0] + i]}

    i, s = while_loop(lambda i, _: i < 3, body, (0, first))
    assert isinstance(s["b"], Pair)
    assert evaluate([i, s["b"].a, s["b"].b, s["a"][0]]) == [3, 2, 1, 6]


@pytest.mark.parametrize(("same", "kind"), [(False, Tensor), (True, list)])
def test_one_variable_alone(same: bool, kind: type) -> None:
    y = while_loop(lambda i: i < 3, lambda i: i + 1, [0], return_same_structure=same)
    assert isinstance(y, kind)
    assert evaluate([y[0] if same else y]) == [3]


@pytest.mark.parametrize("limit", [2, np.int64(2), constant])
def test_maximum_iterations(limit: Any) -> None:
    x = placeholder(dtypes.float64, ())
    given = constant(2) if limit is constant else limit
    y = repeat(lambda a: a * x, x, 5, maximum_iterations=given)
    got = evaluate([y, *gradients(y, x)], {x: np.float64(2)})
    assert got == [8.0, 12.0]


def test_without_back_prop_no_gradient_flows() -> None:
    x = placeholder(dtypes.float64, ())
    assert gradients(repeat(lambda a: a * x, x, 2, back_prop=False), x) == [None]


def test_integers_have_no_gradient() -> None:
    x = placeholder(dtypes.float64, ())
    i, _ = while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * x), (0, x))
    assert gradients(i, x) == [None]


def test_variant_loop_variables_have_gradients() -> None:
    def function(x: Any) -> Any:
        array = TensorArray(dtypes.float64, size=4)
        array = array.write(0, x)

        def step(i: Any, a: TensorArray) -> Any:
            return i + 1, a.write(i, OPS["Sin"](a.read(i - 1)) * x)

        return while_loop(lambda i, _: i < 4, step, (1, array))[1].stack()

    check_gradients(function, [np.array([0.7, -0.3])])


def test_nothing_is_saved_without_a_gradient() -> None:
    x = placeholder(dtypes.float64, ())
    y = repeat(lambda a: OPS["Sin"](a) * x, x, 3)
    assert len(y.op.outputs) == 3  # two variables and the count
    gradients(y, x)
    saved = len(y.op.outputs) - 3
    assert saved > 0
    attrs = restricted(y.op, {1})
    assert len(attrs["body"].outputs) == 2
    inputs = [np.int32(0), *[np.float64(0.7)] * (len(y.op.inputs) - 1)]
    inputs[1:] = [evaluate([t], {x: np.float64(0.7)})[0] for t in y.op.inputs[1:]]
    values = y.op.opdef.kernel(np, PureContext(), *inputs, **attrs)
    assert values[1] == evaluate([y], {x: np.float64(0.7)})[0]
    assert values[3:] == (None,) * saved


def test_variables_that_nothing_depends_on_are_left_out() -> None:
    x, w = placeholder(dtypes.float64, ()), placeholder(dtypes.float64, ())
    y = repeat(lambda a: OPS["Sin"](a) * w, x, 3)
    g, _ = gradients(y, [x, w])
    whole = restricted(g.op, range(len(g.op.outputs)))["body"].outputs
    alone = restricted(g.op, {g.index})["body"].outputs
    assert len(alone) < len(whole)
    feeds = {x: np.float64(0.7), w: np.float64(1.2)}
    inputs = evaluate(list(g.op.inputs), feeds)
    values = g.op.opdef.kernel(np, PureContext(), *inputs, **restricted(g.op, {g.index}))
    assert values[g.index] == evaluate([g], feeds)[0]


@pytest.mark.parametrize(
    ("test", "body", "first", "error", "match"),
    [
        (lambda i: i < 1, lambda i: i + 1, [], ValueError, "at least one"),
        (3, lambda i: i, [0], TypeError, "cond must be callable"),
        (lambda i: i < 1, 3, [0], TypeError, "body must be callable"),
        (lambda i: i, lambda i: i, [0], TypeError, "scalar bool"),
        (lambda i: [i < 1], lambda i: i, [0], ValueError, "scalar bool"),
        (lambda i: i < 1, lambda i: (i, i), [0], ValueError, "another structure"),
        (lambda i: i < 1, lambda i: None, [0], ValueError, "returned None"),
        (lambda i: i < 1, lambda i: OPS["Cast"](i, dtype=dtypes.int64), [0], TypeError, "int64"),
    ],
)
def test_errors_of_building(test: Any, body: Any, first: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        while_loop(test, body, first)


def test_results_equal_those_of_an_unrolled_graph() -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((4, 4)), rng.standard_normal((4, 4)) / 2
    tx, tw = placeholder(dtypes.float64, (4, 4)), placeholder(dtypes.float64, (4, 4))
    looped = repeat(lambda a: OPS["Tanh"](OPS["MatMul"](a, tw)), tx, 6)
    plain = tx
    for _ in range(6):
        plain = OPS["Tanh"](OPS["MatMul"](plain, tw))
    feeds = {tx: x, tw: w}
    found = evaluate([looped, *gradients(looped, tx), plain, *gradients(plain, tx)], feeds)
    np.testing.assert_array_equal(found[:2], found[2:])


def test_numbers_take_the_dtype_of_their_variable() -> None:
    first = as_tensor(np.float64(1))
    y = while_loop(lambda a: a > 2.0, lambda a: 3, [first])
    assert y.dtype is dtypes.float64
