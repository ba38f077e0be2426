"""Which values may share memory with something that outlives them.

A kernel may return a view of an input (`alias`), a variable hands out the array it holds, and an
assignment keeps the array it gets.  Users may write into what they fetch and into what they
fed, so such values are copied on their way out or in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphflow.base.dtypes import variant
from graphflow.build.tensor import Operation, Tensor


class Sharing:
    """Roots of aliasing: the tensor whose memory a value may be a view of."""

    def __init__(self, order: Sequence[Operation], inputs: Iterable[Tensor]):
        self.root: dict[Tensor, Tensor] = {t: t for t in inputs}
        self.kept: set[Tensor] = set()  # roots that somebody holds on to
        given = set(self.root)
        for operation in order:
            self._visit(operation, given)

    def _visit(self, operation: Operation, given: set[Tensor]) -> None:
        opdef = operation.opdef
        for tensor in operation.outputs:
            if tensor in given:
                continue
            if opdef.alias is not None:
                self.root[tensor] = self._of(operation.inputs[opdef.alias])
            else:
                self.root[tensor] = tensor
        holds = any(t.dtype is variant for t in operation.outputs)  # a list of its inputs
        if holds or (opdef.takes_ctx and not opdef.random):  # state, queues, bodies: may keep any
            self.kept.update(self._of(t) for t in operation.inputs)
            self.kept.update(self._of(t) for t in operation.outputs)
        elif not operation.inputs:  # constants are used again in the next run
            self.kept.update(operation.outputs)

    def _of(self, tensor: Tensor) -> Tensor:
        return self.root.get(tensor, tensor)

    def is_kept(self, tensor: Tensor) -> bool:
        """Does something keep the memory of this value beyond the run?"""
        return self._of(tensor) in self.kept

    def shared(self, fetches: Sequence[Tensor], given: set[Tensor]) -> list[bool]:
        """For each fetch: must the user get a copy?"""
        seen: set[Tensor] = set()
        result = []
        for tensor in fetches:
            root = self._of(tensor)
            result.append(root in self.kept or root in given or root in seen)
            seen.add(root)
        return result
