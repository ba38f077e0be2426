"""What programs ask about tensors, and checks of whole graphs."""

from __future__ import annotations

from typing import Any

from graphflow.base import dtypes
from graphflow.base.shapes import Dimension
from graphflow.build import Operation, Tensor, as_tensor
from graphflow.build.convert import is_symbolic
from graphflow.build.defaults import get_default_graph
from graphflow.ops.checks import check_numerics
from graphflow.ops.compare import less, less_equal
from graphflow.ops.public import composite
from graphflow.ops.reduce import reduce_all
from graphflow.ops.shape_ops import reshape
from graphflow.ops.sources import group, identity
from graphflow.ops.sparse import SparseTensor, SparseTensorValue


def is_tensor(x: Any) -> bool:
    """Is it a tensor, a variable, or a sparse tensor?"""
    return is_symbolic(x) or isinstance(x, SparseTensor)


def is_numeric_tensor(tensor: Any) -> bool:
    """Is it a tensor of numbers?"""
    return isinstance(tensor, Tensor) and tensor.dtype.is_numeric


def dimension_value(dimension: Any) -> Any:
    """The size of a `Dimension`, or what is given."""
    return dimension.value if isinstance(dimension, Dimension) else dimension


def convert_to_tensor_or_sparse_tensor(
    value: Any, dtype: Any = None, name: str | None = None
) -> Any:
    """A `SparseTensor` for a sparse value, else a tensor.

    Raises:
      TypeError: a sparse tensor has another dtype.
    """
    if isinstance(value, SparseTensorValue):
        value = SparseTensor.from_value(value)
    if isinstance(value, SparseTensor):
        if dtype is not None and value.dtype is not dtypes.as_dtype(dtype):
            raise TypeError(f"{value!r} has dtype {value.dtype.name}, not {dtype}")
        return value
    return as_tensor(value, dtype, name)


def is_non_decreasing(x: Any, name: str | None = None) -> Tensor:
    """bool []: is each element, in row-major order, at least the one before?"""
    return _ordered(x, less_equal, name, "is_non_decreasing")


def is_strictly_increasing(x: Any, name: str | None = None) -> Tensor:
    """bool []: is each element, in row-major order, more than the one before?"""
    return _ordered(x, less, name, "is_strictly_increasing")


def _ordered(x: Any, relation: Any, name: str | None, default: str) -> Tensor:
    with composite(name, default, x):
        flat = reshape(as_tensor(x), [-1])
        return reduce_all(relation(flat[:-1], flat[1:]))


def verify_tensor_all_finite(
    t: Any = None, msg: str | None = None, name: str | None = None, x: Any = None,
    message: str | None = None,
) -> Tensor:  # fmt: skip
    """The tensor, after a check that it is finite; `x` and `message` are newer names."""
    with composite(name, "VerifyFinite", t if x is None else x):
        tensor = as_tensor(t if x is None else x)
        checked = check_numerics(tensor, message or msg or "")
        with get_default_graph().control_dependencies([checked]):
            return identity(tensor)


def add_check_numerics_ops() -> Operation:
    """An operation that checks every floating tensor of the graph so far.

    Raises:
      InvalidArgumentError: when run, one is infinite or NaN; it is named.
    """
    graph = get_default_graph()
    checks: list[Any] = []
    for operation in graph.get_operations():
        for tensor in operation.outputs:
            if tensor.dtype in (dtypes.float16, dtypes.float32, dtypes.float64):
                with graph.control_dependencies(checks[-1:]):
                    checks.append(check_numerics(tensor, f"{operation.name}:{tensor.index}").op)
    return group(*checks)


def no_regularizer(_: Any) -> None:
    """A regularizer that adds no loss; it hides the one of the scope."""
