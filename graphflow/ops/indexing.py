"""What Python's `[]` does to a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import DTypeError, GraphError
from graphflow.base.shapes import Dimension
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor, define_operator
from graphflow.ops.casting import cast
from graphflow.ops.public import composite
from graphflow.ops.slicing import strided_slice
from graphflow.ops.sources import constant


def getitem(x: Any, key: Any) -> Tensor:
    """`x[key]`: integers, slices, Ellipsis, newaxis, scalar tensors, or one boolean mask.

    A list counts as a tuple, as in TensorFlow and unlike NumPy.

    Raises:
      TypeError: an entry of the key is none of these.
      ValueError: an index is out of bounds.
    """
    if _is_mask(key):
        from graphflow.ops.conditions import boolean_mask

        return boolean_mask(x, key)
    entries = tuple(key) if isinstance(key, (tuple, list)) else (key,)
    masks = dict.fromkeys(
        ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0
    )
    bounds: list[tuple[Any, Any, Any]] = []
    for i, entry in enumerate(entries):
        bounds.append(_entry(entry, 1 << i, masks))
    with composite(None, "strided_slice", x) as name:
        begin, end, strides = _bounds(bounds)
        return strided_slice(x, begin, end, strides, **masks, name=name)


def _is_mask(key: Any) -> bool:
    dtype = getattr(key, "dtype", None)
    return dtype is not None and dtype in (dtypes.bool_, np.bool_) and not isinstance(key, np.bool_)


def _entry(entry: Any, bit: int, masks: dict[str, int]) -> tuple[Any, Any, Any]:
    """Begin, end and stride of one entry of a key; sets its bits in the masks."""
    if isinstance(entry, slice):
        if entry.start is None:
            masks["begin_mask"] |= bit
        if entry.stop is None:
            masks["end_mask"] |= bit
        start, stop, step = [
            None if v is None else _integer(v) for v in (entry.start, entry.stop, entry.step)
        ]
        return (
            0 if start is None else start,
            0 if stop is None else stop,
            1 if step is None else step,
        )
    if entry is Ellipsis:
        if masks["ellipsis_mask"]:
            raise GraphError("an index may have one ellipsis")
        masks["ellipsis_mask"] |= bit
        return 0, 0, 1
    if entry is None:
        masks["new_axis_mask"] |= bit
        return 0, 0, 1
    index = _integer(entry)
    masks["shrink_axis_mask"] |= bit
    return index, index + 1 if isinstance(index, int) else 0, 1


def _integer(value: Any) -> Any:
    """An int, or a scalar integer tensor.

    Raises:
      TypeError: it is neither.
    """
    if isinstance(value, Dimension):
        value = value.value
    if hasattr(value, "as_graph_tensor"):
        value = value.as_graph_tensor(None)
    if isinstance(value, Tensor):
        if value.dtype.is_integer and not value.dims:
            return value
    elif not isinstance(value, (bool, np.bool_)) and hasattr(value, "__index__"):
        try:
            return int(value.__index__())
        except TypeError:  # an array that is no scalar
            pass
    raise DTypeError(
        "a tensor is indexed with integers, slices, `...`, tf.newaxis, scalar integer tensors or "
        f"one boolean mask, not with {value!r}; tf.gather takes lists of indices"
    )


def _bounds(bounds: list[tuple[Any, Any, Any]]) -> list[Tensor]:
    flat = [v for triple in bounds for v in triple]
    tensors = [v for v in flat if isinstance(v, Tensor)]
    wide = any(t.dtype is not dtypes.int32 for t in tensors) or any(
        not isinstance(v, Tensor) and not -(2**31) <= v < 2**31 for v in flat
    )
    dtype = dtypes.int64 if wide else dtypes.int32
    result = []
    for column, name in zip(
        zip(*bounds, strict=True), ("stack", "stack_1", "stack_2"), strict=False
    ):
        if any(isinstance(v, Tensor) for v in column):
            values = [cast(v, dtype) if isinstance(v, Tensor) else v for v in column]
            result.append(as_tensor(values, dtype, name=name))
        else:
            result.append(constant(np.array(column, dtype.np), name=name))
    while len(result) < 3:  # x[()]
        result.append(constant(np.zeros(0, np.int32), name=f"stack_{len(result)}"))
    return result


define_operator("getitem", getitem)
