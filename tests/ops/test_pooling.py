"""Pooling against the windows that define it, where gradients go, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.base import errors
from graphflow.ops.windows import axes


def windows(x: Any, geometry: Any) -> Any:
    """For each place of the result: the elements of its window that are not padding."""
    for b, i, j, c in itertools.product(
        range(len(x)), range(geometry[0].out), range(geometry[1].out), range(x.shape[-1])
    ):
        spans = []
        for at, a in zip((i, j), geometry, strict=True):
            start = at * a.stride - a.before
            spans.append(slice(max(start, 0), start + a.window))
        yield (b, i, j, c), x[b, spans[0], spans[1], c]


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["SAME", "VALID"]),
)
def test_is_its_definition(size: Any, window: Any, strides: Any, padding: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, *size, 2))
    attrs = {"ksize": (1, *window, 1), "strides": (1, *strides, 1), "padding": padding}
    geometry = axes(size, window, strides, (1, 1), padding)
    with tf.Graph().as_default(), tf.Session() as session:
        largest, mean = session.run([tf.nn.max_pool(x, **attrs), tf.nn.avg_pool(x, **attrs)])
    for place, elements in windows(x, geometry):
        assert largest[place] == elements.max()
        assert mean[place] == pytest.approx(elements.mean())


def gradient(x: Any, **attrs: Any) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        given = tf.constant(x)
        return session.run(tf.gradients(tf.nn.max_pool(given, **attrs), given)[0])


def test_ties_send_the_gradient_to_the_first() -> None:
    found = gradient(np.ones((1, 4, 4, 1)), ksize=2, strides=2, padding="VALID")
    np.testing.assert_array_equal(found[0, :, :, 0], np.tile([[1, 0], [0, 0]], (2, 2)))


def test_nan_takes_the_gradient_and_the_value() -> None:
    x = np.array([[1.0, np.nan], [np.nan, 5.0]]).reshape(1, 2, 2, 1)
    found = gradient(x, ksize=2, strides=2, padding="VALID")
    np.testing.assert_array_equal(found.ravel(), [0, 1, 0, 0])


def test_negative_numbers_win_over_padding() -> None:
    x = np.full((1, 3, 3, 1), -5.0)
    with tf.Graph().as_default(), tf.Session() as session:
        assert (session.run(tf.nn.max_pool(x, 2, 2, "SAME")) == -5).all()
        whole = np.full((1, 3, 3, 1), -5, np.int32)
        assert (session.run(tf.nn.max_pool(whole, 2, 2, "SAME")) == -5).all()


def test_places_of_the_maxima_count_over_the_batch_where_asked() -> None:
    x = np.zeros((2, 2, 2, 1))
    x[0, 0, 1], x[1, 1, 0] = 1, 1
    with tf.Graph().as_default(), tf.Session() as session:
        inside = tf.nn.max_pool_with_argmax(x, 2, 2, "VALID", Targmax=tf.int32)[1]
        over = tf.nn.max_pool_with_argmax(x, 2, 2, "VALID", include_batch_in_index=True)[1]
        assert inside.dtype == tf.int32
        assert session.run(inside).ravel().tolist() == [1, 2]
        assert session.run(over).ravel().tolist() == [1, 6]


@pytest.mark.parametrize("function", [tf.nn.max_pool, tf.nn.avg_pool])
def test_channels_first_is_the_same(function: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    with tf.Graph().as_default(), tf.Session() as session:
        last = session.run(function(x, [1, 2, 3, 1], [1, 2, 1, 1], "SAME"))
        moved = np.moveaxis(x, 3, 1)
        first = session.run(function(moved, [1, 1, 2, 3], [1, 1, 2, 1], "SAME", "NCHW"))
    np.testing.assert_array_equal(np.moveaxis(first, 1, 3), last)


@pytest.mark.parametrize(
    ("dims", "options", "error"),
    [
        ((4, 4, 1), {}, "rank 4"),
        ((1, 4, 4, 1), {"ksize": 5}, "does not fit"),
        ((1, 4, 4, 1), {"ksize": [1, 2, 2, 2]}, "batch and the channels"),
        ((1, 4, 4, 1), {"strides": 0}, "at least 1"),
        ((1, 4, 4, 1), {"padding": None}, "needs ksize"),
        ((1, 4, 4, 1), {"padding": "FULL"}, "padding"),
    ],
)
def test_wrong_arguments_are_refused(dims: Any, options: Any, error: str) -> None:
    options = {"ksize": 2, "strides": 2, "padding": "VALID", **options}
    with tf.Graph().as_default(), pytest.raises(ValueError, match=error):
        tf.nn.max_pool(tf.zeros(dims), **options)


def test_a_window_that_does_not_fit_is_refused_when_run() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, None, None, 1])
        y = tf.nn.max_pool(x, 3, 1, "VALID")
        assert y.shape.as_list() == [None, None, None, 1]
        with pytest.raises(errors.InvalidArgumentError, match="does not fit"):
            session.run(y, {x: np.zeros((1, 2, 2, 1))})
