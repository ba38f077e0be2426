"""Convolutions in one, two and three dimensions, as TensorFlow 1 spells them."""

from __future__ import annotations

from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops import convolution as entries
from graphflow.ops.bias import channels_first
from graphflow.ops.joining import concat
from graphflow.ops.public import composite, renamed
from graphflow.ops.rules import whole
from graphflow.ops.shape_ops import expand_dims, shape_tensor, squeeze


def conv2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """Convolution of images (cross-correlation: the filter is not flipped).

    Args:
      input: [batch, height, width, in], or [batch, in, height, width] where "NCHW".
      filter: [height, width, in, out]; `filters` is its newer name.  Where it has in / n channels
        in place of in, it is applied in n groups of channels.
      strides: 1, 2 or 4 numbers.
      padding: "SAME", "VALID", or a pair (before, after) for each of the four axes.
      use_cudnn_on_gpu: accepted, without meaning here.
      data_format: "NHWC" or "NCHW".
      dilations: distance of neighbouring taps; 1, 2 or 4 numbers.

    Returns:
      [batch, height', width', out], or with the channels in second place.

    Raises:
      ValueError: ranks, channels or windows do not fit.
    """
    filter = renamed(filter, filters, "filter", "filters")
    _need(padding, "conv2d", "padding")
    return entries.conv2d_entry(
        input, filter, **attributes_of(strides, padding, data_format, dilations), name=name
    )


def attributes_of(strides: Any, padding: Any, data_format: Any, dilations: Any) -> dict[str, Any]:
    """Of an entry: numbers for each axis, or one for all."""
    return {
        "strides": _numbers(strides),
        "padding": padding if isinstance(padding, str) else tuple(map(tuple, padding)),
        "data_format": data_format or "NHWC",
        "dilations": _numbers(dilations),
    }


def _numbers(values: Any) -> Any:
    if values is None:
        return 1
    if isinstance(values, (list, tuple)):
        return tuple([whole(v, "strides and dilations") for v in values])
    return whole(values, "strides and dilations")


def _need(value: Any, function: str, what: str) -> None:
    if value is None:
        raise GraphError(f"{function} needs {what}")


