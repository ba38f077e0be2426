"""Convolutions of each channel by itself."""

from __future__ import annotations

from typing import Any

from graphflow.build.tensor import Tensor
from graphflow.nn.convolution import attributes_of, conv2d
from graphflow.ops import convolution as entries
from graphflow.ops.public import composite, renamed


def depthwise_conv2d_native(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Convolution of each channel by itself; Args as of `depthwise_conv2d`."""
    attributes = attributes_of(strides, padding, data_format, dilations)
    return entries.depthwise_entry(input, filter, **attributes, name=name)


def depthwise_conv2d_native_backprop_input(
    input_sizes: Any,
    filter: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Gradient of `depthwise_conv2d_native` by its input, of shape `input_sizes`."""
    attributes = attributes_of(strides, padding, data_format, dilations)
    return entries.depthwise_by_input(input_sizes, filter, out_backprop, **attributes, name=name)


def depthwise_conv2d_native_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Gradient of `depthwise_conv2d_native` by its filter, of shape `filter_sizes`."""
    attributes = attributes_of(strides, padding, data_format, dilations)
    return entries.depthwise_by_filters(input, filter_sizes, out_backprop, **attributes, name=name)


def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """Convolution of each channel with filters of its own.

    Args:
      input: [batch, height, width, in].
      filter: [height, width, in, multiplier].
      strides: 4 numbers.
      padding: "SAME", "VALID" or a pair per axis.
      rate: distance of neighbouring taps, one number or two; `dilations` is its newer name.

    Returns:
      [batch, height', width', in * multiplier].
    """
    rate = renamed(rate, dilations, "rate", "dilations", 1)
    with composite(name, "depthwise", input, filter) as scope:
        return depthwise_conv2d_native(
            input, filter, strides, padding, data_format, rate, name=scope
        )


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """Convolution of each channel by itself, and then of each pixel.

    Args:
      input: [batch, height, width, in].
      depthwise_filter: [height, width, in, multiplier].
      pointwise_filter: [1, 1, in * multiplier, out].
      strides, padding, rate, dilations: of the first one.

    Returns:
      [batch, height', width', out].
    """
    with composite(name, "separable_conv2d", input, depthwise_filter) as scope:
        depthwise = depthwise_conv2d(
            input, depthwise_filter, strides, padding, rate, None, data_format, dilations
        )
        return conv2d(depthwise, pointwise_filter, 1, "VALID", data_format=data_format, name=scope)
