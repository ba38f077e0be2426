"""Convolution against the sum that defines it, and what it refuses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.base import errors
from graphflow.build import OPS
from graphflow.ops import convolve
from graphflow.ops.windows import axes


def kernel(name: str) -> Any:
    entry = OPS[name]
    assert entry.kernel is not None
    return lambda xp, *inputs, **attrs: entry.kernel(xp, *inputs, **entry.complete(attrs))


def by_definition(x: Any, w: Any, strides: Any, dilations: Any, pads: Any) -> Any:
    """Sums written out, one output element at a time."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape, dilations, strict=False)]
    out = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:], reach, strides, strict=False)]
    y = np.zeros((len(x), *out, w.shape[-1]))
    for b, i, j, o in itertools.product(*[range(n) for n in y.shape]):
        for p, q in itertools.product(range(w.shape[0]), range(w.shape[1])):
            row, column = i * strides[0] + p * dilations[0], j * strides[1] + q * dilations[1]
            y[b, i, j, o] += x[b, row, column] @ w[p, q, :, o]
    return y


numbers = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    window=numbers,
    strides=numbers,
    dilations=numbers,
    pads=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    channels=numbers,
    batch=st.integers(0, 2),
)
def test_is_its_definition(
    size: Any, window: Any, strides: Any, dilations: Any, pads: Any, channels: Any, batch: int
) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(batch, *size, channels[0])), rng.normal(size=(*window, *channels))
    attrs = {
        "strides": (1, *strides, 1),
        "dilations": (1, *dilations, 1),
        "padding": ((0, 0), *pads, (0, 0)),
        "data_format": "NHWC",
    }
    fits = all(
        n + sum(p) >= (k - 1) * d + 1
        for n, p, k, d in zip(size, pads, window, dilations, strict=True)
    )
    if not fits:
        with pytest.raises(errors.InvalidArgumentError, match="do not fit"):
            kernel("Conv2D")(np, x, w, **attrs)
        return
    y = kernel("Conv2D")(np, x, w, **attrs)
    np.testing.assert_allclose(y, by_definition(x, w, strides, dilations, pads), atol=1e-12)
    # The gradients are the transposes of the linear maps x -> y and w -> y.
    g = rng.normal(size=y.shape)
    to_x = kernel("Conv2DBackpropInput")(np, np.array(x.shape), w, g, **attrs)
    to_w = kernel("Conv2DBackpropFilter")(np, x, np.array(w.shape), g, **attrs)
    np.testing.assert_allclose([np.sum(to_x * x), np.sum(to_w * w)], np.sum(y * g), atol=1e-9)


def test_channels_first_is_the_same_convolution() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 5, 4, 3)), rng.normal(size=(3, 2, 3, 2))
    last = kernel("Conv2D")(np, x, w, strides=2, padding="SAME")
    first = kernel("Conv2D")(
        np, np.moveaxis(x, 3, 1), w, strides=2, padding="SAME", data_format="NCHW"
    )
    np.testing.assert_array_equal(np.moveaxis(first, 1, 3), last)
    assert first.flags.c_contiguous


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 4, 4, 2)), rng.normal(size=(2, 2, 2, 3))
    geometry = axes((4, 4), (2, 2), (1, 1), (1, 1), "SAME")
    g = rng.normal(size=(5, 4, 4, 3))

    def results() -> list[Any]:
        return [
            convolve.convolve(np, x, w, geometry),
            convolve.to_input(np, g, w, geometry),
            convolve.to_filters(np, x, g, geometry, 3),
        ]

    whole = results()
    monkeypatch.setattr(convolve, "CHUNK_BYTES", 1)
    for a, b in zip(results(), whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_inputs_that_are_views_are_taken_as_they_are() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 10, 8, 2))[::2, ::-2, 1:], rng.normal(size=(2, 2, 2, 3))
    found = kernel("Conv2D")(np, x, w, strides=1, padding="VALID")
    copied = kernel("Conv2D")(np, x.copy(), w, strides=1, padding="VALID")
    np.testing.assert_allclose(found, copied, atol=1e-12)


# ---- shapes, at build time and at run time


def test_unknown_sizes_stay_unknown() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 28, None, 3])
        w = tf.zeros([5, 5, 3, 8])
        assert tf.nn.conv2d(x, w, [1, 2, 2, 1], "SAME").shape.as_list() == [None, 14, None, 8]
        assert tf.nn.conv2d(x, w, [1, 1, 1, 1], "VALID").shape.as_list() == [None, 24, None, 8]
        unknown = tf.nn.conv2d(tf.placeholder(tf.float32), w, 1, "SAME")
        assert unknown.shape.as_list() == [None, None, None, 8]


@pytest.mark.parametrize(
    ("dims", "filters", "options", "error"),
    [
        ((1, 5, 5), (2, 2, 3, 1), {}, "rank 4"),
        ((1, 5, 5, 3), (2, 2, 3), {}, "rank 4"),
        ((1, 5, 5, 3), (2, 2, 4, 1), {}, "3 channels"),
        ((1, 5, 5, 3), (6, 2, 3, 1), {}, "does not fit"),
        ((1, 5, 5, 3), (2, 2, 3, 1), {"padding": "FULL"}, "padding"),
        ((1, 5, 5, 3), (2, 2, 3, 1), {"padding": [[0, 0]] * 3}, "4 pairs"),
        ((1, 5, 5, 3), (2, 2, 3, 1), {"padding": [[1, 0], *[[0, 0]] * 3]}, "batch"),
        ((1, 5, 5, 3), (2, 2, 3, 1), {"strides": [2, 1, 1, 1]}, "strides"),
        ((1, 5, 5, 3), (2, 2, 3, 1), {"strides": [1, 0, 1, 1]}, "at least 1"),
        ((1, 5, 5, 3), (2, 2, 3, 1), {"strides": [1, 1, 1]}, "1, 2 or 4"),
        ((1, 5, 5, 3), (2, 2, 3, 1), {"data_format": "HWCN"}, "data_format"),
    ],
)
def test_wrong_arguments_are_refused_when_built(
    dims: Any, filters: Any, options: Any, error: str
) -> None:
    options = {"strides": [1, 1, 1, 1], "padding": "VALID", **options}
    with tf.Graph().as_default(), pytest.raises(ValueError, match=error):
        tf.nn.conv2d(tf.zeros(dims), tf.zeros(filters), **options)


def test_wrong_shapes_are_refused_when_run() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x, w = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
        y = tf.nn.conv2d(x, w, 1, "VALID")
        for a, b, error in (
            ((1, 5, 5, 3), (2, 2, 4, 1), "3 channels"),
            ((1, 5, 5, 3), (6, 2, 3, 1), "do not fit"),
        ):
            with pytest.raises(errors.InvalidArgumentError, match=error):
                session.run(y, {x: np.zeros(a), w: np.zeros(b)})


def test_a_gradient_of_another_shape_is_refused() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="must have shape"):
        kernel("Conv2DBackpropInput")(
            np, [1, 5, 5, 1], np.zeros((2, 2, 1, 1)), np.zeros((1, 5, 5, 1)),
            strides=1, padding="VALID", data_format="NHWC", dilations=1,
        )  # fmt: skip