def conv2d_backprop_input(
    input_sizes: Any,
    filter: Any = None,
    out_backprop: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """Gradient of `conv2d` by its input, of shape `input_sizes`; the other Args are its own."""
    attributes = attributes_of(strides, padding, data_format, dilations)
    filter = renamed(filter, filters, "filter", "filters")
    return entries.conv2d_by_input(input_sizes, filter, out_backprop, **attributes, name=name)


def conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Gradient of `conv2d` by its filter, of shape `filter_sizes`; the other Args are its own."""
    attributes = attributes_of(strides, padding, data_format, dilations)
    return entries.conv2d_by_filters(input, filter_sizes, out_backprop, **attributes, name=name)


def conv2d_transpose(
    value: Any = None,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: str = "SAME",
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The transpose of `conv2d`, which maps its results' shape to that of its inputs.

    Args:
      value: [batch, height, width, in]; `input` is its newer name.
      filter: [height, width, out, in]; `filters` is its newer name.
      output_shape: of the result; a tensor or a sequence of 4 sizes.
      strides, padding, data_format, dilations: those of the convolution.
    """
    value = renamed(value, input, "value", "input")
    filter = renamed(filter, filters, "filter", "filters")
    with composite(name, "conv2d_transpose", value, filter) as scope:
        attributes = attributes_of(strides, padding, data_format, dilations)
        return entries.conv2d_by_input(output_shape, filter, value, **attributes, name=scope)


def atrous_conv2d(
    value: Any, filters: Any, rate: int, padding: str, name: str | None = None
) -> Tensor:
    """Convolution whose taps are `rate` apart.

    Args:
      value: [batch, height, width, in].
      filters: [height, width, in, out].
    """
    return convolution(value, filters, padding, dilation_rate=(rate, rate), name=name)


def atrous_conv2d_transpose(
    value: Any,
    filters: Any,
    output_shape: Any,
    rate: int,
    padding: str,
    name: str | None = None,
) -> Tensor:
    """The transpose of `atrous_conv2d`; filters are [height, width, out, in]."""
    return conv2d_transpose(
        value,
        filters,
        output_shape,
        1,
        padding,
        name=name or "atrous_conv2d_transpose",
        dilations=rate,
    )


def conv1d(
    value: Any = None,
    filters: Any = None,
    stride: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool | None = None,
    data_format: str | None = None,
    name: str | None = None,
    input: Any = None,
    dilations: Any = None,
) -> Tensor:
    """Convolution of sequences.

    Args:
      value: [batch, width, in], or [batch, in, width] where "NCW"; `input` is its newer name.
      filters: [width, in, out].
      stride: a number.
      padding: "SAME" or "VALID".
      data_format: "NWC" (default) or "NCW".
      dilations: distance of neighbouring taps.
    """
    value = renamed(value, input, "value", "input")
    _need(padding, "conv1d", "padding")
    first = channels_first(data_format)
    axis = 2 if first else 1
    with composite(name, "conv1d", value, filters):
        result = conv2d(
            expand_dims(value, axis),
            expand_dims(filters, 0),
            _along_width(stride, first),
            padding,
            data_format="NCHW" if first else "NHWC",
            dilations=_along_width(dilations, first),
        )
        return squeeze(result, [axis])


def _along_width(values: Any, first: bool) -> tuple[int, ...]:
    """What a sequence gives for its width, for the image of height 1 that stands for it."""
    if isinstance(values, (list, tuple)):
        if len(values) not in (1, 3):
            raise GraphError(f"a convolution of sequences has 1 or 3 strides, not {values}")
        values = values[0] if len(values) == 1 else values[2 if first else 1]
    n = 1 if values is None else whole(values, "a stride")
    return (1, 1, 1, n) if first else (1, 1, n, 1)


def conv3d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str | None = "NDHWC",
    dilations: Any = (1, 1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """Convolution of volumes.

    Args:
      input: [batch, depth, height, width, in], or channels second where "NCDHW".
      filter: [depth, height, width, in, out]; `filters` is its newer name.
      strides, dilations: 1, 3 or 5 numbers.
      padding: "SAME" or "VALID".
    """
    filter = renamed(filter, filters, "filter", "filters")
    _need(padding, "conv3d", "padding")
    attributes = attributes_of(strides, padding, data_format or "NDHWC", dilations)
    return entries.conv3d_entry(input, filter, **attributes, name=name)


def conv3d_transpose(
    value: Any,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: str = "SAME",
    data_format: str = "NDHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The transpose of `conv3d`; filters are [depth, height, width, out, in]."""
    value = renamed(value, input, "value", "input")
    filter = renamed(filter, filters, "filter", "filters")
    with composite(name, "conv3d_transpose", value, filter) as scope:
        attributes = attributes_of(strides, padding, data_format, dilations)
        return entries.conv3d_by_input(output_shape, filter, value, **attributes, name=scope)


def conv3d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NDHWC",
    dilations: Any = (1, 1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Gradient of `conv3d` by its filter, of shape `filter_sizes`."""
    attributes = attributes_of(strides, padding, data_format, dilations)
    return entries.conv3d_by_filters(input, filter_sizes, out_backprop, **attributes, name=name)


def convolution(
    input: Any,
    filter: Any = None,
    padding: Any = None,
    strides: Any = None,
    dilation_rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """Convolution over one, two or three axes, by the rank of the input.

    Args:
      input: [batch, *space, in], or [batch, in, *space] where data_format starts with "NC".
      filter: [*window, in, out]; `filters` is its newer name.
      padding: "SAME" or "VALID".
      strides: numbers per spatial axis, by default 1.
      dilation_rate: distance of neighbouring taps; `dilations` is its newer name. Only one of
        strides and dilations may be other than 1.

    Raises:
      ValueError: the rank is not known to be 3, 4 or 5; strides and dilations clash.
    """
    filter = renamed(filter, filters, "filter", "filters")
    rate = _numbers(renamed(dilation_rate, dilations, "dilation_rate", "dilations"))
    steps = _numbers(strides)
    _need(padding, "convolution", "padding")
    if _above_one(steps) and _above_one(rate):
        raise GraphError(f"strides {steps} and dilation_rate {rate} cannot both be above 1")
    with composite(name, "convolution", input, filter) as scope:
        x, window = as_tensor(input, name="input"), as_tensor(filter, name="filter")
        dims = x.dims if x.dims is not None else window.dims
        rank = None if dims is None else len(dims)
        if rank == 3:
            return conv1d(x, window, steps, padding, None, data_format, scope, dilations=rate)
        if rank == 4:
            return conv2d(x, window, steps, padding, True, data_format, rate, name=scope)
        if rank == 5:
            return conv3d(x, window, steps, padding, data_format, rate, name=scope)
        raise GraphError(f"convolution is for inputs of rank 3 to 5, not {rank}")


def _above_one(values: Any) -> bool:
    return any(v != 1 for v in (values if isinstance(values, tuple) else (values,)))


def conv1d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: str = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The transpose of `conv1d`.

    Args:
      input: [batch, width, in], or [batch, in, width] where "NCW".
      filters: [width, out, in].
      output_shape: of the result, 3 sizes.
      strides: a number.
    """
    first = channels_first(data_format)
    axis = 2 if first else 1
    with composite(name, "conv1d_transpose", input, filters):
        sizes = shape_tensor(output_shape)
        result = conv2d_transpose(
            expand_dims(input, axis),
            expand_dims(filters, 0),
            concat([sizes[:axis], [1], sizes[axis:]], 0),
            _along_width(strides, first),
            padding,
            "NCHW" if first else "NHWC",
            dilations=_along_width(dilations, first),
        )
        return squeeze(result, [axis])


def conv_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The transpose of a convolution over one to three axes, by the rank of the input."""
    x = as_tensor(input)
    rank = None if x.dims is None else len(x.dims)
    functions: tuple[Any, ...] = (conv1d_transpose, conv2d_transpose, conv3d_transpose)
    if rank not in (3, 4, 5):
        raise GraphError(f"conv_transpose is for inputs of rank 3 to 5, not {rank}")
    form = data_format or ("NWC", "NHWC", "NDHWC")[rank - 3]
    return functions[rank - 3](
        x, filters, output_shape, strides, padding, form, dilations=dilations, name=name
    )
