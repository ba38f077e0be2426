"""Transpose a factor once, where many small products read it across.

GEMM copies its second factor into blocks; from a transposed one that takes 0.2 ns more per
element, as measured, which counts where the first factor has few rows.  An unrolled recurrence
multiplies by the same transposed weights in each step.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphflow.compile.loops.values import Map, Multiply, Task, Value, View, whole
from graphflow.ops.expression import Node

_FEW = 256  # rows of the first factor
_USES = 4  # transposing takes as long as three products lose


def turned(tasks: Sequence[Task]) -> list[Task]:
    """The tasks, with such factors copied."""
    uses: dict[View, int] = {}
    for task in tasks:
        for view in _across(task):
            uses[view] = uses.get(view, 0) + 1
    copies: dict[View, View] = {}
    result: list[Task] = []
    for task in tasks:
        found = [v for v in _across(task) if uses[v] >= _USES]
        for view in found:
            if view not in copies:
                copy = Map(Value(view.shape, view.dtype), (view,), Node("arg", (), view.dtype, 0),
                           task.name)  # fmt: skip
                copies[view] = whole(copy.out)
                result.append(copy)
        if found and isinstance(task, Multiply):
            terms = tuple([(a, copies.get(b, b)) for a, b in task.terms])
            task = Multiply(task.out, terms, task.name, task.summed, task.parts)
        result.append(task)
    return result


def _across(task: Task) -> list[View]:
    """Second factors whose rows are not neighbours in memory."""
    if not isinstance(task, Multiply):
        return []
    return [
        b
        for a, b in task.terms
        if len(b.shape) == 2 and b.strides[0] == 1 and b.strides[1] > 1 and a.shape[0] <= _FEW
    ]
