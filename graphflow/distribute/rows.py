"""Updates of rows in place: what a step costs does not depend on how large a table is.

A write of rows is buffered as rows, and becomes a version of the table (`tables`) when it is
promised or committed.  Where a program takes rows of a variable and nothing else of it, it looks
them up in the version that its transaction sees.  Variables of less than SMALLEST bytes are
copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphflow.compile.plan import Plan, Step
from graphflow.distribute.tables import Table
from graphflow.execute.program import Program
from graphflow.execute.store import Transaction
from graphflow.execute.tiered import TieredProgram
from graphflow.ops.gathering import check_indices
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

    def written(self) -> Table:
        """The table with the new rows, which the caller owns."""
        table = self.table if isinstance(self.table, Table) else Table(self.table.copy())
        return table.updated(self.rows, self.values)


class RowTransaction(Transaction):
    """A transaction on a store whose values may be tables."""

    __slots__ = ()

    def read(self, key: Hashable) -> Any:
        if self._writes and isinstance(write := self._writes.get(key), RowWrite):
            self._writes[key] = write.whole()  # it is wanted after all
        return _whole(super().read(key))

    def read_all(self, keys: Sequence[Hashable]) -> list[Any]:
        if any(isinstance(write, RowWrite) for write in self._writes.values()):
            return [self.read(key) for key in keys]
        return [_whole(value) for value in super().read_all(keys)]

    def read_table(self, key: Hashable) -> Any:
        """As `read`, for those who want rows of it: a `Table`, where it is one."""
        return self.read(key) if key in self._writes else super().read(key)

    def write_rows(self, key: Hashable, write: RowWrite) -> bool:
        """Buffer a write of rows, unless there is another write of the variable; is it taken?"""
        if key in self._writes:
            return False
        self._writes[key] = write
        return True


def _whole(value: Any) -> Any:
    return value.take() if isinstance(value, Table) else value


def changed(table: Any, rows: Any, change: Callable[[Any, Any], None]) -> RowWrite | None:
    """The write that changing rows makes; None where the table is small, or not of NumPy.

    Args:
      table: [n, ...].
      rows: indices, of any shape, some perhaps several times.
      change: from a table and positions in it; called with the rows alone.
    """
    if not isinstance(table, np.ndarray | Table) or table.nbytes < SMALLEST:
        return None
    distinct, positions = np.unique(rows, return_inverse=True)
    values = table.look_up(distinct) if isinstance(table, Table) else table[distinct]
    change(values, positions.reshape(np.shape(rows)))
    return RowWrite(table, distinct, values)


def in_place(program: Program | TieredProgram) -> None:
    """Let a program write rows as rows, where nothing takes the variable's whole new value, and
    look rows up, where nothing takes anything else of it.  Native code, which would copy the
    variable, leaves that to kernels where it is large."""
    if isinstance(program, TieredProgram):
        names = _in_place(program.reference)
        program.stays = lambda step, spec: step.name in names and _bytes(spec) >= SMALLEST
    elif program.device.is_host:
        _in_place(program)


def _bytes(spec: Any) -> int:
    """Of an array of this shape and dtype."""
    return 0 if spec is None else math.prod(spec[0]) * int(spec[1].itemsize)


def _in_place(program: Program) -> set[str]:
    """Names of the steps that read and write variables by rows."""
    names = set()
    plan = program.plan
    readers = _readers(plan)
    tables: set[int] = set()  # slots that hold one
    calls = []
    for step, call in zip(plan.steps, program._calls, strict=True):
        if step.opdef.name in CHANGES and readers.keys().isdisjoint(step.outputs):
            names.add(step.name)
            call = call._replace(function=_written(step, call.function))
        elif step.opdef.name == "ReadVariable" and _by_rows(readers.get(step.outputs[0], ())):
            names.add(step.name)
            tables.update(step.outputs)
            call = call._replace(function=_read)
        elif not tables.isdisjoint(step.inputs):
            call = call._replace(function=_looked_up(call.function))
        calls.append(call)
    program._calls = calls
    return names


def _readers(plan: Plan) -> dict[int, list[Step | None]]:
    """Slot -> what takes its value; None stands for whoever runs the plan."""
    readers: dict[int, list[Step | None]] = {output.slot: [None] for output in plan.outputs}
    for step in plan.steps:
        for slot in step.inputs:
            readers.setdefault(slot, []).append(step)
    return readers


def _by_rows(readers: Sequence[Step | None]) -> bool:
    """Do they take rows, and nothing else?"""
    return bool(readers) and all(
        step is not None
        and step.opdef.name == "GatherV2"
        and step.inputs[0] != step.inputs[1]
        and not (step.attrs.get("axis") or step.attrs.get("batch_dims"))
        for step in readers
    )


def _read(context: Any, handle: Any) -> Any:
    return context.read_table(handle)


def _looked_up(usual: Callable[..., Any]) -> Callable[..., Any]:
    def call(table: Any, indices: Any) -> Any:
        if not isinstance(table, Table):
            return usual(table, indices)
        check_indices(np, indices, len(table))
        return table.look_up(indices)

    return call


def _written(step: Step, usual: Callable[..., Any]) -> Callable[..., Any]:
    apply: Any = CHANGES[step.opdef.name]

    def call(context: Any, handle: Any, indices: Any, updates: Any) -> Any:
        table = context.read_table(handle)
        if np.ndim(table):
            rows = checked_rows(np, indices, len(table))
            whole = np.broadcast_to(updates, (*np.shape(rows), *table.shape[1:]))
            write = changed(table, rows, lambda x, at: apply(np, x, at, whole))
            if write is not None and context.write_rows(handle, write):
                return table  # nothing reads it
        return usual(context, handle, indices, updates)

    return call
