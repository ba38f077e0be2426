"""Updates of rows in place: what a step costs does not depend on how large a table is.

A write of rows is buffered as rows, and put into the table at the commit.  Only tables of
SMALLEST bytes and more are changed in place; whoever has read one of these whole may see it
change, as with TensorFlow's parameter servers.  Rows that are looked up are copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphflow.compile.plan import Plan, Step
from graphflow.execute.program import Program
from graphflow.ops.scatter import CHANGES, checked_rows

SMALLEST = 1 << 20  # bytes; copying less takes some 50 us, about as long as a message


class RowWrite(NamedTuple):
    """New values of rows, to be put into a table.

    Attributes:
      table: the value that the variable had, [n, ...].
      rows: which rows, ascending.
      values: [*rows.shape, ...].
    """

    table: Any
    rows: Any
    values: Any

    def whole(self) -> Any:
        """A copy of the table with the new rows."""
        new = self.table.copy()
        new[self.rows] = self.values
        return new


def changed(table: Any, rows: Any, change: Callable[[Any, Any], None]) -> RowWrite | None:
    """The write that changing rows makes; None where the table is small, or not of NumPy.

    Args:
      table: [n, ...].
      rows: indices, of any shape, some perhaps several times.
      change: from a table and positions in it; called with the rows alone.
    """
    if not isinstance(table, np.ndarray) or table.nbytes < SMALLEST:
        return None
    distinct, positions = np.unique(rows, return_inverse=True)
    values = table[distinct]
    change(values, positions.reshape(np.shape(rows)))
    return RowWrite(table, distinct, values)


def in_place(program: Program) -> None:
    """Let a program write rows as rows, where nothing takes the variable's whole new value."""
    plan = program.plan
    used = _used(plan)
    program._calls = [
        call._replace(function=_by_rows(step, call.function))
        if step.opdef.name in CHANGES and used.isdisjoint(step.outputs)
        else call
        for step, call in zip(plan.steps, program._calls, strict=True)
    ]


def _used(plan: Plan) -> set[int]:
    return {slot for step in plan.steps for slot in step.inputs} | {
        output.slot for output in plan.outputs
    }


def _by_rows(step: Step, usual: Callable[..., Any]) -> Callable[..., Any]:
    apply: Any = CHANGES[step.opdef.name]

    def call(context: Any, handle: Any, indices: Any, updates: Any) -> Any:
        table = context.read(handle)
        if np.ndim(table):
            rows = checked_rows(np, indices, len(table))
            whole = np.broadcast_to(updates, (*np.shape(rows), *table.shape[1:]))
            write = changed(table, rows, lambda x, at: apply(np, x, at, whole))
            if write is not None and context.write_rows(handle, write):
                return table  # nothing reads it
        return usual(context, handle, indices, updates)

    return call


def settled(writes: Mapping[Any, Any], private: dict[Any, Any]) -> dict[Any, Any]:
    """The tables that row writes go to: the store's own, or copies where somebody else may hold
    them, which the store owns from now on."""
    return {
        key: write.table if private.get(key) is write.table else write.table.copy()
        for key, write in writes.items()
        if isinstance(write, RowWrite)
    }
