"""Recurrent networks as loops: `dynamic_rnn`, both ways at once, and the bare `raw_rnn`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow.base import dtypes, nest
from graphflow.base.errors import ShapeError
from graphflow.base.shapes import format_dims, is_known
from graphflow.build import OPS, Tensor, as_tensor
from graphflow.nn.cell import assert_like_rnncell, zeros_for
from graphflow.nn.unrolling import (
    batch_of,
    checked_lengths,
    first_state,
    output_dtype,
    past_end,
    reversed_in_time,
)
from graphflow.ops.arithmetic import minimum
from graphflow.ops.conditions import where
from graphflow.ops.reduce import reduce_all, reduce_max
from graphflow.ops.shape_ops import shape, transpose
from graphflow.ops.sources import constant
from graphflow.ops.tensor_array import TensorArray
from graphflow.ops.variable_scope import variable_scope
from graphflow.ops.while_loop import while_loop


def dynamic_rnn(
    cell: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[Any, Any]:
    """Run a cell over sequences in a loop.

    Args:
      cell: the cell.
      inputs: [batch, time, ...], or [time, batch, ...] where `time_major`; or a structure of such.
        Batch and time may be unknown.
      sequence_length: int vector [batch]: outputs behind the end of a sequence are 0, and its state
        stays what it was at the end.
      initial_state: of the form of `cell.state_size`; zeros by default.
      dtype: of states and outputs; needed where there is no initial state.
      parallel_iterations, swap_memory: accepted for TensorFlow's sake.
      time_major: the time is the first axis of inputs and outputs.
      scope: variable scope, "rnn" by default.

    Returns:
      The outputs, [batch, time, ...] or time-major, in the form of `cell.output_size`, and the
      final state.

    Raises:
      TypeError: `cell` is no cell, or the state changes its dtype or form.
      ValueError: shapes do not fit, or neither initial_state nor dtype is given.
    """
    assert_like_rnncell("cell", cell)
    with variable_scope(scope or "rnn"):
        tensors = [as_tensor(x) for x in nest.flatten(inputs)]
        for tensor in tensors:
            if tensor.dims is None or len(tensor.dims) < 3 or not is_known(tensor.dims[2:]):
                raise ShapeError(
                    "the inputs of dynamic_rnn have batch, time and further axes of known size, "
                    f"not shape {format_dims(tensor.dims)} ({tensor!r})"
                )
        if not time_major:
            tensors = [_swapped(t) for t in tensors]
        batch = batch_of(tensors, axis=1)
        if sequence_length is not None:
            sequence_length = checked_lengths(sequence_length, batch)
        state = first_state(cell, initial_state, batch, dtype)
        loop = _Loop(cell, nest.pack_sequence_as(inputs, tensors), batch, sequence_length)
        options = {"parallel_iterations": parallel_iterations or 32, "swap_memory": swap_memory}
        outputs, state = loop.run(state, output_dtype(dtype, state), options)
        if not time_major:
            outputs = nest.map_structure(_swapped, outputs)
        return outputs, state


def _swapped(x: Tensor) -> Tensor:
    """The first two axes exchanged."""
    assert x.dims is not None
    return transpose(x, [1, 0, *range(2, len(x.dims))])


class _Loop:
    """The loop of `dynamic_rnn` over time-major inputs."""

    def __init__(self, cell: Any, inputs: Any, batch: Any, lengths: Tensor | None):
        self.cell = cell
        self.inputs = inputs
        self.batch = batch
        self.known_batch = None if isinstance(batch, Tensor) else batch
        self.lengths = lengths
        tensors = nest.flatten(inputs)
        known = {t.dims[0] for t in tensors} - {None}
        if len(known) > 1:
            raise ShapeError(f"inputs of different numbers of time steps: {sorted(known)}")
        self.known_steps = known.pop() if known else None
        self.steps = shape(tensors[0])[0] if self.known_steps is None else self.known_steps
        self.slices = [
            TensorArray(t.dtype, self.steps, element_shape=t.dims[1:], name="input").unstack(t)
            for t in tensors
        ]

    def run(self, state: Any, dtype: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        """The outputs and the final state."""
        sizes = nest.flatten(self.cell.output_size)
        self.nothing = nest.pack_sequence_as(
            self.cell.output_size, [zeros_for(self.batch, size, dtype) for size in sizes]
        )
        arrays = tuple([self._reserved(zeros) for zeros in nest.flatten(self.nothing)])
        end = self._end()
        _, arrays, state = while_loop(
            lambda time, *_: time < end,
            self._step,
            (constant(0, dtypes.int32, name="time"), arrays, state),
            maximum_iterations=self.known_steps,
            **options,
        )
        outputs = [self._stacked(array, end) for array in arrays]
        return nest.pack_sequence_as(self.cell.output_size, outputs), state

    def _reserved(self, zeros: Tensor) -> TensorArray:
        """For the outputs.  Where the batch is unknown, the last entry, behind them, is zeros."""
        known = self.known_batch is not None
        size = self.steps if known else self.steps + 1
        array = TensorArray(zeros.dtype, size, element_shape=zeros.dims, name="output")
        return array if known else array.write(self.steps, zeros)

    def _stacked(self, array: TensorArray, end: Any) -> Tensor:
        """The outputs of all steps; zeros where the loop ended before."""
        if self.known_batch is not None:
            result = array.stack()
        else:
            steps = OPS["Range"](0, self.steps + 1, 1)
            written = OPS["Less"](steps, end)
            last = OPS["Fill"](shape(steps), self.steps)
            result = array.gather(where(written, steps, last))[:-1]
        assert array.element_shape.dims is not None
        result.set_shape([self.known_steps, *array.element_shape])
        return result

    def _end(self) -> Any:
        """Number of iterations."""
        return self.steps if self.lengths is None else minimum(self.steps, reduce_max(self.lengths))

    def _step(self, time: Tensor, outputs: tuple[TensorArray, ...], state: Any) -> Any:
        values = [array.read(time) for array in self.slices]
        output, after = self.cell(nest.pack_sequence_as(self.inputs, values), state)
        if self.lengths is not None:
            finished = OPS["GreaterEqual"](time, self.lengths)
            output = past_end(finished, self.nothing, output)
            after = past_end(finished, state, after)
        else:
            nest.assert_same_structure(self.nothing, output)
        pairs = zip(outputs, nest.flatten(output), strict=True)
        return time + 1, tuple([array.write(time, value) for array, value in pairs]), after


def bidirectional_dynamic_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Two `dynamic_rnn`, one of which reads each sequence from its end.

    Args:
      cell_fw, cell_bw: the cells for reading forward and backward.
      initial_state_fw, initial_state_bw: their first states.
      scope: variable scope, "bidirectional_rnn" by default.
      others: as in `dynamic_rnn`.

    Returns:
      The pair of outputs, both in the order of the inputs, and the pair of final states.

    Raises:
      as `dynamic_rnn`.
    """
    assert_like_rnncell("cell_fw", cell_fw)
    assert_like_rnncell("cell_bw", cell_bw)
    time, batch = (0, 1) if time_major else (1, 0)
    shared = {
        "sequence_length": sequence_length,
        "dtype": dtype,
        "parallel_iterations": parallel_iterations,
        "swap_memory": swap_memory,
        "time_major": time_major,
    }
    with variable_scope(scope or "bidirectional_rnn"):
        with variable_scope("fw") as fw:
            forward, state_fw = dynamic_rnn(
                cell_fw, inputs, initial_state=initial_state_fw, scope=fw, **shared
            )
        with variable_scope("bw") as bw:
            backward, state_bw = dynamic_rnn(
                cell_bw,
                reversed_in_time(inputs, sequence_length, time, batch),
                initial_state=initial_state_bw,
                scope=bw,
                **shared,
            )
    backward = reversed_in_time(backward, sequence_length, time, batch)
    return (forward, backward), (state_fw, state_bw)


