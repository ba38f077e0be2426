"""Compute values again instead of keeping them, so that a step fits into a limit of memory.

A training step goes forward, and then uses what it computed in the opposite order.  Its forward
part is cut into the stages of a chain, `checkpoints` says what to keep, and the order is written
anew: copies of operations stand before the backward steps that need their values again.  The
result is judged by what it really holds at once, not by the model; where the forward part is no
chain, the model is wrong, and a tighter one is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Final

from graphflow.base.errors import ResourceExhaustedError
from graphflow.build import OPS
from graphflow.build.tensor import Operation, Tensor
from graphflow.rewrite.checkpoints import Event, schedule
from graphflow.rewrite.effects import is_pure
from graphflow.rewrite.subgraph import Operations, Subgraph

Bytes = Callable[[Tensor], int]

_STAGES: Final = 24  # of the chain at most: solving takes n^3
_UNITS: Final = 64  # in which memory is counted
_SHARES: Final = (1.0, 0.85, 0.7, 0.6, 0.5, 0.42, 0.35, 0.28, 0.22, 0.16, 0.1)  # of the limit
_FREE: Final = frozenset({"Const", "VarHandle", "ReadVariable", "Placeholder"})  # kept elsewhere


def recompute(
    view: Subgraph, limit: int, size: Bytes, cost: Callable[[Operation], float]
) -> Subgraph:
    """The subgraph, with values computed again where the step would hold more than the limit.

    Results keep every bit.  What draws random numbers, or has effects, runs once.

    Args:
      limit: bytes of computed values; what is fed, and variables, are there anyway.
      size: bytes of a tensor.
      cost: of an operation, in any unit.

    Raises:
      ResourceExhaustedError: no schedule that was found fits; tells the least that one holds.
    """
    memory = _Memory(view, size)
    peak, turn = memory.peak(view.order)
    if peak <= limit:
        return view
    least = peak
    stages = _stages(view, turn, memory)
    if len(stages) > 1:
        sizes = memory.kept(stages, view.order[turn + 1 :])
        costs = [sum(map(cost, stage)) for stage in stages]
        for share in _SHARES:
            budget = int(limit * share)
            unit = max(1, -(-budget // _UNITS))
            found = schedule([-(-n // unit) for n in sizes], costs, budget // unit)
            if found is None:
                break
            new = _rewritten(view, turn, stages, found.events)
            least = min(least, memory.peak(new.order)[0])
            if least <= limit:
                return new
    raise ResourceExhaustedError(
        None,
        None,
        f"memory_limit={limit}: the step holds {peak} bytes of values at once, and at least "
        f"{least} with what can be computed again; allow more, or make the batch smaller",
    )


class _Memory:
    """What an order of operations holds at once.

    A value is held from the operation that computes it to the last one that takes it.  Views
    share the memory of what they are views of, and what a variable takes is the variable's.
    """

    def __init__(self, view: Subgraph, size: Bytes):
        self.size = size
        self.fed = {id(t) for t in view.feeds}
        self.assigned = {
            self.owner(t).op for o in view.order if o.opdef.writes for t in o.inputs[1:2]
        }
        self.fetched = [t for t in view.fetches if id(t) not in self.fed]

    def owner(self, tensor: Tensor) -> Tensor:
        """The tensor whose memory this one shares."""
        while (alias := tensor.op.opdef.alias) is not None and id(tensor) not in self.fed:
            tensor = tensor.op.inputs[alias]
        return tensor

    def counts(self, tensor: Tensor) -> bool:
        """Is it a computed value of its own?"""
        free = tensor.op.type in _FREE or tensor.op in self.assigned or tensor.op.opdef.writes
        return not free and id(tensor) not in self.fed

    def peak(self, order: Operations) -> tuple[int, int]:
        """Bytes at the worst moment, and which operation runs then."""
        first: dict[Tensor, int] = {}
        last: dict[Tensor, int] = {}
        for at, operation in enumerate(order):
            for tensor in operation.outputs:
                first[tensor] = last[tensor] = at
            for tensor in operation.inputs:
                last[self.owner(tensor)] = at
        for tensor in self.fetched:
            last[self.owner(tensor)] = len(order) - 1
        changes = [0] * (len(order) + 1)
        for tensor, at in first.items():
            if self.counts(tensor) and self.owner(tensor) is tensor:
                changes[at] += self.size(tensor)
                changes[last[tensor] + 1] -= self.size(tensor)
        now = highest = turn = 0
        for at, change in enumerate(changes):
            now += change
            if now > highest:
                highest, turn = now, at
        return highest, turn

    def kept(self, stages: Sequence[Operations], backward: Operations) -> list[int]:
        """Bytes of each stage's values that later stages, or backward steps, take."""
        taken = {self.owner(t) for o in backward for t in o.inputs}
        sizes = []
        for stage in reversed(stages):
            made = [t for o in stage for t in o.outputs if t in taken and self.counts(t)]
            sizes.append(sum(map(self.size, made)))
            taken |= {self.owner(t) for o in stage for t in o.inputs}
        return sizes[::-1]


def _is_forward(operation: Operation) -> bool:
    return is_pure(operation) and not operation.opdef.random and operation.type not in _FREE


