"""Queues under TensorFlow's names: values handed from run to run, and from thread to thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphflow.base import dtypes
from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import CLASH, Dims, TensorShape, as_dims, format_dims, is_known, merged
from graphflow.build import Operation, Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.ops.queue_ops import (
    queue_close,
    queue_dequeue,
    queue_dequeue_many,
    queue_enqueue,
    queue_handle,
    queue_is_closed,
    queue_size,
)
from graphflow.ops.random import get_seed


class QueueBase:
    """A queue of elements, each a tuple of tensors.

    Attributes:
      queue_ref: the tensor that names it.
      dtypes, shapes, names: those of the components; names are None where there are none.
    """

    _kind = "fifo"
    _pads = False

    def __init__(
        self, dtypes: Any, shapes: Any, names: Any, name: str, shared_name: str | None,
        capacity: int, least: int = 0, seeds: Any = None,
    ):  # fmt: skip
        listed = dtypes if isinstance(dtypes, (list, tuple)) else [dtypes]
        self.dtypes = [as_dtype(t) for t in listed]
        self._dims = _component_dims(shapes, len(self.dtypes))
        self.names = _component_names(names, len(self.dtypes))
        graph = get_default_graph().root
        with graph.as_default(), graph.control_dependencies(None):
            unique = graph.unique_name(name)
            self._name = unique.split("/")[-1]
            self.queue_ref: Tensor = queue_handle(
                container=graph.scopes.container, shared_name=shared_name or unique,
                kind=self._kind, capacity=int(capacity), least=int(least), seeds=seeds,
                name=f"{unique}/",
            )  # fmt: skip

    @property
    def name(self) -> str:
        return self.queue_ref.op.name

    @property
    def shapes(self) -> list[Any]:
        return [TensorShape(d) for d in self._dims]

    def enqueue(self, vals: Any, name: str | None = None) -> Operation:
        """An operation that adds an element; it waits for room when its run commits.

        Args:
          vals: a tensor, a list or tuple of them, or a dict where components have names.

        Raises:
          ValueError, TypeError: the components are not those of the queue.
          CancelledError (when run): the queue is closed.
        """
        parts = self._components(vals, many=False)
        return queue_enqueue(
            self.queue_ref, *parts, dims=tuple(self._dims), many=False,
            name=name or f"{self._name}_enqueue",
        )  # fmt: skip

    def enqueue_many(self, vals: Any, name: str | None = None) -> Operation:
        """As `enqueue`, for the slices of each component along its first axis."""
        parts = self._components(vals, many=True)
        return queue_enqueue(
            self.queue_ref, *parts, dims=tuple(self._dims), many=True,
            name=name or f"{self._name}_EnqueueMany",
        )  # fmt: skip

    def dequeue(self, name: str | None = None) -> Any:
        """An element: a tensor, a list of them, or a dict where components have names.

        Raises:
          OutOfRangeError (when run): the queue is closed and empty.
        """
        return self._element(
            queue_dequeue(
                self.queue_ref,
                dims=tuple(self._dims),
                types=tuple(self.dtypes),
                name=name or f"{self._name}_Dequeue",
            )
        )

    def dequeue_many(self, n: Any, name: str | None = None) -> Any:
        """`n` elements, stacked along a new first axis."""
        return self._dequeued(n, False, name or f"{self._name}_DequeueMany")

    def dequeue_up_to(self, n: Any, name: str | None = None) -> Any:
        """`n` elements, or those that are left where the queue is closed."""
        return self._dequeued(n, True, name or f"{self._name}_DequeueUpTo")

    def _dequeued(self, n: Any, up_to: bool, name: str) -> Any:
        for dims in self._dims:
            if dims is None or not (self._pads or is_known(dims)):
                raise GraphError(
                    f"{self._name}: several elements can be dequeued only where the shapes of the "
                    f"components are given, not {format_dims(dims)}"
                )
        return self._element(
            queue_dequeue_many(
                self.queue_ref,
                n,
                dims=tuple(self._dims),
                types=tuple(self.dtypes),
                up_to=up_to,
                pad=self._pads,
                name=name,
            )
        )

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> Operation:
        """An operation that closes the queue: nothing more comes in.

        Args:
          cancel_pending_enqueues: those that wait for room fail.
        """
        return queue_close(
            self.queue_ref, cancel_pending_enqueues=bool(cancel_pending_enqueues),
            name=name or f"{self._name}_Close",
        )  # fmt: skip

    def is_closed(self, name: str | None = None) -> Tensor:
        """Is it closed?"""
        return queue_is_closed(self.queue_ref, name=name or f"{self._name}_Is_Closed")

    def size(self, name: str | None = None) -> Tensor:
        """Number of elements."""
        return queue_size(self.queue_ref, name=name or f"{self._name}_Size")

    def _components(self, vals: Any, many: bool) -> list[Tensor]:
        if isinstance(vals, Mapping):
            if not self.names or sorted(vals) != sorted(self.names):
                raise GraphError(f"{self._name} takes components {self.names}, not {list(vals)}")
            vals = [vals[name] for name in self.names]
        elif self.names:
            raise GraphError(f"{self._name} takes a dict, for its components have names")
        elif not isinstance(vals, (list, tuple)) or (len(self.dtypes) == 1 and _is_data(vals)):
            vals = [vals]
        if len(vals) != len(self.dtypes):
            raise GraphError(f"{self._name} takes {len(self.dtypes)} components, not {len(vals)}")
        parts = []
        for value, dtype, dims in zip(vals, self.dtypes, self._dims, strict=True):
            tensor = as_tensor(value, None if hasattr(value, "dtype") else dtype)
            if tensor.dtype is not dtype:
                raise DTypeError(f"{self._name} takes {dtype.name}, not {tensor.dtype.name}")
            wanted = dims if not many or dims is None else (None, *dims)
            if merged(tensor.dims, wanted) is CLASH or (many and tensor.dims == ()):
                raise ShapeError(
                    f"{self._name} takes {format_dims(wanted)}, not {format_dims(tensor.dims)}"
                )
            parts.append(tensor)
        return parts

    def _element(self, outputs: Any) -> Any:
        parts = list(outputs) if isinstance(outputs, tuple) else [outputs]
        if self.names:
            return dict(zip(self.names, parts, strict=True))
        return parts[0] if len(parts) == 1 else parts


def _is_data(vals: Sequence[Any]) -> bool:
    """Is a list one component, rather than the list of components?"""
    return len(vals) != 1


def _component_dims(shapes: Any, count: int) -> list[Dims]:
    if shapes is None:
        return [None] * count
    try:
        found = [as_dims(shapes)] if count == 1 else None
    except TypeError:
        found = None
    if found is None:
        found = [as_dims(shape) for shape in shapes]
    if len(found) != count:
        raise GraphError(f"{len(found)} shapes were given for {count} components")
    return found


def _component_names(names: Any, count: int) -> list[str] | None:
    if names is None:
        return None
    listed = [names] if isinstance(names, str) else list(names)
    if len(listed) != count:
        raise GraphError(f"{len(listed)} names were given for {count} components")
    return listed


class FIFOQueue(QueueBase):
    """A queue that gives its elements in the order in which they came."""

    def __init__(
        self,
        capacity: int,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        shared_name: str | None = None,
        name: str = "fifo_queue",
    ):
        """Args:
        capacity: how many elements fit; negative: any number.
        dtypes, shapes, names: those of the components of an element.
        shared_name: queues of one shared name are one queue.
        """
        super().__init__(dtypes, shapes, names, name, shared_name, capacity)


class PaddingFIFOQueue(QueueBase):
    """A FIFO queue whose elements may differ in size: together they are filled with zeros."""

    _pads = True

    def __init__(
        self,
        capacity: int,
        dtypes: Any,
        shapes: Any,
        names: Any = None,
        shared_name: str | None = None,
        name: str = "padding_fifo_queue",
    ):
        """As `FIFOQueue`; sizes in `shapes` may be None."""
        super().__init__(dtypes, shapes, names, name, shared_name, capacity)


class RandomShuffleQueue(QueueBase):
    """A queue that gives its elements in random order."""

    _kind = "shuffle"

    def __init__(
        self,
        capacity: int,
        min_after_dequeue: int,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        seed: int | None = None,
        shared_name: str | None = None,
        name: str = "random_shuffle_queue",
    ):
        """As `FIFOQueue`.

        Args:
          min_after_dequeue: so many elements stay to choose from, until the queue is closed.
          seed: of the choices.
        """
        found = get_seed(seed)
        seeds = None if found[0] is None and found[1] is None else tuple(s or 0 for s in found)
        super().__init__(
            dtypes, shapes, names, name, shared_name, capacity, min_after_dequeue, seeds
        )


class PriorityQueue(QueueBase):
    """A queue that gives the element with the smallest first component first, an int64."""

    _kind = "priority"

    def __init__(
        self,
        capacity: int,
        types: Any,
        shapes: Any = None,
        names: Any = None,
        shared_name: str | None = None,
        name: str = "priority_queue",
    ):
        """As `FIFOQueue`; `types`, `shapes` and `names` are those of the further components."""
        listed = list(types) if isinstance(types, (list, tuple)) else [types]
        given = _component_dims(shapes, len(listed))
        named = _component_names(names, len(listed))
        names = None if named is None else ["priority", *named]
        super().__init__([dtypes.int64, *listed], [(), *given], names, name, shared_name, capacity)
