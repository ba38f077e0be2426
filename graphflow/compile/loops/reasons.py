"""Why a step stays with its reference kernel, in words for the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphflow.base.shapes import format_dims
from graphflow.compile.loops.values import View
from graphflow.compile.plan import Step
from graphflow.ops.expression import Node, scalar_expression, subexpressions


def reason(
    step: Step,
    arguments: Sequence[Any],
    dtypes: frozenset[str],
    has_rule: bool,
    lowers: Callable[[Node], bool],
) -> str:
    """What keeps a step from being lowered.

    Args:
      arguments: views of its inputs, or what the slots hold otherwise.
      dtypes: names of those that there is native code for.
      has_rule: does a rule lower the op for some shapes?
      lowers: is there code for this expression?
    """
    entry = step.opdef
    if entry.random:
        return f"its kernel draws the numbers of {entry.name}"
    if entry.takes_ctx:
        return "it works on state, input, output or bodies"
    if not all(isinstance(a, View) for a in arguments):
        return "an input is no plain array of a shape that was seen"
    strange = sorted({a.dtype.name for a in arguments} - dtypes)
    if strange:
        return f"there is no native code for {', '.join(strange)}"
    if entry.elementwise:
        body = scalar_expression(entry, [a.dtype for a in arguments], **step.attrs)
        if body is None:
            return "its kernel is no scalar expression for these dtypes"
        missing = sorted({n.op for n in _nodes(body) if not lowers(n)})
        return f"there is no native code for {', '.join(missing) or 'this broadcast'}"
    shapes = ", ".join(format_dims(a.shape) for a in arguments)
    if has_rule:
        return f"no rule for {entry.name} fits {shapes} with these attributes"
    return f"no rule lowers {entry.name}"


def _nodes(root: Node) -> list[Node]:
    """Each function of an expression, alone: on arguments instead of what is below it."""
    found: list[Node] = []
    for node in subexpressions(root):
        if node.args:
            bare = [a if a.op == "const" else Node("arg", (), a.dtype, 0) for a in node.args]
            found.append(Node(node.op, tuple(bare), node.dtype, node.value))
    return found
