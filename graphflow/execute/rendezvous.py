"""Where the devices of one run hand values to each other, within a process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from graphflow.base.errors import CancelledError, DeadlineExceededError
from graphflow.base.waiting import waits

_SHORT = 0.002  # seconds of a wait that nobody need be told of
_POLL = 0.5  # seconds between looks at the cancellation; a value or an abort wakes at once


class Rendezvous:
    """Values by key, for the duration of a run.  Every wait ends: by a value, an abort, or a
    deadline."""

    def __init__(
        self,
        cancelled: threading.Event,
        deadline: float | None = None,
        bell: threading.Condition | None = None,
    ):
        """Args:
        cancelled: set when nobody shall wait any more.
        deadline: seconds that a wait may take.
        bell: what waits; it may do something useful meanwhile, such as bring values.
        """
        self._values: dict[str, Any] = {}
        self._arrived = bell or threading.Condition()
        self._cancelled = cancelled
        self._deadline = deadline
        self._failure: BaseException | None = None

    def send(self, key: str, value: Any) -> None:
        """Hand over a value; by reference."""
        with self._arrived:
            self._values[key] = value
            self._arrived.notify_all()

    def place(self, key: str, size: int) -> Any:
        """None: a value may lie anywhere."""
        return None

    def receive(self, key: str) -> Any:
        """Wait for a value; each is taken once.

        Raises:
          CancelledError: the run was cancelled, or another device failed.
          DeadlineExceededError: the wait took too long.
        """
        waited = 0.0
        with self._arrived:
            while key not in self._values:
                if self._cancelled.is_set():
                    raise CancelledError(None, None, f"the run was cancelled: no {key} comes")
                if self._failure is not None:
                    raise CancelledError(None, None, f"another device failed before sending {key}")
                if self._deadline is not None and waited >= self._deadline:
                    raise DeadlineExceededError(
                        None, None, f"{key} did not arrive within {self._deadline} s"
                    )
                if not waited:  # to tell costs more than most waits take
                    waited = _SHORT
                    if self._arrived.wait_for(partial(self._over, key), _SHORT):
                        continue
                waits()
                if not self._arrived.wait_for(partial(self._over, key), _POLL):
                    waited += _POLL
            return self._values.pop(key)

    def _over(self, key: str) -> bool:
        """Is there nothing left to wait for?"""
        return key in self._values or self._failure is not None or self._cancelled.is_set()

    def abort(self, failure: BaseException) -> None:
        """Wake everybody who waits: a device has failed."""
        with self._arrived:
            self._failure = failure
            self._arrived.notify_all()

    def meeting(self, device: str) -> Meeting:
        """A device's way to the others of the process."""
        return Meeting(self, device)


class Meeting:
    """By reference: devices of one process share its memory.  See `collective.Meeting`."""

    generation = 0
    piece = 1 << 60

    def __init__(self, rendezvous: Rendezvous, device: str):
        self._rendezvous = rendezvous
        self._device = device

    def send_to(self, device: str, key: str, value: Any) -> None:
        self._rendezvous.send(f"{device};{key}", value)

    def receive(self, key: str) -> Any:
        return self._rendezvous.receive(f"{self._device};{key}")

    def expect(self, key: str, memory: Any) -> None:
        pass  # by reference, nothing has to be put anywhere

    def memory(self, size: int) -> Any:
        return np.empty(size, np.uint8)

    def lend(self, devices: Sequence[str], key: str, arrays: Sequence[Any]) -> bool:
        flat = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        for device in devices:
            self.send_to(device, key, flat)
        return True

    def space(self, devices: Sequence[str], key: str, size: int) -> Any:
        memory = np.empty(size, np.uint8)
        for device in devices:
            self.send_to(device, key, memory)
        return memory
