"""Every op of the registry is documented, inferred as computed, and checked in its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphflow.base.shapes import CLASH, is_known, merged
from graphflow.build import OPS, Graph, as_tensor
from graphflow.differentiate import gradients
from graphflow.differentiate.check import Traced, as_list, check_gradients, placeholder
from graphflow.ops.cases import Case
from tests.ops.registered import (
    ELSEWHERE,
    Context,
    as_dtype,
    call,
    cases_of,
    checked_inputs,
    entries,
    needs_session,
)

ENTRIES = entries()
CASES = {name: cases_of(entry) for name, entry in ENTRIES.items()}
WITH_CASES = [name for name in ENTRIES if CASES[name]]
PURE = [name for name in WITH_CASES if not ENTRIES[name].random]
DIFFERENTIABLE = [name for name in PURE if ENTRIES[name].grad is not None]
DECLARED = [
    name
    for name in PURE
    if ENTRIES[name].grad is None and name != "PreventGradient"  # see test_gradients.py
]
HIDDEN = {
    "static": lambda x: x.shape,
    "sizes": lambda x: (None,) * x.ndim,
    "ranks": lambda x: None,
}


@pytest.mark.parametrize("name", ENTRIES)
def test_is_documented(name: str) -> None:
    assert len(ENTRIES[name].doc) > 10


@pytest.mark.parametrize("name", [n for n in ENTRIES if not CASES[n]])
def test_without_cases_needs_a_session_or_says_why(name: str) -> None:
    entry = ENTRIES[name]
    assert name in ELSEWHERE or (needs_session(entry) and entry.grad is None)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_reasons_are_not_stale(name: str) -> None:
    assert name in ENTRIES
    assert not CASES[name]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name: str) -> None:
    entry, checked = ENTRIES[name], 0
    for case in CASES[name]:
        which = checked_inputs(entry, case)
        if case.grad and which:
            order = 2 if case.second else 1
            report = check_gradients(call(entry, case), case.inputs, which, order)
            checked += report.checked
    assert checked, "has a gradient, but no case checks it"


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_do_not_need_static_shapes(name: str) -> None:
    entry = ENTRIES[name]
    for case in CASES[name]:
        which = checked_inputs(entry, case)
        if case.grad and which:
            wanted = _gradients(entry, case, "static", which)
            for hidden in ("sizes", "ranks"):
                for a, b in zip(wanted, _gradients(entry, case, hidden, which), strict=True):
                    assert (a is None) == (b is None)
                    if a is not None:
                        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_in_float32(name: str) -> None:
    entry = ENTRIES[name]
    for case in CASES[name]:
        which = checked_inputs(entry, case)
        if case.grad and which:
            wanted = _gradients(entry, case, "static", which)
            got = _gradients(entry, as_dtype(case, "float32"), "static", which)
            for a, b in zip(wanted, got, strict=True):
                assert (a is None) == (b is None)
                if a is not None and a.size:
                    assert b.dtype == as_dtype(Case((a,)), "float32").inputs[0].dtype
                    size = max(1.0, float(np.abs(a).max()))
                    np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-3 * size)


def _gradients(entry: Any, case: Any, hidden: str, which: list[int]) -> list[Any]:
    everything = range(len(case.inputs)) if hidden != "static" else which
    traced = Traced(call(entry, case), case.inputs, everything, HIDDEN[hidden])
    traced.differentiate(which)
    values = [y for y in traced.values(case.inputs) if y.dtype.kind in "fc"]
    rng = np.random.default_rng(5)
    return traced.gradients(
        case.inputs, [rng.standard_normal(y.shape).astype(y.dtype) for y in values]
    )


@pytest.mark.parametrize("name", DECLARED)
def test_declared_non_differentiable_gives_none(name: str) -> None:
    entry = ENTRIES[name]
    for case in CASES[name]:
        with Graph().as_default():
            tensors = [as_tensor(x) for x in case.inputs]
            xs = [t for t in tensors if t.dtype.is_differentiable]
            result = call(entry, case)(*tensors)
            ys = [y for y in as_list(result) if y.dtype.is_differentiable]
            grad_ys = [OPS["OnesLike"](y) for y in ys]
            assert gradients(ys, xs, grad_ys) == [None] * len(xs)


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("name", WITH_CASES)
def test_infers_what_it_computes(name: str, hidden: str) -> None:
    entry = ENTRIES[name]
    for case in CASES[name]:
        for floating in ("float32", "float64"):
            typed = as_dtype(case, floating)
            with Graph().as_default():
                inputs = [
                    as_tensor(x)
                    if i in entry.host and hidden == "static"
                    else placeholder(x, HIDDEN[hidden](x))
                    for i, x in enumerate(typed.inputs)
                ]
                tensors = as_list(call(entry, typed)(*inputs))
            values = _run(entry, typed.inputs, typed) if tensors else []
            for tensor, value in zip(tensors, values, strict=True):
                value = np.asarray(value)
                assert value.dtype == tensor.dtype.np, typed
                assert merged(tensor.dims, value.shape) is not CLASH, (tensor, value.shape, typed)
                if hidden == "static" and not entry.dynamic:
                    assert is_known(tensor.dims), typed


@pytest.mark.parametrize("name", WITH_CASES)
def test_leaves_its_inputs_alone(name: str) -> None:
    entry = ENTRIES[name]
    for case in CASES[name]:
        inputs = [x.copy() for x in case.inputs]
        for x in inputs:
            x.flags.writeable = False  # writing raises
        _run(entry, inputs, case)
        for x, given in zip(inputs, case.inputs, strict=True):
            np.testing.assert_array_equal(x, given)


@pytest.mark.parametrize("name", WITH_CASES)
def test_declares_what_shares_memory(name: str) -> None:
    """Sessions copy what they hand out by these declarations: see `compile.sharing`."""
    entry = ENTRIES[name]
    for case in CASES[name]:
        inputs = [np.array(x) for x in case.inputs]
        results = [np.asarray(y) for y in _run(entry, inputs, case)]
        for i, x in enumerate(inputs):
            shared = any(np.shares_memory(y, x) for y in results)
            assert not shared or entry.alias == i, f"an output is a view of {i}: {case}"
        if entry.alias is None:
            for i, y in enumerate(results):
                assert not any(np.shares_memory(y, z) for z in results[:i]), case
        for y, again in zip(results, _run(entry, inputs, case), strict=True):
            kept = np.shares_memory(y, again)
            assert not kept or entry.alias is not None or not inputs, f"kept: {case}"


@pytest.mark.parametrize("name", PURE)
def test_takes_any_layout(name: str) -> None:
    entry = ENTRIES[name]
    for case in CASES[name]:
        wanted = _run(entry, case.inputs, case)
        got = _run(entry, [_strided(x) for x in case.inputs], case)
        for a, b in zip(wanted, got, strict=True):
            if np.asarray(a).dtype == object:
                assert np.array_equal(a, b)
            else:
                np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)


def _strided(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values with gaps between them, the last axis backwards in memory."""
    if not x.ndim:
        return x
    room = np.empty((*[2 * n for n in x.shape],), x.dtype)
    view = room[tuple(slice(None, None, 2) for _ in x.shape)][..., ::-1]
    view[...] = x
    return view


def _run(entry: Any, inputs: Any, case: Any) -> list[Any]:
    before = (Context(),) if entry.takes_ctx else ()
    attrs = entry.complete(case.attrs)
    with np.errstate(all="ignore"):
        result = entry.kernel(np, *before, *inputs, **attrs)
    return list(result) if isinstance(result, tuple) else [result]
