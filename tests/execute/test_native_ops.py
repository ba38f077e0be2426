"""Every op that lowers, on the cases of its entry: native code against the reference tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.build import OpDef
from graphflow.compile.loops.specialise import _RULES
from tests.execute.programs import both, native_programs
from tests.ops.registered import as_dtype, cases_of, entries, needs_session

_AT_ONCE = 24  # entries in one graph: compiling it costs more than running it
# Ops with a rule that no case of theirs fits: other shapes are in test_native.py.
_OTHERWISE = {"Conv2DBackpropInput", "Conv2DBackpropFilter", "MaxPoolGrad"}


def lowerable() -> list[OpDef]:
    return [
        entry
        for name, entry in entries().items()
        if (entry.elementwise or name in _RULES) and not needs_session(entry) and cases_of(entry)
    ]


def graph(found: list[OpDef]) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Outputs by name, and feeds: what kernels want on the host is a constant."""
    outputs, feeds = {}, {}
    for entry in found:
        for i, case in enumerate(cases_of(entry)):
            typed = as_dtype(case, "float32")
            inputs = []
            for k, value in enumerate(typed.inputs):
                if min(k, len(entry.params) - 1) in entry.host:
                    inputs.append(tf.constant(value))
                else:
                    inputs.append(tf.placeholder(value.dtype, value.shape))
                    feeds[inputs[-1]] = value
            result = entry(*inputs, name=None, **typed.attrs)
            for k, tensor in enumerate(result if isinstance(result, (list, tuple)) else [result]):
                outputs[f"{entry.name} {i} {k}"] = tensor
    return outputs, feeds


@pytest.mark.parametrize("first", range(0, len(lowerable()), _AT_ONCE))
def test_ops_give_the_reference_tiers_results(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = lowerable()[first : first + _AT_ONCE]
    results = {}
    for tier in ("reference", "native"):
        monkeypatch.setenv("GRAPHFLOW_TIER", tier)
        with tf.Graph().as_default():
            outputs, feeds = graph(found)
            with tf.Session() as session:
                results[tier] = session.run(outputs, feeds)
                if tier == "native":
                    assert native_programs(session)
    for name, expected in results["reference"].items():
        got = results["native"][name]
        assert np.asarray(got).dtype == np.asarray(expected).dtype, name
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5, err_msg=name)


def test_slices_are_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [4, 6])
        parts = [x[1:3, ::2], x[::-1, 2], tf.slice(x, [0, 3], [-1, 2]), tf.reverse(x, [1]),
                 *tf.split(x, [1, 5], axis=1), tf.pad(x, [[1, 0], [2, 3]])]  # fmt: skip
        outputs = [tf.tanh(part) for part in parts]
        gradients = tf.gradients(tf.add_n([tf.reduce_sum(y * y) for y in outputs]), x)
        with tf.Session() as session:
            value = np.arange(24, dtype=np.float32).reshape(4, 6) / 24
            session.run([outputs, gradients], {x: value})
            (program,) = native_programs(session)
            # gradients of slices that leave gaps, or go backwards, are the kernel's
            assert all("StridedSliceGrad" in r for r in program.plan.called.values())
            assert len(program.plan.called) == 2


@pytest.mark.parametrize("shape", [(1, 3), (7, 16), (8, 33), (203, 64), (64, 5, 32), (19, 300)])
def test_sums_of_columns(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In lanes where rows are narrow; also fewer rows than lanes, and NaN in one column."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    values[..., 1] = np.nan
    axes = list(range(len(shape) - 1))

    def program() -> Any:
        x = tf.placeholder(tf.float32, shape)
        y = x * 2.0 + 1.0
        outputs = [reduce(y, axes) for reduce in (tf.reduce_sum, tf.reduce_max, tf.reduce_min)]
        return [*outputs, tf.nn.softmax(x), tf.reduce_sum(tf.nn.softmax(x), axes)], {x: values}

    expected, got = both(program, steps=1)
    for a, b in zip(expected[0], got[0], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)
    exact = (values.astype(np.float64) * 2 + 1).sum(tuple(axes))
    np.testing.assert_allclose(got[0][0], exact, rtol=2e-6, atol=2e-6 * values.size)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((5, 4, 1), [0]), ((5, 1, 4), [0]), ((1, 5, 4), [1]), ((5, 4, 1, 3, 1), [0]),
     ((5, 1, 3, 1), [0, 1]), ((5, 1, 3, 1), [2]), ((5, 4, 1), [1]), ((5, 4, 1), [0, 1]),
     ((1, 4, 1), [1])],
)  # fmt: skip
def test_reductions_of_axes_of_size_1_are_loops(
    shape: tuple[int, ...], axes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    values = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, shape)
        terms = x * 2.0
        fetches = [reduce(terms, axes, keepdims=keepdims) for keepdims in (False, True)
                   for reduce in (tf.reduce_sum, tf.reduce_max, tf.reduce_min)]  # fmt: skip
        found = session.run([*fetches, tf.gradients(fetches[0] * 3.0, x)[0]], {x: values})
        (program,) = native_programs(session)
        assert not program.plan.called
    expected = [reduce(values * 2, tuple(axes), keepdims=keepdims) for keepdims in (False, True)
                for reduce in (np.sum, np.max, np.min)]  # fmt: skip
    for got, wanted in zip(found, [*expected, np.full(shape, 6.0)], strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert got.shape == wanted.shape
