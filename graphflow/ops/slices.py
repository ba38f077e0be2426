"""IndexedSlices: a tensor of which only some rows are stored, such as a gather's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError, GraphError
from graphflow.build import OPS, as_tensor
from graphflow.build.tensor import Tensor


class IndexedSlicesValue(NamedTuple):
    """What fetching `IndexedSlices` gives, and feeding it takes."""

    values: Any
    indices: Any
    dense_shape: Any


class IndexedSlices:
    """The tensor that is zero but for `dense[indices[i]] += values[i]`.

    Attributes:
      values: the rows, of shape [n, ...].
      indices: their places, integers of shape [n]; the same place may occur several times.
      dense_shape: shape of the whole tensor, an integer vector, or None.
    """

    __slots__ = ("dense_shape", "indices", "values")
    __array_priority__ = 100

    def __init__(self, values: Any, indices: Any, dense_shape: Any = None):
        self.values: Tensor = as_tensor(values)
        self.indices: Tensor = as_tensor(indices)
        self.dense_shape: Tensor | None = None if dense_shape is None else as_tensor(dense_shape)

    @property
    def dtype(self) -> DType:
        return self.values.dtype

    @property
    def name(self) -> str:
        return self.values.name

    @property
    def graph(self) -> Any:
        return self.values.graph

    @property
    def op(self) -> Any:
        return self.values.op

    @property
    def device(self) -> str:
        return self.values.device

    @property
    def dims(self) -> Any:
        from graphflow.ops.known import shape_from

        return None if self.dense_shape is None else shape_from(self.dense_shape)

    def as_fetches(self) -> tuple[tuple[Tensor, ...], Callable[[Any], IndexedSlicesValue]]:
        """What to fetch, and how to put the values together."""
        if self.dense_shape is None:
            return (self.values, self.indices), lambda got: IndexedSlicesValue(got[0], got[1], None)
        return (self.values, self.indices, self.dense_shape), lambda got: IndexedSlicesValue(*got)

    def as_feeds(self, value: Any) -> dict[Tensor, Any]:
        """What to feed for a value of (values, indices, dense_shape), of which the last may be
        left out or None.

        Raises:
          ValueError: it has another number of parts.
        """
        parts = (self.values, self.indices, self.dense_shape)
        if not isinstance(value, tuple) or not 2 <= len(value) <= 3:
            raise GraphError(f"{self!r} is fed (values, indices, dense_shape), not {value!r}")
        return {
            part: given
            for part, given in zip(parts, value, strict=False)
            if part is not None and given is not None
        }

    def as_graph_tensor(self, dtype: Any = None) -> Tensor:
        """The whole tensor: rows at the same place are summed.

        Raises:
          ValueError: the dense shape is not known.
          TypeError: another dtype is asked for.
        """
        if dtype is not None and dtype is not self.dtype:
            raise DTypeError(f"expected {dtype.name}, got slices of {self.dtype.name}")
        if self.dense_shape is None:
            raise GraphError(f"{self!r} has no dense_shape: it cannot become a tensor")
        dense: Tensor = OPS["GatherGrad"](
            self.values, self.indices, self.dense_shape, axis=0, batch_dims=0
        )
        return dense

    def _scaled(self, values: Tensor) -> IndexedSlices:
        return IndexedSlices(values, self.indices, self.dense_shape)

    def __neg__(self) -> IndexedSlices:
        return self._scaled(-self.values)

    def __mul__(self, other: Any) -> Any:
        if getattr(other, "dims", ()) == () and not getattr(other, "shape", ()):
            return self._scaled(self.values * other)
        return self.as_graph_tensor() * other

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        if getattr(other, "dims", ()) == () and not getattr(other, "shape", ()):
            return self._scaled(self.values / other)
        return self.as_graph_tensor() / other

    def __add__(self, other: Any) -> Any:
        return self.as_graph_tensor() + other

    def __radd__(self, other: Any) -> Any:
        return other + self.as_graph_tensor()

    def __sub__(self, other: Any) -> Any:
        return self.as_graph_tensor() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.as_graph_tensor()

    def __repr__(self) -> str:
        shape = None if self.dense_shape is None else self.dense_shape.name
        return (
            f"IndexedSlices(indices={self.indices.name!r}, values={self.values.name!r}, "
            f"dense_shape={shape!r})"
        )


def convert_to_tensor_or_indexed_slices(
    value: Any, dtype: Any = None, name: str | None = None
) -> Tensor | IndexedSlices:
    """The value itself if it is `IndexedSlices`, else the tensor for it."""
    if isinstance(value, IndexedSlices):
        return value
    return as_tensor(value, dtype, name)


def internal_convert_n(values: Any, dtype: Any = None) -> list[Tensor | IndexedSlices]:
    """Each of them a tensor or slices."""
    return [convert_to_tensor_or_indexed_slices(v, dtype) for v in values]
