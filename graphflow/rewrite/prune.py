"""Prune: the operations that a `run` needs, in an order in which they may run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build.graph import Graph
from graphflow.build.tensor import Operation, Tensor
from graphflow.rewrite.draft import Draft
from graphflow.rewrite.effects import Touch, resource, touches
from graphflow.rewrite.order import kahn, serialise
from graphflow.rewrite.subgraph import Subgraph


def prune(
    graph: Graph,
    fetches: Sequence[Tensor],
    targets: Sequence[Operation] = (),
    feeds: Iterable[Tensor] = (),
) -> Subgraph:
    """The operations needed for the fetches and the targets, cut at the fed tensors.

    Ties in the order are broken by creation, so that the same graph gives the same order.
    `rewrite.order` tells how reads and writes of a variable are ordered.  To feed one read of a
    variable is to feed the variable: its other reads from before the step, outside of control
    flow, give the fed value, too.  It costs about 2 us
    per operation that is needed, whatever the size of the rest of the graph.

    Args:
      graph: the graph, or a body (whose arguments are then fed).
      fetches: tensors whose values are wanted; fed ones may be among them.
      targets: operations to run for their effects.
      feeds: tensors whose values are handed in; any may be, needed or not.

    Raises:
      GraphError: an element belongs to another graph; control dependencies form a cycle.
    """
    feeds = tuple(feeds)
    for operation in (*[t.op for t in (*fetches, *feeds)], *targets):
        if operation.graph is not graph:
            raise GraphError(
                f"{operation.name!r} (built at {operation.site}) is not in the graph that is run"
            )
    fed = {id(t) for t in feeds}
    needed = _needed([*targets, *[t.op for t in fetches if id(t) not in fed]], fed)
    control = {o: c for o in needed if (c := _control(o, fed))}
    order = _in_order(needed, control, graph.added_control, fed)
    order, after = serialise(order, control, fed)
    view = Subgraph(tuple(order), feeds, tuple(fetches), tuple(targets), after)
    variables = {resource(t.op.inputs[0]): t for t in reversed(feeds) if _is_read(t.op)}
    return _with_values(view, variables) if variables else view


def _needed(targets: Iterable[Operation], fed: set[int]) -> set[Operation]:
    """Everything behind the targets.  Iterative: a chain overflows Python's stack otherwise."""
    stack = list(targets)
    seen = set(stack)
    while stack:
        operation = stack.pop()
        for tensor in operation.inputs:
            before = tensor.op
            if before not in seen and not (fed and id(tensor) in fed):
                seen.add(before)
                stack.append(before)
        for before in operation.control_inputs:
            if before not in seen and not (fed and _is_given(before, fed)):
                seen.add(before)
                stack.append(before)
    return seen


def _control(operation: Operation, fed: set[int]) -> tuple[Operation, ...]:
    control = operation.control_inputs
    if control and fed:
        return tuple([o for o in control if not _is_given(o, fed)])
    return control


def _is_given(operation: Operation, fed: set[int]) -> bool:
    """Is it a placeholder that is fed?  To wait for one is to wait for nothing."""
    return operation.opdef.kernel is None and all(id(t) in fed for t in operation.outputs)


def _in_order(
    needed: set[Operation],
    control: Mapping[Operation, tuple[Operation, ...]],
    added: Mapping[Operation, tuple[Operation, ...]],
    fed: set[int],
) -> list[Operation]:
    """Topological, ties by creation.

    A graph is appended to, so the order of creation is that order already, unless a control
    input was added to an operation later.
    """
    order = sorted(needed, key=attrgetter("id"))
    if all(c.id < o.id for o in added if o in needed for c in control.get(o, ())):
        return order

    def before(operation: Operation) -> list[Operation]:
        data = [t.op for t in operation.inputs if id(t) not in fed]
        return [*data, *control.get(operation, ())]

    done = kahn(order, before)
    if len(done) < len(order):
        raise GraphError(_explain_cycle(set(order) - set(done), before))
    return done


def _is_read(operation: Operation) -> bool:
    return operation.type == "ReadVariable"


def _with_values(view: Subgraph, variables: Mapping[Any, Tensor]) -> Subgraph:
    """The subgraph with fed tensors in the place of reads of their variables."""
    draft = Draft(view)
    fed = {t.op for t in view.feeds}
    for old in view.order:
        new = draft.current(old)
        value = variables.get(resource(old.inputs[0])) if _is_read(old) else None
        if value is None or old in fed or _follows_write(old, view):
            draft.keep(old, new)
        else:
            draft.replace(old, (value,))
    return draft.finish()


def _follows_write(read: Operation, view: Subgraph) -> bool:
    written = Touch("write", resource(read.inputs[0]))
    return any(written in touches(before) for before in view.after.get(read, ()))


def _explain_cycle(stuck: set[Operation], before: Callable[[Operation], list[Operation]]) -> str:
    """Follow what they wait for until an operation shows up twice; name it and the one it needs."""
    operation = min(stuck, key=attrgetter("id"))
    seen: dict[Operation, None] = {}
    while operation not in seen:
        seen[operation] = None
        operation = next(o for o in before(operation) if o in stuck)
    cycle = list(seen)[list(seen).index(operation) :]
    first = min(cycle, key=attrgetter("id"))
    other = max(cycle, key=attrgetter("id"))
    return (
        f"cycle: {first.name!r} (built at {first.site}) and {other.name!r} (built at "
        f"{other.site}) wait for each other through control dependencies, by way of "
        f"{len(cycle)} operations: remove one of the control inputs that were added later"
    )
