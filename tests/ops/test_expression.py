"""The scalar expression of every elementwise op equals its kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow.ops  # noqa: F401  # enters all ops
from graphflow.build import OPS
from graphflow.ops.cases import Sampler
from graphflow.ops.expression import Node, NotScalar, apply, compute, scalar_expression, show

ELEMENTWISE = sorted(name for name, entry in OPS.items() if entry.elementwise)


def _arrays(inputs: Any, dtype: Any) -> list[Any]:
    arrays = [np.asarray(v) for v in inputs]
    return [v.astype(dtype) if v.dtype == np.float64 else v for v in arrays]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_expression_equals_kernel(name: str, dtype: Any) -> None:
    entry = OPS[name]
    assert entry.cases is not None, "an elementwise op brings cases"
    traced = 0
    for case in entry.cases(Sampler(name)):
        inputs = _arrays(case.inputs, dtype)
        expression = scalar_expression(entry, [v.dtype for v in inputs], **case.attrs)
        if expression is None:
            assert all(v.dtype.kind in "iu" for v in inputs), "only integer checks may remain"
            continue
        traced += 1
        attrs = entry.complete(case.attrs)
        with np.errstate(all="ignore"):
            want = np.asarray(entry.kernel(np, *inputs, **attrs))
            got = np.asarray(compute(expression, inputs))
        assert got.dtype == want.dtype == expression.dtype
        np.testing.assert_array_equal(got, want)
    assert traced


@pytest.mark.parametrize("name", ["FloorDiv", "FloorMod", "TruncateMod", "Pow"])
def test_integers_that_are_checked_have_no_expression(name: str) -> None:
    assert scalar_expression(OPS[name], [np.int32, np.int32]) is None
    assert scalar_expression(OPS[name], [np.float32, np.float32]) is not None


def test_other_ops_have_no_expression() -> None:
    assert scalar_expression(OPS["MatMul"], [np.float32, np.float32]) is None


def test_show() -> None:
    leaky = scalar_expression(OPS["LeakyRelu"], [np.float32], alpha=0.5)
    assert str(leaky) == "where(x0 > 0, x0, x0 * 0.5)"
    division = scalar_expression(OPS["Sigmoid"], [np.float32])
    assert division is not None
    assert show(division, ["x"]) == "1 / (1 + exp(-x))"


def test_numbers_take_the_dtype_beside_them() -> None:
    x = Node("arg", (), np.dtype(np.float32), 0)
    assert (1 + x).dtype == np.float32
    assert (x > 0).dtype == bool
    assert (x + 1).args[1] == Node("const", (), np.dtype(np.float32), 1)


def test_what_no_expression_can_say() -> None:
    x = Node("arg", (), np.dtype(np.float32), 0)
    n = Node("arg", (), np.dtype(np.int32), 1)
    with pytest.raises(NotScalar, match="one dtype"):
        x + n
    with pytest.raises(NotScalar, match="change the dtype"):
        n + 0.5
    with pytest.raises(NotScalar, match="another dtype"):
        n / 2
    with pytest.raises(NotScalar, match="vocabulary"):
        apply("sum", x)
    with pytest.raises(NotScalar, match=r"xp\.where"):
        bool(x > 0)
