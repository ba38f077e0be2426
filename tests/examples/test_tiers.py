"""Every step of the examples, gradients and updates included, on both tiers side by side."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.execute.tiered import TieredProgram

EXAMPLES = Path(__file__).parents[2] / "examples"
SLOW = pytest.mark.slow
NATIVELY = TieredProgram._natively


class Comparison:
    """Runs each native step again on the reference tier, and goes on with what that gives.

    Attributes:
      steps: how many were compared.
      worst: the largest difference of an array, relative to its largest element.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.worst = 0.0

    def run(
        self, program: Any, state: Any, run: Any, values: Any, rendezvous: Any, trace: Any
    ) -> Any:
        if rendezvous is not None:  # what was sent cannot be sent again
            return NATIVELY(program, state, run, values, rendezvous, trace)
        found = state.native.run(self._context(program, run), values)
        mine = [np.array(v) for v in (*found, *self._written(run))]
        run.abort()
        expected = program.reference.run(run, values)
        theirs = [np.array(v) for v in (*expected, *self._written(run))]
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            self._compare(a, b)
        self.steps += 1
        return expected

    def _context(self, program: Any, run: Any) -> Any:
        from graphflow.execute.context import Context

        return Context(run, program.device)

    def _written(self, run: Any) -> list[Any]:
        writes = run.transaction._writes
        return [writes[key] for key in sorted(writes, key=str)]

    def _compare(self, a: Any, b: Any) -> None:
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
        elif a.size:
            np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
            with np.errstate(invalid="ignore"):
                scale = np.max(np.abs(b), initial=1e-6, where=np.isfinite(b))
                difference = np.max(np.abs(a - b), initial=0.0, where=np.isfinite(b))
            self.worst = max(self.worst, float(difference / scale))


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Comparison]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    comparison = Comparison()
    monkeypatch.setattr(TieredProgram, "_natively", lambda *given: comparison.run(*given))
    monkeypatch.setattr(TieredProgram, "at_once", lambda p, values: None)
    with tf.Graph().as_default():
        yield comparison
    sys.modules.pop("mlp", None)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linear_regression", {"steps": 30}),
        ("newton", {}),
        pytest.param("softmax_regression", {"epochs": 1}, marks=SLOW),
        pytest.param("mlp", {"epochs": 1}, marks=SLOW),
        pytest.param("cnn", {"epochs": 1, "digits": 1000}, marks=SLOW),
        pytest.param("names", {"steps": 20}, marks=SLOW),
        pytest.param("pipeline", {"steps": 5}, marks=SLOW),
    ],
)
def test_steps_agree(name: str, options: dict[str, Any], compared: Comparison, capsys: Any) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)["main"](**options)
    assert compared.worst < 2e-4
    assert compared.steps or name in ("newton", "pipeline")  # loops; several devices
