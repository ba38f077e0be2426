"""Every op gives TensorFlow's values, recorded by `record.py`, in every dtype both have."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from graphflow.build import OPS, Graph, as_tensor
from graphflow.ops.evaluate import run
from tests.ops.golden.store import Call, read
from tests.ops.registered import entries

CALLS: dict[str, list[Call]] = defaultdict(list)
for _call in read():
    CALLS[_call.op].append(_call)
TOLERANCE = {"f": {8: 1e-11, 4: 2e-5, 2: 2e-3}, "c": {16: 1e-11, 8: 2e-5}}


LOOSE = {"LRN": 1e-6}  # TensorFlow keeps its attributes as float32


def compute(call: Call) -> list[Any]:
    """The op's outputs on the call's inputs."""
    with Graph().as_default():
        tensors = [as_tensor(x) for x in call.inputs]
        result = OPS[call.op](*tensors, **call.attrs)
        first = result[0] if isinstance(result, tuple) else result
        values = dict(zip(tensors, call.inputs, strict=True))
        return [np.asarray(y) for y in run(first.op, values, Eager())]


class Eager:
    xp = np

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a pure op asks for ctx.{name}")


def _without_signs(results: Any) -> list[Any]:
    """Singular or eigenvectors are unique but for their signs."""
    values, *vectors = results
    count = values.shape[-1]  # further ones of full matrices are any basis of the rest
    return [values, *[np.abs(v[..., :count]) for v in vectors]]


CANONICAL = {
    "SelfAdjointEigV2": _without_signs,
    "Svd": _without_signs,
    "Sort": lambda results: results[:1],  # ours gives the order, too
}


def agree(got: Any, wanted: Any, least: float) -> None:
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    kind, size = wanted.dtype.kind, wanted.dtype.itemsize
    if kind in TOLERANCE:
        tolerance = max(TOLERANCE[kind][size], least)
        finite = wanted[np.isfinite(wanted)]
        scale = float(np.abs(finite).max()) if finite.size else 1.0
        np.testing.assert_allclose(got, wanted, tolerance, tolerance * min(scale, 1.0))
    else:
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", CALLS)
def test_gives_tensorflows_values(name: str) -> None:
    for call in CALLS[name]:
        with np.errstate(all="ignore"):
            got = compute(call)
        alike = CANONICAL.get(name, list)
        for mine, wanted in zip(alike(got), alike(call.outputs), strict=True):
            try:
                agree(mine, wanted, LOOSE.get(name, 0.0))
            except AssertionError as error:
                error.add_note(f"in {call}: {call.inputs}")
                raise


@pytest.mark.parametrize("name", ["Add", "Sum", "ArgMax", "Svd", "Select"])
def test_notices_other_values(name: str) -> None:
    call = next(c for c in CALLS[name] if c.outputs[0].size)
    alike = CANONICAL.get(name, list)
    for mine, wanted in zip(alike(compute(call)), alike(call.outputs), strict=True):
        agree(mine, wanted, 0.0)
        with pytest.raises(AssertionError):
            agree(mine + np.asarray(1).astype(mine.dtype), wanted, 0.0)
        with pytest.raises(AssertionError):
            agree(mine.astype("complex64"), wanted, 0.0)


def test_every_op_that_tensorflow_has_is_recorded() -> None:
    tensorflow = pytest.importorskip("tensorflow", reason="recording needs TensorFlow")
    from tests.ops.golden.record import WITHOUT, recordable

    assert tensorflow.raw_ops
    names = {entry.name for entry in recordable()}
    assert names == set(CALLS), "python -m tests.ops.golden.record"
    assert not names & set(WITHOUT)
    assert set(WITHOUT) <= set(entries())
