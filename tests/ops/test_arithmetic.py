"""Arithmetic: values of TensorFlow 1, ties and poles of gradients, errors, broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphflow import ops as tf
from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.build import Graph, as_tensor
from graphflow.differentiate import gradients
from graphflow.ops.evaluate import evaluate
from graphflow.ops.sources import placeholder
from graphflow.ops.sums import unbroadcast
from tests.ops.values import fed, grads, value

INTS = np.asarray([7, -7, 7, -7], np.int32), np.asarray([2, 2, -2, -2], np.int32)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_divisions_and_remainders(dtype: Any) -> None:
    x, y = [v.astype(dtype) for v in INTS]
    np.testing.assert_array_equal(value(lambda a, b: a // b, x, y), [3, -4, -4, 3])
    np.testing.assert_array_equal(value(lambda a, b: a % b, x, y), [1, 1, -1, -1])
    np.testing.assert_array_equal(value(tf.truncatediv, x, y), [3, -3, -3, 3])
    np.testing.assert_array_equal(value(tf.truncatemod, x, y), [1, -1, 1, -1])


def test_true_division_converts_integers() -> None:
    found = value(lambda a, b: a / b, *INTS)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [3.5, -3.5, -3.5, 3.5])
    assert value(tf.truediv, np.int8(1), np.int8(2)).dtype == np.float32
    np.testing.assert_array_equal(value(tf.div, *INTS), [3, -4, -4, 3])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("int8", "float32"), ("int16", "float32"), ("uint8", "float32"), ("uint16", "float32"),
        ("int32", "float64"), ("int64", "float64"), ("uint32", "float64"), ("uint64", "float64"),
        ("float16", "float16"), ("float32", "float32"), ("complex64", "complex64"),
    ],
)  # fmt: skip
def test_division_without_nan(given: str, found: str) -> None:
    result = value(tf.div_no_nan, np.array([7, 0, 5], given), np.array([2, 0, 0], given))
    assert result.dtype == found
    np.testing.assert_array_equal(result, [3.5, 0, 0])


def test_division_without_nan_of_what_is_not_finite() -> None:
    x, y = np.float32([np.nan, np.inf, np.inf]), np.float32([0, -0.0, 2])
    np.testing.assert_array_equal(value(tf.div_no_nan, x, y), [0, 0, np.inf])
    assert value(lambda y: tf.div_no_nan(1, y), np.int32(4)) == 0.25


def test_strings_are_put_together() -> None:
    rows, columns = np.array([[b"a"], [b"b"]], object), np.array([b"x", b"y"], object)
    wanted = [[b"ax", b"ay"], [b"bx", b"by"]]
    assert value(tf.add, rows, columns).tolist() == wanted
    assert value(lambda a, b: a + b, rows, columns).tolist() == wanted
    assert value(lambda a: "<" + a + ">", columns).tolist() == [b"<x>", b"<y>"]
    with Graph().as_default():
        assert evaluate([tf.add("a", [b"b"])])[0].tolist() == [b"ab"]
        assert evaluate([tf.add([as_tensor("a"), "b"], "c")])[0].tolist() == [b"ac", b"bc"]
        with pytest.raises(DTypeError):
            as_tensor("a") + as_tensor(1)


@pytest.mark.parametrize("f", [tf.floordiv, tf.floormod, tf.truncatediv, tf.truncatemod])
def test_integer_division_by_zero(f: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="division by zero"):
        value(f, np.int32([1, 2]), np.int32([1, 0]))


def test_integer_to_a_negative_power() -> None:
    assert value(tf.pow, np.int32(3), np.int32(4)) == 81
    with pytest.raises(InvalidArgumentError, match="negative"):
        value(tf.pow, np.int32(3), np.int32(-1))


def test_gradients_of_ties_go_to_the_first() -> None:
    x, y = np.float32([1, 2, 3]), np.float32([1, 3, 2])
    np.testing.assert_array_equal(grads(tf.maximum, x, y), [[1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(grads(tf.minimum, x, y), [[1, 1, 0], [0, 0, 1]])


def test_gradient_of_powers_at_bases_below_and_at_zero() -> None:
    x, y = np.float64([0, -2, -2, 2, 1e-30]), np.float64([2, 2, 3, 3, 1])
    by_x, by_y = grads(tf.pow, x, y)
    np.testing.assert_array_equal(by_x, [0, -4, 12, 12, 1])
    np.testing.assert_allclose(by_y, [0, 0, 0, 8 * np.log(2), 1e-30 * np.log(1e-30)])


def test_div_no_nan() -> None:
    x, y = np.float32([1, 1, 0]), np.float32([2, 0, 0])
    np.testing.assert_array_equal(value(tf.div_no_nan, x, y), [0.5, 0, 0])
    np.testing.assert_array_equal(grads(tf.div_no_nan, x, y), [[0.5, 0, 0], [-0.25, 0, 0]])


def test_same_tensor_twice() -> None:
    np.testing.assert_array_equal(grads(lambda x: x * x + x / x, np.float32([3])), [[6]])


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 3)), ((1,), (0,)), ((1, 3), (2, 3))]
)
@pytest.mark.parametrize("rank", [True, False])
def test_gradient_of_a_broadcast_with_unknown_sizes(a: Any, b: Any, rank: bool) -> None:
    """The sums that undo the broadcast are found when the graph runs."""
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal(a), rng.standard_normal(b)
    want = grads(lambda x, y: x * y, *arrays)
    dims = [[None] * len(d) if rank else None for d in (a, b)]
    for i in range(2):
        got = fed(lambda x, y, i=i: gradients(x * y, [x, y])[i], *arrays, dims=dims)
        np.testing.assert_allclose(got, want[i])


def test_no_sum_is_added_where_nothing_was_stretched() -> None:
    with Graph().as_default():
        x, bias = placeholder("float32", [None, 3]), placeholder("float32", [3])
        column, other = placeholder("float32", [None, 1]), placeholder("float32", [None, 3])
        g = x + bias
        assert unbroadcast(g, x, bias) is g
        assert unbroadcast(g, x, x) is g
        for stretched, beside in ((bias, x), (column, x), (x, other)):
            assert unbroadcast(g, stretched, beside).op.type == "SumTo"


def test_add_n() -> None:
    x = np.float32([1, 2])
    np.testing.assert_array_equal(value(lambda *v: tf.add_n(v), x, x, x), [3, 6])
    np.testing.assert_array_equal(value(lambda *v: tf.accumulate_n(v, shape=[2]), x, x), [2, 4])
    with pytest.raises(ValueError, match="at least one"):
        tf.add_n([])
    with Graph().as_default(), pytest.raises(ShapeError, match="equal"):
        tf.add_n([as_tensor(x), as_tensor(np.float32([1]))])


def test_scalar_mul() -> None:
    np.testing.assert_array_equal(value(lambda x: tf.scalar_mul(2, x), np.float32([1, 2])), [2, 4])
    with Graph().as_default(), pytest.raises(ValueError, match="scalar"):
        tf.scalar_mul(np.float32([1, 2]), np.float32([1, 2]))


def test_errors_when_built() -> None:
    with Graph().as_default():
        with pytest.raises(ShapeError, match=r"\(2,\) and \(3,\)"):
            as_tensor(np.float32([1, 2])) + np.float32([1, 2, 3])
        with pytest.raises(DTypeError, match=r"tf\.cast"):
            as_tensor(np.float32([1])) / as_tensor(np.float64([1]))
        with pytest.raises(DTypeError, match="numeric"):
            as_tensor(True) + as_tensor(True)
        with pytest.raises(TypeError):
            as_tensor(np.int32([1])) + 0.5


def test_names_are_tensorflow_s() -> None:
    with Graph().as_default():
        x, b = as_tensor(np.float32([[1.0]])), as_tensor(True)
        i = as_tensor(np.int32([1]))
        named = {
            "add": x + 1, "sub": 1 - x, "mul": x * 2, "truediv": x / 2, "floordiv": x // 2,
            "mod": x % 2, "pow": x**2, "Neg": -x, "Abs": abs(x), "and": b & b, "or": b | b,
            "xor": b ^ b, "LogicalNot": ~b, "matmul": x @ x, "Add_1": tf.add(x, x),
            "given": tf.multiply(x, x, "given"), "truediv_1": i / 2,
        }  # fmt: skip
        assert {name: t.op.name for name, t in named.items()} == {n: n for n in named}


def test_bitwise_operators_of_integers() -> None:
    x, y = np.int32([6]), np.int32([3])
    assert value(lambda a, b: a & b, x, y) == 2
    assert value(lambda a, b: a | b, x, y) == 7
    assert value(lambda a, b: a ^ b, x, y) == 5
    assert value(lambda a: ~a, x) == -7


def test_functions_take_the_name_last() -> None:
    with Graph().as_default():
        assert tf.exp(1.0, "mine").op.name == "mine"
        assert tf.atan2(y=1.0, x=2.0, name="angle").op.name == "angle"
        assert tf.exp.__doc__


def test_graph_of_the_inputs_is_used() -> None:
    with Graph().as_default() as graph:
        n = as_tensor(np.int32([3]))
    quotient = n / 2
    assert quotient.graph is graph
    assert evaluate([quotient])[0] == 1.5
