"""where, masks and gathers beyond what the registry checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow.ops as ops
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.build import Graph
from graphflow.differentiate import gradients
from graphflow.ops.evaluate import evaluate
from graphflow.ops.sources import constant, placeholder


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with Graph().as_default():
        yield


def value(tensor: Any, feeds: Any = None) -> Any:
    return evaluate([tensor], feeds)[0]


@pytest.mark.parametrize("where", [ops.where, ops.where_v2])
def test_nan_in_the_branch_not_taken_does_no_harm(where: Any) -> None:
    taken, other = constant(np.array([2.0, 4.0])), constant(np.array([np.nan, np.inf]))
    y = where([True, False], taken, other) * where([False, True], other, taken)
    assert value(y)[0] == 4.0
    z = ops.where([True, False], y, ops.zeros_like(y))
    a, b = gradients(z, [taken, other], constant(np.array([1.0, np.nan])))
    assert value(a)[0] == 4.0
    assert value(b)[0] == 0.0


def test_a_condition_vector_picks_rows() -> None:
    a, b = np.zeros((2, 3)), np.ones((2, 3))
    np.testing.assert_array_equal(value(ops.where([True, False], a, b)), [[0] * 3, [1] * 3])
    with pytest.raises(ShapeError, match="condition and the first axis"):
        ops.where([True, False, True], a, b)
    with pytest.raises(ShapeError, match="both branches"):
        ops.where(True, a, np.ones(3))
    with pytest.raises(ValueError, match="x and y, or neither"):
        ops.where([True], a)


def test_select_checks_shapes_when_run() -> None:
    c, x = placeholder("bool", None), placeholder("float64", None)
    with pytest.raises(InvalidArgumentError, match=r"shape \(3,\) does not select"):
        value(ops.where(c, x, x), {c: np.ones(3, bool), x: np.zeros((2, 3))})


def test_boolean_mask_wants_a_mask_of_known_rank_that_fits() -> None:
    x = constant(np.zeros((2, 3)))
    with pytest.raises(GraphError, match="rank of the mask"):
        ops.boolean_mask(x, placeholder("bool", None))
    with pytest.raises(ShapeError, match="scalar"):
        ops.boolean_mask(x, placeholder("bool", []))
    with pytest.raises(ShapeError, match="mask"):
        ops.boolean_mask(x, [True, False, True])


@pytest.mark.parametrize("index", [-1, 3, 7])
def test_gather_never_wraps_around(index: int) -> None:
    x, i = constant(np.arange(3.0)), placeholder("int32", [2])
    feeds = {i: np.array([0, index], np.int32)}
    wanted = rf"index {index} is not in \[0, 3\)"
    with pytest.raises(InvalidArgumentError, match=wanted):
        value(ops.gather(x, i), feeds)
    vectors = ops.expand_dims(i, 1)
    for tensor in (
        ops.gather_nd(x, vectors),
        ops.scatter_nd(vectors, [1.0, 2.0], [3]),
        ops.tensor_scatter_update(x, vectors, np.zeros(2)),
    ):
        with pytest.raises(InvalidArgumentError, match=rf"{index} is not in \[0, 3\)"):
            value(tensor, feeds)


def test_gather_nd_with_batch_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    found = value(ops.gather_nd(x, [[[1]], [[0]]], batch_dims=1))
    np.testing.assert_array_equal(found, [[x[0, 1]], [x[1, 0]]])


def test_gather_of_a_wide_axis_and_batches() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(value(ops.gather(x, [3, 0], axis=-1)), x[..., [3, 0]])
    picked = value(ops.gather(x, [[0], [2]], batch_dims=1))
    np.testing.assert_array_equal(picked, [[x[0, 0]], [x[1, 2]]])
    with pytest.raises(GraphError, match="batch_dims 2"):
        ops.gather(x, [0], batch_dims=2)
