"""The numeric checker: it lets right gradients pass, and no wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow.ops as tf
from graphflow.build import OPS, Tensor
from graphflow.build.opdef import Array, Float, define
from graphflow.differentiate.check import GradientError, check_gradients
from graphflow.ops.rules import same
from graphflow.ops.sources import constant, stop_gradient

RNG = np.random.default_rng(0)


def _square(xp: Any, x: Float) -> Array:
    """Squares, with gradients that the tests choose."""
    return x * x


@pytest.fixture
def square() -> Any:
    made = []

    def enter(grad: Any) -> Any:
        entry = define(f"CheckedSquare{len(made)}", _square, infer=same, grad=grad)
        made.append(entry)
        return entry

    yield enter
    for entry in made:
        del OPS[entry.name]


def test_right_gradients_pass(square: Any) -> None:
    entry = square(lambda g, y, x: 2.0 * g * x)
    for x in (np.array(3.0), RNG.normal(size=(2, 3)), RNG.normal(size=(5, 7)), np.zeros((0, 2))):
        report = check_gradients(entry, [x])
        assert report.checked > 0 or not x.size
        assert report.worst < 1e-8


@pytest.mark.parametrize(
    "grad",
    [
        lambda g, y, x: g * x,
        lambda g, y, x: -2.0 * g * x,
        lambda g, y, x: 2.0 * g * x + 1e-4,
        lambda g, y, x: None,
        lambda g, y, x: 2.0 * x,
        lambda g, y, x: 2.0 * g * x / (x - x),
    ],
)
def test_wrong_gradients_do_not(square: Any, grad: Any) -> None:
    with pytest.raises(GradientError, match="first order"):
        check_gradients(square(grad), [RNG.normal(size=(2, 3))])


def test_a_wrong_second_order_is_seen(square: Any) -> None:
    entry = square(lambda g, y, x: 2.0 * g * stop_gradient(x))
    assert check_gradients(entry, [np.array([1.0, 2.0])], order=1).checked
    with pytest.raises(GradientError, match="second order, input 0"):
        check_gradients(entry, [np.array([1.0, 2.0])])


def test_one_wrong_element_of_many_is_seen() -> None:
    mask = np.ones((6, 6))
    mask[3, 4] = 0.999

    def function(x: Tensor) -> Tensor:
        return x * mask + stop_gradient(x * (1 - mask))

    with pytest.raises(GradientError, match="direction random"):
        check_gradients(function, [RNG.normal(size=(6, 6))])


def test_kinks_are_counted_and_left_out() -> None:
    report = check_gradients(lambda x: tf.abs(x), [np.array([0.0, 1.0, -2.0])])
    assert report.kinks > 0
    assert report.checked > 0


def test_nothing_but_kinks_fails() -> None:
    with pytest.raises(GradientError, match="nothing was checked"):
        check_gradients(lambda x: tf.abs(x), [np.zeros(3)], order=1)


def test_a_kink_beside_the_point_does_no_harm() -> None:
    report = check_gradients(lambda x: tf.relu(x), [np.array([3e-4])])
    assert report.kinks == 0


def test_scales() -> None:
    for scale in (1e-6, 1.0, 1e6):
        check_gradients(lambda x: x * x * x, [np.array([2.0, -3.0]) * scale])
        check_gradients(lambda x, s=scale: tf.exp(x) * s, [np.array([0.5, -1.0])])


def test_complex() -> None:
    z = np.array([1 + 2j, -0.5 + 0.3j])
    w = np.array([0.3 - 1j, 2 + 0j])
    assert check_gradients(lambda a, b: a * b * b, [z, w]).checked > 10
    with pytest.raises(GradientError):
        check_gradients(lambda a: a * stop_gradient(a), [z])


def test_several_outputs_and_other_inputs() -> None:
    def function(x: Tensor, n: Tensor, y: Tensor) -> list[Tensor]:
        return [tf.cast(n, "float64") * x, n, tf.reduce_sum(x * y)]

    report = check_gradients(function, [np.ones(2), np.array([2, 3]), np.array([4.0, 5.0])])
    assert report.checked > 10
    assert check_gradients(function, [np.ones(2), np.array([2, 3]), np.ones(2)], which=[2]).checked


def test_only_double_precision() -> None:
    with pytest.raises(TypeError, match="must be float64"):
        check_gradients(lambda x: x, [np.ones(2, np.float32)])


def test_what_has_no_derivative() -> None:
    assert check_gradients(lambda x: tf.cast(x, "int32"), [np.ones(2)]).checked == 0
    assert check_gradients(lambda x: constant(np.ones(3)), [np.ones(2)]).worst == 0.0
