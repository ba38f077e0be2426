"""Elementary functions of native code against mpmath: error in units of the last place."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special

from graphflow.compile.loops import Access, Nest, Store
from graphflow.compile.loops.nests import Pass, leaf
from graphflow.compile.loops.shares import share
from graphflow.compile.loops.values import Value
from graphflow.compile.native.jit import Code, function, load
from graphflow.compile.native.module import FIRST, STATUS, Layout, Place, module_text
from graphflow.ops.expression import Node, apply

F32 = np.dtype(np.float32)
EXACT: dict[str, Callable[..., Any]] = {
    "exp": mpmath.exp, "expm1": mpmath.expm1, "log": mpmath.log, "log1p": mpmath.log1p,
    "tanh": mpmath.tanh, "sinh": mpmath.sinh, "cosh": mpmath.cosh, "sin": mpmath.sin,
    "cos": mpmath.cos, "erf": mpmath.erf, "power": mpmath.power,
    "arctan": mpmath.atan, "arctan2": mpmath.atan2, "arcsin": mpmath.asin,
    "arccos": mpmath.acos, "arcsinh": mpmath.asinh, "arccosh": mpmath.acosh,
    "arctanh": mpmath.atanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
}  # fmt: skip
ULPS = 4
LARGEST = float(np.finfo(np.float32).max)
_codes: list[Code] = []


def body_of(op: str) -> tuple[Node, int]:
    """The expression, and how many arguments it has."""
    x, y = [leaf("arg", i, F32) for i in range(2)]
    if op == "sigmoid":
        return 1.0 / (1.0 + apply("exp", -x)), 1
    return (apply(op, x, y), 2) if op in ("power", "arctan2") else (apply(op, x), 1)


def compiled(op: str, size: int) -> Callable[..., Any]:
    """The function, as a loop over `size` floats."""
    body, count = body_of(op)
    inputs = [Value((size,), F32, "outside") for _ in range(count)]
    out = Value((size,), F32)
    walk = Pass((Store(Access(out, (size, 1)), body),), (), ())
    nest = Nest(op, (1, size), tuple([Access(v, (size, 1)) for v in inputs]), (walk,))
    entries = {id(v): FIRST + i for i, v in enumerate([*inputs, out])}
    layout = Layout([nest], [share(nest, 1)], [False], [], 1)
    text = module_text(layout, lambda v: Place(entries[id(v)], 0))
    code = load(text)
    _codes.append(code)
    step = function(code.address("serial"), ctypes.c_void_p)

    def call(*values: Any) -> Any:
        result = np.empty(size, np.float32)
        status = ctypes.c_int64()
        table = (ctypes.c_size_t * (FIRST + count + 1))()
        table[STATUS] = ctypes.addressof(status)
        for i, array in enumerate([*values, result]):
            table[FIRST + i] = array.ctypes.data
        step(ctypes.addressof(table))
        return result

    return call


def samples(op: str) -> tuple[Any, ...]:
    """Arguments of all sizes, both signs, denormals included."""
    rng = np.random.default_rng(0)
    everywhere = np.linspace(0, 0x7F7FFFFF, 1500).astype(np.uint32).view(np.float32)
    near = rng.uniform(-20, 20, 1500).astype(np.float32)
    far = rng.uniform(-110, 110, 1500).astype(np.float32)
    x = np.concatenate([everywhere, -everywhere, near, far, near * np.float32(0.01)])
    if op == "sigmoid":  # below, exp(-x) overflows in the reference kernel, too: both give 0
        return (x[x > -88],)
    if op in ("arcsin", "arccos", "arctanh"):
        inside = np.concatenate([x[np.abs(x) <= 1], rng.uniform(-1, 1, 2000).astype(np.float32)])
        return (np.concatenate([inside, np.nextafter(np.float32([1, -1]), np.float32(0)), x]),)
    if op == "arccosh":
        return (np.concatenate([np.float32(1) + np.abs(near) * np.float32(1e-5), x]),)
    if op == "arctan2":
        return x[x != 0], rng.permutation(x[x != 0])  # mpmath knows no signed zeros
    if op != "power":
        return (x,)
    base = np.concatenate([np.abs(x[x != 0]), np.float32(1) + near * np.float32(1e-6)])
    y = rng.uniform(-1, 1, len(base)) * 90 / np.maximum(np.abs(np.log(base, dtype=float)), 0.1)
    return base, np.where(rng.random(len(base)) < 0.9, y, rng.integers(-9, 9, len(base))).astype(
        np.float32
    )


@pytest.mark.parametrize("op", EXACT)
def test_error_is_a_few_ulps(op: str) -> None:
    arguments = samples(op)
    got = compiled(op, len(arguments[0]))(*arguments)
    worst: tuple[float, list[float]] = (0.0, [])
    for found, *given in zip(got.tolist(), *[a.tolist() for a in arguments], strict=True):
        exact = _exact(op, given)
        if exact is None:
            assert np.isnan(found), (given, found)
        elif abs(exact) > LARGEST or mpmath.isinf(exact):
            assert np.isinf(found) or abs(found) == LARGEST, (given, found)
            assert (found > 0) == (exact > 0)
        elif np.isinf(found):
            assert abs(exact) > LARGEST * (1 - ULPS * 2**-24), (given, found)
        else:
            ulp = float(np.spacing(np.abs(np.float32(exact))))
            worst = max(worst, (float(abs(exact - mpmath.mpf(found))) / ulp, given))
    assert worst[0] <= ULPS, worst


def _exact(op: str, given: list[float]) -> Any:
    """The value, or None where it is no real number."""
    if op in ("log", "log1p") and given[0] <= -(op == "log1p"):
        return -mpmath.inf if given[0] == -(op == "log1p") else None
    if op in ("arcsin", "arccos", "arctanh") and abs(given[0]) > 1:
        return None
    if op == "arctanh" and abs(given[0]) == 1:
        return mpmath.inf * given[0]
    if op == "arccosh" and given[0] < 1:
        return None
    with mpmath.workprec(200 if op in ("sin", "cos") else 80):
        return EXACT[op](*[mpmath.mpf(x) for x in given])


SPECIAL = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, 1e-45, -1e-45, 1.0, -1.0,
                      2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 2.5, -2.5, 1 + 2**-23, -(2.0**24),
                      ])  # fmt: skip
NUMPYS = {"erf": special.erf, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}


@pytest.mark.parametrize("op", EXACT)
def test_special_values_come_out_as_numpys(op: str) -> None:
    arguments = [SPECIAL]
    if op in ("power", "arctan2"):
        arguments = [a.ravel() for a in np.meshgrid(SPECIAL, SPECIAL)]
    with np.errstate(all="ignore"):
        wide = [a.astype(np.float64) for a in arguments]
        expected = NUMPYS.get(op, getattr(np, op, None))(*wide).astype(np.float32)
    got = compiled(op, len(arguments[0]))(*arguments)
    np.testing.assert_allclose(got, expected, rtol=5e-7, atol=0)
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))
