"""A small interpreter of graphs without state: for constant folding, checks and tests.

It calls each reference kernel once, in order, and keeps every value until it returns.  Sessions
do not use it: they compile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.base.errors import FailedPreconditionError, GraphError
from graphflow.build.body import Body
from graphflow.build.tensor import Operation, Tensor


class PureContext:
    """The `ctx` of ops that run bodies but touch no state."""

    def __init__(self, xp: Any = np):
        self.xp = xp

    def call(self, body: Body, arguments: Sequence[Any]) -> list[Any]:
        """Outputs of a body on values for its inputs and then its captures."""
        arguments = tuple(arguments)
        names = [*body.inputs, *body.captures.values()]
        if len(names) != len(arguments):
            raise GraphError(f"a body takes {len(names)} arguments, not {len(arguments)}")
        values = dict(zip(names, arguments, strict=True))
        return evaluate(body.outputs, values, self.xp)

    def check_cancelled(self) -> None:
        """Nobody cancels an interpreter."""

    def __getattr__(self, name: str) -> Any:
        raise FailedPreconditionError(
            None, None, f"this needs a session: the interpreter has no state (ctx.{name})"
        )


def evaluate(
    fetches: Sequence[Tensor], feeds: Mapping[Tensor, Any] | None = None, xp: Any = np
) -> list[Any]:
    """Values of tensors, computed from values of others.

    Raises:
      GraphError: the value of a placeholder that is needed is missing.
    """
    values: dict[Tensor, Any] = dict(feeds or {})
    context = PureContext(xp)
    for operation in ordered([t.op for t in fetches if t not in values], values):
        if all(t in values for t in operation.outputs) and operation.outputs:
            continue
        for tensor, value in zip(operation.outputs, run(operation, values, context), strict=True):
            values.setdefault(tensor, value)
    return [values[t] for t in fetches]


def run(operation: Operation, values: Mapping[Tensor, Any], context: Any) -> Sequence[Any]:
    """Outputs of one operation, given the values of its inputs."""
    opdef = operation.opdef
    if opdef.kernel is None:
        raise GraphError(f"{operation.name!r} needs a value; built at {operation.site}")
    inputs = [values[t] for t in operation.inputs]
    before = (context,) if opdef.takes_ctx else ()
    with np.errstate(all="ignore"):
        result = opdef.kernel(context.xp, *before, *inputs, **operation.attrs)
    return result if len(operation.outputs) != 1 or type(result) is tuple else (result,)


def ordered(targets: Iterable[Operation], given: Iterable[Tensor] = ()) -> list[Operation]:
    """The operations that the targets need, inputs first.

    Iterative, since a chain of 20,000 operations overflows Python's stack.  What is behind a
    given tensor is left out.

    Raises:
      GraphError: there is a cycle through control dependencies.
    """
    given = set(given)
    done: dict[Operation, bool] = {}  # False: on the way down to its inputs
    order: list[Operation] = []
    stack: list[tuple[Operation, bool]] = [(o, False) for o in reversed(list(targets))]
    while stack:
        operation, leaving = stack.pop()
        if leaving:
            done[operation] = True
            order.append(operation)
            continue
        if operation in done:
            continue
        done[operation] = False
        stack.append((operation, True))
        for before in reversed(_needs(operation, given)):
            if done.get(before) is False:
                raise GraphError(
                    f"cycle: {operation.name!r} (built at {operation.site}) and {before.name!r} "
                    f"(built at {before.site}) wait for each other through control dependencies"
                )
            if before not in done:
                stack.append((before, False))
    return order


def _needs(operation: Operation, given: set[Tensor]) -> list[Operation]:
    data = [t.op for t in operation.inputs if t not in given]
    return [*data, *operation.control_inputs]
