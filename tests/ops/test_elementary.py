"""Elementary, special and activation functions: golden values, kinks, extremes, dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphflow import ops as tf
from graphflow.base.errors import DTypeError
from graphflow.build import Graph
from graphflow.differentiate import gradients
from graphflow.ops.special import multiply_no_nan, xlog1py
from tests.ops.values import grads, value

X = np.float32([0, 1, 6, 7, -1])
# Values and gradients at X, as TensorFlow 1 gives them.
ACTIVATIONS: dict[str, tuple[Any, Any, Any]] = {
    "relu": (tf.relu, [0, 1, 6, 7, 0], [0, 1, 1, 1, 0]),
    "relu6": (tf.relu6, [0, 1, 6, 6, 0], [0, 1, 0, 0, 0]),
    "elu": (tf.elu, [0, 1, 6, 7, -0.6321206], [1, 1, 1, 1, 0.3678794]),
    "selu": (
        tf.selu,
        [0, 1.050701, 6.3042059, 7.3549070, -1.1113307],
        [1.050701, 1.050701, 1.050701, 1.050701, 0.6467686],
    ),
    "leaky_relu": (tf.leaky_relu, [0, 1, 6, 7, -0.2], [0.2, 1, 1, 1, 0.2]),
    "softsign": (
        tf.softsign,
        [0, 0.5, 0.8571429, 0.875, -0.5],
        [1, 0.25, 0.02040816, 0.015625, 0.25],
    ),
    "softplus": (
        tf.softplus,
        [0.6931472, 1.3132617, 6.0024757, 7.0009117, 0.3132617],
        [0.5, 0.7310586, 0.9975274, 0.9990889, 0.2689414],
    ),
    "abs": (tf.abs, [0, 1, 6, 7, 1], [0, 1, 1, 1, -1]),
    "sign": (tf.sign, [0, 1, 1, 1, -1], [0, 0, 0, 0, 0]),
    "clip": (lambda x: tf.clip_by_value(x, 0.0, 6.0), [0, 1, 6, 6, 0], [1, 1, 1, 0, 0]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_subgradients(name: str) -> None:
    f, values, slopes = ACTIVATIONS[name]
    np.testing.assert_allclose(value(f, X), values, rtol=1e-6)
    np.testing.assert_allclose(grads(f, X)[0], slopes, rtol=2e-6)


@pytest.mark.parametrize(("f", "below"), [(tf.elu, 0.36787945), (tf.selu, 0.64676853)])
def test_slopes_of_slopes_are_0_from_0_on(f: Any, below: float) -> None:
    """As in TensorFlow 2.21."""

    def slope(x: Any) -> Any:
        return gradients(f(x), x)[0]

    found = grads(slope, np.float32([-1.0, 0.0, -0.0, 2.0]))[0]
    np.testing.assert_allclose(found, [below, 0, 0, 0], rtol=1e-6)


# Of 0.0, -0.0, -4.0 and 4.0, as TensorFlow 2.21 gives them: is the zero negative, and where?
ZEROS: dict[str, tuple[Any, list[float]]] = {
    "relu": (tf.relu, [0.0, 0.0, 0.0, 4.0]),
    "relu6": (tf.relu6, [0.0, 0.0, 0.0, 4.0]),
    "leaky_relu": (tf.leaky_relu, [0.0, -0.0, -0.8, 4.0]),
    "elu": (tf.elu, [0.0, -0.0, -0.9816844, 4.0]),
    "selu": (tf.selu, [0.0, -0.0, -1.7258986, 4.2028041]),
    "sign": (tf.sign, [0.0, 0.0, -1.0, 1.0]),
    "div_no_nan": (lambda x: tf.div_no_nan(x, -0.0), [0.0, 0.0, 0.0, 0.0]),
    "multiply_no_nan": (lambda x: multiply_no_nan(x, -0.0), [0.0, 0.0, 0.0, 0.0]),
    "floormod by 2": (lambda x: tf.floormod(x, 2.0), [0.0, -0.0, -0.0, 0.0]),
    "floormod by -2": (lambda x: tf.floormod(x, -2.0), [0.0, -0.0, -0.0, 0.0]),
    "truncatemod by 2": (lambda x: tf.truncatemod(x, 2.0), [0.0, -0.0, -0.0, 0.0]),
}


@pytest.mark.parametrize("name", ZEROS)
def test_zeros_have_tensorflows_signs(name: str) -> None:
    f, expected = ZEROS[name]
    found = value(f, np.float32([0.0, -0.0, -4.0, 4.0]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize(
    "f", [tf.sigmoid, tf.tanh, tf.softplus, tf.log_sigmoid, tf.elu, tf.selu, tf.softsign, tf.gelu]
)
def test_extremes_are_finite(f: Any) -> None:
    x = np.float32([-1e4, -100, 100, 1e4])
    assert np.isfinite(value(f, x)).all()
    assert np.isfinite(grads(f, x)[0]).all()


def test_tails() -> None:
    x = np.float64([-700, 700])
    np.testing.assert_allclose(value(tf.sigmoid, x), [np.exp(-700.0), 1])
    np.testing.assert_allclose(value(tf.softplus, x), [np.exp(-700.0), 700])
    np.testing.assert_allclose(value(tf.log_sigmoid, x), [-700, -np.exp(-700.0)])
    np.testing.assert_allclose(value(tf.log1p, np.float64([1e-20])), [1e-20])
    np.testing.assert_allclose(value(tf.erfc, np.float64([20])), [5.395865611607901e-176])


def test_step_and_rounding() -> None:
    np.testing.assert_array_equal(value(tf.step, np.float32([-1, 0, 2])), [0, 0, 1])
    halves = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    np.testing.assert_array_equal(value(tf.round, halves), [-2, -2, 0, 0, 2, 2])
    np.testing.assert_array_equal(value(tf.round, np.int32([3])), [3])


def test_leaky_relu_of_integers_and_of_a_tensor_slope() -> None:
    np.testing.assert_allclose(value(tf.leaky_relu, np.int32([-5, 5])), [-1, 5])
    found = grads(tf.leaky_relu, np.float32([-5, 5]), np.float32(0.5))
    np.testing.assert_array_equal(found[0], [0.5, 1])
    assert found[1] == -5


def test_gelu_and_swish() -> None:
    x = np.float64([-1, 0.5])
    np.testing.assert_allclose(value(tf.gelu, x), [-0.15880801, 0.34571401], rtol=1e-6)
    exact = value(lambda v: tf.gelu(v, approximate=False), x)
    np.testing.assert_allclose(exact, [-0.15865525, 0.34573123], rtol=1e-6)
    np.testing.assert_allclose(value(tf.swish, x), x / (1 + np.exp(-x)))


@pytest.mark.parametrize(
    ("f", "inputs", "want"),
    [
        (tf.lgamma, (2.5,), 0.28468287),
        (tf.digamma, (2.5,), 0.70315683),
        (tf.igamma, (2.0, 1.5), 0.44217455),
        (tf.igammac, (2.0, 1.5), 0.55782545),
        (tf.betainc, (2.0, 3.0, 0.4), 0.52480006),
        (tf.zeta, (2.0, 3.0), 0.39493406),
        (tf.polygamma, (2.0, 1.5), -0.82879668),
        (tf.polygamma, (0.0, 1.5), 0.03648997),
        (tf.erf, (0.5,), 0.52049989),
        (tf.erfc, (0.5,), 0.47950011),
        (tf.erfinv, (0.5,), 0.47693631),
        (tf.lbeta, ([1.0, 2.0, 3.0],), -4.09434462),
        (tf.xlogy, (2.0, 3.0), 2.19722462),
        (tf.xlogy, (0.0, 0.0), 0.0),
        (tf.xdivy, (0.0, 0.0), 0.0),
        (tf.xlogy, (0.0, np.nan), 0.0),
        (tf.xdivy, (0.0, np.nan), 0.0),
        (xlog1py, (0.0, np.nan), 0.0),
        (tf.xlogy, (1.0, np.nan), np.nan),
    ],
)
def test_special_functions(f: Any, inputs: Any, want: float) -> None:
    np.testing.assert_allclose(value(f, *[np.float64(x) for x in inputs]), want, rtol=1e-6)


def test_special_functions_of_half_floats() -> None:
    found = value(tf.erf, np.float16([0.5]))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, [0.5205], rtol=1e-3)


def test_complex_numbers() -> None:
    z = np.complex64([3 + 4j, -1j])
    np.testing.assert_array_equal(value(tf.abs, z), np.float32([5, 1]))
    np.testing.assert_allclose(value(tf.angle, z), np.angle(z))
    np.testing.assert_array_equal(value(lambda v: tf.complex(tf.real(v), tf.imag(v)), z), z)
    np.testing.assert_array_equal(value(tf.conj, z), np.conj(z))
    np.testing.assert_allclose(value(tf.angle, np.float32([-1, 1])), [np.pi, 0], rtol=1e-6)
    assert value(tf.imag, np.float32([2])) == 0
    # TensorFlow's convention: the gradient of |z|**2 is 2 z
    found = grads(lambda v: tf.real(v * tf.conj(v)), z)[0]
    np.testing.assert_allclose(found, 2 * z)


@pytest.mark.parametrize("f", [tf.exp, tf.sqrt, tf.log, tf.sigmoid, tf.tanh, tf.is_nan, tf.erf])
def test_integers_are_refused_when_built(f: Any) -> None:
    with Graph().as_default(), pytest.raises(DTypeError, match="floating"):
        f(np.int32([1]))


def test_comparisons_of_special_values() -> None:
    x = np.float32([np.nan, np.inf, 1])
    np.testing.assert_array_equal(value(tf.is_nan, x), [True, False, False])
    np.testing.assert_array_equal(value(tf.is_inf, x), [False, True, False])
    np.testing.assert_array_equal(value(tf.is_finite, x), [False, False, True])
    np.testing.assert_array_equal(value(tf.equal, x, x), [False, True, True])
    np.testing.assert_array_equal(value(tf.less, x, x), [False, False, False])


def test_sign_of_complex_numbers() -> None:
    x = np.complex64([3 + 4j, 0, -2, 1e30 + 1e30j, complex(np.nan, 1), complex(np.inf, 1)])
    r = np.sqrt(0.5)
    wanted = [0.6 + 0.8j, 0, -1, r + r * 1j, complex(np.nan, np.nan), complex(np.nan, np.nan)]
    found = value(tf.sign, x)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, wanted, rtol=2e-7)


def test_the_gradient_of_a_complex_sign_is_what_turns_it() -> None:
    x = np.complex128([2j, 0, 3 + 4j])
    by_x = grads(lambda x: tf.real(tf.sign(x)), x)[0]
    # Re(x / |x|) grows by Re(conj(g) dx), and not along x: nothing at 3 + 4i along 3 + 4i.
    np.testing.assert_allclose(by_x, [0.5, 0, (16 - 12j) / 125], rtol=1e-14)


def test_the_slope_below_zero_is_kept_in_float32() -> None:
    x = np.array([-1.0, 2.0])
    slope = float(np.float32(0.1))
    np.testing.assert_array_equal(value(lambda x: tf.leaky_relu(x, 0.1), x), [-slope, 2])
    np.testing.assert_array_equal(grads(lambda x: tf.leaky_relu(x, 0.1), x)[0], [slope, 1])
