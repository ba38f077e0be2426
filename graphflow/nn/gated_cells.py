"""Recurrent cells: the basic one, GRU and LSTM.

Variables have TensorFlow's names, shapes and order of gates, so that its weights fit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError
from graphflow.build import Tensor
from graphflow.nn.activation import activation_named
from graphflow.nn.cell import LayerRNNCell, check_floating
from graphflow.nn.input_spec import InputSpec, last_size
from graphflow.ops.activations import sigmoid
from graphflow.ops.arithmetic import add, multiply
from graphflow.ops.bias import bias_add
from graphflow.ops.elementary import tanh
from graphflow.ops.initializers import Constant, Zeros
from graphflow.ops.joining import concat, split
from graphflow.ops.matmul import matmul
from graphflow.ops.norms import clip_by_value


class _MatrixCell(LayerRNNCell):
    """A cell of `num_units` units whose inputs are [batch, size]."""

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self.input_spec = InputSpec(ndim=2)
        self._num_units = int(num_units)
        self._activation = activation_named(activation) or tanh

    @property
    def state_size(self) -> Any:
        return self._num_units

    @property
    def output_size(self) -> Any:
        return self._num_units

    def _check(self, inputs: Any) -> None:
        super()._check(inputs)
        check_floating(inputs)

    def _affine(self, inputs: Tensor, state: Tensor, kernel: Any, bias: Any) -> Tensor:
        """[inputs, state] times the kernel, plus the bias."""
        return bias_add(matmul(concat([inputs, state], 1), kernel), bias)


class BasicRNNCell(_MatrixCell):
    """output = next state = activation([inputs, state] W + b).

    Args:
      num_units: size of the state.
      activation: tanh by default.
      reuse: must (True) or may (AUTO_REUSE) the variables exist already?
      name, dtype: as for every `Layer`.

    Variables: kernel [inputs + num_units, num_units], bias.
    """

    def build(self, input_shape: Any) -> None:
        depth = last_size(input_shape, "the inputs of a cell")
        units = self._num_units
        self._kernel = self.add_weight("kernel", [depth + units, units])
        self._bias = self.add_weight("bias", [units], initializer=Zeros(self._dtype))

    def call(self, inputs: Any, state: Any) -> Any:
        check_floating(state)
        output = self._activation(self._affine(inputs, state, self._kernel, self._bias))
        return output, output


class GRUCell(_MatrixCell):
    """Gated recurrent unit (Cho et al., arXiv:1406.1078).

        r, u = sigmoid([inputs, state] W_g + b_g)
        c = activation([inputs, r * state] W_c + b_c)
        output = next state = u * state + (1 - u) * c

    Args:
      num_units: size of the state.
      activation: tanh by default.
      kernel_initializer, bias_initializer: of both kernels and both biases; the bias of the gates
        is 1 by default, that of the candidate 0.
      reuse, name, dtype: as in `BasicRNNCell`.

    Variables: gates/kernel, gates/bias, candidate/kernel, candidate/bias.
    """

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: bool | None = None,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(num_units, activation, reuse, name, dtype, **kwargs)
        self._kernel_initializer = kernel_initializer
        self._bias_initializer = bias_initializer

    def build(self, input_shape: Any) -> None:
        depth = last_size(input_shape, "the inputs of a cell")
        units = self._num_units
        kernel, bias = self._kernel_initializer, self._bias_initializer
        ones = Constant(1.0, self._dtype) if bias is None else bias
        zeros = Zeros(self._dtype) if bias is None else bias
        rows = depth + units
        self._gate_kernel = self.add_weight("gates/kernel", [rows, 2 * units], initializer=kernel)
        self._gate_bias = self.add_weight("gates/bias", [2 * units], initializer=ones)
        self._kernel = self.add_weight("candidate/kernel", [rows, units], initializer=kernel)
        self._bias = self.add_weight("candidate/bias", [units], initializer=zeros)

    def call(self, inputs: Any, state: Any) -> Any:
        check_floating(state)
        gates = sigmoid(self._affine(inputs, state, self._gate_kernel, self._gate_bias))
        r, u = split(gates, 2, 1)
        candidate = self._activation(self._affine(inputs, r * state, self._kernel, self._bias))
        output = u * state + (1 - u) * candidate
        return output, output


class LSTMStateTuple(NamedTuple):
    """State of an LSTM: c, the memory, and h, the last output."""

    c: Any
    h: Any

    @property
    def dtype(self) -> DType:
        """Raises:
        TypeError: the dtypes of the two differ.
        """
        if self.c.dtype is not self.h.dtype:
            raise DTypeError(f"c is {self.c.dtype.name}, but h is {self.h.dtype.name}")
        return self.c.dtype


class LSTMCell(_MatrixCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 1999).

        i, j, f, o = split([inputs, h] W + b)
        c' = sigmoid(f + forget_bias) * c + sigmoid(i) * activation(j)
        h' = sigmoid(o) * activation(c'), projected where asked for

    Peepholes add w_i * c, w_f * c and w_o * c' to the gates, and the output is projected, as in
    Sak et al., "Long short-term memory recurrent neural network architectures for large scale
    acoustic modeling", Interspeech 2014.

    Args:
      num_units: size of c.
      use_peepholes: let the gates see the memory.
      cell_clip: clip c' to +-cell_clip.
      initializer: of kernel, peepholes and projection.
      num_proj: size of the output after a projection; none by default.
      proj_clip: clip the projected output to +-proj_clip.
      num_unit_shards, num_proj_shards: accepted; variables are not partitioned.
      forget_bias: added to the forget gate.
      state_is_tuple: state is `LSTMStateTuple(c, h)`; else [c, h] along the columns.
      activation: tanh by default.
      reuse, name, dtype: as in `BasicRNNCell`.

    Variables: kernel [inputs + outputs, 4 * num_units], bias, w_f_diag, w_i_diag, w_o_diag,
    projection/kernel.
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        cell_clip: float | None = None,
        initializer: Any = None,
        num_proj: int | None = None,
        proj_clip: float | None = None,
        num_unit_shards: Any = None,
        num_proj_shards: Any = None,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Any = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(num_units, activation, reuse, name, dtype, **kwargs)
        self._use_peepholes = use_peepholes
        self._cell_clip = cell_clip
        self._initializer = initializer
        self._num_proj = num_proj
        self._proj_clip = proj_clip
        self._forget_bias = forget_bias
        self._state_is_tuple = state_is_tuple

    @property
    def state_size(self) -> Any:
        sizes = LSTMStateTuple(self._num_units, self.output_size)
        return sizes if self._state_is_tuple else sum(sizes)

    @property
    def output_size(self) -> Any:
        return self._num_proj or self._num_units

    def build(self, input_shape: Any) -> None:
        depth = last_size(input_shape, "the inputs of a cell")
        units = self._num_units
        rows = depth + self.output_size
        initial = self._initializer
        self._kernel = self.add_weight("kernel", [rows, 4 * units], initializer=initial)
        self._bias = self.add_weight("bias", [4 * units], initializer=Zeros(self._dtype))
        if self._use_peepholes:
            self._peepholes = {
                gate: self.add_weight(f"w_{gate}_diag", [units], initializer=initial)
                for gate in ("f", "i", "o")
            }
        if self._num_proj:
            shape = [units, self._num_proj]
            self._projection = self.add_weight("projection/kernel", shape, initializer=initial)

    def call(self, inputs: Any, state: Any) -> Any:
        check_floating(state)
        sizes = [self._num_units, self.output_size]
        c, h = state if self._state_is_tuple else split(state, sizes, 1)
        i, j, f, o = split(self._affine(inputs, h, self._kernel, self._bias), 4, 1)
        new_c = self._memory(c, i, j, f)
        if self._cell_clip is not None:
            new_c = clip_by_value(new_c, -self._cell_clip, self._cell_clip)
        gate = o + self._peepholes["o"] * new_c if self._use_peepholes else o
        new_h = sigmoid(gate) * self._activation(new_c)
        if self._num_proj:
            new_h = matmul(new_h, self._projection)
            if self._proj_clip is not None:
                new_h = clip_by_value(new_h, -self._proj_clip, self._proj_clip)
        return new_h, self._packed(new_c, new_h)

    def _memory(self, c: Tensor, i: Tensor, j: Tensor, f: Tensor) -> Tensor:
        forget = f + self._forget_bias
        if self._use_peepholes:
            forget = forget + self._peepholes["f"] * c
            i = i + self._peepholes["i"] * c
        return sigmoid(forget) * c + sigmoid(i) * self._activation(j)

    def _packed(self, c: Tensor, h: Tensor) -> Any:
        return LSTMStateTuple(c, h) if self._state_is_tuple else concat([c, h], 1)


class BasicLSTMCell(LSTMCell):
    """`LSTMCell` without peepholes, clipping and projection, under its own name.

    Args:
      num_units: size of c and h.
      forget_bias, state_is_tuple, activation, reuse, name, dtype: as in `LSTMCell`.
    """

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Any = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            num_units,
            forget_bias=forget_bias,
            state_is_tuple=state_is_tuple,
            activation=activation,
            reuse=reuse,
            name=name,
            dtype=dtype,
            **kwargs,
        )

    def call(self, inputs: Any, state: Any) -> Any:
        """The same as an LSTM's, with operations of the names that they have in TensorFlow."""
        check_floating(state)
        c, h = state if self._state_is_tuple else split(state, 2, 1)
        i, j, f, o = split(self._affine(inputs, h, self._kernel, self._bias), 4, 1)
        kept = multiply(c, sigmoid(add(f, self._forget_bias)))
        new_c = add(kept, multiply(sigmoid(i), self._activation(j)))
        new_h = multiply(self._activation(new_c), sigmoid(o))
        return new_h, self._packed(new_c, new_h)
