"""Dense layers, dropout, flattening."""

from __future__ import annotations

import math
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.base.shapes import is_known
from graphflow.build import Tensor
from graphflow.layers.base import channels_come_first, function_of, where_training
from graphflow.nn.activation import activation_named
from graphflow.nn.input_spec import InputSpec, last_size
from graphflow.nn.layer import Layer
from graphflow.nn.layers import dropout as random_dropout
from graphflow.ops.bias import bias_add
from graphflow.ops.einsum import tensordot
from graphflow.ops.initializers import Zeros
from graphflow.ops.joining import concat
from graphflow.ops.matmul import matmul
from graphflow.ops.shape_ops import reshape, shape, transpose
from graphflow.ops.sources import identity


class Dense(Layer):
    """activation(inputs W + b), over the last axis of the inputs.

    Args:
      units: size of the last axis of the outputs.
      activation: a function, or its name; none by default.
      use_bias: add b.
      kernel_initializer, bias_initializer: of W [inputs, units] and b [units].
      kernel_regularizer, bias_regularizer, activity_regularizer: functions whose values are added
        to the losses.
      kernel_constraint, bias_constraint: functions to apply after each update.
      trainable, name: as for every `Layer`.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        bias_initializer: Any = Zeros(),  # noqa: B008 - immutable
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        trainable: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            trainable=trainable, name=name, activity_regularizer=activity_regularizer, **kwargs
        )
        self.units = int(units)
        if self.units < 0:
            raise GraphError(f"a layer cannot have {units} units")
        self.activation = activation_named(activation)
        self.use_bias = use_bias
        self._kernel_options = {
            "initializer": kernel_initializer,
            "regularizer": kernel_regularizer,
            "constraint": kernel_constraint,
        }
        self._bias_options = {
            "initializer": bias_initializer,
            "regularizer": bias_regularizer,
            "constraint": bias_constraint,
        }
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape: Any) -> None:
        size = last_size(input_shape, "the inputs of a dense layer")
        self.input_spec = InputSpec(min_ndim=2, axes={-1: size})
        self.kernel = self.add_weight("kernel", [size, self.units], **self._kernel_options)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight("bias", [self.units], **self._bias_options)

    def call(self, inputs: Tensor) -> Tensor:
        assert inputs.dims is not None
        if len(inputs.dims) == 2:
            y = matmul(inputs, self.kernel)
        else:
            y = tensordot(inputs, self.kernel, [[len(inputs.dims) - 1], [0]])
            y.set_shape((*inputs.dims[:-1], self.units))
        if self.bias is not None:
            y = bias_add(y, self.bias)
        return y if self.activation is None else self.activation(y)


class Dropout(Layer):
    """Sets inputs to 0 at random in training, and scales the others to keep the expected sum.

    Args:
      rate: the share to drop, a number or a scalar tensor.
      noise_shape: shape of the random decisions, which broadcast to the inputs.
      seed: the operation's seed.
      name: as for every `Layer`.

    It is called with `training`: a bool or a scalar bool tensor; False by default.
    """

    def __init__(
        self,
        rate: Any = 0.5,
        noise_shape: Any = None,
        seed: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.rate = rate
        self.noise_shape = noise_shape
        self.seed = seed

    def call(self, inputs: Tensor, training: Any = False) -> Tensor:
        return where_training(
            training,
            lambda: random_dropout(
                inputs, noise_shape=self.noise_shape, seed=self.seed, rate=self.rate
            ),
            lambda: identity(inputs),
        )


class Flatten(Layer):
    """[batch, ...] to [batch, size].

    Args:
      data_format: with "channels_first", the channels are moved to the end before.
      name: as for every `Layer`.
    """

    def __init__(self, data_format: str = "channels_last", name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self._first = channels_come_first(data_format)
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Tensor) -> Tensor:
        assert inputs.dims is not None
        rank = len(inputs.dims)
        if self._first and rank > 2:
            inputs = transpose(inputs, [0, *range(2, rank), 1])
        batch, *rest = inputs.dims or ()
        if batch is not None and not is_known(tuple(rest)):
            return reshape(inputs, [batch, -1])
        if is_known(tuple(rest)):
            return reshape(inputs, [-1 if batch is None else batch, math.prod(rest)])
        return reshape(inputs, concat([shape(inputs)[:1], [-1]], 0))


dense = function_of(Dense)


def dropout(
    inputs: Any,
    rate: Any = 0.5,
    noise_shape: Any = None,
    seed: int | None = None,
    training: Any = False,
    name: str | None = None,
) -> Tensor:
    """Apply a new `Dropout`."""
    return Dropout(rate, noise_shape, seed, name)(inputs, training=training)


def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Tensor:
    """Apply a new `Flatten`."""
    return Flatten(data_format, name)(inputs)
