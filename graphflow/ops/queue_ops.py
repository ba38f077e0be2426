"""The ops of queues.  The classes that users hold are in `queues`, the objects in `queue_state`.

A dequeue is an input of its run and waits for elements, which the queue has again if the run fails;
an enqueue is an output, released when the run commits.  A dequeue sees what its own run has
enqueued before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.errors import InvalidArgumentError
from graphflow.base.shapes import CLASH, Dims, format_dims, merged
from graphflow.base.state import StateKey, object_of
from graphflow.build import Tensor, op
from graphflow.build.opdef import Array, Each, Handle, Index, Specs
from graphflow.ops.known import constant_value
from graphflow.ops.queue_state import (
    Enqueue,
    Parts,
    PriorityState,
    QueueState,
    ShuffleState,
    own_elements,
    take_own,
)
from graphflow.ops.rules import nothing


def _found(ctx: Any, handle: StateKey) -> QueueState:
    def missing() -> QueueState:
        raise InvalidArgumentError(None, None, f"there is no queue {handle.name!r}")

    queue: QueueState = ctx.resource(handle, missing)
    return queue


@op("QueueHandle", infer=lambda **_: [((), dtypes.resource)], grad=None, effect="state")
def queue_handle(
    xp: Any, ctx: Any, *, container: Any = "", shared_name: Any, kind: Any, capacity: Any,
    least: Any, seeds: Any,
) -> StateKey:  # fmt: skip
    """The name of a queue, which is made where there is none.

    Attributes:
      kind: "fifo", "shuffle" or "priority".
      capacity: number of elements; negative: no bound.
      least: elements that a shuffling queue keeps to choose from.
      seeds: the seeds of its choices; None: from the session's seed.
    """
    key, name = object_of("queue", container, shared_name)

    def make() -> QueueState:
        if kind == "shuffle":
            chosen = (ctx.seed, 0) if seeds is None else seeds
            return ShuffleState(name, capacity, least, [abs(int(s)) for s in chosen])
        return (PriorityState if kind == "priority" else QueueState)(name, capacity)

    queue = ctx.resource(key, make)
    if queue.capacity != capacity:
        raise InvalidArgumentError(
            None, None, f"queue {name!r} has capacity {queue.capacity}, not {capacity}"
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
    ctx.output(Enqueue(queue, elements, ctx.cancelled, bound=not ctx.again), own=True)
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


def _taken(ctx: Any, handle: StateKey, count: int, up_to: bool) -> list[Parts]:
    queue = _found(ctx, handle)
    own = own_elements(ctx.pending, queue)
    found = ctx.take(
        handle,
        lambda numbers: queue.take(count, up_to, own, ctx.cancelled, ctx.turn, numbers),
        of=(np.array([count, min(count, len(own))]),),
    )
    if ctx.turn is not None and found.elements:
        ctx.turn.took(queue.name, found.numbers)
    parts = [element.parts for element in found.elements]
    return [*parts, *take_own(ctx.pending, queue, found.own)]


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
    for row, value in enumerate(values):
        place: Any = (row, *[slice(0, n) for n in value.shape])
        result[place] = value
    return result


@op("QueueClose", infer=nothing, grad=None, effect="output")
def queue_close(xp: Any, ctx: Any, handle: Handle, *, cancel_pending_enqueues: Any) -> tuple[()]:
    """Close the queue: what is in it may still be taken, nothing more comes in."""
    queue = _found(ctx, handle)
    ctx.output(lambda: queue.close(cancel_pending_enqueues), own=True)
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
