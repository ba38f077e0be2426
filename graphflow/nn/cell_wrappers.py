"""Cells made of cells: stacked, with dropout, with a residual connection, on a device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from graphflow.base import nest
from graphflow.base.errors import GraphError
from graphflow.base.shapes import as_dims
from graphflow.build import Tensor, as_tensor
from graphflow.build.default_graph import device as device_scope
from graphflow.build.defaults import get_default_graph
from graphflow.nn.cell import RNNCell, assert_like_rnncell
from graphflow.nn.gated_cells import LSTMStateTuple
from graphflow.nn.layers import dropout_v2
from graphflow.ops.elementary import floor
from graphflow.ops.joining import concat, split
from graphflow.ops.known import constant_value
from graphflow.ops.random import random_uniform
from graphflow.ops.variable_scope import variable_scope
from graphflow.ops.variables import Variable


class MultiRNNCell(RNNCell):
    """Cells one upon another: each takes the outputs of the one before.

    Args:
      cells: the cells, from below.
      state_is_tuple: the state is a tuple of their states; else these along the columns.

    Raises:
      ValueError: there are no cells, or a state is nested though `state_is_tuple` is False.
      TypeError: `cells` is no list or tuple.
    """

    def __init__(self, cells: Any, state_is_tuple: bool = True):
        super().__init__()
        if not nest.is_nested(cells):
            raise TypeError(f"MultiRNNCell takes a list of cells, not {cells!r}")
        if not cells:
            raise GraphError("MultiRNNCell needs at least one cell")
        self._cells = list(cells)
        self._state_is_tuple = state_is_tuple
        if not state_is_tuple and any(nest.is_nested(c.state_size) for c in self._cells):
            sizes = [c.state_size for c in self._cells]
            raise GraphError(f"states of sizes {sizes} do not go without state_is_tuple=True")

    @property
    def state_size(self) -> Any:
        sizes = tuple([cell.state_size for cell in self._cells])
        return sizes if self._state_is_tuple else sum(sizes)

    @property
    def output_size(self) -> Any:
        return self._cells[-1].output_size

    @property
    def trainable_weights(self) -> list[Variable]:
        return _weights(self._cells, "trainable_weights") if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Variable]:
        frozen = [] if self.trainable else _weights(self._cells, "trainable_weights")
        return frozen + _weights(self._cells, "non_trainable_weights")

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        if not self._state_is_tuple:
            return super().zero_state(batch_size, dtype)
        with get_default_graph().name_scope(f"{type(self).__name__}ZeroState"):
            return tuple([cell.zero_state(batch_size, dtype) for cell in self._cells])

    def call(self, inputs: Any, state: Any) -> Any:
        if not self._state_is_tuple:
            state = split(state, [cell.state_size for cell in self._cells], 1)
        elif not nest.is_nested(state) or len(state) != len(self._cells):
            raise GraphError(f"the state must be a tuple of {len(self._cells)} states, not {state}")
        after = []
        for i, (cell, before) in enumerate(zip(self._cells, state, strict=True)):
            with variable_scope(f"cell_{i}"):
                inputs, new = cell(inputs, before)
            after.append(new)
        return inputs, tuple(after) if self._state_is_tuple else concat(after, 1)


def _weights(cells: Any, which: str) -> list[Variable]:
    found = {id(v): v for cell in cells for v in getattr(cell, which, ())}
    return list(found.values())


class _Wrapper(RNNCell):
    """A cell with the sizes and the variables of another one."""

    def __init__(self, cell: Any, **kwargs: Any):
        super().__init__(**kwargs)
        assert_like_rnncell("cell", cell)
        self.cell = cell

    @property
    def wrapped_cell(self) -> Any:
        return self.cell

    @property
    def state_size(self) -> Any:
        return self.cell.state_size

    @property
    def output_size(self) -> Any:
        return self.cell.output_size

    @property
    def trainable_weights(self) -> list[Variable]:
        return _weights([self.cell], "trainable_weights") if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Variable]:
        frozen = [] if self.trainable else _weights([self.cell], "trainable_weights")
        return frozen + _weights([self.cell], "non_trainable_weights")

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        with get_default_graph().name_scope(f"{type(self).__name__}ZeroState"):
            return self.cell.zero_state(batch_size, dtype)

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        """One step; see `RNNCell`.  The variables are in the scope of the wrapped cell."""
        options = {} if scope is None else {"scope": scope}
        return self._step(inputs, state, **options)

    def _step(self, inputs: Any, state: Any, **options: Any) -> Any:
        raise NotImplementedError


class ResidualWrapper(_Wrapper):
    """Adds the inputs of a cell to its outputs.

    Args:
      cell: the cell.
      residual_fn: function of inputs and outputs to use instead of their sum.
    """

    def __init__(
        self, cell: Any, residual_fn: Callable[[Any, Any], Any] | None = None, **kwargs: Any
    ):
        super().__init__(cell, **kwargs)
        self._residual = residual_fn or _summed

    def _step(self, inputs: Any, state: Any, **options: Any) -> Any:
        outputs, after = self.cell(inputs, state, **options)
        return self._residual(inputs, outputs), after


def _summed(inputs: Any, outputs: Any) -> Any:
    nest.assert_same_structure(inputs, outputs)
    for a, b in zip(nest.flatten(inputs), nest.flatten(outputs), strict=True):
        a.shape.assert_is_compatible_with(b.shape)
    return nest.map_structure(lambda a, b: a + b, inputs, outputs)


class DeviceWrapper(_Wrapper):
    """Builds the steps of a cell on a device.

    Args:
      cell: the cell.
      device: as `tf.device` takes it.
    """

    def __init__(self, cell: Any, device: Any, **kwargs: Any):
        super().__init__(cell, **kwargs)
        self._device = device

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        with device_scope(self._device):
            return super().zero_state(batch_size, dtype)

    def _step(self, inputs: Any, state: Any, **options: Any) -> Any:
        with device_scope(self._device):
            return self.cell(inputs, state, **options)


class DropoutWrapper(_Wrapper):
    """Dropout of a cell's inputs, outputs and next states.

    With `variational_recurrent` the same elements are dropped in all steps and all batch entries of
    a run (Gal and Ghahramani, arXiv:1512.05287).  The memory c of an LSTM is never dropped, unless
    the filter says so.

    Args:
      cell: the cell.
      input_keep_prob, output_keep_prob, state_keep_prob: numbers in [0, 1] or scalar tensors; the
        number 1 means no dropout.
      variational_recurrent: drop the same elements in each step.
      input_size: size of the inputs without the batch; needed for variational dropout of inputs.
      dtype: of the values; needed for variational dropout.
      seed: from which the seeds of all dropouts are derived, as in TensorFlow.
      dropout_state_filter_visitor: function of a (part of a) state that says where to drop: a bool,
        or a structure of bools of one level.

    Raises:
      ValueError: a probability is out of range, or what variational dropout needs is missing.
    """

    def __init__(
        self,
        cell: Any,
        input_keep_prob: Any = 1.0,
        output_keep_prob: Any = 1.0,
        state_keep_prob: Any = 1.0,
        variational_recurrent: bool = False,
        input_size: Any = None,
        dtype: Any = None,
        seed: int | None = None,
        dropout_state_filter_visitor: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(cell, dtype=dtype, **kwargs)
        if dropout_state_filter_visitor is not None and not callable(dropout_state_filter_visitor):
            raise TypeError("dropout_state_filter_visitor must be callable")
        self._filter = dropout_state_filter_visitor or _all_but_memory
        self._seed = seed
        with get_default_graph().name_scope("DropoutWrapperInit"):
            self._input_keep_prob = _probability("input_keep_prob", input_keep_prob)
            self._output_keep_prob = _probability("output_keep_prob", output_keep_prob)
            self._state_keep_prob = _probability("state_keep_prob", state_keep_prob)
            self._noise: dict[str, list[Tensor]] | None = None
            if variational_recurrent:
                self._noise = self._all_noise(input_size)

    def _all_noise(self, input_size: Any) -> dict[str, list[Tensor]]:
        if self._dtype is None:
            raise GraphError("variational_recurrent needs the dtype of the values")
        sizes = {"state": self.cell.state_size, "output": self.cell.output_size}
        if _drops(self._input_keep_prob):
            if input_size is None:
                raise GraphError("variational dropout of the inputs needs input_size")
            sizes = {"input": input_size, **sizes}
        return {
            which: [
                random_uniform(
                    (1, *(as_dims(size) or ())), seed=self._derived(which, i), dtype=self._dtype
                )
                for i, size in enumerate(nest.flatten(parts))
            ]
            for which, parts in sizes.items()
        }

    def _derived(self, which: str, index: int) -> int | None:
        """TensorFlow's seed of one dropout."""
        if self._seed is None:
            return None
        text = f"{self._seed}{which}_{index}".encode()
        digest = hashlib.md5(text, usedforsecurity=False).hexdigest()
        return int(digest[:8], 16) & 0x7FFFFFFF

    def _step(self, inputs: Any, state: Any, **options: Any) -> Any:
        if _drops(self._input_keep_prob):
            inputs = self._dropped(inputs, "input", self._input_keep_prob)
        output, after = self.cell(inputs, state, **options)
        if _drops(self._state_keep_prob):
            where = _chosen(self._filter, after)
            after = self._dropped(after, "state", self._state_keep_prob, where)
        if _drops(self._output_keep_prob):
            output = self._dropped(output, "output", self._output_keep_prob)
        return output, after

    def _dropped(self, values: Any, which: str, keep_prob: Any, where: Any = None) -> Any:
        if where is None:
            where = nest.map_structure(lambda _: True, values)
        parts = nest.flatten_up_to(where, values)
        noise = None
        if self._noise is not None:
            noise = nest.flatten_up_to(where, nest.pack_sequence_as(values, self._noise[which]))
        result = []
        for i, (chosen, part) in enumerate(zip(nest.flatten(where), parts, strict=True)):
            if not chosen:
                result.append(part)
            elif noise is not None:
                kept = floor(keep_prob + noise[i])  # 1 with probability keep_prob
                result.append(part / keep_prob * kept)
            else:
                seed = self._derived(which, i)
                result.append(dropout_v2(part, rate=1.0 - keep_prob, seed=seed))
        return nest.pack_sequence_as(where, result)


