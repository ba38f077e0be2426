"""TensorFlow 1's `compute_gradient` and `compute_gradient_error`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow.ops as tf
from graphflow.build import Graph
from graphflow.build.defaults import default_session
from graphflow.differentiate import compute_gradient, compute_gradient_error
from graphflow.ops.evaluate import evaluate
from graphflow.ops.sources import constant, placeholder, stop_gradient


@pytest.fixture(autouse=True)
def graph() -> Any:
    with Graph().as_default() as graph:
        yield graph


def value(tensor: Any, feeds: Any) -> Any:
    return evaluate([tensor], feeds)[0]


class InterpreterSession:
    """The least that can be a default session."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def run(self, tensor: Any, feeds: Any) -> Any:
        return value(tensor, feeds)


def test_jacobians_agree() -> None:
    x = placeholder("float64", (2, 2))
    w = constant(np.array([[1.0], [2.0]]))
    start = np.array([[1.0, 2.0], [3.0, 4.0]])
    theory, numeric = compute_gradient(x, [2, 2], tf.matmul(x, w), [2, 1], start, evaluate=value)
    assert theory.tolist() == [[1, 0], [2, 0], [0, 1], [0, 2]]
    np.testing.assert_allclose(numeric, theory, atol=1e-9)


def test_errors_are_seen() -> None:
    x = placeholder("float64", (3,))
    assert compute_gradient_error(x, [3], x * x, [3], evaluate=value) < 1e-9
    y = x * stop_gradient(x)
    assert compute_gradient_error(x, [3], y, [3], np.ones(3), evaluate=value) == pytest.approx(1.0)


def test_float32_and_the_default_session(graph: Graph) -> None:
    x = placeholder("float32", (3,))
    with default_session(InterpreterSession(graph)):
        assert compute_gradient_error(x, [3], tf.exp(x), [3], delta=1e-2) < 1e-3
    with pytest.raises(ValueError, match="no default session"):
        compute_gradient(x, [3], tf.exp(x), [3])


def test_lists_and_other_feeds() -> None:
    x, y, z = (placeholder("float64", (2,)) for _ in range(3))
    pairs = compute_gradient(
        [x, y],
        [[2], [2]],
        x * y * z,
        [2],
        x_init_value=[np.array([1.0, 2.0]), np.array([3.0, 4.0])],
        extra_feed_dict={z: np.array([10.0, 10.0])},
        evaluate=value,
    )
    assert [np.diag(theory).tolist() for theory, _ in pairs] == [[30.0, 40.0], [10.0, 20.0]]


def test_complex_elements_count_twice() -> None:
    x = placeholder("complex128", (1,))
    start = np.array([1 + 2j])
    theory, numeric = compute_gradient(x, [1], x * x, [1], start, evaluate=value)
    assert theory.shape == (2, 2)
    np.testing.assert_allclose(theory, numeric, atol=1e-9)


def test_refuses() -> None:
    x = placeholder("float64", (2,))
    with pytest.raises(ValueError, match="does not depend"):
        compute_gradient(x, [2], constant([1.0, 1.0]), [2], evaluate=value)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        compute_gradient(x, [2], x, [2], np.ones(3), evaluate=value)
