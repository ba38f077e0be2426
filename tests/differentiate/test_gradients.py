"""`gradients`: which operations it walks, what it returns, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow.ops as tf
from graphflow.base import dtypes
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.build import OPS, Graph, as_tensor
from graphflow.build.body import Body, build_body
from graphflow.build.opdef import Array, T, define
from graphflow.differentiate import AggregationMethod, gradients, hessians
from graphflow.ops.evaluate import evaluate
from graphflow.ops.rules import same
from graphflow.ops.slices import IndexedSlices
from graphflow.ops.sources import (
    constant,
    identity,
    placeholder,
    prevent_gradient,
    stop_gradient,
)
from graphflow.ops.variables import Variable
from tests.growth import assert_linear


@pytest.fixture(autouse=True)
def graph() -> Any:
    with Graph().as_default() as graph:
        yield graph


def values(tensors: Any, feeds: Any = None) -> list[Any]:
    return [None if t is None else evaluate([t], feeds)[0].tolist() for t in tensors]


def test_is_the_derivative() -> None:
    x = constant(3.0)
    assert values(gradients(x * x * x, x)) == [27.0]


def test_sums_over_ys_and_over_paths() -> None:
    x, y = constant(3.0), constant(5.0)
    assert values(gradients([x * y, x + x, y], [x, y])) == [7.0, 4.0]


def test_second_and_third_order() -> None:
    x = constant(2.0)
    (first,) = gradients(x * x * x * x, x)
    (second,) = gradients(first, x)
    assert values([first, second, *gradients(second, x)]) == [32.0, 48.0, 48.0]


def test_an_x_between_gets_its_own_part() -> None:
    x = constant(3.0)
    y = x * x
    z = y * y
    assert values(gradients(z, [x, y, z])) == [108.0, 18.0, 1.0]


def test_x_twice() -> None:
    x = constant(3.0)
    assert values(gradients(x * x, [x, x])) == [6.0, 6.0]


def test_unconnected() -> None:
    x, y = constant([1.0, 2.0]), constant(1.0)
    assert gradients(y, x) == [None]
    assert values(gradients(y, [x, y], unconnected_gradients="zero")) == [[0.0, 0.0], 1.0]


def test_integers_have_no_gradient() -> None:
    x, n = constant(2.0), constant(3)
    assert gradients(n * n, n) == [None]
    assert gradients(tf.cast(tf.cast(x, "int32"), "float32"), x) == [None]
    assert values(gradients(n, n)) == [1]


def test_grad_ys() -> None:
    x = constant([1.0, 2.0])
    y = x * x
    assert values(gradients([y, x], x, grad_ys=[constant([10.0, 1.0]), None])) == [[21.0, 5.0]]
    assert values(gradients(y, x, grad_ys=[[2.0, 2.0]])) == [[4.0, 8.0]]


def test_grad_ys_must_fit() -> None:
    x = constant([1.0, 2.0])
    with pytest.raises(ValueError, match="2 grad_ys were given for 1 ys"):
        gradients(x, x, grad_ys=[x, x])
    with pytest.raises(ShapeError, match=r"grad_ys has shape \(3,\)"):
        gradients(x, x, grad_ys=constant([1.0, 1.0, 1.0]))
    with pytest.raises(ShapeError, match=r"grad_ys has shape \(\)"):
        gradients(x, x, grad_ys=[1.0])
    with pytest.raises(DTypeError, match="grad_ys has"):
        gradients(x, x, grad_ys=constant([1, 1]))
    z = constant(np.complex64(1))
    with pytest.raises(DTypeError, match="need grad_ys"):
        gradients(z, z)


def test_complex_gradients_are_conjugated() -> None:
    z, w = constant(np.complex64(1 + 2j)), constant(np.complex64(3 - 1j))
    assert values(gradients(z * w, z, grad_ys=constant(np.complex64(1)))) == [3 + 1j]


def test_stop_gradients() -> None:
    a = constant(1.0)
    b = a * 2.0
    assert values(gradients(a + b, [a, b], stop_gradients=[a, b])) == [1.0, 1.0]
    assert values(gradients(a + b, [a, b])) == [3.0, 1.0]


def test_stop_gradient_and_declared_ops_stop_it() -> None:
    x = constant(1.5)
    assert values(gradients(x * stop_gradient(x), x)) == [1.5]
    assert gradients(tf.floor(x), x) == [None]


def test_prevent_gradient() -> None:
    x = constant(1.0)
    y = prevent_gradient(x, message="not this way")
    with pytest.raises(LookupError, match="not this way"):
        gradients(y * 2.0, x)
    assert values(gradients(y * 2.0, y)) == [2.0]
    assert gradients(x, y) == [None]


def test_names_are_those_of_tensorflow(graph: Graph) -> None:
    x = constant(3.0, name="x")
    with graph.name_scope("layer"):
        y = tf.square(x, name="y")
    gradients(y + y * x, x)
    names = [o.name for o in graph.operations]
    assert "gradients/grad_ys_0" in names
    assert any(n.startswith("gradients/layer/y_grad/") for n in names)
    assert "gradients/AddN" in names
    gradients(y, x, name="again")
    assert any(n.startswith("again/layer/y_grad/") for n in (o.name for o in graph.operations))


def test_builds_nothing_off_the_way(graph: Graph) -> None:
    x, y = constant(1.0), constant(2.0)
    side = tf.exp(tf.exp(y))
    count = len(graph.operations)
    gradients(identity(x) + stop_gradient(tf.exp(x)) + side, x)
    added = [o.name for o in graph.operations[count:]]
    assert not [n for n in added if "Exp_grad" in n]


def test_is_deterministic() -> None:
    def build() -> list[str]:
        with Graph().as_default() as graph:
            x = constant([1.0, 2.0])
            y = tf.exp(x) * x + tf.tanh(x)
            gradients([y, y * y], [x, y])
            return [str(o) for o in graph.operations]

    assert build() == build()


def test_aggregation_methods() -> None:
    x = constant(3.0)
    for method in (None, 0, AggregationMethod.EXPERIMENTAL_TREE, 2):
        assert values(gradients(x * x * x, x, aggregation_method=method)) == [27.0]
    with pytest.raises(GraphError, match="aggregation_method=7"):
        gradients(x, x, aggregation_method=7)
    with pytest.raises(GraphError, match="unconnected_gradients='maybe'"):
        gradients(x, x, unconnected_gradients="maybe")


def test_colocation(graph: Graph) -> None:
    x = constant(3.0)
    y = tf.tanh(x)
    gradients(y, x, colocate_gradients_with_ops=True)
    assert graph.operations[-1].colocation == (y.op,)


def test_gates(graph: Graph) -> None:
    a, b = constant(3.0), constant(4.0)
    (found,) = gradients(a * b, [a], gate_gradients=True)
    (gate,) = found.op.control_inputs
    assert len(gate.control_inputs) == 2
    assert values([found]) == [4.0]


def test_unused_outputs_get_zeros() -> None:
    x = constant([1.0, 2.0, 3.0, 4.0])
    first, _ = tf.split(x, 2)
    assert values(gradients(first * first, x)) == [[2.0, 4.0, 0.0, 0.0]]


def test_the_cost_is_linear_and_needs_no_stack() -> None:
    def differentiating(size: int) -> Any:
        with Graph().as_default():
            x = y = constant(1.0)
            for _ in range(size):
                y = identity(y)
        return lambda: gradients(y, x)

    assert differentiating(20_000)()[0] is not None
    assert_linear(differentiating, 2_000)


def test_shape_of_a_gradient_is_that_of_x() -> None:
    x = placeholder("float32", (None, 3))
    w = constant(np.ones((3, 2), np.float32))
    (by_x, by_w) = gradients(tf.matmul(x, w), [x, w])
    assert by_x.dims == (None, 3)
    assert by_w.dims == (3, 2)


# ---- variables and slices


def test_variables() -> None:
    v = Variable([1.0, 2.0])
    (found,) = gradients(v * v + v, v)
    assert found.dims == (2,)
    with pytest.raises(Exception, match="needs a session"):
        evaluate([found])  # it reads the variable
    (zero,) = gradients(constant(1.0), v, unconnected_gradients="zero")
    assert zero.dims == (2,)


def test_gather_gives_slices() -> None:
    v = Variable(np.ones((4, 2), np.float32))
    (found,) = gradients(tf.gather(v, constant([1, 1])), v)
    assert isinstance(found, IndexedSlices)
    assert found.dims == (4, 2)


def test_slices_are_concatenated() -> None:
    x = constant(np.ones((4, 2), np.float32))
    y = 2.0 * tf.gather(x, constant([0, 3], "int64"))
    (found,) = gradients([tf.gather(x, [1, 1]), y], x)
    assert isinstance(found, IndexedSlices)
    assert found.indices.dtype == "int64"
    assert sorted(values([found.indices])[0]) == [0, 1, 1, 3]
    assert evaluate([as_tensor(found)])[0].sum(1).tolist() == [4.0, 4.0, 0.0, 4.0]


def test_slices_and_dense_make_dense() -> None:
    x = constant(np.ones((3, 1), np.float32))
    (found,) = gradients([tf.gather(x, [0, 0, 2]), x], x)
    assert values([found]) == [[[3.0], [1.0], [2.0]]]


def test_slices_become_dense_before_other_ops() -> None:
    x = constant(np.ones((3, 1), np.float32))
    (found,) = gradients(tf.gather(tf.exp(x), [0, 0, 2]), x)
    np.testing.assert_allclose(values([found])[0], np.e * np.array([[2.0], [0.0], [1.0]]), 1e-6)


# ---- bodies


def test_inside_a_body() -> None:
    x = constant(3.0)
    h = x * x

    def inside(t: Any) -> Any:
        y = t * h
        return gradients(y, [t, h, x])

    body, found = build_body(inside, [((), dtypes.float32)])
    assert isinstance(body, Body)
    assert all(g.graph is body for g in found)
    feeds = {body.inputs[0]: np.float32(2)}
    feeds |= {inner: evaluate([outer])[0] for outer, inner in body.captures.items()}
    assert values(found, feeds) == [9.0, 2.0, 12.0]


def test_of_a_body_from_outside() -> None:
    body, y = build_body(lambda t: t * t, [((), dtypes.float32)])
    (found,) = gradients(y, body.inputs)
    assert found.graph is body


# ---- gradient functions that are wrong


def _kernel(xp: Any, a: T, b: T) -> Array:
    """Used to see wrong gradient functions refused."""
    return a


WRONG = {
    "Count": (lambda g, y, a, b: (g,), GraphError, "1 gradients for 2 inputs"),
    "Shape": (lambda g, y, a, b: (g, constant([1.0] * 7)), ShapeError, "input 1"),
    "DType": (lambda g, y, a, b: (tf.cast(g, "float64"), None), DTypeError, "float64 for input 0"),
    "Type": (lambda g, y, a, b: (1.0, None), GraphError, "neither tensor nor slices"),
}


@pytest.fixture(params=WRONG)
def wrong(request: pytest.FixtureRequest) -> Any:
    grad, error, message = WRONG[request.param]
    entry = define(f"Wrong{request.param}", _kernel, infer=same, grad=grad)
    yield entry, error, message
    del OPS[entry.name]


def test_wrong_gradient_functions_are_named(wrong: Any) -> None:
    entry, error, message = wrong
    x = constant([1.0, 2.0])
    y = entry(x, x, name="bad")
    with pytest.raises(error, match=message) as caught:
        gradients(y, x)
    (note,) = [n for n in caught.value.__notes__ if "in the gradient of" in n]
    assert f"{entry.name} 'bad'" in note
    assert "test_gradients.py" in note


def test_xs_must_be_tensors() -> None:
    with pytest.raises(TypeError, match="no tensor or variable"):
        gradients(constant(1.0), 3.0)


# ---- hessians


def test_hessians() -> None:
    x = constant([1.0, 2.0, 3.0])
    y = tf.reduce_sum(x * x * x)
    np.testing.assert_allclose(values(hessians(y, x))[0], np.diag([6.0, 12.0, 18.0]))
    m = constant([[1.0, 2.0]])
    assert hessians(tf.reduce_sum(m * m), m)[0].dims == (1, 2, 1, 2)
    assert values(hessians(x, [x, constant(4.0) * x[0]][:1]))[0] == np.zeros((3, 3)).tolist()


def test_hessians_of_unknown_shapes() -> None:
    x = placeholder("float32", None)
    (found,) = hessians(tf.reduce_sum(x * x * x), x)
    got = evaluate([found], {x: np.array([[1.0, 2.0]], np.float32)})[0]
    assert got.shape == (1, 2, 1, 2)
    np.testing.assert_allclose(got.reshape(2, 2), np.diag([6.0, 12.0]))


def test_hessian_vector_products_are_gradients_of_gradients() -> None:
    """Pearlmutter's: the gradient of g . v, without the matrix; also through a loop."""
    x = placeholder("float64", (4,))
    a = np.cos(np.arange(16.0)).reshape(4, 4)

    def step(i: Any, h: Any) -> Any:
        return i + 1, tf.tanh(tf.reduce_sum(constant(a) * h, 1))

    _, looped = tf.while_loop(lambda i, h: i < 3, step, [constant(0), x])
    y = tf.reduce_sum(looped * looped) + tf.reduce_sum(tf.exp(x) * x[::-1])
    vector = np.array([1.0, -2.0, 0.5, 3.0])
    (slope,) = gradients(y, x)
    (product,) = gradients(slope, x, [constant(vector)])
    point = {x: np.array([0.3, -0.1, 0.7, 0.2])}
    whole, found = evaluate([*hessians(y, x), product], point)
    assert np.abs(whole - whole.T).max() < 1e-12
    np.testing.assert_allclose(found, whole @ vector, rtol=1e-12)


def test_hessians_need_a_dependence() -> None:
    with pytest.raises(GraphError, match="no y depends"):
        hessians(constant(1.0), constant(1.0))
