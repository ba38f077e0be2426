"""The native form of a plan, as data: code, one arena, and calls of kernels in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphflow.compile.loops.listing import Names, listing
from graphflow.compile.loops.memory import Arena
from graphflow.compile.loops.nests import Unit
from graphflow.compile.loops.values import Shape
from graphflow.compile.native.jit import Code
from graphflow.compile.plan import Step


class Port(NamedTuple):
    """An array outside of the arena.

    Attributes:
      entry: where its address goes in the table.
      shape, dtype: what it must be.
    """

    entry: int
    shape: Shape
    dtype: np.dtype[Any]


class Source(NamedTuple):
    """Where an array is found.

    Attributes:
      entry: of the table; `ARENA` with an offset in bytes, or of a port.  -1: `value` itself.
      offset: bytes.
      shape, strides: in bytes.
      whole: is it the port's array itself?
    """

    entry: int
    offset: int
    shape: Shape
    strides: Shape
    dtype: Any
    whole: bool
    value: Any = None


class Segment(NamedTuple):
    """A native call."""

    number: int


class Call(NamedTuple):
    """A call of a reference kernel."""

    step: Step
    inputs: tuple[Any, ...]  # a Source, None for the context, or a slot that holds an object
    outputs: tuple[Any, ...]  # a Port, or a slot


class Assign(NamedTuple):
    """A variable takes the array of a port."""

    key: Any
    entry: int


@dataclass(frozen=True)
class NativePlan:
    """What `execute` needs to run a plan natively.

    Attributes:
      inputs: per input of the plan, its port; None where nothing reads it.
      slots: per input of the plan, its slot.
      variables: key and port of what is read.
      owned: ports of arrays that the step makes: new values of variables, fetches, and what other
        devices get.
      sent: entry -> the key of a transfer, for those that nobody but its receiver gets.
      constants: entry of the table -> array.
      actions: what to do, in order.
      outputs: per output of the plan: source, and whether to copy.
      entries: size of the table.
      arena: layout of what is inside.
      workers: shares that the work is cut in.
      codes: machine code per segment.
      phases: of each segment: how often workers meet, and once more.
      products: does it call GEMM?
      called: steps that their reference kernels compute -> why.
      units: the loops of each segment.
      titles: what each segment computes, for traces.
      text: the LLVM IR of each segment.
    """

    inputs: tuple[Port | None, ...]
    slots: tuple[int, ...]
    variables: tuple[tuple[Any, Port], ...]
    owned: tuple[Port, ...]
    sent: Mapping[int, str]
    constants: Mapping[int, Any]
    actions: tuple[Any, ...]
    outputs: tuple[tuple[Source, bool], ...]
    entries: int
    arena: Arena
    workers: int
    codes: tuple[Code, ...]
    phases: tuple[int, ...]
    products: bool
    called: Mapping[str, str]
    units: tuple[tuple[Unit, ...], ...]
    titles: tuple[str, ...]
    text: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"native: {sum(map(len, self.units))} loops and products in {len(self.codes)} calls, "
            f"{self.workers} workers, arena of {self.arena.size} bytes "
            f"({self.arena.bound} are alive at once)"
        ]
        if self.called:
            lines.append(f"reference kernels: {', '.join(self.called)}")
        return "\n".join([*lines, *listing([u for s in self.units for u in s], Names())])
