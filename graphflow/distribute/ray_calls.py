"""Calls of Ray's actors of which somebody learns what has become of them."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from graphflow.distribute.channel import Gone, Hear
from graphflow.distribute.messages import Ticket

# What tells that an actor has ended.
LOST = (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    WorkerCrashedError,
)


# The same of a method that raises nothing: its actor could not read what was sent, or not answer.
UNTAKEN = (*LOST, RayTaskError)


def call(method: Any, arguments: tuple[Any, ...], hear: Hear, lost: Any = LOST) -> None:
    """Call a method of an actor; `hear` gets what comes of it, on a thread of Ray's.

    Args:
      lost: classes of errors that tell that the actor is lost, to who calls at least.
    """
    if not ray.is_initialized():  # a call would start another one
        hear(Gone("the connection to Ray was closed"))
        return
    try:
        future = method.remote(*arguments).future()
    except RayError as error:
        hear(gone(error, lost))
        return
    future.add_done_callback(lambda done: hear(_result(done, lost)))


def hand(actor: Any, session: str, ticket: Ticket, key: str, value: Any) -> None:
    """Have an actor take a value, see `Host.deliver`.  Nobody waits for that, but where the actor
    is there and cannot read the value it is told: whoever waits for it there would wait for ever.
    """

    def handed(done: Any) -> None:
        error = done.exception()  # no deadline: it is done
        if error is not None:  # an actor that is lost is noticed elsewhere
            told = session, ticket, key, reason(error)
            call(actor.undelivered, told, lambda answer: None)

    actor.deliver.remote(session, ticket, key, value).future().add_done_callback(handed)


def _result(future: Any, lost: Any) -> Any:
    error = future.exception()  # no deadline: it is done
    return future.result() if error is None else gone(error, lost)  # no deadline: it is done


def gone(error: BaseException, lost: Any = LOST) -> Gone:
    """What a call comes to that has failed, see `call`."""
    ended = isinstance(error, lost) or isinstance(getattr(error, "cause", None), lost)
    return Gone(reason(error).rstrip("."), worker_lost=ended)


def reason(error: BaseException) -> str:
    """The line of one of Ray's messages that says what happened; the rest are tracebacks."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"{type(cause).__name__}: {cause}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "creation task" in lines[0] or isinstance(error, RayTaskError):
        return lines[-1]
    return next((line for line in lines if "died" in line or "exit" in line), lines[0])
