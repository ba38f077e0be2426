"""Variables that belong to variables: the moments and sums that optimizers keep."""

from __future__ import annotations

from typing import Any

from graphflow.build.defaults import get_default_graph
from graphflow.ops.sources import constant
from graphflow.ops.variable_scope import get_variable_scope
from graphflow.ops.variables import Variable


def create_slot(primary: Variable, value: Any, name: str) -> Variable:
    """A variable named "<primary>/<name>" on the device of `primary`; the variable scope in force
    comes before that.

    Args:
      primary: what it belongs to.
      value: its initial value, a tensor or a function.
      name: last part of its name, made unique.
    """
    graph = get_default_graph().root
    scope = get_variable_scope().name
    prefix = f"{scope}/" if scope else ""
    with graph.name_scope(None), graph.colocate_with(primary.handle.op):
        slot = Variable(value, trainable=False, name=f"{prefix}{primary.op.name}/{name}")
    if primary.slice_info is not None and slot.dims == primary.dims:
        slot.slice_info = primary.slice_info.of_slot(slot.op.name.rpartition("/")[2])
    return slot


def create_zeros_slot(primary: Variable, name: str) -> Variable:
    """A slot of zeros in the shape and dtype of `primary`."""
    return create_slot(primary, _filled(primary, 0), name)


def create_filled_slot(primary: Variable, value: float, name: str) -> Variable:
    """A slot filled with a number, in the shape and dtype of `primary`."""
    return create_slot(primary, _filled(primary, value), name)


def _filled(primary: Variable, value: float) -> Any:
    content: Any = (
        [] if 0 in (primary.dims or ()) else value
    )  # a constant takes no more than it holds
    return lambda: constant(content, primary.dtype, primary.shape)