def raw_rnn(
    cell: Any,
    loop_fn: Callable[..., Any],
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    scope: Any = None,
) -> tuple[Any, Any, Any]:
    """Run a cell in a loop whose inputs, outputs and end a function decides, as in a decoder.

        finished, inputs, state, form, loop_state = loop_fn(0, None, None, None)
        while not all(finished):
            output, next_state = cell(inputs, state)
            ended, inputs, next_state, emit, loop_state = loop_fn(
                time + 1, output, next_state, loop_state)
            keep the emitted value, 0 in rows that have finished; keep their state as it was
            finished = finished or ended

    Args:
      cell: the cell.
      loop_fn: function of (time, cell_output, cell_state, loop_state) that returns (finished,
        next_input, next_cell_state, emit_output, next_loop_state); finished is a bool vector
        [batch].  In its first call all but the time are None; what it emits then gives the form of
        what it will emit (None: the form of `cell.output_size`).  The loop state may be None, or
        any structure of tensors and TensorArrays.
      parallel_iterations, swap_memory: accepted for TensorFlow's sake.
      scope: variable scope, "rnn" by default.

    Returns:
      TensorArrays of what was emitted, the final state and the final loop state.

    Raises:
      TypeError: `cell` is no cell or `loop_fn` no function.
      ValueError: the function changes the form of what it returns.
    """
    assert_like_rnncell("cell", cell)
    if not callable(loop_fn):
        raise TypeError(f"loop_fn must be callable, not {loop_fn!r}")
    with variable_scope(scope or "rnn"):
        time = constant(0, dtypes.int32)
        finished, inputs, state, emitted, loop_state = loop_fn(time, None, None, None)
        state = nest.map_structure(as_tensor, state)
        nest.assert_same_structure(state, cell.state_size)
        batch = batch_of([as_tensor(x) for x in nest.flatten(inputs)], axis=0)
        if emitted is None:
            nothing = _zero_outputs(cell, batch, nest.flatten(state)[0].dtype)
        else:
            nothing = nest.map_structure(lambda e: _zero_emitted(batch, as_tensor(e)), emitted)
        arrays = nest.map_structure(
            lambda z: TensorArray(
                z.dtype, 0, dynamic_size=True, element_shape=z.dims, name="rnn_output"
            ),
            nothing,
        )

        def step(time: Any, finished: Any, inputs: Any, arrays: Any, state: Any, kept: Any) -> Any:
            output, after = cell(inputs, state)
            nest.assert_same_structure(cell.output_size, output)
            nest.assert_same_structure(state, after)
            ended, following, after, emitted, new = loop_fn(time + 1, output, after, kept)
            nest.assert_same_structure(inputs, following)
            emitted = past_end(finished, nothing, emitted)
            arrays = nest.map_structure(lambda a, e: a.write(time, e), arrays, emitted)
            after = past_end(finished, state, after)
            both = OPS["LogicalOr"](finished, ended)
            return time + 1, both, following, arrays, after, kept if new is None else new

        first = constant(0, dtypes.int32) if loop_state is None else loop_state
        *_, arrays, state, last = while_loop(
            lambda time, finished, *_: OPS["LogicalNot"](reduce_all(finished)),
            step,
            (time, as_tensor(finished), inputs, arrays, state, first),
            parallel_iterations=parallel_iterations or 32,
            swap_memory=swap_memory,
        )
        return arrays, state, None if loop_state is None else last


def _zero_outputs(cell: Any, batch: Any, dtype: Any) -> Any:
    return nest.map_structure(lambda size: zeros_for(batch, size, dtype), cell.output_size)


def _zero_emitted(batch: Any, example: Tensor) -> Tensor:
    """Zeros for a batch of emitted values, of which `example` is one without the batch."""
    return zeros_for(batch, example.dims, example.dtype)
