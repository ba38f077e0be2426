"""What a layer demands of the static shapes and dtypes of its inputs."""

from __future__ import annotations

from typing import Any

from graphflow.base import dtypes
from graphflow.base.errors import DTypeError, ShapeError
from graphflow.base.shapes import CLASH, TensorShape, as_dims, format_dims, merged


class InputSpec:
    """What a layer demands of an input: rank, sizes of axes, dtype."""

    def __init__(
        self,
        dtype: Any = None,
        shape: Any = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int] | None = None,
    ):
        self.dtype = None if dtype is None else dtypes.as_dtype(dtype)
        self.shape = None if shape is None else as_dims(shape)
        self.ndim = ndim if self.shape is None else len(self.shape)
        self.max_ndim = max_ndim
        self.min_ndim = min_ndim
        self.axes = dict(axes or {})

    def check(self, value: Any, layer: str) -> None:
        """Raises:
        ShapeError, DTypeError: an input is not as it should be.
        """
        if not hasattr(value, "dims"):
            raise DTypeError(f"layer {layer!r} takes tensors, not {value!r}")
        dims = value.dims
        low = self.ndim if self.ndim is not None else self.min_ndim
        high = self.ndim if self.ndim is not None else self.max_ndim
        if dims is None:
            if low is not None:
                raise ShapeError(f"the input of layer {layer!r} has an unknown rank: {value!r}")
            return
        if (low is not None and len(dims) < low) or (high is not None and len(dims) > high):
            wanted = str(low) if low == high else f"{low or 0} to {high or 'any'}"
            raise ShapeError(
                f"layer {layer!r} takes an input of rank {wanted}, not of shape {format_dims(dims)}"
            )
        if self.dtype is not None and value.dtype is not self.dtype:
            raise DTypeError(
                f"layer {layer!r} takes an input of {self.dtype.name}, not {value.dtype.name}"
            )
        for axis, size in self.axes.items():
            if dims[axis] not in (size, None):
                raise ShapeError(
                    f"axis {axis} of the input of layer {layer!r} must have size {size}, "
                    f"but its shape is {format_dims(dims)}"
                )
        if self.shape is not None and merged(dims, self.shape) is CLASH:
            raise ShapeError(
                f"layer {layer!r} takes an input of shape {format_dims(self.shape)}, "
                f"not {format_dims(dims)}"
            )


def last_size(shape: Any, what: str) -> int:
    """The last size of a static shape.

    Raises:
      ShapeError: it is unknown.
    """
    dims = as_dims(shape)
    if dims is None or not dims or dims[-1] is None:
        raise ShapeError(f"the last size of {what} must be known, not {TensorShape(dims)}")
    return dims[-1]
