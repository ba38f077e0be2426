"""The order of effects: reads and writes of variables, inputs and outputs.

Writes of one variable, and reads that come after a write of it (that depend on one, by data or
by control), follow one serial order: topological, ties by creation.  All other reads take the
value from before the step.  The design asks for "an ordering edge, or a copy where the edge
would close a cycle" for them.  Both come for free here: such a read needs nothing but the
handle, so it moves to the front of the order without its control edges, and the first write
waits for it.  An edge from an operation without predecessors closes no cycle; and since values
are replaced, not mutated, what it has read is the copy.

Inputs and outputs of one queue keep their order, too, and so do those of one kind that have no
resource: prints, asserts.

A Cond or While that only reads a variable, or a gather from one, cannot move, for it has other
inputs: the first write waits for it.  Where that would close a cycle, it takes its place in the
serial order instead.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from graphflow.base import dtypes
from graphflow.build.tensor import Operation
from graphflow.rewrite.effects import Touch, touches

Edges = dict[Operation, tuple[Operation, ...]]


def serialise(
    order: list[Operation], control: Mapping[Operation, tuple[Operation, ...]], fed: set[int]
) -> tuple[list[Operation], Edges]:
    """A new order, and what each operation waits for besides its inputs."""
    after: Edges = dict(control)
    touching = _touching(order)
    if not touching:
        return order, after
    state: dict[Any, list[tuple[Operation, bool]]] = {}  # key -> (operation, does it write?)
    streams: dict[Any, list[Operation]] = {}
    for operation, found in touching.items():
        for touch in found:
            if touch.kind in ("input", "output"):
                # what goes into a queue and what comes out are one stream
                key = touch if isinstance(touch.key, str) else touch.key
                streams.setdefault(key, []).append(operation)
        writes = {t.key: False for t in found if t.kind == "read"}
        writes |= {t.key: True for t in found if t.kind == "write"}
        for key, write in writes.items():
            state.setdefault(key, []).append((operation, write))
    edges: list[tuple[Operation, Operation]] = []
    for operations in streams.values():
        edges += pairwise(operations)
    state = {k: uses for k, uses in state.items() if len(uses) > 1 and any(w for _, w in uses)}
    written = _written_before(order, state, control, fed)
    hoisted: dict[Operation, None] = {}
    waiting: list[tuple[Operation, list[Operation]]] = []  # readers before writers, if possible
    for key, uses in state.items():
        _chain(key, uses, written, hoisted, edges, waiting)
    return _apply(order, after, fed, hoisted, edges, waiting)


def kahn(
    order: Sequence[Operation], before: Callable[[Operation], Iterable[Operation]]
) -> list[Operation]:
    """Topological order, ties by position in `order`; shorter where there is a cycle."""
    rank = {operation: i for i, operation in enumerate(order)}
    then: list[list[int]] = [[] for _ in order]
    missing = [0] * len(order)
    for i, operation in enumerate(order):
        needs = {rank[o] for o in before(operation) if o in rank}
        missing[i] = len(needs)
        for j in needs:
            then[j].append(i)
    ready = [i for i, n in enumerate(missing) if not n]  # ascending, hence a heap
    done = []
    while ready:
        i = heapq.heappop(ready)
        done.append(order[i])
        for j in then[i]:
            missing[j] -= 1
            if not missing[j]:
                heapq.heappush(ready, j)
    return done


def _touching(order: Iterable[Operation]) -> dict[Operation, tuple[Touch, ...]]:
    found = {}
    for operation in order:
        opdef = operation.opdef
        if opdef.effect == "none" and not opdef.takes_ctx and opdef.kernel is not None:
            continue
        if touched := touches(operation):
            found[operation] = touched
    return found


def _written_before(
    order: Iterable[Operation],
    state: Mapping[Any, Sequence[tuple[Operation, bool]]],
    control: Mapping[Operation, tuple[Operation, ...]],
    fed: set[int],
) -> dict[Any, set[Operation]]:
    """Key -> its users that come after a write of it.

    One pass with a set of keys per operation, as the bits of an int.
    """
    bits: dict[Operation, int] = {}
    users: dict[Operation, list[tuple[Any, int]]] = {}
    for i, (key, uses) in enumerate(state.items()):
        for operation, writes in uses:
            users.setdefault(operation, []).append((key, 1 << i))
            if writes:
                bits[operation] = bits.get(operation, 0) | 1 << i
    found: dict[Any, set[Operation]] = {key: set() for key in state}
    reached: dict[Operation, int] = {}  # only operations after some write
    for operation in order:
        mask = 0
        if reached:
            for tensor in operation.inputs:
                if tensor.op in reached and id(tensor) not in fed:
                    mask |= reached[tensor.op]
            for before in control.get(operation, ()):
                mask |= reached.get(before, 0)
        for key, bit in users.get(operation, ()):
            if mask & bit:
                found[key].add(operation)
        mask |= bits.get(operation, 0)
        if mask:
            reached[operation] = mask
    return found


def _chain(
    key: Any,
    uses: Sequence[tuple[Operation, bool]],
    written: Mapping[Any, set[Operation]],
    hoisted: dict[Operation, None],
    edges: list[tuple[Operation, Operation]],
    waiting: list[tuple[Operation, list[Operation]]],
) -> None:
    """Edges of one variable's serial order, and what goes before it."""
    writers = [operation for operation, writes in uses if writes]
    write: Operation | None = None
    reads: list[Operation] = []  # since that write
    for operation, writes in uses:
        if writes:
            if reads or write is None:
                edges += [(r, operation) for r in reads]
            else:
                edges.append((write, operation))
            write, reads = operation, []
        elif operation in written[key]:
            assert write is not None
            edges.append((write, operation))
            reads.append(operation)
        elif _needs_only_handles(operation):
            hoisted[operation] = None
            edges.append((operation, writers[0]))
        else:
            waiting.append((operation, writers))


