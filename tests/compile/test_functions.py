"""Elementary functions of native code against float64: error in units of the last place."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

from graphflow.compile.loops import Access, Nest, Store
from graphflow.compile.loops.nests import Pass, leaf
from graphflow.compile.loops.shares import share
from graphflow.compile.loops.values import Value
from graphflow.compile.native.jit import Code, function, load
from graphflow.compile.native.module import FIRST, STATUS, module_text
from graphflow.ops.expression import apply

F32 = np.dtype(np.float32)
EXACT: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh,
    "sinh": np.sinh, "cosh": np.cosh, "sin": np.sin, "cos": np.cos, "erf": special.erf,
}  # fmt: skip
ULPS = 4
_codes: list[Code] = []


def compiled(op: str, size: int) -> Callable[[Any], Any]:
    """The function, as a loop over `size` floats."""
    x, y = Value((size,), F32, "outside"), Value((size,), F32)
    body = apply(op, leaf("arg", 0, F32))
    walk = Pass((Store(Access(y, (size, 1)), body),), (), ())
    nest = Nest(op, (1, size), (Access(x, (size, 1)),), (walk,))
    entries = {id(x): FIRST, id(y): FIRST + 1}
    text = module_text([nest], [share(nest, 1)], [False], lambda v: (entries[id(v)], 0), 1)
    code = load(text)
    _codes.append(code)
    step = function(code.address("serial"), ctypes.c_void_p)

    def call(values: Any) -> Any:
        result = np.empty(size, np.float32)
        status = ctypes.c_int64()
        table = (ctypes.c_size_t * (FIRST + 2))()
        table[STATUS] = ctypes.addressof(status)
        table[FIRST], table[FIRST + 1] = values.ctypes.data, result.ctypes.data
        step(ctypes.addressof(table))
        return result

    return call


def samples(op: str) -> Any:
    """Floats of all sizes, both signs, denormals included."""
    bits = np.linspace(0, 0x7F7FFFFF, 60_000).astype(np.uint32)
    positive = bits.view(np.float32)
    near = np.linspace(-20, 20, 20_001).astype(np.float32)
    far = np.linspace(-110, 110, 20_001).astype(np.float32)
    found = np.concatenate([positive, -positive, near, far, np.float32([0.0, -0.0, 1.0, -1.0])])
    if op in ("sin", "cos"):
        found = found[np.abs(found) <= 1e6]
    return found


@pytest.mark.parametrize("op", EXACT)
def test_error_is_a_few_ulps(op: str) -> None:
    x = samples(op)
    with np.errstate(all="ignore"):
        exact = EXACT[op](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    got = compiled(op, len(x))(x)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    infinite = np.isinf(rounded) | np.isinf(got)
    near_limit = np.abs(exact[infinite]) > 3.40e38
    agree = (got[infinite] == rounded[infinite]) | near_limit
    assert agree.all(), x[infinite][~agree][:5]
    finite = np.isfinite(rounded) & np.isfinite(got)
    with np.errstate(all="ignore"):
        ulp = np.maximum(np.spacing(np.abs(rounded[finite])), np.float32(1.4e-45)).astype(float)
    error = np.abs(got[finite].astype(float) - exact[finite]) / ulp
    worst = int(np.argmax(error))
    assert error[worst] <= ULPS, (x[finite][worst], got[finite][worst], exact[finite][worst])


@pytest.mark.parametrize("op", EXACT)
def test_special_values_come_out_as_numpys(op: str) -> None:
    x = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, 1e-45, -1e-45])
    with np.errstate(all="ignore"):
        expected = EXACT[op](x.astype(np.float64)).astype(np.float32)
    if op in ("sin", "cos"):  # reduced in float64: right up to about 1e8
        x, expected = x[[0, 1, 2, 3, 4, 7, 8]], expected[[0, 1, 2, 3, 4, 7, 8]]
    got = compiled(op, len(x))(x)
    np.testing.assert_allclose(got, expected, rtol=5e-7, atol=0)
