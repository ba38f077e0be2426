"""Queues: values handed from run to run, and from thread to thread.

A dequeue is an input of its run and waits for elements; an enqueue is an output, released when
the run commits.  A dequeue sees what its own run has enqueued before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, Dims, TensorShape, as_dims, format_dims, is_known, merged
from graphflow.base.state import StateKey
from graphflow.build import Operation, Tensor, as_tensor, op
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import Array, Each, Handle, Index, Specs
from graphflow.ops.known import constant_value
from graphflow.ops.queue_state import (
    Enqueue,
    PriorityState,
    QueueState,
    ShuffleState,
    own_elements,
    take_own,
)
from graphflow.ops.random import get_seed
from graphflow.ops.rules import nothing


def _found(ctx: Any, handle: StateKey) -> QueueState:
    def missing() -> QueueState:
        raise InvalidArgumentError(None, None, f"there is no queue {handle.name!r}")

    queue: QueueState = ctx.resource(handle, missing)
    return queue


@op("QueueHandle", infer=lambda **_: [((), dtypes.resource)], grad=None, effect="state")
def queue_handle(
    xp: Any, ctx: Any, *, shared_name: Any, kind: Any, capacity: Any, least: Any, seeds: Any
) -> StateKey:
    """The name of a queue, which is made where there is none.

    Attributes:
      kind: "fifo", "shuffle" or "priority".
      capacity: number of elements; negative: no bound.
      least: elements that a shuffling queue keeps to choose from.
      seeds: the seeds of its choices; None: from the session's seed.
    """
    key = StateKey("", f"queue {shared_name}")

    def make() -> QueueState:
        if kind == "shuffle":
            chosen = (ctx.seed, 0) if seeds is None else seeds
            return ShuffleState(shared_name, capacity, least, [abs(int(s)) for s in chosen])
        return (PriorityState if kind == "priority" else QueueState)(shared_name, capacity)

    queue = ctx.resource(key, make)
    if queue.capacity != capacity:
        raise InvalidArgumentError(
            None, None, f"queue {shared_name!r} has capacity {queue.capacity}, not {capacity}"
        )
    return key


@op("QueueEnqueue", infer=nothing, grad=None, effect="output")
def queue_enqueue(
    xp: Any, ctx: Any, handle: Handle, *components: Each, dims: Any, many: Any
) -> tuple[()]:
    """Add an element, or, where `many`, the rows of the components as elements.

    Raises CancelledError where the queue is closed, InvalidArgumentError where a shape is wrong.
    """
    queue = _found(ctx, handle)
    queue.check_open()
    elements = list(zip(*components, strict=True)) if many else [components]
    if many and len({len(c) for c in components}) > 1:
        sizes = ", ".join(str(c.shape) for c in components)
        raise InvalidArgumentError(None, None, f"components differ in their first size: {sizes}")
    elements = [tuple(np.asarray(part) for part in element) for element in elements]
    for part, known in zip(elements[0] if elements else (), dims, strict=False):
        if merged(part.shape, known) is CLASH:
            raise InvalidArgumentError(
                None,
                None,
                f"an element of shape {part.shape} is enqueued to {queue.name!r}, which takes "
                f"{format_dims(known)}",
            )
    ctx.output(Enqueue(queue, elements, ctx.cancelled))
    return ()


def _one(handle: Tensor, *, dims: Any, types: Any) -> Specs:
    return list(zip(dims, types, strict=True))


@op("QueueDequeue", infer=_one, grad=None, effect="input")
def queue_dequeue(xp: Any, ctx: Any, handle: Handle, *, dims: Any, types: Any) -> Any:
    """Take an element.  Waits for one; OutOfRangeError where the queue is closed and empty."""
    (element,) = _taken(ctx, handle, 1, False)
    parts = tuple(_device(xp, part) for part in element)
    return parts[0] if len(parts) == 1 else parts


def _several(
    handle: Tensor, count: Tensor, *, dims: Any, types: Any, up_to: Any, **_: Any
) -> Specs:
    known = None if up_to else constant_value(count)
    size = None if known is None else int(known)
    rows = [(size, *each) for each in dims]
    return list(zip(rows, types, strict=True))


@op("QueueDequeueMany", infer=_several, grad=None, effect="input", host=("count",), dynamic=True)
def queue_dequeue_many(
    xp: Any,
    ctx: Any,
    handle: Handle,
    count: Index,
    *,
    dims: Any,
    types: Any,
    up_to: Any,
    pad: Any,
) -> Any:
    """Take elements, stacked along a new first axis.

    Waits for `count` of them.  Raises OutOfRangeError where the queue is closed and has fewer;
    with `up_to` it then gives those, unless there is none.  With `pad`, smaller ones are filled
    with zeros at their ends.
    """
    if int(count) < 0:
        raise InvalidArgumentError(None, None, f"{int(count)} elements cannot be dequeued")
    elements = _taken(ctx, handle, int(count), up_to)
    columns = [[element[i] for element in elements] for i in range(len(types))]
    parts = tuple(
        _device(xp, _stacked(column, known, dtype, pad))
        for column, known, dtype in zip(columns, dims, types, strict=True)
    )
    return parts[0] if len(parts) == 1 else parts


def _taken(ctx: Any, handle: StateKey, count: int, up_to: bool) -> list[tuple[Any, ...]]:
    queue = _found(ctx, handle)
    own = own_elements(ctx.pending, queue)
    found = ctx.input(lambda: queue.take(count, up_to, own, ctx.cancelled))
    return [*found.elements, *take_own(ctx.pending, queue, found.own)]


def _device(xp: Any, value: Any) -> Array:
    return value if value.dtype == object else xp.asarray(value)


def _stacked(values: list[Any], dims: Dims, dtype: DType, pad: bool) -> Array:
    if not values:
        return np.zeros((0, *[n or 0 for n in dims or ()]), dtype.np)
    if not pad:
        return np.stack(values)
    shape = [max(sizes) for sizes in zip(*[v.shape for v in values], strict=True)]
    shape = [n if n is not None else m for n, m in zip(dims or (), shape, strict=True)]
    result = np.zeros((len(values), *shape), dtype.np)
    if dtype is dtypes.string:
        result.fill(b"")
    for row, value in zip(result, values, strict=True):
        row[tuple(slice(0, n) for n in value.shape)] = value
    return result


@op("QueueClose", infer=nothing, grad=None, effect="output")
def queue_close(xp: Any, ctx: Any, handle: Handle, *, cancel_pending_enqueues: Any) -> tuple[()]:
    """Close the queue: what is in it may still be taken, nothing more comes in."""
    queue = _found(ctx, handle)
    ctx.output(lambda: queue.close(cancel_pending_enqueues))
    return ()


@op("QueueSize", infer=lambda handle: [((), dtypes.int32)], grad=None, effect="input")
def queue_size(xp: Any, ctx: Any, handle: Handle) -> Array:
    """Number of elements in the queue, with those that the run has enqueued."""
    queue = _found(ctx, handle)
    return np.asarray(ctx.input(queue.size) + len(own_elements(ctx.pending, queue)), np.int32)


@op("QueueIsClosed", infer=lambda handle: [((), dtypes.bool_)], grad=None, effect="input")
def queue_is_closed(xp: Any, ctx: Any, handle: Handle) -> Array:
    """Is the queue closed?"""
    queue = _found(ctx, handle)
    return np.asarray(ctx.input(lambda: queue.closed))


# ---- TensorFlow's classes


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
                shared_name=shared_name or unique, kind=self._kind, capacity=int(capacity),
                least=int(least), seeds=seeds, name=f"{unique}/",
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