def _stages(view: Subgraph, turn: int, memory: _Memory) -> list[Operations]:
    """The forward part in stages.

    A stage ends where nothing goes on to the next that backward steps do not take anyway, and
    little else; where there is no such place, wherever least goes on.
    """
    forward = [o for o in view.order[: turn + 1] if _is_forward(o) and o not in view.after]
    position = {o: i for i, o in enumerate(forward)}
    last: dict[Tensor, int] = {}
    for i, operation in enumerate(forward):
        for tensor in operation.inputs:
            owner = memory.owner(tensor)
            if owner.op in position:
                last[owner] = i
    taken = {memory.owner(t) for o in view.order[turn + 1 :] for t in o.inputs}
    spans = [(position[t.op], end, memory.size(t), t in taken) for t, end in last.items()]
    crossing = _alive([(a, b, size) for a, b, size, _ in spans], len(forward))
    besides = _alive([(a, b, 0 if also else size) for a, b, size, also in spans], len(forward))
    places = range(len(forward) - 1)
    cuts = sorted(_spread([i for i in places if not besides[i]] or places, crossing))
    bounds = [0, *[cut + 1 for cut in cuts], len(forward)]
    return [tuple(forward[a:b]) for a, b in pairwise(bounds) if a < b]


def _alive(spans: Iterable[tuple[int, int, int]], count: int) -> list[int]:
    """At each position, the sum of those (begin, end, size) that begin there or before."""
    changes = [0] * (count + 1)
    for begin, end, size in spans:
        changes[begin] += size
        changes[end] -= size
    return list(accumulate(changes[:-1]))


def _spread(places: Sequence[int], crossing: Sequence[int]) -> Iterable[int]:
    """As many of the places as stages allow, the best of each part."""
    if len(places) < _STAGES:
        return places
    width = len(places) / (_STAGES - 1)
    parts = [places[round(i * width) : round((i + 1) * width)] for i in range(_STAGES - 1)]
    return {min(part, key=lambda i: (crossing[i], -i)) for part in parts if part}


def _rewritten(
    view: Subgraph, turn: int, stages: Sequence[Operations], events: Sequence[Event]
) -> Subgraph:
    """The order that the events give."""
    stage_of = {o: i + 1 for i, stage in enumerate(stages) for o in stage}
    backward = _backward(view, turn, stage_of, len(stages))
    writer = _Writer(view)
    early = [o for o in view.order[: turn + 1] if o not in stage_of]
    waiting = {o: i for i, o in enumerate(view.order)}
    for event in events:
        if event.kind == "backward":
            writer.emit(backward[event.stage])
            continue
        stage = stages[event.stage - 1]
        if stage[0] in writer.made:
            writer.again(stage)
            continue
        end = waiting[stage[-1]]
        besides = [o for o in early if waiting[o] <= end and o not in writer.made]
        writer.emit(sorted([*besides, *stage], key=waiting.__getitem__))
    writer.emit([o for o in view.order if o not in writer.made])
    return writer.finish()


def _backward(
    view: Subgraph, turn: int, stage_of: dict[Operation, int], count: int
) -> dict[int, list[Operation]]:
    """Backward step -> its operations: each as early as what it takes allows."""
    step: dict[Operation, int] = {}
    found: dict[int, list[Operation]] = {i: [] for i in range(1, count + 1)}
    for operation in view.order[turn + 1 :]:
        before = [t.op for t in operation.inputs] + list(view.after.get(operation, ()))
        steps = [step.get(o, stage_of.get(o, count)) for o in before]
        step[operation] = at = min(steps, default=count)
        found[at].append(operation)
    return found


class _Writer:
    """Writes a new order; operations take the latest copies of what they read.

    Attributes:
      made: the user's operations that are in the order.
    """

    def __init__(self, view: Subgraph):
        self.view = view
        self.fed = {id(t) for t in view.feeds}
        self.order: list[Operation] = []
        self.made: dict[Operation, Operation] = {}
        self.now: dict[Tensor, Tensor] = {}
        self.first: dict[Tensor, Tensor] = {}
        self.copies: dict[Operation, int] = {}
        self.origins = dict(view.origins)

    def emit(self, operations: Iterable[Operation]) -> None:
        for old in operations:
            inputs = tuple([self.now.get(t, t) for t in old.inputs])
            new = old if inputs == old.inputs else self._made(old, inputs, old.name)
            self.made[old] = new
            self.order.append(new)
            self._current(old, new)
            for before, after in zip(old.outputs, new.outputs, strict=True):
                self.first[before] = after

    def again(self, operations: Operations) -> None:
        """Compute a stage once more.  A barrier keeps compilers from doing that sooner."""
        like = operations[0]
        number = self.copies.get(like, 0) + 1
        name = f"{like.name}/barrier_{number}"
        self._put(Operation(like.graph, like.id, name, OPS["Barrier"], (), {}, [], like.site, (),
                            like.device, like.colocation), like)  # fmt: skip
        for old in operations:
            number = self.copies[old] = self.copies.get(old, 0) + 1
            inputs = tuple([self.now.get(t, t) for t in old.inputs])
            new = self._made(old, inputs, f"{old.name}/again_{number}")
            self.order.append(new)
            self._current(old, new)

    def _put(self, new: Operation, like: Operation) -> None:
        self.origins[new] = self.origins.get(like, (like,))
        self.order.append(new)

    def _current(self, old: Operation, new: Operation) -> None:
        if new is not old or old in self.copies:
            for before, after in zip(old.outputs, new.outputs, strict=True):
                if id(before) not in self.fed:
                    self.now[before] = after

    def _made(self, old: Operation, inputs: tuple[Tensor, ...], name: str) -> Operation:
        new = Operation(
            old.graph, old.id, name, old.opdef, inputs, old.attrs,
            [(t.dims, t.dtype) for t in old.outputs], old.site, (), old.device, old.colocation,
        )  # fmt: skip
        self.origins[new] = self.origins.get(old, (old,))
        return new

    def finish(self) -> Subgraph:
        made, view = self.made, self.view
        return Subgraph(
            tuple(self.order),
            view.feeds,
            tuple([self.first.get(t, t) for t in view.fetches]),
            tuple([made[o] for o in view.targets]),
            {made[o]: tuple([made[w] for w in waits]) for o, waits in view.after.items()},
            self.origins,
        )