def _probability(name: str, value: Any) -> Any:
    """A float where it is known, else the tensor.

    Raises:
      GraphError: it is not between 0 and 1.
    """
    tensor = as_tensor(value)
    known = constant_value(tensor)
    if known is None:
        return tensor
    if not 0 <= known <= 1:
        raise GraphError(f"{name} must be between 0 and 1, not {known}")
    return float(value) if isinstance(value, (int, float)) else float(known)


def _drops(keep_prob: Any) -> bool:
    return not isinstance(keep_prob, float) or keep_prob < 1


def _all_but_memory(part: Any) -> Any:
    if isinstance(part, LSTMStateTuple):
        return LSTMStateTuple(c=False, h=True)
    return not hasattr(part, "with_flow")  # not in a TensorArray


def _chosen(visitor: Callable[[Any], Any], state: Any) -> Any:
    """Where to drop: the form of the state as far as parts of it differ, with bools for leaves."""
    answer = visitor(state)
    if not nest.is_nested(state) or answer is False:
        return bool(answer)
    keys = sorted(state) if isinstance(state, dict) else range(len(state))
    wanted = dict.fromkeys(keys, True) if answer is True else answer
    below = [_chosen(visitor, state[k]) if wanted[k] else False for k in keys]
    if isinstance(state, dict):
        return dict(zip(keys, below, strict=True))
    return type(state)(*below) if hasattr(state, "_fields") else type(state)(below)
