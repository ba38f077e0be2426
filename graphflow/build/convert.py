"""Python and NumPy values become tensors, by TensorFlow 1's dtype rules.

Python numbers become float32 and int32, or the dtype that is asked for; NumPy arrays keep
theirs; a list that holds tensors is packed.  Nothing is converted where a value would change
beyond rounding: 1.5 is no int32 and 300 no uint8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError
from graphflow.build.opdef import OPS
from graphflow.build.sites import tell_line
from graphflow.build.tensor import Tensor


def as_tensor(value: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """The tensor for a value: itself, a variable's value, a packed list, or a constant.

    Objects with a method `as_graph_tensor(dtype)` convert themselves: variables, slices.

    Raises:
      TypeError: the value is a tensor of another dtype, or does not convert without loss.
      ValueError: a nested list is ragged.
    """
    try:
        return convert(value, None if dtype is None else as_dtype(dtype), name)
    except (TypeError, ValueError) as error:
        tell_line(error, "the value of a tensor")
        raise


def convert(value: Any, dtype: DType | None, name: str | None) -> Tensor:
    """`as_tensor`, whose errors the caller completes."""
    if isinstance(value, Tensor):
        return _checked(value, dtype)
    if hasattr(value, "as_graph_tensor"):
        return _checked(value.as_graph_tensor(dtype), dtype)
    if isinstance(value, (list, tuple)) and _holds_tensor(value):
        return _pack(value, dtype, name)
    return OPS["Const"](value=as_array(value, dtype), name=name)


def is_symbolic(value: Any) -> bool:
    """Is it a tensor, or something that makes one by itself?"""
    return isinstance(value, Tensor) or hasattr(value, "as_graph_tensor")


def as_array(value: Any, dtype: DType | None = None) -> np.ndarray[Any, Any]:
    """The read-only array of a constant: a copy, in the dtype asked for.

    Raises:
      TypeError, ValueError: as `as_tensor`.
    """
    array = to_numpy(value, dtype)
    if array.flags.writeable or not array.flags.owndata:
        array = array.copy()
        array.flags.writeable = False
    return array


def to_numpy(value: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    """An array of the value; not copied where it is one already."""
    typed = isinstance(value, (np.ndarray, np.generic))
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"a tensor cannot be ragged: {_short(value)}") from None
    except NotImplementedError as error:  # a tensor deep inside an array
        raise TypeError(str(error)) from None
    if array.dtype.kind in "OSU" or dtype is dtypes.string:
        return _strings(array, value, dtype)
    if array.dtype.kind in "Mm":
        raise TypeError(f"dates are no tensors: {_short(value)}")
    target = _default(array, typed) if dtype is None else dtype.np
    if array.dtype == target:
        return array
    return _cast(array, as_dtype(target), typed, value)


def _default(array: np.ndarray[Any, Any], typed: bool) -> np.dtype[Any]:
    if not typed:
        if array.dtype == np.float64:
            return np.dtype(np.float32)
        if array.dtype == np.int64 and _fits(array, np.iinfo(np.int32)):
            return np.dtype(np.int32)
    return as_dtype(array.dtype).np


def _fits(array: np.ndarray[Any, Any], limits: Any) -> bool:
    return not array.size or bool(array.min() >= limits.min and array.max() <= limits.max)


def _cast(
    array: np.ndarray[Any, Any], dtype: DType, typed: bool, value: Any
) -> np.ndarray[Any, Any]:
    """Convert, or raise where something would be lost beyond rounding."""
    kind = array.dtype.kind if array.dtype.name != "bfloat16" else "f"
    if not array.size:
        return array.astype(dtype.np)
    if dtype.is_integer:
        allowed = kind in "iu" or (typed and kind in "fb")
        if allowed and kind in "iu" and not _fits(array, np.iinfo(dtype.np)):
            allowed = False
        if allowed and kind == "f":
            with np.errstate(invalid="ignore"):
                allowed = bool((array.astype(dtype.np) == array).all())
    elif dtype.is_floating:
        allowed = kind in "iuf" or (typed and kind == "b")
    elif dtype.is_complex:
        allowed = kind in "iufc"
    elif dtype.is_bool:
        allowed = kind == "b" or (typed and kind in "iu")
    else:  # a string array of numbers, a handle
        allowed = False
    if not allowed:
        what = f"an array of {array.dtype}" if typed else f"{type(value).__name__}"
        raise DTypeError(f"expected {dtype.name}, got {_short(value)} ({what})")
    with np.errstate(over="ignore"):
        return array.astype(dtype.np)


def _strings(array: np.ndarray[Any, Any], value: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    """Object array of bytes; text is encoded as UTF-8, as TensorFlow does."""
    if dtype in (dtypes.resource, dtypes.variant):
        return array.astype(object)
    elements = np.asarray(value, object).ravel() if array.dtype.kind == "U" else array.ravel()
    if dtype not in (None, dtypes.string) or not all(
        isinstance(e, (str, bytes, np.str_, np.bytes_)) for e in elements
    ):
        wanted = dtype.name if dtype else "numbers or strings"
        raise DTypeError(f"expected {wanted}, got {_short(value)} ({type(value).__name__})")
    result = np.empty(array.size, object)
    result[:] = [e.encode() if isinstance(e, str) else bytes(e) for e in elements]
    return result.reshape(array.shape)


def _holds_tensor(values: Any) -> bool:
    return any(
        is_symbolic(v) or (isinstance(v, (list, tuple)) and _holds_tensor(v)) for v in values
    )


def _pack(values: Any, dtype: DType | None, name: str | None) -> Tensor:
    """Stack a nested list; the first tensor in it gives the dtype of the numbers beside it."""
    if dtype is None:
        dtype = dtype_inside(values)
    return OPS["Pack"](*[convert(v, dtype, None) for v in values], name=name)


def dtype_inside(values: Any) -> DType | None:
    """The dtype of the first tensor in nested lists; None: there is none."""
    for v in values:
        if is_symbolic(v):
            return v.dtype
        if isinstance(v, (list, tuple)) and (found := dtype_inside(v)) is not None:
            return found
    return None


def _checked(tensor: Tensor, dtype: DType | None) -> Tensor:
    if dtype is not None and tensor.dtype is not dtype:
        raise DTypeError(
            f"expected a tensor of {dtype.name}, got {tensor.name!r} of {tensor.dtype.name}: "
            "tensors are never converted silently, use tf.cast"
        )
    return tensor


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