def _needs_only_handles(operation: Operation) -> bool:
    return operation.opdef.effect == "state" and all(
        t.dtype is dtypes.resource for t in operation.inputs
    )


def _apply(
    order: list[Operation],
    after: Edges,
    fed: set[int],
    hoisted: dict[Operation, None],
    edges: list[tuple[Operation, Operation]],
    waiting: list[tuple[Operation, list[Operation]]],
) -> tuple[list[Operation], Edges]:
    front = _with_handles(hoisted, fed)
    for operation in front:
        after.pop(operation, None)
    if front:
        order = [o for o in order if o in front] + [o for o in order if o not in front]
    after = _with_edges(after, edges)
    if not waiting:
        return order, after
    rank = {operation: i for i, operation in enumerate(order)}
    early = [(reader, writers[0]) for reader, writers in waiting]
    trial = _with_edges(after, early)
    if all(rank[reader] < rank[writer] for reader, writer in early):
        return order, trial

    def needs(operation: Operation) -> list[Operation]:
        data = [t.op for t in operation.inputs if id(t) not in fed]
        return [*data, *trial.get(operation, ())]

    new = kahn(order, needs)
    if len(new) == len(order):
        return new, trial
    pairs = [(reader, writer) for reader, writers in waiting for writer in writers]
    return order, _with_edges(after, [p if rank[p[0]] < rank[p[1]] else p[::-1] for p in pairs])


def _with_handles(reads: Iterable[Operation], fed: set[int]) -> set[Operation]:
    """The reads and what makes their handles."""
    found: set[Operation] = set()
    stack = list(reads)
    while stack:
        operation = stack.pop()
        if operation not in found:
            found.add(operation)
            stack += [
                t.op for t in operation.inputs if id(t) not in fed and t.dtype is dtypes.resource
            ]
    return found


def _with_edges(after: Edges, edges: Iterable[tuple[Operation, Operation]]) -> Edges:
    new: dict[Operation, dict[Operation, None]] = {}
    for before, operation in edges:
        if before is not operation:
            new.setdefault(operation, {})[before] = None
    return after | {o: tuple(dict.fromkeys(after.get(o, ())) | more) for o, more in new.items()}
