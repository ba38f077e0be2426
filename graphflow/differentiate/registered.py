"""Gradients that users put in the place of an op's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build import OPS, Operation

Function = Callable[..., Any]
_REGISTERED: dict[str, Function | None] = {}


class RegisterGradient:
    """Decorator that names a gradient, for `Graph.gradient_override_map`.

        @tf.RegisterGradient("Straight")
        def straight(op, grad):
            return grad

    The function takes the operation and a gradient per output; it returns a gradient per input,
    None allowed.
    """

    def __init__(self, op_type: str):
        if not isinstance(op_type, str):
            raise TypeError(f"the name of a gradient is a string, not {op_type!r}")
        self._name = op_type

    def __call__(self, function: Function) -> Function:
        """Raises:
        KeyError: there is a gradient of that name.
        """
        _enter(self._name, function)
        return function


def no_gradient(op_type: str) -> None:
    """State that the name stands for no gradient: None flows back.

    Raises:
      KeyError: there is a gradient of that name.
    """
    if not isinstance(op_type, str):
        raise TypeError(f"the name of a gradient is a string, not {op_type!r}")
    _enter(op_type, None)


def _enter(name: str, function: Function | None) -> None:
    if name in _REGISTERED or name in OPS:
        raise KeyError(f"a gradient is registered for {name!r} already")
    _REGISTERED[name] = function


def override(operation: Operation) -> str | None:
    """The name of the gradient that replaces the operation's own, or None."""
    return operation.graph.root.gradient_overrides.get(operation)


def passes(operation: Operation) -> bool:
    """May a gradient flow through the operation?

    Raises:
      LookupError: its gradient is replaced by one that nobody has registered.
    """
    name = override(operation)
    if name is None or name in OPS:
        return (OPS[name] if name else operation.opdef).grad is not None
    if name not in _REGISTERED:
        raise LookupError(
            f"no gradient is registered under the name {name!r}, which gradient_override_map gives "
            f"to {operation.name!r} (built at {operation.site})"
        )
    return _REGISTERED[name] is not None


def replaced(operation: Operation, arrived: list[Any]) -> list[Any]:
    """The gradients of the inputs by the function registered for the operation."""
    name = override(operation)
    assert name is not None
    function = _REGISTERED[name]
    assert function is not None
    grads = [
        OPS["ZerosLike"](y) if g is None and y.dtype.is_differentiable else g
        for g, y in zip(arrived, operation.outputs, strict=True)
    ]
    result = function(operation, *grads)
    found = list(result) if isinstance(result, (list, tuple)) else [result]
    if len(found) != len(operation.inputs):
        raise GraphError(
            f"the gradient {name!r} returned {len(found)} gradients for "
            f"{len(operation.inputs)} inputs"
        )
    return found
