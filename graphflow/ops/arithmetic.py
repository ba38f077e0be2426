"""Elementwise arithmetic of two inputs, with NumPy's broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import InvalidArgumentError
from graphflow.build import op
from graphflow.build.opdef import Array, Float, Num, Real, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler, binary
from graphflow.ops.complexes import conjugate
from graphflow.ops.public import function
from graphflow.ops.rules import broadcast, merge_dims
from graphflow.ops.select import keep
from graphflow.ops.sums import unbroadcast


def _add_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    return unbroadcast(g, x, y), unbroadcast(g, y, x)


@function
@op("Add", infer=broadcast, grad=_add_grad, elementwise=True, cases=binary())
def add(xp: Any, x: Num, y: Num) -> Array:
    """x + y, elementwise, with broadcasting; numbers of one dtype."""
    return x + y


@function
@op(
    "Sub",
    infer=broadcast,
    grad=lambda g, z, x, y: (unbroadcast(g, x, y), unbroadcast(-g, y, x)),
    elementwise=True,
    cases=binary(),
)
def subtract(xp: Any, x: Num, y: Num) -> Array:
    """x - y, elementwise, with broadcasting; numbers of one dtype."""
    return x - y


def _mul_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    return unbroadcast(g * conjugate(y), x, y), unbroadcast(g * conjugate(x), y, x)


@function
@op("Mul", infer=broadcast, grad=_mul_grad, elementwise=True, cases=binary())
def multiply(xp: Any, x: Num, y: Num) -> Array:
    """x * y, elementwise, with broadcasting; numbers of one dtype."""
    return x * y


def _away_from_zero(s: Sampler) -> list[Case]:
    return [Case((a, np.where(np.abs(b) < 0.3, 1.5, b))) for a, b in _pairs(s)]


def _positive_pairs(s: Sampler) -> list[Case]:
    return [Case((np.abs(a) + 0.3, b)) for a, b in _pairs(s)]


def _pairs(s: Sampler) -> list[Any]:
    return [case.inputs for case in binary()(s)]


def _div_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    x, y = conjugate(x), conjugate(y)
    return unbroadcast(g / y, x, y), unbroadcast(g * (-x / y / y), y, x)


@function
@op("RealDiv", infer=broadcast, grad=_div_grad, elementwise=True, cases=_away_from_zero)
def realdiv(xp: Any, x: Float, y: Float) -> Array:
    """x / y, elementwise, with broadcasting; floating or complex.  x / 0 is inf or NaN."""
    return xp.divide(x, y)


def _is_integer(x: Any) -> bool:
    return x.dtype.kind in "iu"


def _divisible(xp: Any, y: Any) -> None:
    """Integers have no inf: CuPy gives 0 and NumPy a warning where TensorFlow raises."""
    if not xp.all(y):
        raise InvalidArgumentError(None, None, "integer division by zero")


def _integer_pairs(s: Sampler) -> list[Case]:
    signed = [np.asarray([7, -7, 7, -7], np.int32), np.asarray([2, 2, -2, -2], np.int32)]
    floats = [Case(c.inputs, check=()) for c in _away_from_zero(s)]
    return [*floats, Case((*signed,)), Case((signed[0], np.int32(3) * np.ones((), np.int32)))]


@function
@op("FloorDiv", infer=broadcast, grad=None, elementwise=True, cases=_integer_pairs)
def floordiv(xp: Any, x: Real, y: Real) -> Array:
    """floor(x / y), elementwise, with broadcasting; -7 // 2 is -4.

    Raises:
      InvalidArgumentError: integer division by zero.
    """
    if _is_integer(x):
        _divisible(xp, y)
        return x // y
    return xp.floor(xp.divide(x, y))


def _mod_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    return unbroadcast(g, x, y), unbroadcast(-g * floordiv(x, y), y, x)


def _mod_cases(s: Sampler) -> list[Case]:
    x = np.asarray([0.3, 1.7, -2.2, 5.1])
    y = np.asarray([1.0, -0.7, 0.9, 2.0])
    return [
        Case((x, y)),
        Case((x, np.asarray(1.3))),
        Case((x[:, None], y)),
        *_integer_pairs(s)[-2:],
    ]


@function
@op("FloorMod", infer=broadcast, grad=_mod_grad, elementwise=True, cases=_mod_cases)
def floormod(xp: Any, x: Real, y: Real) -> Array:
    """x - floor(x / y) * y: the remainder with the sign of y, elementwise, with broadcasting.

    One that is 0 has the sign of x, as in TensorFlow.

    Raises:
      InvalidArgumentError: integer division by zero.
    """
    if _is_integer(x):
        _divisible(xp, y)
        return xp.remainder(x, y)
    rest = xp.fmod(x, y)
    return xp.where(((y < 0) & (rest > 0)) | ((y > 0) & (rest < 0)), rest + y, rest)


@function
@op("TruncateDiv", infer=broadcast, grad=None, cases=_integer_pairs)
def truncatediv(xp: Any, x: Real, y: Real) -> Array:
    """x / y rounded towards zero, elementwise, with broadcasting; -7 / 2 is -3.

    Raises:
      InvalidArgumentError: integer division by zero.
    """
    if not _is_integer(x):
        return xp.trunc(xp.divide(x, y))
    _divisible(xp, y)
    quotient = x // y
    return quotient + ((quotient < 0) & (quotient * y != x)).astype(x.dtype)


def _truncate_mod_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    return unbroadcast(g, x, y), unbroadcast(-g * truncatediv(x, y), y, x)


@function
@op("TruncateMod", infer=broadcast, grad=_truncate_mod_grad, elementwise=True, cases=_mod_cases)
def truncatemod(xp: Any, x: Real, y: Real) -> Array:
    """The remainder with the sign of x, as in C, elementwise, with broadcasting.

    Raises:
      InvalidArgumentError: integer division by zero.
    """
    if _is_integer(x):
        _divisible(xp, y)
    return xp.fmod(x, y)


def _pow_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    from graphflow.ops.compare import greater, not_equal
    from graphflow.ops.elementary import log

    base, exponent = conjugate(x), conjugate(y)
    by_x = g * exponent * power(base, exponent - 1)
    positive = not_equal(base, 0) if x.dtype.is_complex else greater(base, 0)
    # log of a base <= 0 is taken of 1 instead, so that no NaN appears, in any order.
    logarithm = log(keep(positive, base, other=1))
    by_y = g * conjugate(z) * keep(positive, logarithm)
    return unbroadcast(by_x, x, y), unbroadcast(by_y, y, x)


@function
@op("Pow", infer=broadcast, grad=_pow_grad, elementwise=True, cases=_positive_pairs)
def power(xp: Any, x: Num, y: Num) -> Array:
    """x ** y, elementwise, with broadcasting.

    The gradient with respect to y is 0 where x <= 0.

    Raises:
      InvalidArgumentError: an integer to a negative power.
    """
    if _is_integer(x) and xp.any(y < 0) and x.size:
        raise InvalidArgumentError(None, None, "integers have no negative integer powers")
    return x**y


def _maximum_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    from graphflow.ops.compare import greater_equal, logical_not

    mine = greater_equal(x, y)
    return unbroadcast(keep(mine, g), x, y), unbroadcast(keep(logical_not(mine), g), y, x)


@function
@op("Maximum", infer=broadcast, grad=_maximum_grad, elementwise=True, cases=binary())
def maximum(xp: Any, x: Real, y: Real) -> Array:
    """The larger of x and y, elementwise, with broadcasting; NaN where either is.

    Of 0.0 and -0.0 it is y.  The gradient of a tie goes to x.
    """
    return xp.maximum(x, y)


def _minimum_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    from graphflow.ops.compare import less_equal, logical_not

    mine = less_equal(x, y)
    return unbroadcast(keep(mine, g), x, y), unbroadcast(keep(logical_not(mine), g), y, x)


@function
@op("Minimum", infer=broadcast, grad=_minimum_grad, elementwise=True, cases=binary())
def minimum(xp: Any, x: Real, y: Real) -> Array:
    """The smaller of x and y, elementwise, with broadcasting; NaN where either is.

    Of 0.0 and -0.0 it is y.  The gradient of a tie goes to x.
    """
    return xp.minimum(x, y)


def _squared_difference_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    slope = 2 * g * conjugate(x - y)
    return unbroadcast(slope, x, y), unbroadcast(-slope, y, x)


def _square(xp: Any, d: Any) -> Any:
    return xp.conj(d) * d if d.dtype.kind == "c" else d * d


@function
@op(
    "SquaredDifference",
    infer=broadcast,
    grad=_squared_difference_grad,
    elementwise=True,
    cases=binary(),
)
def squared_difference(xp: Any, x: Num, y: Num) -> Array:
    """(x - y)**2, |x - y|**2 where complex; elementwise, with broadcasting."""
    return _square(xp, x - y)


def _atan2_grad(g: Any, z: Any, y: Any, x: Any) -> Any:
    scaled = g / (x * x + y * y)
    return unbroadcast(scaled * x, y, x), unbroadcast(-scaled * y, x, y)


@function
@op("Atan2", infer=broadcast, grad=_atan2_grad, elementwise=True, cases=_away_from_zero)
def atan2(xp: Any, y: RealFloat, x: RealFloat) -> Array:
    """The angle of the point (x, y) in (-pi, pi], elementwise, with broadcasting."""
    return xp.arctan2(y, x)


def _no_nan_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    x, y = conjugate(x), conjugate(y)
    by_y = g * -div_no_nan(div_no_nan(x, y), y)
    return unbroadcast(div_no_nan(g, y), x, y), unbroadcast(by_y, y, x)


def _no_nan_cases(s: Sampler) -> list[Case]:
    x, y = np.asarray([np.nan, np.inf, -3.0, 0.0]), np.asarray([0.0, 0.0, -0.0, 2.0])
    rotated = s.normal(2, 3) + 1j * s.normal(2, 3), s.normal(3) + 1j * s.normal(3)
    return [*_away_from_zero(s), Case((x, y), check=()), Case(rotated)]


@function
@op("DivNoNan", infer=broadcast, grad=_no_nan_grad, elementwise=True, cases=_no_nan_cases)
def div_no_nan(xp: Any, x: Float, y: Float) -> Array:
    """x / y, but 0 where y is 0, also if x is infinite or NaN; elementwise, with broadcasting."""
    zero = xp.equal(y, 0)
    return xp.where(zero, 0, xp.divide(x, xp.where(zero, 1, y)))


def _sum_spec(*inputs: Tensor) -> Specs:
    dims = inputs[0].dims
    for x in inputs[1:]:
        dims = merge_dims(dims, x.dims, "shapes of the terms of a sum")
    return [(dims, inputs[0].dtype)]


@op(
    "AddN",
    infer=_sum_spec,
    grad=lambda g, z, *inputs: (g,) * len(inputs),
    elementwise=True,
    cost=lambda *inputs: float(len(inputs) * np.prod([n or 1 for n in inputs[0].dims or ()])),
    cases=lambda s: [Case(tuple(s.normal(2, 3) for _ in range(n))) for n in (1, 2, 3)],
)
def _add_n(xp: Any, *inputs: Num) -> Array:
    """The sum of tensors of one shape and dtype."""
    if len(inputs) == 1:
        return -(-inputs[0])  # noqa: B002 - exact in the vocabulary, and no view
    total = inputs[0] + inputs[1]
    for x in inputs[2:]:
        total = total + x
    return total
