"""Activations by the names that Keras gives them."""

from __future__ import annotations

from typing import Any, Final

from graphflow.base.errors import GraphError
from graphflow.ops import activations
from graphflow.ops.elementary import exp, tanh
from graphflow.ops.softmax import softmax
from graphflow.ops.sources import identity

_OTHERS: Final = {"linear": identity, "tanh": tanh, "softmax": softmax, "exponential": exp}


def activation_named(activation: Any) -> Any:
    """A function, or None, from itself or from its name.

    Raises:
      GraphError: there is none of that name.
    """
    if not isinstance(activation, str):
        return activation
    found = _OTHERS.get(activation) or getattr(activations, activation, None)
    if found is None:
        raise GraphError(f"there is no activation {activation!r}")
    return found
