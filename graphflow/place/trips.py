"""How often a loop runs, where constants decide it: its test and what it counts are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphflow.base.errors import OpError
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.evaluate import evaluate, ordered
from graphflow.rewrite.effects import is_pure

MOST = 256  # iterations that are counted, 20 us each
LARGE = 64  # elements; what counts is smaller

Known = Callable[[Tensor], bool]


def constant(tensor: Tensor) -> bool:
    """Is it the value of a constant?"""
    return tensor.op.type == "Const"


def trips(loop: Operation, known: Known = constant) -> int | None:
    """Iterations of a While; None: not known, or more than `MOST`.

    Args:
      loop: the operation.
      known: which of its inputs are constants that nothing replaces.
    """
    attrs = loop.attrs
    cond, body, variables = attrs["cond"], attrs["body"], attrs["variables"]
    outer = dict(zip((*cond.inputs, *cond.captures.values()), loop.inputs, strict=False))
    position = variables + attrs["split"]
    outer |= dict(zip(body.inputs, loop.inputs[:variables], strict=True))
    outer |= dict(zip(body.captures.values(), loop.inputs[position:], strict=False))
    counters: list[int] = []
    arguments = _arguments(cond.outputs)
    while arguments is not None and (more := _new(arguments, (cond, body), counters)):
        counters += more
        arguments = _arguments([*cond.outputs, *[body.outputs[k] for k in counters]])
    if arguments is None or any(
        not known(outer[a])
        or outer[a].dims is None
        or len(outer[a].op.attrs["value"].ravel()) > LARGE
        for a in arguments
    ):
        return None
    values = {a: outer[a].op.attrs["value"] for a in arguments}
    return _count(cond, body, counters, values, attrs["maximum_iterations"])


def _arguments(wanted: Sequence[Tensor]) -> list[Tensor] | None:
    """The arguments that tensors of a body are computed from; None: not from these alone."""
    found = []
    for operation in ordered([t.op for t in wanted]):
        if operation.type == "Argument":
            found.append(operation.outputs[0])
        elif not is_pure(operation) or operation.opdef.takes_ctx:
            return None
    return found


def _new(arguments: Sequence[Tensor], bodies: Sequence[Any], counters: list[int]) -> list[int]:
    """Loop variables among the arguments that are not among the counters yet."""
    found = [k for b in bodies for k, t in enumerate(b.inputs) if t in arguments]
    return [k for k in dict.fromkeys(found) if k not in counters]


def _count(
    cond: Any, body: Any, counters: Sequence[int], values: dict[Tensor, Any], limit: int | None
) -> int | None:
    most = MOST if limit is None else min(limit, MOST)
    for count in range(most + 1):
        if count == limit:
            return count
        try:
            (test,) = evaluate(cond.outputs, values)
            if not test:
                return count
            new = evaluate([body.outputs[k] for k in counters], values)
        except (OpError, ValueError):  # the run will tell
            return None
        for k, value in zip(counters, new, strict=True):
            values |= {cond.inputs[k]: value, body.inputs[k]: value}
    return None
