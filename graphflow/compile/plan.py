"""The plan: what a device executes, without graphs, tensors or names looked up at run time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from graphflow.base.dtypes import DType
from graphflow.base.shapes import Dims, format_dims
from graphflow.build.opdef import OpDef

CONTEXT = 0  # the slot that holds the run's context, for kernels that take one
TRANSFERS = frozenset({"Send", "Recv", "AllReducePart"})  # what devices exchange values by


class Step(NamedTuple):
    """One call of a kernel.

    Attributes:
      opdef: the op; pickles by name.
      inputs: slots of the arguments, the context's first where the kernel takes it.
      outputs: slots of the results.
      attrs: the attributes; bodies are plans here.
      frees: slots that nothing reads afterwards.
      name: the operation's name.
      where: the user's lines that built it, as text: plans travel to machines without the source.
    """

    opdef: OpDef
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attrs: Mapping[str, Any]
    frees: tuple[int, ...]
    name: str
    where: str

    @property
    def kind(self) -> str:
        """RUN, SEND or RECV; what a step frees is in `frees`."""
        return {"Send": "SEND", "Recv": "RECV"}.get(self.opdef.name, "RUN")


class Input(NamedTuple):
    """A value that is handed in: a feed, or an argument of a body.

    Attributes:
      slot: where it goes.
      name, dtype, dims: what it must be.
      keep: something keeps it beyond the run, so it must not be the caller's own array.
    """

    slot: int
    name: str
    dtype: DType
    dims: Dims
    keep: bool


class Output(NamedTuple):
    """A value that is handed out.

    Attributes:
      slot: where it is.
      shared: something else may hold the same memory, so the user gets a copy.
    """

    slot: int
    shared: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A program over numbered slots.

    Attributes:
      steps: in the order of execution.
      size: number of slots.
      inputs: what is handed in.
      outputs: what is handed out.
      constants: slot -> value that is there from the start.
      segments: (first, last + 1) steps; a segment ends after an op whose output shapes depend on
        values, so that what follows can specialise on the shapes it meets.
    """

    steps: tuple[Step, ...]
    size: int
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    constants: Mapping[int, Any]
    segments: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        """One line per step, and the frees."""
        lines = [f"{i.slot} = input {i.name!r} {i.dtype.name}{format_dims(i.dims)}"
                 for i in self.inputs]  # fmt: skip
        lines += [f"{slot} = constant {_brief(value)}" for slot, value in self.constants.items()]
        for step in self.steps:
            left = ", ".join(map(str, step.outputs))
            arguments = ", ".join("ctx" if s == CONTEXT else str(s) for s in step.inputs)
            first = step.where.partition("\n")[0]
            lines.append(
                f"{step.kind} {left + ' = ' if left else ''}{step.opdef.name}({arguments})"
                f"  # {step.name} {first}"
            )
            if step.frees:
                lines.append(f"FREE {', '.join(map(str, step.frees))}")
        lines.append(f"return {', '.join(str(o.slot) for o in self.outputs)}")
        return "\n".join(lines)


def takes_input(plan: Plan) -> bool:
    """Does a step, also of a body, take something from outside that is gone then?"""
    plans = [plan]
    while plans:
        for step in plans.pop().steps:
            if step.opdef.effect == "input":
                return True
            for value in step.attrs.values():
                parts = value if type(value) is tuple else (value,)
                plans += [part for part in parts if isinstance(part, Plan)]
    return False


def _brief(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)
