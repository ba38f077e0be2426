"""How values get from one worker to another, and how the driver reaches the workers.

`transport="ray"` implements both by actor calls, `transport="fast"` (`distribute/fast/`) by
channels of its own; neither the state machines nor the host of a session knows which one it has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from graphflow.base.devices import parse
from graphflow.distribute import failpoints
from graphflow.distribute.messages import Message, Reply, Ticket
from graphflow.execute.rendezvous import Rendezvous


@lru_cache(maxsize=1 << 16)  # asked for each message of a sum: parsing takes 10 us
def worker_of(device: str) -> str:
    """The name of the worker that has a device: "/job:worker/replica:0/task:1"."""
    return str(parse(device)._replace(device_type=None, device_index=None))


class Channel(Protocol):
    """A worker's way to its peers, for one session."""

    def send(self, worker: str, ticket: Ticket, key: str, value: Any) -> None:
        """Hand a value of the host to a peer, who gets it as `Host.deliver`.

        Does not wait for the peer, and does not fail when it is gone: the coordinator notices.
        The value must not change afterwards.
        """
        ...

    def place(self, worker: str, size: int) -> Any:
        """So many bytes, at a multiple of 64, from where the peer can read them once a value that
        fills them is sent; None: there are none, or it is not worth while."""
        return None

    def bell(self) -> threading.Condition:
        """What an attempt waits at for values.  While it does, the channel may use the thread to
        bring values in."""
        return threading.Condition()

    piece: int = 1 << 60  # bytes of a message that is large enough

    def expect(self, ticket: Ticket, key: str, memory: Any) -> None:
        """A value of that many bytes will come by that key; it may be put there."""
        return None

    def memory(self, size: int) -> Any:
        """So many bytes, which have been used before, if that can be had."""
        return np.empty(size, np.uint8)

    def lend(self, to: Mapping[str, str], ticket: Ticket, arrays: Sequence[Any]) -> Any:
        """Hand flat arrays of one dtype, one behind the other, to several peers, who read them
        where they lie.

        Args:
          to: key -> the peer who gets them by that key.
          ticket: the attempt.
          arrays: they may change afterwards.

        Returns:
          What the peers get; None: memory is not shared with all of them, and nothing was sent.
          Peers with whom all share memory agree on that.
        """
        return None

    def space(self, to: Mapping[str, str], ticket: Ticket, size: int) -> Any:
        """As `lend`, with so many bytes, which all of them and this worker may write to.

        Raises:
          ResourceExhaustedError: there is no room.
        """
        return None


class Meeting:
    """A device's way to the others of a run, on this worker and on others.  See
    `execute.collective.Meeting`."""

    def __init__(
        self,
        ticket: Ticket,
        channel: Channel,
        local: Rendezvous,
        here: Collection[str],
        device: str,
    ):
        """Args:
        ticket: the attempt.
        channel: the way to other workers.
        local: where devices of this worker meet.
        here: these devices.
        device: the one whose way this is.
        """
        self.generation = ticket.generation
        self.piece = channel.piece
        self._ticket = ticket
        self._channel = channel
        self._local = local
        self._here = here
        self._device = device

    def send_to(self, device: str, key: str, value: Any) -> None:
        failpoints.hit("sum")
        key = f"{device};{key}"
        if device in self._here:
            self._local.send(key, value)
        else:
            self._channel.send(worker_of(device), self._ticket, key, value)

    def expect(self, key: str, memory: Any) -> None:
        self._channel.expect(self._ticket, f"{self._device};{key}", memory)

    def memory(self, size: int) -> Any:
        return self._channel.memory(size)

    def receive(self, key: str) -> Any:
        return self._local.receive(f"{self._device};{key}")

    def lend(self, devices: Sequence[str], key: str, arrays: Sequence[Any]) -> bool:
        far = self._far(devices, key)
        if not far:
            return self._local.meeting(self._device).lend(devices, key, arrays)
        return self._hand_out(devices, key, self._channel.lend(far, self._ticket, arrays))

    def space(self, devices: Sequence[str], key: str, size: int) -> Any:
        far = self._far(devices, key)
        if not far:
            return self._local.meeting(self._device).space(devices, key, size)
        memory = self._channel.space(far, self._ticket, size)
        self._hand_out(devices, key, memory)
        return memory

    def _far(self, devices: Sequence[str], key: str) -> dict[str, str]:
        return {f"{d};{key}": worker_of(d) for d in devices if d not in self._here}

    def _hand_out(self, devices: Sequence[str], key: str, memory: Any) -> bool:
        """To the devices of this worker, too."""
        if memory is None:
            return False
        for device in devices:
            if device in self._here:
                self._local.send(f"{device};{key}", memory)
        return True


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

    Attributes:
      returning: a worker that was given up may answer again, with what it held.
    """

    returning: ClassVar[bool] = False

    def send(self, worker: str, message: Message, hear: Callable[[Reply | Gone], None]) -> None:
        """Send a message of the coordinator's: a `Step` to `Host.step`, others to
        `Host.notice`."""
        ...

    def call(self, worker: str, method: str, *arguments: Any, hear: Hear) -> None:
        """Call `open`, `load`, `close` or `statistics` of the session's host."""
        ...

    def bell(self) -> threading.Condition:
        """What threads wait at for what they hear.  While one does, the link may use it to bring
        answers in."""
        return threading.Condition()

    def ping(self, worker: str, hear: Hear) -> None:
        """Ask for a sign of life."""
        ...

    def outlive(self, worker: str, hear: Hear) -> None:
        """Tell `Gone` when the worker that has this name now is lost, whether it owes an answer or
        not: another one may wait for what it was to send.  A link need not know that."""
        return None

    def replace(self, worker: str, hear: Hear) -> None:
        """Give the name of a lost worker to another one, which is blank, and make it known to its
        peers.  The lost one is ended, if it is not.  The answer is None, or `Gone` where no worker
        can be had, or the new one is lost, too; then this may be called again."""
        ...
