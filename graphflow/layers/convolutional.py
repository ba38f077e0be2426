"""Convolutional layers."""

from __future__ import annotations

from typing import Any

import graphflow.nn as nn
from graphflow.base.errors import ShapeError
from graphflow.base.shapes import as_dims, format_dims
from graphflow.build import Tensor
from graphflow.layers.base import (
    channels_come_first,
    format_of,
    function_of,
    on_axes,
    padding_named,
    sizes,
)
from graphflow.nn.activation import activation_named
from graphflow.nn.input_spec import InputSpec
from graphflow.nn.layer import Layer
from graphflow.ops.bias import bias_add
from graphflow.ops.initializers import Zeros
from graphflow.ops.joining import stack
from graphflow.ops.rules import whole
from graphflow.ops.shape_ops import expand_dims, shape, squeeze


class _Convolution(Layer):
    """activation(convolution of the inputs + bias), with windows of `rank` axes.

    Args:
      filters: number of output channels.
      kernel_size, strides, dilation_rate: an int, or one for each axis.
      padding: "valid" or "same".
      data_format: "channels_last" or "channels_first".
      activation: a function, or its name; none by default.
      use_bias: add a bias for each channel.
      kernel_initializer, bias_initializer: of the kernel [*kernel_size, in, filters] and the bias.
      kernel_regularizer, bias_regularizer, activity_regularizer: functions whose values are added
        to the losses.
      kernel_constraint, bias_constraint: functions to apply after each update.
      trainable, name: as for every `Layer`.
    """

    rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str = "channels_last",
        dilation_rate: Any = 1,
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
        self.filters = whole(filters, "filters")
        self.kernel_size = sizes(kernel_size, self.rank, "kernel_size")
        self.strides = sizes(strides, self.rank, "strides")
        self.dilation_rate = sizes(dilation_rate, self.rank, "dilation_rate")
        self.padding = padding_named(padding)
        self._first = channels_come_first(data_format)
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
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def build(self, input_shape: Any) -> None:
        axis = 1 if self._first else self.rank + 1
        dims = as_dims(input_shape)
        channels = None if dims is None else dims[axis]
        if channels is None:
            raise ShapeError(
                "the channels of the inputs of a convolutional layer must be known, "
                f"not {format_dims(dims)}"
            )
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={axis: channels})
        self._make_kernels(channels)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight("bias", [self.filters], **self._bias_options)

    def _make_kernels(self, channels: int) -> None:
        kernel = [*self.kernel_size, channels, self.filters]
        self.kernel = self.add_weight("kernel", kernel, **self._kernel_options)

    def call(self, inputs: Tensor) -> Tensor:
        y = self._convolved(inputs)
        if self.bias is not None:
            y = bias_add(y, self.bias, "NCHW" if self._first else "NHWC")
        return y if self.activation is None else self.activation(y)

    def _convolved(self, inputs: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def _format(self) -> str:
        return format_of(self.rank, self._first)


class Conv1D(_Convolution):
    __doc__ = _Convolution.__doc__
    rank = 1

    def _convolved(self, inputs: Tensor) -> Tensor:
        (stride,), (rate,) = self.strides, self.dilation_rate
        return nn.conv1d(
            inputs,
            self.kernel,
            stride,
            self.padding,
            data_format=self._format,
            dilations=rate,
            name="conv1d",
        )


class Conv2D(_Convolution):
    __doc__ = _Convolution.__doc__
    rank = 2

    def _convolved(self, inputs: Tensor) -> Tensor:
        return nn.conv2d(
            inputs,
            self.kernel,
            on_axes(self.strides, self._first),
            self.padding,
            data_format=self._format,
            dilations=on_axes(self.dilation_rate, self._first),
            name="Conv2D",
        )


class Conv3D(_Convolution):
    __doc__ = _Convolution.__doc__
    rank = 3

    def _convolved(self, inputs: Tensor) -> Tensor:
        return nn.conv3d(
            inputs,
            self.kernel,
            on_axes(self.strides, self._first),
            self.padding,
            data_format=self._format,
            dilations=on_axes(self.dilation_rate, self._first),
            name="Conv3D",
        )


class _Separable(_Convolution):
    """A convolution of each channel alone, then one of windows of size 1 over all channels.

    Args:
      depth_multiplier: number of outputs of the first convolution for each channel.
      depthwise_initializer, pointwise_initializer: of depthwise_kernel [*kernel_size, in,
        depth_multiplier] and pointwise_kernel [1, ..., in * depth_multiplier, filters].
      depthwise_regularizer, pointwise_regularizer, depthwise_constraint, pointwise_constraint: as
        for the kernel of `Conv2D`.
      others: as `Conv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str = "channels_last",
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = None,
        pointwise_initializer: Any = None,
        bias_initializer: Any = Zeros(),  # noqa: B008 - immutable
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        trainable: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            bias_constraint=bias_constraint,
            trainable=trainable,
            name=name,
            **kwargs,
        )
        self.depth_multiplier = depth_multiplier
        self._depthwise_options = {
            "initializer": depthwise_initializer,
            "regularizer": depthwise_regularizer,
            "constraint": depthwise_constraint,
        }
        self._pointwise_options = {
            "initializer": pointwise_initializer,
            "regularizer": pointwise_regularizer,
            "constraint": pointwise_constraint,
        }

    def _make_kernels(self, channels: int) -> None:
        many = self.depth_multiplier
        self.depthwise_kernel = self.add_weight(
            "depthwise_kernel", [*self.kernel_size, channels, many], **self._depthwise_options
        )
        self.pointwise_kernel = self.add_weight(
            "pointwise_kernel",
            [*[1] * self.rank, channels * many, self.filters],
            **self._pointwise_options,
        )


class SeparableConv1D(_Separable):
    __doc__ = _Separable.__doc__
    rank = 1

    def _convolved(self, inputs: Tensor) -> Tensor:
        """As images of height 1."""
        axis = 2 if self._first else 1
        y = nn.separable_conv2d(
            expand_dims(inputs, axis),
            expand_dims(self.depthwise_kernel, 0),
            expand_dims(self.pointwise_kernel, 0),
            on_axes(self.strides * 2, self._first),
            self.padding,
            rate=(1, *self.dilation_rate),
            data_format=format_of(2, self._first),
        )
        return squeeze(y, [axis])


class SeparableConv2D(_Separable):
    __doc__ = _Separable.__doc__
    rank = 2

    def _convolved(self, inputs: Tensor) -> Tensor:
        return nn.separable_conv2d(
            inputs,
            self.depthwise_kernel,
            self.pointwise_kernel,
            on_axes(self.strides, self._first),
            self.padding,
            rate=self.dilation_rate,
            data_format=self._format,
        )


class _Transposed(_Convolution):
    """The gradient of a convolution, as a layer: for images that become larger.

    Args:
      filters: number of output channels; the kernel is [*kernel_size, filters, in].
      others: as `Conv2D`; there is no dilation.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str = "channels_last",
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
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            1,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            trainable,
            name,
            **kwargs,
        )

    def _make_kernels(self, channels: int) -> None:
        kernel = [*self.kernel_size, self.filters, channels]
        self.kernel = self.add_weight("kernel", kernel, **self._kernel_options)

    def _convolved(self, inputs: Tensor) -> Tensor:
        assert inputs.dims is not None
        begin = 2 if self._first else 1
        window = range(begin, begin + self.rank)
        known = all(inputs.dims[i] is not None for i in (0, *window))
        now: Any = inputs.dims if known else shape(inputs)
        axes = [self._length(now[axis], i) for i, axis in enumerate(window)]
        wanted = [now[0], self.filters, *axes] if self._first else [now[0], *axes, self.filters]
        function: Any = nn.conv2d_transpose
        if self.rank == 3:
            function = nn.conv3d_transpose
        y = function(
            inputs,
            self.kernel,
            wanted if known else stack(wanted),
            on_axes(self.strides, self._first),
            self.padding,
            data_format=self._format,
        )
        lengths = [
            None if n is None else self._length(n, i)
            for i, n in enumerate(inputs.dims[begin : begin + self.rank])
        ]
        y.set_shape(
            [inputs.dims[0], self.filters, *lengths]
            if self._first
            else [inputs.dims[0], *lengths, self.filters]
        )
        return y

    def _length(self, size: Any, axis: int) -> Any:
        """Size of an axis of the outputs."""
        more = max(self.kernel_size[axis] - self.strides[axis], 0)
        return size * self.strides[axis] + (more if self.padding == "VALID" else 0)


class Conv2DTranspose(_Transposed):
    __doc__ = _Transposed.__doc__
    rank = 2


class Conv3DTranspose(_Transposed):
    __doc__ = _Transposed.__doc__
    rank = 3


conv1d = function_of(Conv1D)
conv2d = function_of(Conv2D)
conv3d = function_of(Conv3D)
separable_conv1d = function_of(SeparableConv1D)
separable_conv2d = function_of(SeparableConv2D)
conv2d_transpose = function_of(Conv2DTranspose)
conv3d_transpose = function_of(Conv3DTranspose)
