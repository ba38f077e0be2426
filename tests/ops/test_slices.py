"""IndexedSlices: what stays sparse, and what becomes dense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphflow.base import dtypes
from graphflow.base.errors import DTypeError, GraphError
from graphflow.build import Graph, as_tensor
from graphflow.differentiate import gradients
from graphflow.ops import IndexedSlices, cast, convert_to_tensor_or_indexed_slices, gather
from graphflow.ops.evaluate import evaluate
from graphflow.ops.sources import constant, placeholder


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with Graph().as_default():
        yield


def slices(dense_shape: Any = (4, 2)) -> IndexedSlices:
    rows = constant(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    return IndexedSlices(rows, constant([2, 0, 2]), dense_shape)


DENSE = np.array([[3.0, 4.0], [0, 0], [6.0, 8.0], [0, 0]])


def test_becomes_dense_by_summing_repeated_rows() -> None:
    dense = as_tensor(slices())
    assert dense.dims == (4, 2)
    np.testing.assert_array_equal(evaluate([dense])[0], DENSE)


def test_needs_its_dense_shape_and_dtype() -> None:
    with pytest.raises(GraphError, match="no dense_shape"):
        as_tensor(slices(None))
    with pytest.raises(DTypeError, match="expected float32"):
        as_tensor(slices(), "float32")


def test_stays_sparse_when_scaled_or_cast() -> None:
    for result, factor in [(slices() * 2.0, 2), (3.0 * slices(), 3), (slices() / 2.0, 0.5)]:
        assert isinstance(result, IndexedSlices)
        np.testing.assert_array_equal(evaluate([as_tensor(result)])[0], DENSE * factor)
    assert isinstance(-slices(), IndexedSlices)
    narrow = cast(slices(), "float32")
    assert isinstance(narrow, IndexedSlices)
    assert narrow.dtype is dtypes.float32


def test_other_operators_make_it_dense() -> None:
    ones = constant(np.ones((4, 2)))
    for result, wanted in [
        (slices() + ones, DENSE + 1),
        (slices() - ones, DENSE - 1),
        (ones - slices(), 1 - DENSE),
        (slices() * (ones * 2.0), DENSE * 2),
    ]:
        np.testing.assert_array_equal(evaluate([result])[0], wanted)


def test_gradient_of_gather_holds_only_the_rows_that_were_picked() -> None:
    table = placeholder("float64", [1000, 2])
    (g,) = gradients(gather(table, [[7, 3], [7, 1]]) * 2.0, table)
    assert isinstance(g, IndexedSlices)
    assert g.values.dims == (4, 2)
    assert g.indices.dims == (4,)
    assert convert_to_tensor_or_indexed_slices(g) is g
    dense = evaluate([as_tensor(g)], {table: np.zeros((1000, 2))})[0]
    assert dense.sum() == 16
    np.testing.assert_array_equal(dense[7], [4, 4])


def test_rows_are_added_in_order() -> None:
    rng = np.random.default_rng(3)
    rows, places = rng.standard_normal((500, 3)).astype("f4"), rng.integers(0, 20, 500)
    wanted = np.zeros((20, 3), "f4")
    for row, place in zip(rows, places, strict=True):
        wanted[place] += row
    dense = as_tensor(IndexedSlices(rows, places, [20, 3]))
    np.testing.assert_array_equal(evaluate([dense])[0], wanted)


def test_rows_of_nothing_have_a_gradient() -> None:
    """How many of them there are does not follow from their elements."""
    x = constant(np.zeros((2, 0), np.float32))
    (slope,) = gradients(gather(x, [0, 1, 1]) * 2.0, [x])
    assert evaluate([as_tensor(slope)])[0].shape == (2, 0)
