"""Lists as values, their gradients, and TensorArray."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from graphflow.base import dtypes
from graphflow.base.errors import InvalidArgumentError
from graphflow.build import OPS, Graph
from graphflow.differentiate.check import check_gradients
from graphflow.ops import lists
from graphflow.ops.evaluate import evaluate
from graphflow.ops.lists import Items
from graphflow.ops.sources import constant, placeholder
from graphflow.ops.tensor_array import TensorArray
from graphflow.ops.while_loop import while_loop

X = np.array([[1.0, -2.0], [0.5, 3.0], [2.0, 0.25]])


@pytest.fixture(autouse=True)
def graph() -> Any:
    with Graph().as_default() as graph:
        yield graph


# ---- the value


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 200])
def test_a_list_holds_what_was_put(n: int) -> None:
    items = Items()
    for i in range(n):
        items = items.put(i, i + 1)
    assert list(items) == list(Items.of(range(1, n + 1))) == list(range(1, n + 1))
    assert list(pickle.loads(pickle.dumps(items))) == list(items)
    assert len(items) == n


def test_putting_leaves_the_old_list_alone() -> None:
    old = Items.of(range(100))
    new = old.put(70, -1)
    assert (old.get(70), new.get(70), new.get(71)) == (70, -1, 71)
    grown = old.put(300, 1)
    assert (grown.size, grown.get(200), old.size) == (301, None, 100)


def test_sums_count_what_is_missing_as_zero() -> None:
    a, b = Items.reserved(2).put(1, 5), Items().put(150, 7).put(1, 1)
    for total in (a + b, b + a):
        assert dict(total.present()) == {1: 6, 150: 7}
        assert total.size == 151
    nested = Items().put(0, a) + Items().put(0, b)
    assert dict(nested.get(0).present()) == {1: 6, 150: 7}


# ---- TensorArray


def test_reads_what_was_written() -> None:
    array = TensorArray(dtypes.float64, size=2)
    other = array.write(0, constant(X[0])).write(1, constant(X[1]))
    got = evaluate([other.read(1), other.stack(), other.size(), other.gather([1, 0, 1])])
    np.testing.assert_array_equal(got[0], X[1])
    np.testing.assert_array_equal(got[1], X[:2])
    assert got[2] == 2
    np.testing.assert_array_equal(got[3], X[[1, 0, 1]])
    with pytest.raises(InvalidArgumentError, match="not written"):
        evaluate([array.read(0)])
    for outside in (other.read(2), other.read(-1), other.write(2, X[0]).read(0)):
        with pytest.raises(InvalidArgumentError, match="outside"):
            evaluate([outside])


def test_a_stack_has_zeros_where_nothing_was_written() -> None:
    array = TensorArray(dtypes.float64, size=3).write(1, constant(X[0]))
    np.testing.assert_array_equal(evaluate([array.stack()])[0], [[0, 0], X[0], [0, 0]])
    unknown = TensorArray(dtypes.float64, size=3, infer_shape=False).write(1, constant(X[0]))
    with pytest.raises(InvalidArgumentError, match="not written"):
        evaluate([unknown.stack()])
    with pytest.raises(InvalidArgumentError, match="outside"):
        evaluate([array.gather([1, 3])])


def test_grows_where_it_is_dynamic() -> None:
    array = TensorArray(dtypes.float64, size=0, dynamic_size=True)
    _, array = while_loop(lambda i, _: i < 70, lambda i, a: (i + 1, a.write(i, X[0])), (0, array))
    np.testing.assert_array_equal(evaluate([array.stack()])[0], np.tile(X[0], (70, 1)))


def test_unstack_scatter_concat_split() -> None:
    array = TensorArray(dtypes.float64, size=3)
    x = constant(X)
    np.testing.assert_array_equal(evaluate([array.unstack(x).stack()])[0], X)
    np.testing.assert_array_equal(evaluate([array.scatter([2, 0, 1], x).stack()])[0], X[[1, 2, 0]])
    pieces = TensorArray(dtypes.float64, size=2, infer_shape=False).split(x, [1, 2])
    np.testing.assert_array_equal(evaluate([pieces.read(1)])[0], X[1:])
    np.testing.assert_array_equal(evaluate([pieces.concat()])[0], X)
    with pytest.raises(InvalidArgumentError, match="add up to 2"):
        evaluate([TensorArray(dtypes.float64).split(x, [1, 1]).concat()])
    with pytest.raises(InvalidArgumentError, match="written twice"):
        evaluate([array.scatter([0, 0, 1], x).stack()])


def test_learns_the_shape_of_its_entries() -> None:
    array = TensorArray(dtypes.float64, size=2)
    array = array.write(0, constant(X[0]))
    assert array.read(0).dims == (2,)
    assert array.stack().dims == (2, 2)
    with pytest.raises(ValueError, match="written to a TensorArray"):
        array.write(1, constant(X))
    with pytest.raises(TypeError, match="int32"):
        array.write(1, constant([1, 2]))


def test_an_empty_one_of_known_shape_stacks() -> None:
    array = TensorArray(dtypes.float32, size=0, element_shape=[3])
    assert evaluate([array.stack()])[0].shape == (0, 3)
    with pytest.raises(InvalidArgumentError, match="no entries"):
        evaluate([TensorArray(dtypes.float32, size=0).stack()])


def test_sizes_may_be_tensors() -> None:
    n = placeholder(dtypes.int32, ())
    size = TensorArray(dtypes.float32, size=n, dynamic_size=True).size()
    assert evaluate([size], {n: np.int32(4)}) == [4]
    with pytest.raises(InvalidArgumentError, match="size -1"):
        evaluate([size], {n: np.int32(-1)})


@pytest.mark.parametrize(
    "function",
    [
        lambda x: TensorArray(dtypes.float64, size=3).unstack(x * x).gather([2, 0, 2]),
        lambda x: TensorArray(dtypes.float64, size=3).scatter([2, 0, 1], OPS["Sin"](x)).stack(),
        lambda x: TensorArray(dtypes.float64, size=3).unstack(x * x).write(1, x[0] * x[1]).stack(),
        lambda x: TensorArray(dtypes.float64, size=3).unstack(OPS["Sin"](x)).read(1),
        lambda x: (
            TensorArray(dtypes.float64, size=2, infer_shape=False).split(x * x * x, [1, 2]).concat()
        ),
        lambda x: (
            TensorArray(dtypes.float64, size=2, infer_shape=False).split(x * x * x, [1, 2]).read(1)
        ),
    ],
)
def test_gradients(function: Any) -> None:
    check_gradients(function, [X])


def test_gradient_ops_take_missing_entries_for_zeros() -> None:
    like = constant(X)
    none = lists.empty_list()
    got = evaluate(
        [
            lists.list_get_or(none, 4, like),
            lists.list_get_or(none, constant([0, 1, 2]), like),
            lists.list_concat_or(none, like, constant([1, 2])),
            lists.list_get_or(lists.list_drop(lists.list_set(none, 0, like), 0), 0, like),
        ]
    )
    for value in got:
        np.testing.assert_array_equal(value, np.zeros_like(X))
