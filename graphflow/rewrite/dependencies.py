"""Dependency cleaning: edges of order that say nothing new are dropped."""

from __future__ import annotations

from graphflow.build.tensor import Operation
from graphflow.rewrite.draft import swept
from graphflow.rewrite.subgraph import Subgraph

SMALL = 8  # what waits for a NoOp may wait for this many operations in its place


def clean(view: Subgraph) -> Subgraph:
    """The subgraph with fewer edges of order.

    Dropped are edges from what an operation takes as input or waits for by another edge one
    step away, and from constants and handles.  A NoOp with few predecessors is passed by, and
    so disappears unless it is asked for.
    """
    fed = {id(t) for t in view.feeds}
    after: dict[Operation, tuple[Operation, ...]] = {}
    for operation in view.order:
        waits = view.after.get(operation)
        if not waits:
            continue
        known = {t.op for t in operation.inputs if id(t) not in fed}
        passed: dict[Operation, None] = {}
        for before in waits:
            behind = after.get(before, ())
            if before.type == "NoOp" and len(behind) <= SMALL:
                passed |= dict.fromkeys(behind)
            else:
                passed[before] = None
        for before in (*known, *passed):
            known.update(after.get(before, ()))
        left = tuple([o for o in passed if o not in known and not _is_instant(o, after)])
        if left:
            after[operation] = left
    if after == view.after:
        return view
    return swept(Subgraph(view.order, view.feeds, view.fetches, view.targets, after, view.origins))


def _is_instant(operation: Operation, after: dict[Operation, tuple[Operation, ...]]) -> bool:
    """Is there nothing to wait for?"""
    return operation.type in ("Const", "VarHandle") and operation not in after
