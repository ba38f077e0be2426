"""graphflow gives TensorFlow's values; see `record.py`."""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.build.body import Body
from tests.golden.record import TABLES, file_of, programs, values
from tests.ops.golden.store import read
from tests.ops.record_random import cases
from tests.ops.registered import entries

CASES = [(table, name) for table in TABLES for name in programs(table)]


@cache
def recorded(table: str) -> dict[str, Any]:
    return dict(np.load(file_of(table)))


@pytest.mark.parametrize(("table", "name"), CASES, ids=lambda x: x)
def test_values_are_those_of_tensorflow(table: str, name: str) -> None:
    chosen = programs(table)
    agree(table, name, values(tf, chosen[name], chosen.runs))


def agree(table: str, name: str, found: list[Any], slack: float = 1.0) -> None:
    """Compare what a program gives with the recorded values, bounds times `slack`."""
    data, ulp = recorded(table), programs(table).ulp
    assert sum(key.startswith(f"{name}/") for key in data) == len(found)
    for i, value in enumerate(found):
        expected, value = data[f"{name}/{i}"], np.asarray(value)
        where = f"{name}/{i}"
        assert value.shape == expected.shape, where
        if expected.dtype.kind == "S":
            assert value.astype("S").tolist() == expected.tolist(), where
            continue
        assert value.dtype == expected.dtype, where
        if expected.dtype.kind not in "fc":
            np.testing.assert_array_equal(value, expected, err_msg=where)
        elif ulp is not None:
            off = np.abs(value - expected) / np.spacing(np.abs(expected))
            assert off.max() <= ulp * slack, f"{where}: {off.max():.3g} ulp"
        else:
            bound = 1e-9 if expected.dtype in (np.float64, np.complex128) else 2e-5
            bound *= slack
            np.testing.assert_allclose(value, expected, rtol=bound, atol=bound, err_msg=where)


@pytest.mark.parametrize("name", programs("sampling"))
def test_random_numbers_do_not_depend_on_placement(name: str) -> None:
    """Every op on another device than the one before it."""
    chosen, turns = programs("sampling"), count()
    with tf.Graph().as_default(), tf.device(lambda op: f"/cpu:{next(turns) % 3}"):
        tensors = chosen[name](tf)
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 3})) as session:
            found = [value for _ in range(chosen.runs) for value in session.run(tensors)]
    agree("sampling", name, found)


# Ops without an answer of TensorFlow's, in `tests/ops/golden`, in `tests/ops/data` or here.
WITHOUT = {
    "Placeholder": "fed: it computes nothing",
    "AllReduce": "how devices exchange values",
    **dict.fromkeys(
        ("GateAdmit", "GateHandle", "GateOpen", "GateWait"), "how steps wait for each other"
    ),
    "AccumulatorWithdraw": "TensorFlow has none",
    "ShuffledRow": "TensorFlow's RandomIndexShuffle has another cipher, and one pass",
    "Barrier": "an order of operations: it computes nothing",
    "CheckCount": "how a body counts what it is given",
    "Dilation2DPick": "TensorFlow has no second derivative of dilations",
    "EncodeJpeg": "libraries compress differently: tests/ops/test_codecs.py",
    "ResizeAreaGrad": "TensorFlow has no gradient of ResizeArea",
    "PhiloxKey": "the key of a stream whose numbers are compared",
    "Step": "TensorFlow has none",
    "WriteFile": "its result is a file",
}


def types(graph: Any) -> set[str]:
    """The ops of a graph and of its bodies."""
    bodies = [
        value
        for operation in graph.get_operations()
        for value in operation.attrs.values()
        if isinstance(value, Body)
    ]
    own = {operation.type for operation in graph.get_operations()}
    return own.union(*[types(body) for body in bodies])


def test_every_op_is_compared_with_tensorflow() -> None:
    seen = {call.op for call in read()} | {op for op, _ in cases().values()}
    for table, name in CASES:
        with tf.Graph().as_default() as graph:
            programs(table)[name](tf)
        seen |= types(graph)
    without = {
        name
        for name, entry in entries().items()  # others come with other parts of the package
        if name not in seen and (entry.kernel or entry.infer).__module__.startswith("graphflow.ops")
    }
    assert without <= set(WITHOUT), "record what TensorFlow gives, or say why there is nothing"
    assert set(WITHOUT) <= without, "there is a value: the reason is out of date"
