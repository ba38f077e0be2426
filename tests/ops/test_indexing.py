"""`x[...]` against NumPy: values, static shapes and gradients."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, Dimension, merged
from graphflow.build import Graph
from graphflow.differentiate import gradients
from graphflow.ops import boolean_mask, constant_value, fill, reshape, shape, slice, strided_slice
from graphflow.ops.evaluate import evaluate
from graphflow.ops.sources import constant, placeholder

BOUND = st.one_of(st.none(), st.integers(-6, 6))
SPAN = st.builds(
    builtins.slice,
    BOUND,
    BOUND,
    st.one_of(st.none(), st.integers(-3, -1), st.integers(1, 3)),
)


@st.composite
def indexed(draw: Any) -> tuple[tuple[int, ...], Any]:
    """A shape and a key that fits it."""
    dims = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = draw(st.integers(0, len(dims)))
    spread = draw(st.booleans())
    split = draw(st.integers(0, count)) if spread else count
    axes = [*range(split), *range(len(dims) - count + split, len(dims))]
    key: list[Any] = []
    for position, axis in enumerate(axes):
        if spread and position == split:
            key.append(Ellipsis)
        if draw(st.integers(0, 4)) == 0:
            key.append(None)
        n = dims[axis]
        if n and draw(st.booleans()):
            index = draw(st.integers(-n, n - 1))
            key.append(np.int64(index) if draw(st.booleans()) else index)
        else:
            key.append(draw(SPAN))
    if spread and Ellipsis not in key:
        key.append(Ellipsis)
    return dims, key[0] if len(key) == 1 and draw(st.booleans()) else tuple(key)


def hidden(draw: Any, dims: tuple[int, ...]) -> Any:
    """The static shape, with random sizes or the rank unknown."""
    if draw(st.integers(0, 5)) == 0:
        return None
    return [None if draw(st.booleans()) else n for n in dims]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_matches_numpy(data: Any) -> None:
    dims, key = data.draw(indexed())
    values = np.arange(np.prod(dims, dtype=int), dtype=float).reshape(dims)
    with Graph().as_default():
        x = placeholder("float64", hidden(data.draw, dims))
        y = x[key]
        wanted = values[key]
        (got,) = evaluate([y], {x: values})
        np.testing.assert_array_equal(got, wanted)
        assert merged(y.dims, wanted.shape) is not CLASH
        if x.dims == dims:
            assert y.dims == wanted.shape


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_gradient_goes_where_the_values_came_from(data: Any) -> None:
    dims, key = data.draw(indexed())
    values = np.arange(np.prod(dims, dtype=int), dtype=float).reshape(dims)
    with Graph().as_default():
        x = placeholder("float64", hidden(data.draw, dims))
        y = x[key]
        weights = np.asarray(np.random.default_rng(0).standard_normal(values[key].shape))
        (g,) = gradients(y, x, constant(weights))
        (got,) = evaluate([g], {x: values})
    wanted = np.zeros(dims)
    wanted[key] = weights
    np.testing.assert_array_equal(got, wanted)


def test_takes_tensors_as_bounds() -> None:
    x = np.arange(12).reshape(3, 4)
    with Graph().as_default():
        t = constant(x)
        i = placeholder("int32", [])
        j = placeholder("int64", [])
        outputs = [t[i], t[i:], t[:, i:j], t[j, ..., None], t[-i]]
        assert [y.dims for y in outputs] == [(4,), (None, 4), (3, None), (4, 1), (4,)]
        got = evaluate(outputs, {i: np.int32(1), j: np.int64(2)})
    for a, b in zip(got, [x[1], x[1:], x[:, 1:2], x[2, ..., None], x[-1]], strict=True):
        np.testing.assert_array_equal(a, b)


def test_takes_dimensions_and_lists_as_tensorflow_does() -> None:
    x = np.arange(12).reshape(3, 4)
    with Graph().as_default():
        t = constant(x)
        assert constant_value(t[Dimension(1), 2]) == 6
        assert constant_value(t[[1, 2]]) == 6


@pytest.mark.parametrize("of_rank", [1, 2])
def test_takes_one_boolean_mask(of_rank: int) -> None:
    x = np.arange(12.0).reshape(3, 4)
    mask = x[:, 0] > 3 if of_rank == 1 else x % 2 == 0
    with Graph().as_default():
        t = constant(x)
        for m in (mask, constant(mask)):
            y = t[m]
            np.testing.assert_array_equal(evaluate([y])[0], x[mask])
            assert y.dims == (None, *x.shape[of_rank:])


def test_boolean_mask_along_an_axis_of_unknown_sizes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    with Graph().as_default():
        t, m = placeholder("float64", [None, None, 4]), placeholder("bool", [None])
        y = boolean_mask(t, m, axis=1)
        assert y.dims == (None, None, 4)
        mask = np.array([True, False, True])
        np.testing.assert_array_equal(evaluate([y], {t: x, m: mask})[0], x[:, mask])


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (3, ShapeError),
        (-4, ShapeError),
        ((0, 0, 0), ShapeError),
        ((..., 0, ...), GraphError),
        (1.0, DTypeError),
        ("a", DTypeError),
        (True, DTypeError),
        (np.array([0, 1]), DTypeError),
        (np.s_[::0], ShapeError),
    ],
)
def test_refuses_when_built(key: Any, error: Any) -> None:
    with Graph().as_default():
        x = constant(np.zeros((3, 4)))
        with pytest.raises(error):
            x[key]


@pytest.mark.parametrize(("index", "bound"), [(3, "size 3"), (-4, "size 3")])
def test_refuses_an_index_out_of_bounds_when_run(index: int, bound: str) -> None:
    with Graph().as_default():
        x, i = constant(np.zeros(3)), placeholder("int32", [])
        with pytest.raises(InvalidArgumentError, match=f"{index} is out of bounds.*{bound}"):
            evaluate([x[i]], {i: np.int32(index)})


def test_names_are_tensorflows() -> None:
    with Graph().as_default() as graph:
        x = constant(np.zeros((3, 4)), name="x")
        assert x[0].name == "strided_slice:0"
        assert x[1:].name == "strided_slice_1:0"
        assert "strided_slice/stack" in graph.by_name


def test_slice_takes_the_rest_for_minus_one_and_refuses_to_leave() -> None:
    x = np.arange(12).reshape(3, 4)
    with Graph().as_default():
        np.testing.assert_array_equal(evaluate([slice(x, [1, 0], [-1, 2])])[0], x[1:, :2])
        with pytest.raises(ShapeError, match="leaves an axis of size 4"):
            slice(x, [0, 2], [1, 3])
        size = placeholder("int32", [2])
        with pytest.raises(InvalidArgumentError, match="leaves an axis of size 4"):
            evaluate([slice(x, [0, 2], size)], {size: np.array([1, 3], np.int32)})


def test_strided_slice_honours_masks() -> None:
    x = np.arange(12).reshape(3, 4)
    with Graph().as_default():
        y = strided_slice(x, [0, 0, 1], [0, 0, 3], None, ellipsis_mask=1, new_axis_mask=2)
        np.testing.assert_array_equal(evaluate([y])[0], x[..., None, 1:3])
        tail = strided_slice(fill([4], 2.0), [-1], [-4], [-2])
        assert tail.dims == (2,)
        assert reshape(tail, shape(tail)).dims == (2,)
