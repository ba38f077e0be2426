"""Sparse tensors: coordinates and values, and what programs do with them.

A `SparseTensor` is three tensors; its functions are built of dense ops, and so differentiable by
the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import Dims, TensorShape, as_dims, format_dims
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.casting import cast
from graphflow.ops.filling import fill
from graphflow.ops.gathering import gather
from graphflow.ops.joining import concat
from graphflow.ops.known import shape_from, static_ints
from graphflow.ops.partitioning import tensor_scatter_update
from graphflow.ops.public import composite, renamed
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.rules import axis_in
from graphflow.ops.scans import cumprod
from graphflow.ops.segments import unsorted_segment_sum
from graphflow.ops.shape_ops import expand_dims, reshape, transpose
from graphflow.ops.sorting import argsort
from graphflow.ops.sources import placeholder


class SparseTensorValue(NamedTuple):
    """The value of a `SparseTensor`: three arrays."""

    indices: Any
    values: Any
    dense_shape: Any


class SparseTensor:
    """A tensor of which only some elements are stored.

    Attributes:
      indices: int64 [n, rank], their coordinates, usually in row-major order.
      values: [n].
      dense_shape: int64 [rank].
    """

    def __init__(self, indices: Any, values: Any, dense_shape: Any):
        """Raises:
        ValueError: the three do not fit together.
        """
        self._indices = as_tensor(indices, dtypes.int64, "indices")
        self._values = as_tensor(values, name="values")
        self._dense_shape = as_tensor(dense_shape, dtypes.int64, "dense_shape")
        for tensor, rank in ((self._indices, 2), (self._values, 1), (self._dense_shape, 1)):
            if tensor.dims is not None and len(tensor.dims) != rank:
                raise ShapeError(
                    f"a sparse tensor has indices [n, rank], values [n] and dense_shape [rank]: "
                    f"{tensor.name!r} has shape {format_dims(tensor.dims)}"
                )

    @classmethod
    def from_value(cls, value: Any) -> SparseTensor:
        """One of constants of a `SparseTensorValue`; a `SparseTensor` itself.

        Raises:
          TypeError: it is neither.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, (tuple, list)) or len(value) != 3:
            raise TypeError(f"a SparseTensor is needed, not {value!r}")
        return cls(*value)

    @property
    def indices(self) -> Tensor:
        return self._indices

    @property
    def values(self) -> Tensor:
        return self._values

    @property
    def dense_shape(self) -> Tensor:
        return self._dense_shape

    @property
    def dtype(self) -> DType:
        return self._values.dtype

    @property
    def op(self) -> Any:
        return self._values.op

    @property
    def graph(self) -> Any:
        return self._values.graph

    @property
    def dims(self) -> Dims:
        return shape_from(self._dense_shape)

    @property
    def shape(self) -> TensorShape:
        return TensorShape(self.dims)

    def get_shape(self) -> TensorShape:
        return self.shape

    def eval(self, feed_dict: Any = None, session: Any = None) -> SparseTensorValue:
        """Its value in the given or the default session."""
        from graphflow.build.defaults import session_for

        value: SparseTensorValue = session_for(session, self.graph).run(self, feed_dict)
        return value

    def as_fetches(self) -> tuple[list[Tensor], Any]:
        """What a session fetches for it, and how to put that together."""
        return [self._indices, self._values, self._dense_shape], lambda v: SparseTensorValue(*v)

    def as_feeds(self, value: Any) -> Mapping[Tensor, Any]:
        """What a session feeds for a value: a `SparseTensorValue` or a tuple like it."""
        indices, values, shape = value
        return {
            self._indices: np.asarray(indices, np.int64).reshape(-1, len(shape)),
            self._values: values,
            self._dense_shape: np.asarray(shape, np.int64),
        }

    def __repr__(self) -> str:
        return (
            f"SparseTensor(indices={self._indices.name!r}, values={self._values.name!r}, "
            f"dense_shape={self._dense_shape.name!r})"
        )


def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparseTensor:
    """A sparse tensor that is fed with a `SparseTensorValue` or (indices, values, shape).

    Args:
      dtype: of its values.
      shape: of the whole; None: any, of any rank.
    """
    dims = as_dims(shape)
    rank = None if dims is None else len(dims)
    with composite(name, "SparsePlaceholder"):
        if dims is not None and None not in dims:
            whole: Any = as_tensor(np.array(dims, np.int64))
        else:
            whole = placeholder(dtypes.int64, [rank], name="shape")
        return SparseTensor(
            placeholder(dtypes.int64, [None, rank], name="indices"),
            placeholder(dtype, [None], name="values"),
            whole,
        )


def sparse_to_dense(
    sparse_indices: Any,
    output_shape: Any,
    sparse_values: Any,
    default_value: Any = 0,
    validate_indices: bool = True,
    name: str | None = None,
) -> Tensor:
    """A tensor of a default value with some elements set.

    Args:
      sparse_indices: [n, rank]; [n] for a vector, or a scalar for one element of it.
      output_shape: the shape of the result.
      sparse_values: [n], or one value for all.
      default_value: of the other elements.
      validate_indices: accepted; they are always checked, but may repeat: the last counts.
    """
    with composite(name, "SparseToDense", sparse_values, sparse_indices):
        places, values = as_tensor(sparse_indices), as_tensor(sparse_values)
        rank = None if places.dims is None else len(places.dims)
        if rank is None:
            raise GraphError("sparse_to_dense needs indices of known rank")
        if rank < 2:
            places = reshape(places, [-1, 1])
        if values.dims == ():
            values = fill(expand_dims(_count(places), 0), values)
        sizes = as_tensor(output_shape)
        base = fill(sizes, _default(values, default_value))
        return tensor_scatter_update(base, places, reshape(values, [-1]))


