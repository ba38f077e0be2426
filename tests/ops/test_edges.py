"""Gradients where there is nothing, or the same tensor twice: for every entry of the registry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphflow.base.errors import OpError
from graphflow.differentiate.check import check_gradients
from graphflow.ops.cases import Case
from tests.ops.mutation import differentiable
from tests.ops.registered import call, cases_of, checked_inputs

ENTRIES = {entry.name: entry for entry in differentiable()}


def _ints(*values: Any) -> Any:
    return np.asarray(values, np.int32)


NONE = np.zeros(0, np.int32)
IMAGES = {f"Resize{kind}Grad": "align_corners" for kind in ("Area", "Bicubic", "Bilinear")}
# The quotient of two equal numbers is 1: its slopes are rounding.
CONSTANT = ("Xdivy",)
# Inputs whose sizes depend on each other; what is not here has an empty case of its own, or
# takes its first one without a batch.
EMPTY: dict[str, Case] = {
    "AvgPool3DGrad": Case(
        (_ints(0, 2, 3, 3, 2), np.zeros((0, 2, 3, 3, 2))),
        {"ksize": 2, "strides": 1, "padding": "SAME", "data_format": "NDHWC"},
        (1,),
    ),
    "CTCLoss": Case((np.zeros((4, 0, 5)), np.zeros((0, 2), np.int64), NONE, NONE), second=False),
    "DynamicPartition": Case((np.zeros((0, 2)), NONE), {"num": 2}),
    "DynamicStitch": Case((NONE, _ints(1, 0), np.zeros((0, 3)), np.ones((2, 3)))),
    "GatherGrad": Case((np.zeros((2, 0)), NONE, _ints(2, 2)), {"axis": 1}),
    "MaxPoolWithArgmax": Case(
        (np.zeros((0, 5, 4, 2)),), {"ksize": 2, "strides": 2, "padding": "SAME"}
    ),
    "MirrorPad": Case((np.zeros((0, 4)), _ints([0, 0], [1, 2])), {"mode": "SYMMETRIC"}),
    "MirrorPadGrad": Case((np.zeros((0, 7)), _ints([0, 0], [1, 2])), {"mode": "SYMMETRIC"}),
    "PlaceholderWithDefault": Case((np.zeros((0, 3)),), {"dims": (0, 3)}),
    "Qr": Case((np.zeros((0, 3, 2)),)),
    **{
        name: Case((np.zeros((0, 5, 3, 2)), _ints(0, 3, 4, 2)), {attr: False})
        for name, attr in {**IMAGES, "ResizeNearestNeighborGrad": "align_corners"}.items()
    },
    "ReverseSequence": Case((np.zeros((0, 4, 2)), NONE), {"seq_axis": 1, "batch_axis": 0}),
    "ScatterNd": Case((np.zeros((0, 1), np.int32), np.zeros(0), _ints(5))),
    "StridedSliceGrad": Case(
        (_ints(4, 3), _ints(2, 0), _ints(2, 3), _ints(1, 1), np.zeros((0, 3)))
    ),
    "TensorScatterUpdate": Case((np.ones(4), np.zeros((0, 1), np.int32), np.zeros(0))),
    **{
        f"UnsortedSegment{kind}": Case((np.zeros((0, 2)), NONE, np.asarray(3, np.int32)))
        for kind in ("Max", "Min")
    },
}  # fmt: skip


def without_batch(case: Case) -> Case | None:
    """The case with the first axis of its floating inputs empty; None where they have none."""
    batches = [x.shape[0] for x in case.inputs if x.dtype.kind in "fc" and x.ndim > 1]
    if not batches:
        return None
    inputs = [
        x[:0] if x.dtype.kind in "fc" and x.ndim > 1 and x.shape[0] == batches[0] else x
        for x in case.inputs
    ]
    return replace(case, inputs=tuple(inputs))


def accepts(entry: Any, case: Case) -> bool:
    """Does the op take such shapes?  (A transform over nothing means nothing.)"""
    try:
        with np.errstate(all="ignore"):
            entry.kernel(np, *case.inputs, **entry.complete(case.attrs))
    except (OpError, ValueError):
        return False
    return True


def check(entry: Any, case: Case) -> None:
    order = 2 if case.second else 1
    check_gradients(call(entry, case), case.inputs, checked_inputs(entry, case), order)


@pytest.mark.parametrize("name", ENTRIES)
def test_gradients_of_nothing(name: str) -> None:
    entry = ENTRIES[name]
    cases = [case for case in cases_of(entry) if case.grad]
    own = any(not x.size for case in cases for x in case.inputs)  # test_registry checks those
    if name in EMPTY:
        assert not own, "its own cases have an empty one"
        check(entry, EMPTY[name])
    elif not own:
        empty = [c for c in map(without_batch, cases) if c is not None]
        found = next(c for c in empty if accepts(entry, c))
        assert any(not x.size for x in found.inputs)
        check(entry, found)


def twins(case: Case, which: list[int]) -> list[int]:
    """Checked inputs of one shape and dtype."""
    first = case.inputs[which[0]]
    alike = [i for i in which if case.inputs[i].shape == first.shape]
    return [i for i in alike if case.inputs[i].dtype == first.dtype]


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in CONSTANT])
def test_gradients_of_the_same_tensor_twice(name: str) -> None:
    """Its gradient is the sum over the places where it stands."""
    entry = ENTRIES[name]
    for case in cases_of(entry):
        which = checked_inputs(entry, case)
        if not case.grad or len(which) < 2 or len(same := twins(case, which)) < 2:
            continue
        if not case.inputs[same[0]].size:
            continue
        function = call(entry, case)

        def shared(*tensors: Any, places: Any = same, function: Any = function) -> Any:
            given = [tensors[places[-1]] if i in places else t for i, t in enumerate(tensors)]
            return function(*given)

        check_gradients(shared, case.inputs, [same[-1]], 2 if case.second else 1)
        return
