"""The driver's way to the workers of one session, past Ray."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

from graphflow.base.errors import UnavailableError
from graphflow.distribute.channel import Gone, Hear, Link
from graphflow.distribute.fast.exchange import NOBODY
from graphflow.distribute.fast.frames import Kind
from graphflow.distribute.fast.network import Network
from graphflow.distribute.fast.values import Unencodable
from graphflow.distribute.messages import Message


class Slow(Link, Protocol):
    """The link of the same session by Ray's calls."""

    def collect(self, worker: str, serial: int, hear: Hear) -> None:
        """Ask for an answer that a worker keeps, to the message of that number."""
        ...


class FastLink(Link):
    """Steps, notices and pings go by the exchange; plans, and what is no plain data, by Ray."""

    def __init__(self, session: str, network: Network, slow: Slow, actors: Mapping[str, Any]):
        """Args:
        session: 32 hexadecimal digits.
        network: reaches the workers of the cluster.
        slow: takes what does not go that way.
        actors: the workers of the cluster, those that have taken the place of lost ones, too.
        """
        self._session = bytes.fromhex(session)
        self._network = network
        self._exchange = network.exchange
        self._slow = slow
        self._actors = actors
        self._outlived: dict[str, Hear] = {}
        self._exchange.audience.add(self)

    def outlive(self, worker: str, hear: Hear) -> None:
        self._outlived[worker] = hear
        if not self._exchange.has(worker):
            self.lost(worker, "its connection has ended")

    def lost(self, worker: str, reason: str) -> None:
        """See `Exchange.audience`."""
        hear = self._outlived.pop(worker, None)
        if hear is not None:
            hear(Gone(reason))

    def send(self, worker: str, message: Message, hear: Hear) -> None:
        def collect(serial: int) -> None:
            self._slow.collect(worker, serial, hear)

        try:
            self._exchange.send(worker, self._session, Kind.MESSAGE, hear, message, collect)
        except Unencodable:  # messages may overtake each other
            self._slow.send(worker, message, hear)

    def call(self, worker: str, method: str, *arguments: Any, hear: Hear) -> None:
        self._slow.call(worker, method, *arguments, hear=hear)

    def bell(self) -> threading.Condition:
        return self._exchange.bell()

    def ping(self, worker: str, hear: Hear) -> None:
        self._exchange.send(worker, NOBODY, Kind.PING, hear)

    def replace(self, worker: str, hear: Hear) -> None:
        def join() -> None:
            try:
                self._network.join(self._actors, [worker])
            except UnavailableError as error:
                hear(Gone(error.message))
            except Exception as error:  # else it would be waited for
                hear(Gone(f"{type(error).__name__}: {error}"))
            else:
                hear(None)

        def joined(answer: Any) -> None:
            if answer is not None:
                hear(answer)
            else:  # it waits for calls, and this may be a thread that brings their answers
                threading.Thread(target=join, name="graphflow-join", daemon=True).start()

        self._slow.replace(worker, joined)
