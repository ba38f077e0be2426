"""Errors that can be sent."""

from __future__ import annotations

import pickle
import traceback

from graphflow.base.errors import InternalError, OpError, ResourceExhaustedError


def portable(error: BaseException) -> OpError:
    """An error that can be sent: typed, with its notes."""
    if isinstance(error, MemoryError):
        return ResourceExhaustedError(None, None, f"a worker ran out of memory: {error}")
    if not isinstance(error, OpError):
        text = "".join(traceback.format_exception(error))
        return InternalError(None, None, f"a worker failed outside of any kernel:\n{text}")
    try:
        pickle.dumps(error)
    except Exception:  # something that was raised with it does not pickle
        plain = type(error)(error.node_def, None, error.message)
        for note in getattr(error, "__notes__", ()):
            plain.add_note(note)
        return plain
    return error
