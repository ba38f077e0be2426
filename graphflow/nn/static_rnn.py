"""Recurrent networks written out step by step."""

from __future__ import annotations

from typing import Any

from graphflow.base import nest
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import format_dims, is_known
from graphflow.build import OPS, Tensor, as_tensor
from graphflow.build.default_graph import control_dependencies
from graphflow.nn.cell import assert_like_rnncell, zeros_for
from graphflow.nn.unrolling import (
    batch_of,
    checked_lengths,
    first_state,
    output_dtype,
    past_end,
    reversed_in_time,
)
from graphflow.ops.cond import cond
from graphflow.ops.joining import concat, stack, unstack
from graphflow.ops.reduce import reduce_max
from graphflow.ops.sources import identity
from graphflow.ops.variable_scope import variable_scope


def static_rnn(
    cell: Any,
    inputs: Any,
    initial_state: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any]:
    """Apply a cell to one input after the other.

    Args:
      cell: the cell.
      inputs: list of [batch, ...] for each time step, or of structures of such.
      initial_state: of the form of `cell.state_size`; zeros by default.
      dtype: of states and outputs; needed where there is no initial state.
      sequence_length: int vector [batch]: outputs behind the end of a sequence are 0, and its state
        stays what it was at the end; steps behind the longest are not computed.
      scope: variable scope, "rnn" by default.

    Returns:
      List of the outputs, and the final state.

    Raises:
      TypeError: `cell` is no cell, or the inputs are no list.
      ValueError: there are no inputs, shapes do not fit, or neither initial_state nor dtype is
        given.
    """
    assert_like_rnncell("cell", cell)
    if not nest.is_nested(inputs):
        raise TypeError(f"static_rnn takes a list of inputs, one for each step, not {inputs!r}")
    if not inputs:
        raise GraphError("static_rnn needs at least one input")
    with variable_scope(scope or "rnn") as entered:
        inputs = nest.map_structure(as_tensor, inputs)
        batch = batch_of(_checked(nest.flatten(inputs)), axis=0)
        state = first_state(cell, initial_state, batch, dtype)
        outputs = []
        if sequence_length is None:
            step: Any = cell
        else:
            step = _Masked(cell, checked_lengths(sequence_length, batch), batch, dtype, state)
        for i, values in enumerate(inputs):
            if i:
                entered.reuse_variables()
            output, state = step(values, state)
            outputs.append(output)
        return outputs, state


def _checked(tensors: list[Tensor]) -> list[Tensor]:
    for tensor in tensors:
        if tensor.dims is None or not tensor.dims or not is_known(tensor.dims[1:]):
            raise ShapeError(
                "the inputs of static_rnn have the batch first and further axes of known size, "
                f"not shape {format_dims(tensor.dims)} ({tensor!r})"
            )
    return tensors


class _Masked:
    """Steps of a cell over sequences that end: called once for each time step."""

    def __init__(self, cell: Any, lengths: Tensor, batch: Any, dtype: Any, state: Any):
        self.cell = cell
        self.lengths = lengths
        self.longest = reduce_max(lengths)
        self.time = 0
        of = output_dtype(dtype, state)
        self.nothing = nest.map_structure(lambda n: zeros_for(batch, n, of), cell.output_size)

    def __call__(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        time, self.time = self.time, self.time + 1
        before = (self.nothing, state)

        def step() -> list[Any]:
            after = tuple(self.cell(inputs, state))
            finished = OPS["GreaterEqual"](time, self.lengths)
            return nest.flatten(past_end(finished, before, after))

        flat = cond(
            OPS["Less"](time, self.longest), step, lambda: nest.flatten(before), strict=True
        )
        for new, old in zip(flat, nest.flatten(before), strict=True):
            if isinstance(new, Tensor):
                new.set_shape(old.dims)
        output, after = nest.pack_sequence_as(before, flat)
        return output, after


def static_bidirectional_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Any,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any, Any]:
    """Two `static_rnn`, one of which reads each sequence from its end.

    Args:
      cell_fw, cell_bw: the cells for reading forward and backward.
      initial_state_fw, initial_state_bw: their first states.
      scope: variable scope, "bidirectional_rnn" by default.
      others: as in `static_rnn`.

    Returns:
      List of outputs, forward and backward ones along the columns; both final states.

    Raises:
      as `static_rnn`.
    """
    assert_like_rnncell("cell_fw", cell_fw)
    assert_like_rnncell("cell_bw", cell_bw)
    with variable_scope(scope or "bidirectional_rnn"):
        with variable_scope("fw") as fw:
            forward, state_fw = static_rnn(
                cell_fw, inputs, initial_state_fw, dtype, sequence_length, scope=fw
            )
        with variable_scope("bw") as bw:
            backwards = _reversed(inputs, sequence_length)
            backward, state_bw = static_rnn(
                cell_bw, backwards, initial_state_bw, dtype, sequence_length, scope=bw
            )
    pairs = zip(forward, _reversed(backward, sequence_length), strict=True)
    outputs = [nest.map_structure(lambda a, b: concat([a, b], 1), f, b) for f, b in pairs]
    return outputs, state_fw, state_bw


def _reversed(sequence: Any, lengths: Any) -> list[Any]:
    """A list over time in which each sequence is reversed within its length."""
    if lengths is None:
        return list(reversed(sequence))
    columns = []
    for column in zip(*[nest.flatten(item) for item in sequence], strict=True):
        joined = reversed_in_time(stack(list(column)), lengths, time=0, batch=1)
        columns.append(unstack(joined, num=len(column)))
    rows = zip(*columns, strict=True)
    return [nest.pack_sequence_as(like, row) for like, row in zip(sequence, rows, strict=True)]


def static_state_saving_rnn(
    cell: Any,
    inputs: Any,
    state_saver: Any,
    state_name: Any,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any]:
    """`static_rnn` that takes its first state from a saver and gives it the final one.

    Args:
      state_saver: object with the methods state(name) and save_state(name, value).
      state_name: name of the state; a structure of names of the form of `cell.state_size`.
      others: as in `static_rnn`.

    Raises:
      ValueError: names and states differ in form.
    """
    for given, what in ((cell, "state_size"), (state_saver, "state")):
        if not hasattr(given, what):
            raise TypeError(f"{given!r} has no {what}: a cell and a state saver are needed")
    nest.assert_same_structure(cell.state_size, state_name, check_types=False)
    names = nest.flatten(state_name)
    first = nest.pack_sequence_as(cell.state_size, [state_saver.state(name) for name in names])
    outputs, state = static_rnn(
        cell, inputs, initial_state=first, sequence_length=sequence_length, scope=scope
    )
    pairs = zip(names, nest.flatten(state), strict=True)
    saved = [state_saver.save_state(name, value) for name, value in pairs]
    with control_dependencies(saved):
        outputs[-1] = nest.map_structure(identity, outputs[-1])
        return outputs, nest.map_structure(identity, state)
