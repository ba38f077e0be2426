"""Dilation and erosion of images with a filter per channel, as TensorFlow 1 spells them."""

from __future__ import annotations

from typing import Any

from graphflow.build.tensor import Tensor
from graphflow.ops.dilation import dilation
from graphflow.ops.elementary import negative
from graphflow.ops.public import composite, renamed
from graphflow.ops.reordering import reverse
from graphflow.ops.rules import whole


def dilation2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    rates: Any = None,
    padding: Any = None,
    name: str | None = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The greatest sum of pixel and filter in each window.

    Args:
      input: [batch, height, width, channels].
      filter: [height, width, channels]; `filters` is its newer name.
      strides: 4 numbers.
      rates: distance of neighbouring taps, 4 numbers; `dilations` is its newer name.
      padding: "SAME" or "VALID"; padding is never the greatest.

    Returns:
      [batch, height', width', channels].
    """
    filter = renamed(filter, filters, "filter", "filters")
    rates = renamed(rates, dilations, "rates", "dilations", 1)
    found: Tensor = dilation(
        input, filter, strides=_numbers(strides), rates=_numbers(rates), padding=padding, name=name
    )
    return found


def erosion2d(
    value: Any, kernel: Any, strides: Any, rates: Any, padding: Any, name: str | None = None
) -> Tensor:
    """The least difference of pixel and kernel in each window: the dilation of -value with the
    kernel turned around; Args as of `dilation2d`."""
    with composite(name, "erosion2d", value, kernel) as scope:
        turned = reverse(kernel, [0, 1])
        return negative(dilation2d(negative(value), turned, strides, rates, padding), name=scope)


def _numbers(values: Any) -> Any:
    if not isinstance(values, (list, tuple)):
        return values
    return tuple([whole(v, "strides and rates") for v in values])
