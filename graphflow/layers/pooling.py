"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import graphflow.nn as nn
from graphflow.build import Tensor
from graphflow.layers.base import (
    channels_come_first,
    format_of,
    function_of,
    on_axes,
    padding_named,
    sizes,
)
from graphflow.nn.input_spec import InputSpec
from graphflow.nn.layer import Layer


class _Pooling(Layer):
    """The largest element, or the mean, of each window.

    Args:
      pool_size, strides: an int, or one for each axis.
      padding: "valid" or "same".
      data_format: "channels_last" or "channels_first".
      name: as for every `Layer`.
    """

    rank: int
    function: Callable[..., Tensor]

    def __init__(
        self,
        pool_size: Any,
        strides: Any,
        padding: str = "valid",
        data_format: str = "channels_last",
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.pool_size = sizes(pool_size, self.rank, "pool_size")
        self.strides = sizes(strides, self.rank, "strides")
        self.padding = padding_named(padding)
        self._first = channels_come_first(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs: Tensor) -> Tensor:
        return type(self).function(
            inputs,
            on_axes(self.pool_size, self._first),
            on_axes(self.strides, self._first),
            self.padding,
            data_format=format_of(self.rank, self._first),
        )


class MaxPooling1D(_Pooling):
    __doc__ = _Pooling.__doc__
    rank = 1
    function = staticmethod(nn.max_pool1d)


class MaxPooling2D(_Pooling):
    __doc__ = _Pooling.__doc__
    rank = 2
    function = staticmethod(nn.max_pool)


class MaxPooling3D(_Pooling):
    __doc__ = _Pooling.__doc__
    rank = 3
    function = staticmethod(nn.max_pool3d)


class AveragePooling1D(_Pooling):
    __doc__ = _Pooling.__doc__
    rank = 1
    function = staticmethod(nn.avg_pool1d)


class AveragePooling2D(_Pooling):
    __doc__ = _Pooling.__doc__
    rank = 2
    function = staticmethod(nn.avg_pool)


class AveragePooling3D(_Pooling):
    __doc__ = _Pooling.__doc__
    rank = 3
    function = staticmethod(nn.avg_pool3d)


max_pooling1d = function_of(MaxPooling1D, makes_variables=False)
max_pooling2d = function_of(MaxPooling2D, makes_variables=False)
max_pooling3d = function_of(MaxPooling3D, makes_variables=False)
average_pooling1d = function_of(AveragePooling1D, makes_variables=False)
average_pooling2d = function_of(AveragePooling2D, makes_variables=False)
average_pooling3d = function_of(AveragePooling3D, makes_variables=False)
