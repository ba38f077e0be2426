"""The errors graphflow raises, under TensorFlow 1's class names and codes.

Errors of a run derive from `OpError`; errors found while a graph is built derive from
`ShapeError` (a ValueError), `DTypeError` (a TypeError) or `GraphError` (a ValueError), which
is what TensorFlow 1 programs catch.  Where something was built is attached with `add_note`, so
that it survives pickling and crosses process borders.
"""

from __future__ import annotations

from typing import Any

OK = 0
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
ABORTED = 10
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
DATA_LOSS = 15
UNAUTHENTICATED = 16


class GraphError(ValueError):
    """The graph cannot be built, or asked for, like this."""


class ShapeError(GraphError):
    """Shapes do not fit together."""


class DTypeError(TypeError):
    """Dtypes do not fit together."""


class OpError(Exception):
    """A run failed.

    Attributes:
      node_def: name of the operation that failed, or None.
      op: the `Operation` where the session knows it, or None.
      message: what went wrong, without the notes about where.
      error_code: the code TensorFlow gives this class.
    """

    error_code = UNKNOWN

    def __init__(self, node_def: str | None, op: Any, message: str, error_code: int | None = None):
        super().__init__(message)
        self.node_def = node_def
        self.op = op
        self.message = message
        if error_code is not None:
            self.error_code = error_code

    def __reduce__(self) -> tuple[Any, ...]:
        # The op stays behind: graphs do not travel with errors, names do.
        state = {k: v for k, v in self.__dict__.items() if k != "op"}
        return _restore, (type(self), self.node_def, self.message, state)


def _restore(kind: type[OpError], node: str | None, message: str, state: dict[str, Any]) -> OpError:
    error = kind.__new__(kind)
    OpError.__init__(error, node, None, message)
    error.__dict__.update(state)
    return error


class CancelledError(OpError):
    """The run was cancelled, for instance because a queue or the session was closed."""

    error_code = CANCELLED


class UnknownError(OpError):
    """An error without a better class, for instance one raised by a user's Python function."""

    error_code = UNKNOWN


class InvalidArgumentError(OpError):
    """An op got a value, shape or dtype that it cannot take."""

    error_code = INVALID_ARGUMENT


class DeadlineExceededError(OpError):
    """A wait ended at its deadline."""

    error_code = DEADLINE_EXCEEDED


class NotFoundError(OpError):
    """Something asked for by name does not exist."""

    error_code = NOT_FOUND


class AlreadyExistsError(OpError):
    """Something to be created exists already."""

    error_code = ALREADY_EXISTS


class PermissionDeniedError(OpError):
    """The caller may not do this."""

    error_code = PERMISSION_DENIED


class ResourceExhaustedError(OpError):
    """Out of memory, disk or another bounded resource."""

    error_code = RESOURCE_EXHAUSTED


class FailedPreconditionError(OpError):
    """State is not ready, for instance an uninitialised variable was read."""

    error_code = FAILED_PRECONDITION


class AbortedError(OpError):
    """The run was aborted; nothing of it was applied, it may be tried again."""

    error_code = ABORTED


class OutOfRangeError(OpError):
    """The end of the input was reached."""

    error_code = OUT_OF_RANGE


class UnimplementedError(OpError):
    """The op has no kernel for this device, dtype or argument."""

    error_code = UNIMPLEMENTED


class InternalError(OpError):
    """An invariant of graphflow was broken: please report it."""

    error_code = INTERNAL


class UnavailableError(OpError):
    """A worker or device is gone or cannot be reached."""

    error_code = UNAVAILABLE


class DataLossError(OpError):
    """Stored data are corrupt."""

    error_code = DATA_LOSS


class UnauthenticatedError(OpError):
    """The peer did not prove who it is."""

    error_code = UNAUTHENTICATED
