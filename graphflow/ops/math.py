"""TensorFlow's functions of numbers that need more than one op or a choice of ops."""

from __future__ import annotations

from typing import Any

from graphflow.base.errors import GraphError, ShapeError
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.arithmetic import _add_n, floordiv, floormod, multiply, power
from graphflow.ops.complexes import complex_abs
from graphflow.ops.elementary import _abs, _round

mod = floormod
floor_div = floordiv


def abs(x: Any, name: str | None = None) -> Tensor:
    """|x|, elementwise; the magnitude, in a real dtype, where x is complex."""
    x = as_tensor(x)
    return (complex_abs if x.dtype.is_complex else _abs)(x, name=name)


def round(x: Any, name: str | None = None) -> Tensor:
    """The nearest whole number, the even one of two; integers are returned as they are."""
    x = as_tensor(x)
    return x if x.dtype.is_integer else _round(x, name=name)


pow = power


def add_n(inputs: Any, name: str | None = None) -> Tensor:
    """The sum of a list of tensors of one shape and dtype.

    Raises:
      ValueError: the list is empty, or no list.
    """
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise GraphError(f"add_n takes a list of at least one tensor, not {inputs!r}")
    tensors = [as_tensor(x) for x in inputs]
    if len(tensors) == 1 and name is None:
        return tensors[0]
    return _add_n(*tensors, name=name)


def accumulate_n(
    inputs: Any, shape: Any = None, tensor_dtype: Any = None, name: str | None = None
) -> Tensor:
    """The sum of a list of tensors of one shape and dtype, as `add_n`.

    Args:
      inputs: the tensors.
      shape, tensor_dtype: what the result must have.
    """
    total = add_n(inputs, name=name or "AccumulateNV2")
    if shape is not None:
        total.shape.assert_is_compatible_with(shape)
    return total


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Any:
    """A scalar times a tensor, or times IndexedSlices, which stay sparse.

    Raises:
      ValueError: the first argument is no scalar.
    """
    values = getattr(x, "values", None) if hasattr(x, "dense_shape") else None
    tensor = as_tensor(x) if values is None else values
    scalar = as_tensor(scalar, None if hasattr(scalar, "dtype") else tensor.dtype)
    if scalar.dims not in (None, ()):
        raise ShapeError(f"a scalar is needed, not shape {scalar.shape}")
    product = multiply(scalar, tensor, name=name)
    if values is None:
        return product
    return type(x)(product, x.indices, x.dense_shape)
