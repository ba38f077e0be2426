"""TensorArray: a list of tensors that loops write to and read from.

It wraps a tensor that holds a persistent list (`ops.lists`).  Writing gives a new TensorArray and
leaves the old one as it was, so gradients need no accounting of their own: entries may be
written again, and what was read may be read again.
"""

from __future__ import annotations

from typing import Any

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import CLASH, Dims, TensorShape, as_dims, format_dims, merged
from graphflow.build import Operation, Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import OPS
from graphflow.ops import lists


class TensorArray:
    """A list of tensors of one dtype.

    Attributes:
      flow: the tensor that holds the list.
      dtype: that of the entries.
    """

    def __init__(
        self,
        dtype: Any,
        size: Any = None,
        dynamic_size: bool | None = None,
        clear_after_read: bool | None = None,
        tensor_array_name: str | None = None,
        handle: Any = None,
        flow: Tensor | None = None,
        infer_shape: bool = True,
        element_shape: Any = None,
        colocate_with_first_write_call: bool = True,
        name: str | None = None,
    ):
        """A list of `size` entries, none of them written yet.

        Args:
          dtype: of the entries.
          size: number of entries, a number or a scalar int tensor; 0 by default.
          dynamic_size: writing behind the end lets it grow; an error otherwise.
          clear_after_read, colocate_with_first_write_call, tensor_array_name, handle: accepted
            for TensorFlow's sake; a list keeps what was read.
          flow: the tensor of an existing list; instead of `size`.
          infer_shape: all entries have one shape, which is learnt from the first one written.
          element_shape: the static shape of the entries.
        """
        self.dtype: DType = dtypes.as_dtype(dtype)
        self._dims: Dims = as_dims(element_shape)
        self._infers = infer_shape
        self._grows = bool(dynamic_size)
        self._known = element_shape is not None
        if flow is not None:
            if size is not None:
                raise GraphError("TensorArray() takes a size or a flow, not both")
            self.flow = flow
            return
        with get_default_graph().name_scope(name or "TensorArray"):
            self.flow = lists.list_reserve(0 if size is None else size)

    @property
    def element_shape(self) -> TensorShape:
        return TensorShape(self._dims)

    @property
    def handle(self) -> Tensor:
        return self.flow

    @property
    def op(self) -> Operation:
        return self.flow.op

    @property
    def graph(self) -> Any:
        return self.flow.graph

    def with_flow(self, flow: Tensor) -> TensorArray:
        """The same, with another list."""
        new = TensorArray(self.dtype, flow=flow, infer_shape=self._infers)
        new._dims, new._known, new._grows = self._dims, self._known, self._grows
        return new

    def _learn(self, dims: Dims) -> None:
        """Note the shape of an entry; this object and those made from it know it then.

        Raises:
          ShapeError: other entries have another shape.
        """
        if not self._infers:
            return
        both = merged(self._dims, dims) if self._known else dims
        if both is CLASH:
            raise ShapeError(
                f"an entry of shape {format_dims(dims)} is written to a TensorArray of entries "
                f"of shape {format_dims(self._dims)}"
            )
        self._dims, self._known = both, True

    def _entry(self) -> dict[str, Any]:
        return {"dims": self._dims if self._known else None, "dtype": self.dtype}

    def _value(self, value: Any) -> Tensor:
        tensor = as_tensor(value, None if hasattr(value, "dtype") else self.dtype)
        if tensor.dtype is not self.dtype:
            raise DTypeError(
                f"{tensor.dtype.name} is written to a TensorArray of {self.dtype.name}"
            )
        return tensor

    # ---- entries

    def read(self, index: Any, name: str | None = None) -> Tensor:
        """The entry at an index."""
        entry: Tensor = lists.list_get(
            self.flow, index, name=name or "TensorArrayRead", **self._entry()
        )
        return entry

    def write(self, index: Any, value: Any, name: str | None = None) -> TensorArray:
        """A TensorArray with another entry at an index."""
        tensor = self._value(value)
        self._learn(tensor.dims)
        return self.with_flow(
            lists.list_set(
                self.flow, index, tensor, grows=self._grows, name=name or "TensorArrayWrite"
            )
        )

    def size(self, name: str | None = None) -> Tensor:
        """Number of entries."""
        return lists.list_length(self.flow, name=name or "TensorArraySize")

    def identity(self) -> TensorArray:
        """The same list, available after the control dependencies in force."""
        return self.with_flow(OPS["Identity"](self.flow))

    def grad(self, source: str, flow: Tensor | None = None, name: str | None = None) -> TensorArray:
        """A TensorArray for gradients.  `gradients` needs none: lists have gradients."""
        return self.with_flow(lists.empty_list() if flow is None else flow)

    def close(self, name: str | None = None) -> Operation:
        """Does nothing: a list is freed when nothing needs it any more."""
        return OPS["NoOp"](name=name or "TensorArrayClose")

    # ---- all at once

    def stack(self, name: str | None = None) -> Tensor:
        """All entries, stacked along a new first axis."""
        with get_default_graph().name_scope(name or "TensorArrayStack"):
            count = lists.list_length(self.flow)
            return self.gather(OPS["Range"](0, count, 1))

    def gather(self, indices: Any, name: str | None = None) -> Tensor:
        """The entries at a vector of indices, stacked."""
        indices = as_tensor(indices)
        return lists.list_get(self.flow, indices, name=name or "TensorArrayGather", **self._entry())

    def unstack(self, value: Any, name: str | None = None) -> TensorArray:
        """A TensorArray whose entries are the slices of `value` along its first axis."""
        with get_default_graph().name_scope(name or "TensorArrayUnstack"):
            tensor = self._value(value)
            count = OPS["Shape"](tensor)[0] if _first(tensor) is None else _first(tensor)
            return self.scatter(OPS["Range"](0, count, 1), tensor)

    def scatter(self, indices: Any, value: Any, name: str | None = None) -> TensorArray:
        """A TensorArray with the rows of `value` at a vector of indices."""
        tensor = self._value(value)
        if tensor.dims is not None and not tensor.dims:
            raise ShapeError(f"scattering needs rows, not a scalar ({tensor!r})")
        self._learn(None if tensor.dims is None else tensor.dims[1:])
        indices = as_tensor(indices)
        return self.with_flow(
            lists.list_set(
                self.flow, indices, tensor, grows=self._grows, name=name or "TensorArrayScatter"
            )
        )

    def concat(self, name: str | None = None) -> Tensor:
        """All entries, joined along their first axis; their first sizes may differ."""
        dims = None if not self._known or self._dims is None else (None, *self._dims[1:])
        return lists.list_concat(
            self.flow, dims=dims, dtype=self.dtype, name=name or "TensorArrayConcat"
        )

    def split(self, value: Any, lengths: Any, name: str | None = None) -> TensorArray:
        """A TensorArray of consecutive pieces of `value`, of the given lengths."""
        tensor = self._value(value)
        if tensor.dims:
            self._learn((None, *tensor.dims[1:]))
        return self.with_flow(lists.list_split(tensor, lengths, name=name or "TensorArraySplit"))

    def __repr__(self) -> str:
        return f"<tf.TensorArray {self.flow.name!r} dtype={self.dtype.name}>"


def _first(tensor: Tensor) -> int | None:
    return tensor.dims[0] if tensor.dims else None
