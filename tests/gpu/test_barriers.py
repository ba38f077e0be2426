"""Barriers of generated kernels: without any one of them, some schedule gives wrong results."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.gpu.nests import Compiled, Machine, compiled
from tests.gpu.shim import build

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
SCHEDULES = ("1", "2")  # a warp at a time; round robin, 0, lets a third of the mutants pass
BARRIERS = re.compile(r"(?: *__syncthreads\(\);.*\n)+")


def softmax() -> Any:
    """Rows of three reductions; without the highest number, the exponentials overflow."""
    x = tf.placeholder(tf.float32, [5, 700])
    y = tf.nn.softmax(x)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 700)).astype(np.float32)
    rows[range(5), [699, 40, 500, 255, 3]] = [200, 300, 400, 500, 600]
    rows[:, 100] += np.float32([200, 300, 400, 500, 600])  # so that sums are of several terms
    return [y, tf.gradients(y * y, x)[0]], {x: rows}


def weakened(source: str, which: set[int]) -> str:
    """Some groups of barriers hold a warp together only, no longer the block."""
    count = iter(range(source.count("\n")))

    def change(group: re.Match[str]) -> str:
        return group[0].replace("threads", "warp") if next(count) in which else group[0]

    return BARRIERS.sub(change, source)


class Mutants:
    """All mutants of a step's one kernel, in one library."""

    def __init__(self, step: Compiled, chosen: list[set[int]], folder: Path):
        machine = Machine(step, folder)
        ((self.unit, self.kernel),) = machine.kernels.items()
        self.step, self.folder = step, folder
        texts = [
            weakened(self.kernel.source, which).replace(f"{self.kernel.name}(", f"mutant{n}(")
            for n, which in enumerate(chosen)
        ]
        self.library = build("".join(texts), folder)

    def right(self, number: int) -> bool:
        """Does a mutant compute what the reference tier does?"""
        machine = Machine(self.step, self.folder)
        machine.library = self.library
        machine.kernels = {self.unit: replace(self.kernel, name=f"mutant{number}")}
        machine.run()
        return all(
            np.allclose(machine.output(view), expected, rtol=1e-4, atol=2e-5)
            for view, expected in zip(self.step.special.outputs, self.step.expected, strict=True)
        )


def test_every_barrier_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    step = compiled(softmax)
    ((_, kernel),) = Machine(step, tmp_path).kernels.items()
    last = len(BARRIERS.findall(kernel.source)) - 1
    assert last >= 8
    # Of the last two, with no reduction between them, either keeps the rows apart.
    chosen = [set(), *[{i} for i in range(last - 1)], {last - 1, last}]
    mutants = Mutants(step, chosen, tmp_path)
    for number, which in enumerate(chosen):
        verdicts = []
        for schedule in SCHEDULES:
            monkeypatch.setenv("EMU_SCHED", schedule)
            verdicts.append(mutants.right(number))
        assert all(verdicts) if not which else not all(verdicts), which
