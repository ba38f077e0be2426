"""Pooling in one, two and three dimensions, as TensorFlow 1 spells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build import as_tensor
from graphflow.build.opdef import OpDef
from graphflow.build.tensor import Tensor
from graphflow.ops import pooling as entries
from graphflow.ops.bias import channels_first
from graphflow.ops.public import composite, renamed
from graphflow.ops.rules import whole
from graphflow.ops.shape_ops import expand_dims, squeeze

max_pool_with_argmax = entries.max_pool_with_argmax


def _attributes(ksize: Any, strides: Any, padding: Any, data_format: Any) -> dict[str, Any]:
    if ksize is None or strides is None or padding is None:
        raise GraphError("pooling needs ksize, strides and padding")
    return {
        "ksize": tuple(ksize) if isinstance(ksize, (list, tuple)) else whole(ksize, "ksize"),
        "strides": tuple(strides)
        if isinstance(strides, (list, tuple))
        else whole(strides, "strides"),
        "padding": padding if isinstance(padding, str) else tuple(map(tuple, padding)),
        "data_format": data_format,
    }


def max_pool(
    value: Any = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Tensor:
    """The largest element of each window.

    Args:
      value: [batch, height, width, channels], or channels second where "NCHW"; `input` is its
        newer name.
      ksize, strides: size and distance of the windows; 1, 2 or 4 numbers.
      padding: "SAME", "VALID" or a pair (before, after) per axis.
      data_format: "NHWC" or "NCHW".
    """
    value = renamed(value, input, "value", "input")
    attributes = _attributes(ksize, strides, padding, data_format)
    return entries.max_pool_entry(value, **attributes, name=name)


def avg_pool(
    value: Any = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Tensor:
    """The mean of each window, over what is not padding; Args as of `max_pool`."""
    value = renamed(value, input, "value", "input")
    attributes = _attributes(ksize, strides, padding, data_format)
    return entries.avg_pool_entry(value, **attributes, name=name)


max_pool2d = max_pool
avg_pool2d = avg_pool


def max_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """The largest element of each window of volumes [batch, depth, height, width, channels]."""
    attributes = _attributes(ksize, strides, padding, data_format or "NDHWC")
    return entries.max_pool3d_entry(input, **attributes, name=name)


def avg_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """The mean of each window of volumes [batch, depth, height, width, channels]."""
    attributes = _attributes(ksize, strides, padding, data_format or "NDHWC")
    return entries.avg_pool3d_entry(input, **attributes, name=name)


def max_pool1d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NWC",
    name: str | None = None,
) -> Tensor:
    """The largest element of each window of sequences [batch, width, channels]."""
    return _sequences(
        entries.max_pool_entry, "max_pool1d", input, ksize, strides, padding, data_format, name
    )


def avg_pool1d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NWC",
    name: str | None = None,
) -> Tensor:
    """The mean of each window of sequences [batch, width, channels]."""
    return _sequences(
        entries.avg_pool_entry, "avg_pool1d", input, ksize, strides, padding, data_format, name
    )


def _sequences(
    entry: OpDef,
    default: str,
    x: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str,
    name: str | None,
) -> Tensor:
    """Pooling of sequences, as images of height 1."""
    first = channels_first(data_format)
    axis = 2 if first else 1
    with composite(name, default, x):
        attributes = _attributes(
            _along_width(ksize, first),
            _along_width(strides, first),
            padding,
            "NCHW" if first else "NHWC",
        )
        return squeeze(entry(expand_dims(x, axis), **attributes), [axis])


def _along_width(values: Any, first: bool) -> tuple[int, ...]:
    if isinstance(values, (list, tuple)):
        if len(values) not in (1, 3):
            raise GraphError(f"pooling of sequences has 1 or 3 sizes and strides, not {values}")
        values = values[0] if len(values) == 1 else values[2 if first else 1]
    n = whole(values, "sizes and strides")
    return (1, 1, 1, n) if first else (1, 1, n, 1)


def max_pool_v2(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    name: str | None = None,
) -> Tensor:
    """The largest element of each window, over one to three axes by the rank of the input."""
    return _by_rank(
        (max_pool1d, max_pool, max_pool3d), input, ksize, strides, padding, data_format, name
    )


def avg_pool_v2(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    name: str | None = None,
) -> Tensor:
    """The mean of each window, over one to three axes by the rank of the input."""
    return _by_rank(
        (avg_pool1d, avg_pool, avg_pool3d), input, ksize, strides, padding, data_format, name
    )


def _by_rank(
    functions: tuple[Callable[..., Tensor], ...],
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None,
    name: str | None,
) -> Tensor:
    x = as_tensor(input)
    rank = None if x.dims is None else len(x.dims)
    if rank not in (3, 4, 5):
        raise GraphError(f"pooling is for inputs of rank 3 to 5, not {rank}")
    form = data_format or ("NWC", "NHWC", "NDHWC")[rank - 3]
    return functions[rank - 3](x, ksize, strides, padding, form, name=name)


def pool(
    input: Any,
    window_shape: Any,
    pooling_type: str,
    padding: str,
    dilation_rate: Any = None,
    strides: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """Pooling over one to three axes.

    Args:
      input: [batch, *space, channels], or channels second where data_format starts with "NC".
      window_shape: a size per spatial axis.
      pooling_type: "MAX" or "AVG".
      padding: "SAME" or "VALID".
      dilation_rate: must be 1.
      strides: a number per spatial axis, by default 1.

    Raises:
      ValueError: another pooling type, or a dilation.
    """
    rate = renamed(dilation_rate, dilations, "dilation_rate", "dilations", 1)
    if any(n != 1 for n in (rate if isinstance(rate, (list, tuple)) else (rate,))):
        raise GraphError(f"pooling with dilation_rate {rate} is not supported, only with 1")
    if pooling_type not in ("MAX", "AVG"):
        raise GraphError(f'pooling_type must be "MAX" or "AVG", not {pooling_type!r}')
    steps = 1 if strides is None else strides
    with composite(name, f"{pooling_type.lower()}_pool", input) as scope:
        function = max_pool_v2 if pooling_type == "MAX" else avg_pool_v2
        return function(input, window_shape, steps, padding, data_format, name=scope)
