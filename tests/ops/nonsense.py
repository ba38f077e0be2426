"""Calls that make no sense, for every entry of the registry, from a seed.

Half of them are good cases with one or two things broken: another dtype, another rank, an index
or size out of range, an attribute of another kind.  The others are made of nothing but chance.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.build import OpDef
from graphflow.ops.cases import Case
from tests.ops.registered import cases_of

DTYPES = (
    "float64", "float32", "float16", "int32", "int64", "uint8", "int8", "uint64", "bool",
    "complex64", "bfloat16", "object",
)  # fmt: skip
ATTRIBUTES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, -1, -3, 7, 10**9, 2**40, -(10**18), 1.5, float("nan"),
    float("inf"), "x", "SAME", "VALID", "NHWC", "NCHW", "REFLECT", "ij,jk->ik", (), (0,), (-1,),
    (5,), (1, 1), (0, 0), (0, -1, 2), (1, 2, 2, 1), (None,), ((0, 1), (1, 0), (0, 0), (0, 0)),
    [1], {}, object(), np.float32(2), np.int64(1), dtypes.float32, dtypes.int32, dtypes.bool_,
)  # fmt: skip
INTEGERS = (-(2**31), 2**31 - 1, 10**9, -1, -5, 7)


def calls(entry: OpDef, count: int, seed: int = 0) -> Iterator[Case]:
    """So many calls, each time the same."""
    rng = np.random.default_rng([seed, zlib.crc32(entry.name.encode())])
    cases = cases_of(entry)
    for _ in range(count):
        if cases and rng.random() < 0.6:
            yield broken(rng, cases[int(rng.integers(len(cases)))])
        else:
            yield chance(rng, entry)


def chance(rng: Any, entry: OpDef) -> Case:
    count = int(rng.integers(4)) if entry.variadic else len(entry.rules)
    given = {
        key: _pick(rng, ATTRIBUTES) if value is inspect.Parameter.empty else value
        for key, value in entry.attrs.items()
    }
    return Case(tuple(array(rng) for _ in range(count)), given)


def broken(rng: Any, case: Case) -> Case:
    inputs, attrs = list(case.inputs), dict(case.attrs)
    for _ in range(int(rng.integers(1, 3))):
        what = rng.random()
        if what < 0.6 and inputs:
            i = int(rng.integers(len(inputs)))
            inputs[i] = changed(rng, inputs[i])
        elif what < 0.95 and attrs:
            attrs[_pick(rng, sorted(attrs))] = _pick(rng, ATTRIBUTES)
        elif inputs:
            inputs.pop()
    return Case(tuple(inputs), attrs)


def changed(rng: Any, x: Any) -> Any:
    """An input with its dtype, its rank, its size or an element changed."""
    what = rng.random()
    if what < 0.3:
        return array(rng)
    if what < 0.5 and x.dtype.kind in "iufb":
        with np.errstate(all="ignore"):
            return x.astype(numpy_dtype(_pick(rng, DTYPES[:-1])))
    if what < 0.7 and x.dtype in (np.int32, np.int64) and x.size:
        x = x.copy()
        x.flat[int(rng.integers(x.size))] = _pick(rng, INTEGERS)
        return x
    if what < 0.85:
        return x[None]
    return x[:0] if x.ndim else array(rng)


def array(rng: Any) -> Any:
    """Any array of at most four axes."""
    shape = tuple(int(n) for n in rng.integers(0, 5, int(rng.integers(5))))
    dtype = numpy_dtype(_pick(rng, DTYPES))
    if dtype.kind == "O":
        return np.full(shape, b"text", object)
    x = np.asarray(rng.standard_normal(shape) * 3)
    if dtype.kind in "iu":
        x = np.abs(x) if dtype.kind == "u" else x
    elif x.size and rng.random() < 0.3:
        x.flat[int(rng.integers(x.size))] = _pick(rng, (np.nan, np.inf, -np.inf, 1e30))
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def numpy_dtype(name: str) -> Any:
    return np.dtype(object) if name == "object" else dtypes.as_dtype(name).np


def _pick(rng: Any, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]
