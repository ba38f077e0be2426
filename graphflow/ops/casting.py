"""Other dtypes: casts, bit patterns, and conversion of Python values."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Each, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, unary


def _cast_spec(x: Tensor, *, dtype: DType) -> Specs:
    if object in (x.dtype.np, dtype.np) and dtype is not x.dtype:
        raise DTypeError(f"cannot cast {x.dtype.name} to {dtype.name}")
    return [(x.dims, dtype)]


def _cast_grad(g: Tensor, y: Tensor, x: Tensor, *, dtype: DType) -> Any:
    if not (x.dtype.is_differentiable and dtype.is_differentiable):
        return None
    return cast(g, x.dtype)


@op(
    "Cast",
    infer=_cast_spec,
    grad=_cast_grad,
    cases=unary(dtype=dtypes.float64),
)
def _cast(xp: Any, x: Each, *, dtype: Any) -> Array:
    """x in another dtype: floats are truncated to ints, non-zero is True, complex loses its
    imaginary part.  What does not fit is undefined, as in C."""
    if x.dtype.kind == "c" and not (dtype.is_complex or dtype.is_bool):
        x = x.real
    return x.astype(dtype.np)


def _bitcast_spec(x: Tensor, *, type: DType) -> Specs:
    if object in (x.dtype.np, type.np):
        raise DTypeError(f"cannot bitcast {x.dtype.name} to {type.name}")
    old, new = x.dtype.size, type.size
    if x.dims is None or old == new:
        return [(x.dims, type)]
    if old > new:
        return [((*x.dims, old // new), type)]
    if not x.dims or x.dims[-1] not in (None, new // old):
        raise ShapeError(f"the last size must be {new // old} to bitcast to {type.name}")
    return [(x.dims[:-1], type)]


@op(
    "Bitcast",
    infer=_bitcast_spec,
    grad=None,
    alias="x",
    cases=lambda s: [
        Case((s.integers(9, 2, 3),), {"type": dtypes.float32}),
        Case((s.integers(9, 2, 3),), {"type": dtypes.uint8}),
        Case((s.integers(9),), {"type": dtypes.int16}),
        Case((s.integers(255, 3, 4, dtype=np.uint8),), {"type": dtypes.int32}),
    ],
)
def _bitcast(xp: Any, x: Each, *, type: Any) -> Array:
    """The bytes of x read as another dtype; a wider one takes up the last axis."""
    old, new = x.dtype.itemsize, type.np.itemsize
    if old == new:
        return x.view(type.np)
    if old > new:
        return (
            xp.ascontiguousarray(x).reshape(x.shape).view(type.np).reshape((*x.shape, old // new))
            if x.ndim
            else xp.ascontiguousarray(x).reshape(1).view(type.np)
        )
    if not x.ndim or x.shape[-1] != new // old:
        raise InvalidArgumentError(
            None, None, f"the last size of {x.shape} must be {new // old} for {type.name}"
        )
    return xp.ascontiguousarray(x).view(type.np).reshape(x.shape[:-1])


# ---- TensorFlow's functions


def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """A tensor in another dtype; slices stay sparse.

    Args:
      x: a tensor or `IndexedSlices`.
      dtype: floats become ints by truncation, complex numbers real by their real part.
      name: its name.
    """
    from graphflow.ops.slices import IndexedSlices

    dtype = as_dtype(dtype)
    if isinstance(x, IndexedSlices):
        return IndexedSlices(cast(x.values, dtype), x.indices, x.dense_shape)
    x = as_tensor(x)
    return x if x.dtype is dtype else _cast(x, dtype=dtype, name=name)


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Tensor:
    """Cast, after clipping to the range of the new dtype."""
    x = as_tensor(value)
    dtype = as_dtype(dtype)
    if dtype.is_numeric and not dtype.is_complex and x.dtype.is_numeric:
        low, high = _exact_limits(x.dtype, dtype)
        if low is not None:
            x = OPS["Maximum"](x, low)
        if high is not None:
            x = OPS["Minimum"](x, high)
    return cast(x, dtype, name=name or "saturate_cast")


def _exact_limits(source: DType, target: DType) -> tuple[Any, Any]:
    """The limits of `target` that values of `source` can pass, as values of `source`: rounded
    towards zero, since float32 has no 2**31 - 1 and rounding up would overflow."""
    low = high = None
    if float(source.min) < float(target.min):
        low = _towards_zero(target.min, source)
    if float(source.max) > float(target.max):
        high = _towards_zero(target.max, source)
    return low, high


def _towards_zero(limit: Any, dtype: DType) -> Any:
    value = dtype.np.type(limit)
    if dtype.is_floating and abs(float(value)) > abs(int(limit)):
        value = np.nextafter(value, dtype.np.type(0))
    return value


def bitcast(input: Any, type: Any, name: str | None = None) -> Tensor:
    """The bytes of a tensor read as another dtype."""
    return _bitcast(input, type=as_dtype(type), name=name)


def to_float(x: Any, name: str = "ToFloat") -> Any:
    """Cast to float32."""
    return cast(x, dtypes.float32, name=name)


def to_double(x: Any, name: str = "ToDouble") -> Any:
    """Cast to float64."""
    return cast(x, dtypes.float64, name=name)


def to_int32(x: Any, name: str = "ToInt32") -> Any:
    """Cast to int32."""
    return cast(x, dtypes.int32, name=name)


def to_int64(x: Any, name: str = "ToInt64") -> Any:
    """Cast to int64."""
    return cast(x, dtypes.int64, name=name)


def to_bfloat16(x: Any, name: str = "ToBFloat16") -> Any:
    """Cast to bfloat16."""
    return cast(x, "bfloat16", name=name)


def to_complex64(x: Any, name: str = "ToComplex64") -> Any:
    """Cast to complex64."""
    return cast(x, dtypes.complex64, name=name)


def to_complex128(x: Any, name: str = "ToComplex128") -> Any:
    """Cast to complex128."""
    return cast(x, dtypes.complex128, name=name)


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    dtype_hint: Any = None,
) -> Tensor:
    """The tensor for a Python value, array, variable, or tensor.

    Args:
      value: what to convert.
      dtype: the dtype it must have.
      name: the name of a new constant.
      preferred_dtype: tried first where `dtype` is None.
      dtype_hint: the later name of `preferred_dtype`.

    Raises:
      TypeError: it is no value of that dtype.
    """
    hint = preferred_dtype if preferred_dtype is not None else dtype_hint
    if dtype is None and hint is not None:
        try:
            return as_tensor(value, hint, name)
        except (TypeError, ValueError):
            pass
    return as_tensor(value, dtype, name)
