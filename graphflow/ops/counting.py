"""Counts, index arithmetic and vector products that are built of other ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.arithmetic import floordiv, floormod, maximum, minimum
from graphflow.ops.assertions import assert_less, assert_non_negative
from graphflow.ops.casting import cast
from graphflow.ops.compare import greater, less
from graphflow.ops.conditions import where
from graphflow.ops.filling import ones_like
from graphflow.ops.gathering import scatter_nd
from graphflow.ops.joining import stack
from graphflow.ops.public import composite, graph_of
from graphflow.ops.reduce import reduce_max
from graphflow.ops.scans import cumprod
from graphflow.ops.segments import unsorted_segment_sum
from graphflow.ops.shape_ops import expand_dims, reshape, size, squeeze
from graphflow.ops.sources import identity


def cross(a: Any, b: Any, name: str | None = None) -> Tensor:
    """The vector product along the last axis, of size 3, of two tensors of one shape."""
    with composite(name, "Cross", a, b) as scope:
        x, y = as_tensor(a), as_tensor(b)
        for t in (x, y):
            if t.dims is not None and (not t.dims or t.dims[-1] not in (3, None)):
                raise ShapeError(f"the last axis must have size 3, not {format_dims(t.dims)}")
        p, q = [[t[..., i] for i in range(3)] for t in (x, y)]
        parts = [p[i - 2] * q[i - 1] - p[i - 1] * q[i - 2] for i in range(3)]
        return stack(parts, axis=-1, name=scope)


def bincount(
    arr: Any,
    weights: Any = None,
    minlength: Any = None,
    maxlength: Any = None,
    dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """How often each number 0, 1, ... occurs, or the sum of its weights.

    Args:
      arr: int32, numbers >= 0 of any shape.
      weights: of the shape of arr.
      minlength, maxlength: bounds of the result's length, which is the largest number + 1;
        numbers beyond it are not counted.
      dtype: of the counts, without weights.
    """
    with composite(name, "bincount", arr):
        numbers = reshape(cast(as_tensor(arr), dtypes.int32), [-1])
        top = where(greater(size(numbers), 0), _largest(numbers) + 1, 0 * size(numbers))
        if minlength is not None:
            top = maximum(cast(as_tensor(minlength), dtypes.int32), top)
        if maxlength is not None:
            top = minimum(cast(as_tensor(maxlength), dtypes.int32), top)
        if weights is None:
            each = ones_like(numbers, dtype=as_dtype(dtype))
        else:
            each = reshape(as_tensor(weights), [-1])
        kept = where(less(numbers, top), numbers, -ones_like(numbers))
        return unsorted_segment_sum(each, kept, top)


def _largest(numbers: Tensor) -> Tensor:
    from graphflow.ops.joining import concat

    return reduce_max(concat([numbers, np.array([-1], np.int32)], 0))


def confusion_matrix(
    labels: Any,
    predictions: Any,
    num_classes: Any = None,
    dtype: Any = dtypes.int32,
    name: str | None = None,
    weights: Any = None,
) -> Tensor:
    """How often each class (row) was predicted as each class (column).

    Args:
      labels, predictions: classes >= 0, of one shape [n].
      num_classes: by default the largest class + 1.
      dtype: of the result.
      weights: what each prediction counts, [n].

    Returns:
      [num_classes, num_classes].

    Raises:
      InvalidArgumentError: a class is negative or not below num_classes.
    """
    with composite(name, "confusion_matrix", labels, predictions) as scope:
        z, p = [cast(as_tensor(x), dtypes.int64) for x in (labels, predictions)]
        z, p = [squeeze(x, [-1]) if x.dims is not None and len(x.dims) == 2 else x for x in (z, p)]
        checks = [assert_non_negative(x, message=f"a class of {w} is negative")
                  for x, w in ((z, "labels"), (p, "predictions"))]  # fmt: skip
        if num_classes is None:
            n = maximum(_largest_class(z), _largest_class(p)) + 1
        else:
            n = cast(as_tensor(num_classes), dtypes.int64)
            checks += [
                assert_less(x, n, message=f"a class of {w} is out of bounds")
                for x, w in ((z, "labels"), (p, "predictions"))
            ]
        kind = as_dtype(dtype)
        with graph_of(z).control_dependencies(checks):
            places = identity(stack([z, p], axis=1))
        each = ones_like(p, dtype=kind) if weights is None else cast(as_tensor(weights), kind)
        return scatter_nd(places, each, stack([n, n]), name=scope)


def _largest_class(x: Tensor) -> Tensor:
    from graphflow.ops.joining import concat

    return reduce_max(concat([x, np.array([-1], np.int64)], 0))


def unravel_index(indices: Any, dims: Any, name: str | None = None) -> Tensor:
    """The coordinates of flat indices in an array of the given shape: [rank, *indices.shape].

    Raises:
      InvalidArgumentError: when run, an index is not in the array.
    """
    with composite(name, "UnravelIndex", indices, dims):
        flat = as_tensor(indices)
        if not flat.dtype.is_integer:
            raise GraphError(f"indices must be integers, not {flat.dtype.name}")
        shape = as_tensor(dims, flat.dtype)
        steps = cumprod(shape, exclusive=True, reverse=True)
        checks = [assert_less(flat, steps[:1] * shape[:1], message="index is out of bounds"),
                  assert_non_negative(flat, message="index is negative")]  # fmt: skip
        with graph_of(flat).control_dependencies(checks):
            row = expand_dims(flat, 0)
        if flat.dims is None:
            raise GraphError("unravel_index needs indices of known rank")
        if not flat.dims:
            return floormod(floordiv(flat + 0 * steps, steps), shape)
        axes = [-1] + [1] * len(flat.dims)
        return floormod(floordiv(row, reshape(steps, axes)), reshape(shape, axes))
