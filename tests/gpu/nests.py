"""A step of the loop IR, run as CUDA C++ on the CPU: kernels by the shim, products by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphflow as tf
from graphflow.compile.loops import Nest, Product, Specialised
from graphflow.compile.loops.cuda import BLOCK, CudaKernel, cuda_kernel
from graphflow.compile.loops.nests import Unit
from graphflow.compile.loops.values import Foreign, Value, View
from graphflow.compile.native import build as native_build
from tests.gpu.shim import build, launch

Program = Callable[[], tuple[Any, dict[Any, Any]]]


class Compiled(NamedTuple):
    """A step as the native tier has it, before the machine code.

    Attributes:
      special: values and tasks.
      units: nests and products, in order.
      state: variables before the step.
      feeds: by input.
      expected: what the reference tier gives.
    """

    special: Specialised
    units: list[Unit]
    state: list[Any]
    feeds: list[Any]
    expected: list[Any]


def compiled(program: Program) -> Compiled:
    """The first step of a program."""
    found: list[Any] = []
    usual = native_build.specialise

    def kept(*arguments: Any) -> Specialised:
        special = usual(*arguments)
        found.append(special)
        return special

    with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default():
        patch.setenv("GRAPHFLOW_TIER", "native")
        patch.setattr(native_build, "specialise", kept)
        fetches, feeds = program()
        with tf.Session(seed=1) as session:
            session.run(tf.global_variables_initializer())
            session.run(fetches, feeds)  # some variables get other values
            found.clear()
            prepared = list(session._cache.values())[-1]
            (tiered,) = prepared.executable._programs
            tiered._signatures.clear()
            before = session._target.store.begin()
            expected = session.run(fetches, feeds)
            (special,) = found
            (native,) = tiered.native
            state = [before.read(key) for key in special.variables]
    units = [unit for segment in native.plan.units for unit in segment]
    return Compiled(special, units, state, list(feeds.values()), expected)


def kernels(step: Compiled) -> dict[int, CudaKernel]:
    """Number of a unit -> its CUDA C++."""
    return {
        i: cuda_kernel(unit, f"nest{i}")
        for i, unit in enumerate(step.units)
        if isinstance(unit, Nest)
    }


class Machine:
    """Memory and the compiled kernels."""

    def __init__(self, step: Compiled, folder: Path):
        self.step = step
        self.kernels = kernels(step)
        self.library = build("".join(k.source for k in self.kernels.values()), folder)
        self.memory: dict[int, Any] = {}
        self.faults = np.zeros(1, np.int32)
        special = step.special
        for value, array in zip(special.variables.values(), step.state, strict=True):
            self.memory[id(value)] = np.ascontiguousarray(array).reshape(-1)
        for value, array in zip(special.inputs, step.feeds, strict=True):
            if value is not None:
                flat = np.ascontiguousarray(array, value.dtype).reshape(-1)
                self.memory[id(value)] = flat
        for task in special.tasks:
            if isinstance(task, Foreign) and not task.reason:
                self.memory[id(task.outputs[0])] = _key(task)

    def buffer(self, value: Value) -> Any:
        if id(value) not in self.memory:
            array = np.full(max(1, value.size), 77, value.dtype)
            if value.dtype.kind == "f":
                array.fill(np.nan)  # what nobody writes shows
            if value.kind == "constant":
                array = np.array(value.constant, value.dtype).reshape(-1)
            self.memory[id(value)] = array
        return self.memory[id(value)]

    def run(self) -> None:
        for i, unit in enumerate(self.step.units):
            if isinstance(unit, Product):
                self._multiply(unit)
                continue
            kernel = self.kernels[i]
            buffers = [self.buffer(v) for v in kernel.values]
            grid = min(3, kernel.grid)  # fewer than there is work for: the loop over chunks counts
            launch(self.library, kernel.name, grid, BLOCK, [*buffers, self.faults])

    def view(self, access: Any, shape: tuple[int, ...]) -> Any:
        flat = self.buffer(access.value)[access.offset :]
        strides = [s * flat.itemsize for s in access.strides]
        return np.lib.stride_tricks.as_strided(flat, shape, strides)

    def _multiply(self, unit: Product) -> None:
        result: Any = 0.0
        for (a, b), k in zip(unit.terms, unit.inner, strict=True):
            left = self.view(a, (*unit.batch, unit.m, k))
            result = result + left @ self.view(b, (*unit.batch, k, unit.n))
        out = self.view(unit.out, (*unit.batch, unit.m, unit.n))
        assert unit.parts == 1, "steps of one worker"
        if unit.summed:
            out[0] = result.sum(axis=0)
        else:
            out[...] = result

    def output(self, view: View) -> Any:
        from graphflow.compile.loops.nests import access

        return self.view(access(view.value, view.strides, view.offset), view.shape)


class _Counter:
    """The context of a random kernel, in the second step of a session."""

    seed = 1

    def counter(self, stream: int, amount: int) -> int:
        return amount


def _key(task: Foreign) -> Any:
    shape = task.inputs[1].value.constant
    assert task.step.opdef.kernel is not None
    return task.step.opdef.kernel(np, _Counter(), shape, **task.step.attrs)
