"""map_fn, scan, foldl and foldr."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphflow.base import dtypes
from graphflow.build import OPS, Graph
from graphflow.differentiate import gradients
from graphflow.differentiate.check import check_gradients
from graphflow.ops.evaluate import evaluate
from graphflow.ops.functional import foldl, foldr, map_fn, scan
from graphflow.ops.sources import constant, placeholder

X = np.array([[1.0, -2.0], [0.5, 3.0], [2.0, 0.25]])


@pytest.fixture(autouse=True)
def graph() -> Any:
    with Graph().as_default() as graph:
        yield graph


def test_map_applies_to_each_row() -> None:
    y = map_fn(lambda row: row * row + 1.0, constant(X))
    assert y.dims == (3, 2)
    np.testing.assert_array_equal(evaluate([y])[0], X * X + 1)


def test_map_over_structures_with_another_result() -> None:
    a, b = constant(X), constant(np.array([1, 2, 3], np.int32))
    y = map_fn(
        lambda e: {"s": OPS["Sum"](e[0], axis=None), "n": e[1] * 2},
        (a, b),
        dtype={"s": dtypes.float64, "n": dtypes.int32},
    )
    got = evaluate([y["s"], y["n"]])
    np.testing.assert_array_equal(got[0], X.sum(1))
    np.testing.assert_array_equal(got[1], [2, 4, 6])


def test_map_over_an_unknown_number() -> None:
    x = placeholder(dtypes.float64, (None, 2))
    y = map_fn(lambda row: row * 2.0, x)
    for rows in (X, X[:1], X[:0]):
        np.testing.assert_array_equal(evaluate([y], {x: rows})[0], rows * 2)


def test_map_takes_shapes_that_change_the_row() -> None:
    y = map_fn(lambda row: OPS["Sum"](row, axis=None), constant(X))
    np.testing.assert_array_equal(evaluate([y])[0], X.sum(1))


def test_numbers_take_the_dtype() -> None:
    np.testing.assert_array_equal(evaluate([map_fn(lambda _: 1, constant(X))])[0], np.ones(3))
    assert evaluate([foldl(lambda a, _: 2, constant(np.ones(3)))]) == [2.0]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("first", [None, np.array([10.0, 20.0])])
def test_scan_keeps_all_results(reverse: bool, first: Any) -> None:
    rows = X[::-1] if reverse else X
    wanted = np.cumsum(rows, 0) + (0 if first is None else first)
    wanted = wanted[::-1] if reverse else wanted
    y = scan(lambda a, e: a + e, constant(X), initializer=first, reverse=reverse)
    assert y.dims == (3, 2)
    np.testing.assert_array_equal(evaluate([y])[0], wanted)


def test_scan_over_structures() -> None:
    y = scan(lambda a, e: (a[0] + e, a[1] * 2), constant(X), initializer=(np.zeros(2), 1))
    got = evaluate(list(y))
    np.testing.assert_array_equal(got[0], np.cumsum(X, 0))
    np.testing.assert_array_equal(got[1], [2, 4, 8])


def test_folds_go_from_their_side() -> None:
    x = constant(np.array([1.0, 2.0, 3.0]))
    left, right = foldl(lambda a, e: a * 2.0 - e, x), foldr(lambda a, e: a * 2.0 - e, x)
    assert evaluate([left, right]) == [(1 * 2 - 2) * 2 - 3, (3 * 2 - 2) * 2 - 1]
    started = foldl(lambda a, e: a - e, x, initializer=constant(np.float64(10)))
    assert evaluate([started]) == [4.0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: map_fn(lambda e: OPS["Sin"](e) * w, x),
        lambda x, w: scan(lambda a, e: OPS["Sin"](a) * w + e, x),
        lambda x, w: scan(lambda a, e: OPS["Sin"](a) * w + e, x, initializer=w, reverse=True),
        lambda x, w: foldl(lambda a, e: OPS["Sin"](a) * w + e, x),
        lambda x, w: foldr(lambda a, e: OPS["Sin"](a) * w + e, x, initializer=w),
        lambda x, w: map_fn(lambda e: foldl(lambda a, b: OPS["Sin"](a) * b, e) * w, x),
    ],
)
def test_gradients(function: Any) -> None:
    check_gradients(function, [X, np.array([0.4, -1.1])])


def test_no_gradient_without_back_prop() -> None:
    x = constant(X)
    assert gradients(map_fn(lambda e: e * 2.0, x, back_prop=False), x) == [None]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: map_fn(3, constant(X)), TypeError, "callable"),
        (lambda: map_fn(lambda e: e, constant(1.0)), ValueError, "first axis"),
        (lambda: map_fn(lambda e: e[0], (constant(X), constant([1]))), ValueError, "first size"),
        (lambda: map_fn(lambda e: (e, e), constant(X)), ValueError, "another structure"),
        (lambda: map_fn(lambda e: constant(1), constant(X)), TypeError, "dtype says float64"),
        (lambda: scan(lambda a, e: (a, e), constant(X)), ValueError, "another structure"),
    ],
)
def test_errors(call: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        call()