def _count(places: Tensor) -> Tensor:
    from graphflow.ops.shape_ops import shape

    return shape(places)[0]


def _default(values: Tensor, default: Any) -> Tensor:
    if default is None or (values.dtype is dtypes.string and default == 0):
        return as_tensor(b"" if values.dtype is dtypes.string else np.zeros((), values.dtype.np))
    return as_tensor(default, values.dtype)


def sparse_tensor_to_dense(
    sp_input: SparseTensor,
    default_value: Any = None,
    validate_indices: bool = True,
    name: str | None = None,
) -> Tensor:
    """The whole tensor, of a default value where nothing is stored; see `sparse_to_dense`."""
    sp_input = SparseTensor.from_value(sp_input)
    with composite(name, "SparseTensorToDense", sp_input.values):
        return sparse_to_dense(
            sp_input.indices, sp_input.dense_shape, sp_input.values, default_value or 0
        )


def sparse_tensor_dense_matmul(
    sp_a: Any,
    b: Any,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of a sparse matrix and a dense one; differentiable by both's values.

    Args:
      sp_a: a `SparseTensor` [m, k].
      b: [k, n].
      adjoint_a, adjoint_b: take the conjugate transpose of one.

    Returns:
      [m, n].
    """
    a = SparseTensor.from_value(sp_a)
    with composite(name, "SparseTensorDenseMatMul", a.values):
        matrix = as_tensor(b)
        matrix = transpose(matrix, conjugate=True) if adjoint_b else matrix
        row, column = (1, 0) if adjoint_a else (0, 1)
        values = a.values
        if adjoint_a and values.dtype.is_complex:
            from graphflow.ops.complexes import conj

            values = conj(values)
        parts = gather(matrix, a.indices[:, column]) * expand_dims(values, 1)
        return unsorted_segment_sum(parts, a.indices[:, row], a.dense_shape[row])


def sparse_reduce_sum(
    sp_input: SparseTensor,
    axis: Any = None,
    keepdims: Any = None,
    reduction_axes: Any = None,
    keep_dims: Any = None,
    name: str | None = None,
) -> Tensor:
    """The sum over axes, as a dense tensor."""
    axis = renamed(axis, reduction_axes, "axis", "reduction_axes")
    keepdims = renamed(keepdims, keep_dims, "keepdims", "keep_dims", False)
    axes = None if axis is None else static_ints(axis, "axis")
    dense = sparse_tensor_to_dense(sp_input, name=name)
    return reduce_sum(dense, axis=axes, keepdims=keepdims)


def sparse_reorder(sp_input: SparseTensor, name: str | None = None) -> SparseTensor:
    """The same tensor with its elements in row-major order."""
    sp_input = SparseTensor.from_value(sp_input)
    with composite(name, "SparseReorder", sp_input.values):
        steps = cumprod(sp_input.dense_shape, exclusive=True, reverse=True)
        order = argsort(reduce_sum(sp_input.indices * steps, axis=1), stable=True)
        return SparseTensor(
            gather(sp_input.indices, order), gather(sp_input.values, order), sp_input.dense_shape
        )


def sparse_reshape(sp_input: SparseTensor, shape: Any, name: str | None = None) -> SparseTensor:
    """The same elements in another shape of the same size, of which one size may be -1."""
    from graphflow.ops.counting import unravel_index
    from graphflow.ops.reduce import reduce_prod

    sp_input = SparseTensor.from_value(sp_input)
    with composite(name, "SparseReshape", sp_input.values):
        steps = cumprod(sp_input.dense_shape, exclusive=True, reverse=True)
        flat = reduce_sum(sp_input.indices * steps, axis=1)
        wanted = cast(as_tensor(shape), dtypes.int64)
        rest = reduce_prod(sp_input.dense_shape) // -reduce_prod(wanted)
        from graphflow.ops.compare import less
        from graphflow.ops.conditions import where

        sizes = where(less(wanted, 0), wanted * 0 + rest, wanted) if _has_unknown(shape) else wanted
        return SparseTensor(transpose(unravel_index(flat, sizes)), sp_input.values, sizes)


def _has_unknown(shape: Any) -> bool:
    return isinstance(shape, (list, tuple)) and -1 in [s for s in shape if isinstance(s, int)]


def sparse_concat(axis: int, sp_inputs: Any, name: str | None = None) -> SparseTensor:
    """Sparse tensors one after the other along an axis, in row-major order."""
    from graphflow.ops.filling import one_hot

    at = static_ints(axis, "axis")
    sp_inputs = [SparseTensor.from_value(t) for t in sp_inputs]
    if not sp_inputs or not isinstance(at, int):
        raise GraphError(f"sparse_concat takes an axis and sparse tensors, not {axis!r} and none")
    with composite(name, "SparseConcat", *[t.values for t in sp_inputs]):
        first = sp_inputs[0].dense_shape
        rank = first.dims[0] if first.dims else None
        if rank is None:
            raise GraphError("sparse_concat needs a known rank")
        along = one_hot(axis_in(at, rank), rank, dtype=dtypes.int64)
        offset: Any = first * 0
        indices = []
        for t in sp_inputs:
            indices.append(t.indices + offset)
            offset = offset + along * t.dense_shape
        whole = SparseTensor(
            concat(indices, 0),
            concat([t.values for t in sp_inputs], 0),
            first * (1 - along) + offset,
        )
        return sparse_reorder(whole)
