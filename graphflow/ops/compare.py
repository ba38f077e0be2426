"""Comparisons, logic on bool and bitwise logic on integers; elementwise, with broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.build import op
from graphflow.build.opdef import Array, Bool, Float, Integer, Real, T
from graphflow.ops.cases import PAIRS, Case, Sampler
from graphflow.ops.public import function
from graphflow.ops.rules import as_bool, broadcast, compare, same


def _ties(s: Sampler) -> list[Case]:
    nan = np.asarray([1.0, np.nan, np.inf, -0.0])
    pairs = [(s.integers(3, *a), s.integers(3, *b)) for a, b in PAIRS]
    return [Case(p) for p in [*pairs, (nan, nan), (nan, nan[::-1])]]


def _bools(s: Sampler) -> list[Case]:
    return [Case((s.booleans(*a), s.booleans(*b))) for a, b in PAIRS]


def _bits(s: Sampler) -> list[Case]:
    return [Case((s.integers(100, *a, low=-100), s.integers(7, *b))) for a, b in PAIRS]


def _specials(s: Sampler) -> list[Case]:
    return [Case((np.asarray([1.0, np.nan, np.inf, -np.inf, -0.0]),)), Case((s.normal(0, 2),))]


@function
@op("Equal", infer=compare, grad=None, elementwise=True, cases=_ties)
def equal(xp: Any, x: T, y: T) -> Array:
    """x == y, elementwise, with broadcasting; any dtype, bool out."""
    return xp.equal(x, y)


@function
@op("NotEqual", infer=compare, grad=None, elementwise=True, cases=_ties)
def not_equal(xp: Any, x: T, y: T) -> Array:
    """x != y, elementwise, with broadcasting; any dtype, bool out."""
    return xp.not_equal(x, y)


@function
@op("Less", infer=compare, grad=None, elementwise=True, cases=_ties)
def less(xp: Any, x: Real, y: Real) -> Array:
    """x < y, elementwise, with broadcasting; bool out."""
    return xp.less(x, y)


@function
@op("LessEqual", infer=compare, grad=None, elementwise=True, cases=_ties)
def less_equal(xp: Any, x: Real, y: Real) -> Array:
    """x <= y, elementwise, with broadcasting; bool out."""
    return xp.less_equal(x, y)


@function
@op("Greater", infer=compare, grad=None, elementwise=True, cases=_ties)
def greater(xp: Any, x: Real, y: Real) -> Array:
    """x > y, elementwise, with broadcasting; bool out."""
    return xp.greater(x, y)


@function
@op("GreaterEqual", infer=compare, grad=None, elementwise=True, cases=_ties)
def greater_equal(xp: Any, x: Real, y: Real) -> Array:
    """x >= y, elementwise, with broadcasting; bool out."""
    return xp.greater_equal(x, y)


@function
@op("LogicalAnd", infer=compare, grad=None, elementwise=True, cases=_bools)
def logical_and(xp: Any, x: Bool, y: Bool) -> Array:
    """x and y, elementwise, with broadcasting; bool."""
    return xp.logical_and(x, y)


@function
@op("LogicalOr", infer=compare, grad=None, elementwise=True, cases=_bools)
def logical_or(xp: Any, x: Bool, y: Bool) -> Array:
    """x or y, elementwise, with broadcasting; bool."""
    return xp.logical_or(x, y)


@function
@op("LogicalXor", infer=compare, grad=None, elementwise=True, cases=_bools)
def logical_xor(xp: Any, x: Bool, y: Bool) -> Array:
    """Exactly one of x and y, elementwise, with broadcasting; bool."""
    return xp.not_equal(x, y)


@function
@op(
    "LogicalNot",
    infer=same,
    grad=None,
    elementwise=True,
    cases=lambda s: [Case((s.booleans(*d),)) for d in ((), (2, 3), (0,))],
)
def logical_not(xp: Any, x: Bool) -> Array:
    """not x, elementwise; bool."""
    return xp.logical_not(x)


@function
@op("BitwiseAnd", infer=broadcast, grad=None, elementwise=True, cases=_bits)
def bitwise_and(xp: Any, x: Integer, y: Integer) -> Array:
    """The bits set in both integers, elementwise, with broadcasting."""
    return x & y


@function
@op("BitwiseOr", infer=broadcast, grad=None, elementwise=True, cases=_bits)
def bitwise_or(xp: Any, x: Integer, y: Integer) -> Array:
    """The bits set in either integer, elementwise, with broadcasting."""
    return x | y


@function
@op("BitwiseXor", infer=broadcast, grad=None, elementwise=True, cases=_bits)
def bitwise_xor(xp: Any, x: Integer, y: Integer) -> Array:
    """The bits set in exactly one of the integers, elementwise, with broadcasting."""
    return x ^ y


@function
@op(
    "Invert",
    infer=same,
    grad=None,
    elementwise=True,
    cases=lambda s: [Case((s.integers(100, 2, 3, low=-100),))],
)
def invert(xp: Any, x: Integer) -> Array:
    """All bits flipped, elementwise."""
    return ~x


@function
@op("LeftShift", infer=broadcast, grad=None, elementwise=True, cases=_bits)
def left_shift(xp: Any, x: Integer, y: Integer) -> Array:
    """x shifted left by y bits, elementwise, with broadcasting; undefined outside [0, bits)."""
    return x << y


@function
@op("RightShift", infer=broadcast, grad=None, elementwise=True, cases=_bits)
def right_shift(xp: Any, x: Integer, y: Integer) -> Array:
    """x shifted right by y bits, keeping its sign; undefined outside [0, bits)."""
    return x >> y


@function
@op("IsNan", infer=as_bool, grad=None, elementwise=True, cases=_specials)
def is_nan(xp: Any, x: Float) -> Array:
    """Which elements are NaN; bool."""
    return xp.isnan(x)


@function
@op("IsInf", infer=as_bool, grad=None, elementwise=True, cases=_specials)
def is_inf(xp: Any, x: Float) -> Array:
    """Which elements are inf or -inf; bool."""
    return xp.isinf(x)


@function
@op("IsFinite", infer=as_bool, grad=None, elementwise=True, cases=_specials)
def is_finite(xp: Any, x: Float) -> Array:
    """Which elements are neither NaN nor infinite; bool."""
    return xp.isfinite(x)
