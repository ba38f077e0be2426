"""What a kernel raises becomes a typed error that names the node and the user's line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.base import errors
from graphflow.base.errors import OpError
from graphflow.compile.plan import Step

# The first class that matches decides.
_CLASSES: tuple[tuple[type[BaseException], type[OpError]], ...] = (
    (MemoryError, errors.ResourceExhaustedError),
    (NotImplementedError, errors.UnimplementedError),
    (TimeoutError, errors.DeadlineExceededError),
    (ConnectionError, errors.UnavailableError),
    (FileNotFoundError, errors.NotFoundError),
    (PermissionError, errors.PermissionDeniedError),
    (ValueError, errors.InvalidArgumentError),
    (ArithmeticError, errors.InvalidArgumentError),
    (LookupError, errors.InvalidArgumentError),
    (TypeError, errors.InvalidArgumentError),
    (AttributeError, errors.InvalidArgumentError),  # an attribute of another kind
)


def explained(error: Exception, step: Step, arguments: Sequence[Any]) -> OpError:
    """The error to raise for what a step's kernel raised.

    An `OpError` that has no node yet gets this one; any other exception becomes the `OpError`
    of its kind, with the original as its cause.
    """
    if not isinstance(error, OpError):
        kind = next((new for old, new in _CLASSES if isinstance(error, old)), errors.UnknownError)
        typed = kind(step.name, None, f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            typed.add_note(note)
    else:
        typed = error
        if typed.node_def is not None:  # raised inside a body: it says where already
            typed.add_note(f"  inside {step.opdef.name} {step.name!r} built at {step.where}")
            return typed
        typed.node_def = step.name
    shown = ", ".join(_describe(a) for a in arguments)
    typed.add_note(f"in {step.opdef.name} {step.name!r}({shown})\n  built at {step.where}")
    return typed


def _describe(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return type(value).__name__ if not hasattr(value, "name") else str(value.name)
