"""Native code gives the reference tier's bits of both zeros, infinities, NaN and denormals."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import dtypes
from graphflow.build import OPS, OpDef
from graphflow.build.opdef import RULES
from graphflow.compile.native.functions import FUNCTIONS
from graphflow.compile.native.scalars import can_emit
from graphflow.ops.expression import scalar_expression, subexpressions
from tests.execute.programs import both, native_programs
from tests.ops.registered import entries, needs_session

pytestmark = pytest.mark.usefixtures("graph")
ZEROS = [0.0, -0.0]
SPECIAL = [*ZEROS, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 2.5, -2.5, 6.0]


def specials(dtype: str) -> Any:
    tiny = np.finfo(dtype).smallest_subnormal
    return np.array([*SPECIAL, tiny, -tiny, 3 * tiny, -3 * tiny], dtype)


def compiled_elementwise(dtype: str) -> dict[str, tuple[OpDef, bool]]:
    """Entries of floats that have native code, and whether they promise each bit."""
    found = {}
    for name, entry in entries().items():
        takes = [RULES[rule].allows(dtypes.as_dtype(dtype)) for rule in entry.rules]
        if entry.elementwise and not needs_session(entry) and takes in ([True], [True] * 2):
            root = scalar_expression(entry, [np.dtype(dtype)] * len(entry.params))
            if root is not None and can_emit(root):
                exact = all(node.op not in FUNCTIONS for node in subexpressions(root))
                found[name] = entry, exact
    return found


def same_bits(found: Any, expected: Any) -> Any:
    """Elementwise; the payload of NaN is nobody's."""
    nan = np.isnan(found) & np.isnan(expected)
    return nan | ((found == expected) & (np.signbit(found) == np.signbit(expected)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elementwise_ops_give_the_reference_tiers_bits(dtype: str) -> None:
    chosen = compiled_elementwise(dtype)
    values = [a.ravel() for a in np.meshgrid(specials(dtype), specials(dtype))]

    def program() -> Any:
        inputs = [tf.placeholder(dtype, v.shape) for v in values]
        fetches = [entry(*inputs[: len(entry.params)], name=None) for entry, _ in chosen.values()]
        return fetches, dict(zip(inputs, values, strict=True))

    assert {"Maximum", "Minimum", "Sign", "Relu", "Abs", "Floor", "Mul", "DivNoNan"} <= {*chosen}
    with np.errstate(all="ignore"):
        expected, found = both(program, steps=2)
    for (name, (_, exact)), a, b in zip(chosen.items(), expected[-1], found[-1], strict=True):
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(b, a, err_msg=name)
            continue
        same = same_bits(b, a)
        if not exact:  # but its zeros, infinities and NaN are
            same |= (a != 0) & np.isclose(b, a, rtol=1e-6, atol=0)
        wrong = [[float(v[i]) for v in (*values, b, a)] for i in np.flatnonzero(~same)]
        assert not wrong, f"{name}: x, y, native, reference: {wrong[:5]}"


def test_extremes_beside_constants_give_the_reference_tiers_bits() -> None:
    """Which are LLVM's own where its rule of zeros is NumPy's."""
    x = specials("float32")
    cases = list(itertools.product((tf.maximum, tf.minimum), [*ZEROS, 1.0, -1.0, np.nan]))

    def program() -> Any:
        given = tf.placeholder(tf.float32, x.shape)
        fetches = [[f(given, bound), f(bound, given)] for f, bound in cases]
        return fetches, {given: x}

    expected, found = both(program, steps=2)
    for (f, bound), wanted, got in zip(cases, expected[-1], found[-1], strict=True):
        assert same_bits(np.array(got), np.array(wanted)).all(), (f.__name__, bound)


def zeros(shape: tuple[int, int], signs: str) -> Any:
    x = np.full(shape, -0.0 if signs == "negative" else 0.0, np.float32)
    if signs == "both":
        x[-1], x[:, 0] = -0.0, -0.0
    return x


@pytest.mark.parametrize("deterministic", [False, True])
def test_sums_of_zeros_give_the_reference_tiers_signs(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added up in registers, aside, in cells and in lanes; of one term, which is its own sum."""
    shapes = [(1, 1), (1, 5), (5, 1), (9, 7), (3, 300)]
    sums = [tf.reduce_sum, tf.reduce_mean]
    extremes = [tf.reduce_max, tf.reduce_min]  # of zeros of both signs, either is one
    given, fetches = {}, {}
    for shape, signs in itertools.product(shapes, ("negative", "positive", "both")):
        x = tf.placeholder(tf.float32, shape)
        given[x] = zeros(shape, signs)
        for reduce in sums if signs == "both" else sums + extremes:
            for axis in (None, 0, 1):
                fetches[shape, signs, reduce.__name__, axis] = reduce(x, axis)
        fetches[shape, signs, "BiasAddGrad"] = OPS["BiasAddGrad"](x, name=None)
        fetches[shape, signs, "SumTo"] = OPS["SumTo"](x, np.int32(shape[1:]), name=None)
    found = {}
    for tier in ("reference", "native"):
        monkeypatch.setenv("GRAPHFLOW_TIER", tier)
        with tf.Session(config=tf.ConfigProto(deterministic=deterministic)) as session:
            for _ in range(2):
                found[tier] = session.run(fetches, given)
            assert bool(native_programs(session)) == (tier == "native")
    for case, expected in found["reference"].items():
        assert same_bits(found["native"][case], expected).all(), case
