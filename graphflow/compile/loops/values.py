"""Values of a specialised plan, views of them, and the tasks that compute them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from graphflow.compile.plan import Step
from graphflow.ops.expression import Node

Shape: TypeAlias = tuple[int, ...]


@dataclass(eq=False, slots=True)
class Value:
    """An array that is computed once, row-major.  Equality is identity.

    Attributes:
      shape, dtype: what it is.
      kind: "computed" by a task, "outside" (handed in), "constant", "index": no memory, each
        element is its own offset; or "row": what a nest keeps of one row, for each worker.
      slot: the slot of the plan where it is first seen.
      constant: the array of a constant.
      home: for a piece of another value, the part of that where it is stored.
    """

    shape: Shape
    dtype: np.dtype[Any]
    kind: Literal["computed", "outside", "constant", "index", "row"] = "computed"
    slot: int = -1
    constant: Any = None
    home: View | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class View:
    """Elements of a value: strides and offset count elements."""

    value: Value
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_whole(self) -> bool:
        """Does it hold all elements of the value, in order?"""
        return (
            self.offset == 0 and self.size == self.value.size and is_dense(self.shape, self.strides)
        )

    @property
    def dense(self) -> bool:
        """Are its elements neighbours, in order?"""
        return is_dense(self.shape, self.strides)


def whole(value: Value) -> View:
    """All of a value."""
    return View(value, value.shape, row_major(value.shape))


def row_major(shape: Shape) -> Shape:
    """Strides of a dense array."""
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def is_dense(shape: Shape, strides: Shape) -> bool:
    step = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and stride != step:
            return False
        step *= n
    return True


def squeezed(shape: Shape, strides: Shape) -> tuple[Shape, Shape]:
    """Without the axes of size 1."""
    kept = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    return tuple(n for n, _ in kept), tuple(s for _, s in kept)


def broadcast(view: View, shape: Shape) -> View | None:
    """The view stretched to a shape as NumPy does; None where it does not fit."""
    lead = len(shape) - len(view.shape)
    if lead < 0:
        return None
    strides = [0] * lead
    for n, m, s in zip(shape[lead:], view.shape, view.strides, strict=True):
        if m == n:
            strides.append(s)
        elif m == 1:
            strides.append(0)
        else:
            return None
    return View(view.value, shape, tuple(strides), view.offset)


def reshaped(view: View, shape: Shape) -> View | None:
    """The same elements under another shape; None where that needs a copy."""
    if shape == view.shape:
        return view
    if math.prod(shape) != view.size:
        return None
    if view.dense:
        return View(view.value, shape, row_major(shape), view.offset)
    mine, strides = squeezed(view.shape, view.strides)
    if squeezed(shape, shape)[0] == mine:  # only axes of size 1 come or go
        left = list(strides)
        return View(
            view.value, shape, tuple([left.pop(0) if n != 1 else 0 for n in shape]), view.offset
        )
    return None


# ---- tasks: what computes values, in the order of the plan


@dataclass(eq=False, slots=True)
class Map:
    """out[i] = expression of the inputs at i; the inputs are stretched to the output's shape."""

    out: Value
    inputs: tuple[View, ...]
    body: Node
    name: str


@dataclass(eq=False, slots=True)
class Reduce:
    """out = the input, of shape [lead..., last], reduced over the last axis, or all but it.

    Attributes:
      op: "add", "maximum" or "minimum".
      over: "rows" (the last axis goes), "columns" (only the last axis stays) or "all".
    """

    out: Value
    input: View
    op: str
    over: Literal["rows", "columns", "all"]
    name: str


@dataclass(eq=False, slots=True)
class Multiply:
    """out [batch..., m, n] = a [batch..., m, k] b [batch..., k, n], summed over the terms.

    Attributes:
      summed: the first axis of the batch is summed over, too: the result lacks it.
      parts: of such a sum: into how many it is cut; they are the result's first axis.
      factors: of the terms: numbers, or expressions of `scales`; none: 1.
      scales: numbers that are known in the run.
      start: what is added to, a map of [m, n] to `out`.
      names: of all operations that it computes; none: `name` alone.
    """

    out: Value
    terms: tuple[tuple[View, View], ...]
    name: str
    summed: bool = False
    parts: int = 1
    factors: tuple[float | Node, ...] = ()
    scales: tuple[View, ...] = ()
    start: Map | None = None
    names: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class Join:
    """A value that is stored in pieces, each by the task that computes it."""

    out: Value
    pieces: tuple[Value, ...]
    name: str


@dataclass(eq=False, slots=True)
class Pick:
    """out [rows] = input [rows, classes] at index [rows]; an index outside is a fault."""

    out: Value
    input: View
    index: View
    name: str


@dataclass(eq=False, slots=True)
class Spread:
    """out = base, with rows added to the rows [rows, width...] that an index tells.

    Attributes:
      base: a value whose home is all of `out`.
      index: [rows].
      updates: [rows, width...], dense.
      op: "add" or "subtract".
      drops: are rows with a negative index left out?  Else it is a fault, as one too large is.
    """

    out: Value
    base: Value
    index: View
    updates: View
    op: str
    drops: bool
    name: str


@dataclass(eq=False, slots=True)
class Foreign:
    """A step that its reference kernel computes.

    Attributes:
      reason: why it is not lowered; "": compiling has added it.
    """

    step: Step
    inputs: tuple[Any, ...]  # views, constants, keys; None for the context
    outputs: tuple[Value | None, ...]
    name: str
    reason: str = ""


@dataclass(eq=False, slots=True)
class Write:
    """A variable's new value."""

    key: Any
    value: View
    name: str


Task: TypeAlias = Map | Reduce | Multiply | Join | Pick | Spread | Foreign | Write


def reads(task: Task) -> Sequence[View]:
    """The views that a task reads."""
    if isinstance(task, Map):
        return task.inputs
    if isinstance(task, Reduce):
        return (task.input,)
    if isinstance(task, Multiply):
        begun = () if task.start is None else task.start.inputs
        return [*begun, *task.scales, *[view for term in task.terms for view in term]]
    if isinstance(task, Pick):
        return (task.input, task.index)
    if isinstance(task, Spread):
        return (whole(task.base), task.index, task.updates)
    if isinstance(task, Join):
        return [whole(piece) for piece in task.pieces]
    if isinstance(task, Foreign):
        return [v for v in task.inputs if isinstance(v, View)]
    return (task.value,)


def writes(task: Task) -> Sequence[Value]:
    """The values that a task computes."""
    if isinstance(task, Foreign):
        return [v for v in task.outputs if v is not None]
    return () if isinstance(task, Write) else (task.out,)


@dataclass(slots=True)
class Signature:
    """What a slot held when the plan ran: shape and dtype, or None for what is no plain array."""

    found: dict[int, tuple[Shape, np.dtype[Any]] | None] = field(default_factory=dict)
