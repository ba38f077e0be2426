"""The mailbox of a part of a run that may be executed again, alone, on a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class RepeatableMailbox:
    """What came stays, and what went is not sent again.  Transfers between devices of the server
    are made anew."""

    def __init__(self, mailbox: Any, routes: Mapping[str, str], incoming: frozenset[str]):
        self._mailbox = mailbox
        self._routes = routes
        self._incoming = incoming
        self._received: dict[str, Any] = {}
        self._sent: set[str] = set()
        self._meetings: dict[str, RepeatableMeeting] = {}

    def send(self, key: str, value: Any) -> None:
        if key in self._routes:
            if key in self._sent:
                return
            self._sent.add(key)
        self._mailbox.send(key, value)

    def place(self, key: str, size: int) -> Any:
        """See `Mailbox.place`."""
        return None if key in self._sent else self._mailbox.place(key, size)

    def receive(self, key: str) -> Any:
        if key not in self._incoming:
            return self._mailbox.receive(key)
        if key not in self._received:
            self._received[key] = self._mailbox.receive(key)
        return self._received[key]

    def meeting(self, device: str) -> RepeatableMeeting:
        """A device's way to those it sums with."""
        if device not in self._meetings:
            self._meetings[device] = RepeatableMeeting(self._mailbox.meeting(device))
        return self._meetings[device]


class RepeatableMeeting:
    """A device's way to those it sums with, by messages that are kept."""

    def __init__(self, meeting: Any):
        self.generation = meeting.generation
        self.piece = meeting.piece
        self._meeting = meeting
        self._received: dict[str, Any] = {}
        self._sent: set[tuple[str, str]] = set()

    def send_to(self, device: str, key: str, value: Any) -> None:
        if (device, key) not in self._sent:
            self._sent.add((device, key))
            self._meeting.send_to(device, key, value)

    def receive(self, key: str) -> Any:
        if key not in self._received:
            self._received[key] = self._meeting.receive(key)
        return self._received[key]

    def expect(self, key: str, memory: Any) -> None:
        pass  # what came stays where it came

    def memory(self, size: int) -> Any:
        return np.empty(size, np.uint8)

    def lend(self, devices: Any, key: str, arrays: Any) -> bool:
        """No: what lies elsewhere is not there the second time."""
        return False

    def space(self, devices: Any, key: str, size: int) -> Any:
        return None
