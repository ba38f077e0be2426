"""A driver's way to the tasks of servers, past Ray."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

from graphflow.distribute.channel import Hear
from graphflow.distribute.fast.exchange import NOBODY
from graphflow.distribute.fast.frames import Kind
from graphflow.distribute.fast.network import Calls, Network
from graphflow.distribute.fast.values import Unencodable
from graphflow.distribute.messages import Message, Ticket


class Slow(Protocol):
    """The same task by Ray's calls, see `members.Member`."""

    @property
    def handle(self) -> Any: ...

    def send(self, session: str, message: Message, hear: Hear) -> None: ...

    def call(self, session: str, method: str, arguments: tuple[Any, ...], hear: Hear) -> None: ...

    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None: ...

    def collect(self, driver: str, serial: int, hear: Hear) -> None:
        """Ask for an answer that the task keeps, to the message of that number."""
        ...


class FastMember:
    """A task: steps, notices and pings go by the exchange; plans, and what is no plain data, by
    Ray.  See `members.Member`."""

    def __init__(self, name: str, slow: Slow, network: Network):
        self._name = name
        self._slow = slow
        self._network = network

    @property
    def handle(self) -> Any:
        return self._slow.handle

    def send(self, session: str, message: Message, hear: Hear) -> None:
        def collect(serial: int) -> None:
            self._slow.collect(self._network.job, serial, hear)

        exchange = self._network.exchange
        try:
            exchange.send(
                self._name, bytes.fromhex(session), Kind.MESSAGE, hear, message, collect
            )  # fmt: skip
        except Unencodable:  # messages may overtake each other
            self._slow.send(session, message, hear)

    def call(self, session: str, method: str, arguments: tuple[Any, ...], hear: Hear) -> None:
        self._slow.call(session, method, arguments, hear)

    def ping(self, hear: Hear) -> None:
        self._network.exchange.send(self._name, NOBODY, Kind.PING, hear)

    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None:
        self._slow.deliver(session, ticket, key, value)

    def outlive(self, name: str, listener: Any) -> None:
        self._network.exchange.audience.add(listener)
        if not self._network.exchange.has(name):
            listener.lost(name, "its connection has ended")


class TaskNetwork:
    """Reaches the tasks that the sessions of one process see."""

    def __init__(self, calls: Calls, interface: str, patience: float):
        """Args:
        calls: to the tasks; a member stands for each.
        interface: address to listen on.
        patience: seconds that a task may take to join.
        """
        self._network = Network(calls, interface, shared_memory=True, tls=False, patience=patience)
        self._lock = threading.Lock()
        self._slow: dict[str, Slow] = {}
        self.bell = self._network.exchange.bell
        self.job = self._network.job
        self.close = self._network.close

    def reach(self, members: Mapping[str, Slow]) -> dict[str, FastMember]:
        """Connect to tasks, where that has not been done, or the connection has ended.

        Raises:
          UnavailableError: one has ended, or cannot connect.
        """
        with self._lock:
            for name, member in members.items():
                before = self._slow.get(name)
                same = before is not None and before.handle == member.handle
                if not same or not self._network.exchange.has(name):
                    self._slow[name] = member  # another one: it joins anew
            slow = {name: self._slow[name] for name in members}
        self._network.join(slow, list(slow))
        return {name: FastMember(name, slow[name], self._network) for name in members}
