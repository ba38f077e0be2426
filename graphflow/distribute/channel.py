"""How values get from one worker to another, and how the driver reaches the workers.

`transport="ray"` implements both by actor calls.  Shared memory and sockets will be further
implementations; neither the state machines nor the host of a session knows which one it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from graphflow.distribute.messages import Message, Reply, Ticket


class Channel(Protocol):
    """A worker's way to its peers, for one session."""

    def send(self, worker: str, ticket: Ticket, key: str, value: Any) -> None:
        """Hand a value of the host to a peer, who gets it as `Host.deliver`.

        Does not wait for the peer, and does not fail when it is gone: the coordinator notices.
        The value must not change afterwards.
        """
        ...


class Gone(NamedTuple):
    """No answer will come.

    Attributes:
      reason: why.
      worker_lost: the worker has ended; otherwise it lives, and this one call has failed.
    """

    reason: str
    worker_lost: bool = True


Hear = Callable[[Any], None]


class Link(Protocol):
    """The driver's way to the workers, for one session.

    No method waits for an answer.  `hear` is called with it, or with `Gone`, once or never, on
    any thread; it does not block.
    """

    def send(self, worker: str, message: Message, hear: Callable[[Reply | Gone], None]) -> None:
        """Send a message of the coordinator's: a `Step` to `Host.step`, others to
        `Host.notice`."""
        ...

    def call(self, worker: str, method: str, *arguments: Any, hear: Hear) -> None:
        """Call `open`, `load`, `close` or `statistics` of the session's host."""
        ...

    def ping(self, worker: str, hear: Hear) -> None:
        """Ask for a sign of life."""
        ...

    def replace(self, worker: str, hear: Hear) -> None:
        """Give the name of a lost worker to another one, which is blank, and make it known to its
        peers.  The lost one is ended, if it is not.  The answer is None, or `Gone` where no worker
        can be had, or the new one is lost, too; then this may be called again."""
        ...
