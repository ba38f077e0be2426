"""A subgraph being rewritten: old operations go in one by one, a new subgraph comes out.

New operations are made here, not added to a graph: they keep the name, the site, the requested
device and the graph of the operation that they stand for, but that graph does not know them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from graphflow.base.shapes import Dims, merged
from graphflow.build.opdef import OpDef
from graphflow.build.tensor import Operation, Tensor
from graphflow.rewrite.effects import is_droppable, is_pure
from graphflow.rewrite.subgraph import Subgraph


class Draft:
    """What has been rewritten so far.

    Attributes:
      view: the old subgraph.
      after: new operation -> what it waits for besides its inputs.
      order: the new operations.
    """

    def __init__(self, view: Subgraph):
        self.view = view
        self.fed = {id(t) for t in view.feeds}
        self.order: list[Operation] = []
        self.after: dict[Operation, tuple[Operation, ...]] = {}
        self.origins = dict(view.origins)
        self._tensors: dict[int, Tensor] = {}  # id of old -> new, where they differ
        self._operations: dict[Operation, tuple[Operation, ...]] = {}
        self._names: set[str] | None = None
        self._merged: dict[Operation, list[Operation]] = {}

    # ---- one operation

    def current(self, old: Operation) -> Operation:
        """The old operation, remade where its inputs are others by now."""
        tensors = self._tensors
        if not tensors:
            return old
        inputs = tuple([tensors.get(id(t), t) for t in old.inputs])
        return old if inputs == old.inputs else self.remake(old, inputs)

    def is_free(self, old: Operation) -> bool:
        """May something else take its place?  Not where others wait on its behalf, or a value
        is fed for one of its outputs, or it has effects."""
        return (
            old not in self.view.after
            and is_pure(old)
            and not (self.fed and any(id(t) in self.fed for t in old.outputs))
        )

    def is_open(self, tensor: Tensor) -> bool:
        """May a rule look at what computes it?  A fed tensor is a source, and an operation
        that waits for others stands between them and what takes its output."""
        return tensor.op not in self.after and id(tensor) not in self.fed

    def keep(self, old: Operation, new: Operation) -> None:
        """Take over an operation, remade or not."""
        waits = self.view.after.get(old, ())
        if waits:
            found = dict.fromkeys(n for o in waits for n in self._operations.get(o, (o,)))
            self.after[new] = tuple(found)
        self.order.append(new)
        if new is not old:
            self._stand_in(old, new.outputs, (new,))

    def replace(self, old: Operation, outputs: Sequence[Tensor]) -> None:
        """Let other tensors stand for the outputs; what waited for it waits for theirs."""
        self._stand_in(old, outputs, self._running(t for t in outputs))

    def _stand_in(
        self, old: Operation, outputs: Sequence[Tensor], running: tuple[Operation, ...]
    ) -> None:
        for before, now in zip(old.outputs, outputs, strict=True):
            if id(before) not in self.fed:
                self._tensors[id(before)] = now
        self._operations[old] = running

    def _running(self, tensors: Iterable[Tensor]) -> tuple[Operation, ...]:
        return tuple(dict.fromkeys(t.op for t in tensors if id(t) not in self.fed))

    # ---- new operations

    def remake(
        self, old: Operation, inputs: tuple[Tensor, ...], attrs: Mapping[str, Any] | None = None
    ) -> Operation:
        """The operation on other inputs, or with other attributes."""
        new = Operation(
            old.graph,
            old.id,
            old.name,
            old.opdef,
            inputs,
            old.attrs if attrs is None else attrs,
            [(t.dims, t.dtype) for t in old.outputs],
            old.site,
            (),
            old.device,
            old.colocation,
        )
        self.origins[new] = self.origins.get(old, (old,))
        return new

    def make(
        self,
        opdef: OpDef,
        inputs: tuple[Tensor, ...],
        attrs: Mapping[str, Any],
        like: Operation,
        name: str | None = None,
    ) -> Operation:
        """A new operation on behalf of another one; `add` puts it into the order."""
        attrs = opdef.complete(attrs)
        specs = opdef.infer(*inputs, **attrs)
        new = Operation(
            like.graph,
            like.id,
            name or like.name,
            opdef,
            inputs,
            attrs,
            specs,
            like.site,
            (),
            like.device,
            like.colocation,
        )
        self.origins[new] = self.origins.get(like, (like,))
        return new

    def add(self, new: Operation) -> None:
        self.order.append(new)

    def unique(self, name: str) -> str:
        """A name that no operation of the subgraph has."""
        if self._names is None:
            self._names = {o.name for o in self.view.order}
        found, n = name, 0
        while found in self._names:
            n += 1
            found = f"{name}_{n}"
        self._names.add(found)
        return found

    def note_merged(self, kept: Operation, gone: Operation) -> None:
        """Remember that an operation does another one's work, too."""
        self._merged.setdefault(kept, []).append(gone)

    # ---- the result

    def finish(self) -> Subgraph:
        """The new subgraph, without what nothing needs any more."""
        if not self._operations and len(self.order) == len(self.view.order):
            return self.view
        tensors, view, origins = self._tensors, self.view, self.origins
        for kept, others in self._merged.items():
            every = [o for one in (kept, *others) for o in origins.get(one, (one,))]
            origins[kept] = tuple(dict.fromkeys(every))
        fetches = tuple([tensors.get(id(t), t) for t in view.fetches])
        targets = dict.fromkeys(n for o in view.targets for n in self._operations.get(o, (o,)))
        return swept(
            Subgraph(tuple(self.order), view.feeds, fetches, tuple(targets), self.after, origins)
        )


Change = Callable[[Operation, Draft], Sequence[Tensor] | None]


def walk(view: Subgraph, change: Change) -> Subgraph:
    """Offer each operation, inputs first; `change` gives tensors for its outputs, or None.

    What is offered is pure and may be replaced.  A replacement of another dtype or shape is
    refused here, once, and not in each rule.
    """
    draft = Draft(view)
    for old in view.order:
        new = draft.current(old)
        if draft.is_free(old):
            outputs = change(new, draft)
            if outputs is not None and fits(new, outputs):
                draft.replace(old, outputs)
                continue
        draft.keep(old, new)
    return draft.finish()


def fits(operation: Operation, outputs: Sequence[Tensor]) -> bool:
    """Have the tensors the dtypes and shapes of its outputs?  They may know more of a shape."""
    return len(outputs) == len(operation.outputs) and all(
        new.dtype is old.dtype and _refines(new.dims, old.dims)
        for new, old in zip(outputs, operation.outputs, strict=True)
    )


def _refines(new: Dims, old: Dims) -> bool:
    return new == old or bool(merged(new, old) == new)


def swept(view: Subgraph) -> Subgraph:
    """The subgraph without dead operations.  What has effects is never dead: it was needed."""
    fed = {id(t) for t in view.feeds}
    roots = [t.op for t in view.fetches if id(t) not in fed]
    roots += view.targets
    roots += [o for o in view.order if not is_droppable(o)]
    alive = set(roots)
    stack = list(alive)
    while stack:
        operation = stack.pop()
        for before in (
            *[t.op for t in operation.inputs if id(t) not in fed],
            *view.after.get(operation, ()),
        ):
            if before not in alive:
                alive.add(before)
                stack.append(before)
    return Subgraph(
        tuple([o for o in view.order if o in alive]),
        view.feeds,
        view.fetches,
        view.targets,
        {o: w for o, w in view.after.items() if o in alive},
        {o: w for o, w in view.origins.items() if o in alive},
    )
