"""A step at work on a worker: where its devices meet, how it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from graphflow.base.errors import CancelledError
from graphflow.base.waiting import Flag
from graphflow.distribute.channel import Channel, Meeting
from graphflow.distribute.messages import Ticket
from graphflow.distribute.shipment import Shipment
from graphflow.distribute.transactions import Attempt
from graphflow.execute.rendezvous import Rendezvous

_making = threading.Lock()  # of what steps make when they first need it


class Mailbox:
    """The rendezvous of an attempt, whose values may come from and go to other workers."""

    def __init__(self, ticket: Ticket, shipment: Shipment, channel: Channel, work: Work):
        self._ticket = ticket
        self._shipment = shipment
        self._channel = channel
        self._work = work

    def receive(self, key: str) -> Any:
        return self._work.rendezvous.receive(key)

    def send(self, key: str, value: Any) -> None:
        worker = self._shipment.routes.get(key)
        if worker is None:
            self._work.rendezvous.send(key, value)
        else:
            self._channel.send(worker, self._ticket, key, value)

    def place(self, key: str, size: int) -> Any:
        """So many bytes for a value that will be sent by that key; None: any will do."""
        worker = self._shipment.routes.get(key)
        return None if worker is None else self._channel.place(worker, size)

    def meeting(self, device: str) -> Meeting:
        """A device's way to those it sums with."""
        here = [part.device for part in self._shipment.parts]
        return Meeting(self._ticket, self._channel, self._work.rendezvous, here, device)


class Work:
    """A step, from its arrival to the decision."""

    started: threading.Event | None = None  # where it had to wait for that
    attempt: Attempt | None = None
    abandoned = False  # nobody will execute it: it began too late
    # Of one that builds on others: the state when it came, and those others.
    before: tuple[Mapping[Any, Any], list[Work]] | None = None
    _rendezvous: Rendezvous | None = None

    def __init__(self, bell: Callable[[], threading.Condition]):
        self.cancelled = Flag()
        self._bell = bell

    @property
    def rendezvous(self) -> Rendezvous:
        """Where its devices meet; made when first needed, as most steps of nothing need none."""
        with _making:
            if self._rendezvous is None:
                self._rendezvous = Rendezvous(self.cancelled, bell=self._bell())
            return self._rendezvous

    def wake(self, error: BaseException) -> None:
        """Let nobody wait in it any more."""
        self.cancelled.set()
        self.rendezvous.abort(error)


def together(
    pool: Callable[[], ThreadPoolExecutor],
    function: Callable[..., list[Any]],
    arguments: Sequence[tuple[Any, ...]],
) -> list[list[Any]]:
    """Results of calls made at once: the first on this thread, others on those of the pool.

    Raises:
      BaseException: what one of them raised that was not cancelled for another, after all ended.
    """
    if len(arguments) == 1:
        return [function(*arguments[0])]
    futures = [pool().submit(function, *each) for each in arguments[1:]]
    first: Future[list[Any]] = Future()
    try:
        first.set_result(function(*arguments[0]))
    except BaseException as failure:
        first.set_exception(failure)
    done = [first, *futures]
    # no deadline: a device that fails wakes the others, and so does the end of the run
    failures = [error for future in done if (error := future.exception()) is not None]
    if failures:
        raise next((f for f in failures if not isinstance(f, CancelledError)), failures[0])
    return [future.result() for future in done]  # no deadline: all are done
