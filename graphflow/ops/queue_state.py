"""Queues as objects: what lives between runs behind the ops of `ops.queues`.

Any number of threads may wait.  Whoever takes several elements gets them as they come, in the
order in which the waiting began, so that a request for more than fits into the queue ends.  What
was taken in vain goes back to the front.

An enqueue is an output of its run: it is released when the run commits.  Room for it is
reserved before, so that committing cannot fail half way.
"""

from __future__ import annotations

import copy
import heapq
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import CancelledError, OutOfRangeError
from graphflow.base.waiting import waits

Element = tuple[Any, ...]
_OF_WAITING = ("_changed", "_waiting")
_POLL = 0.05  # seconds between looks at whether the run was cancelled; elements wake at once


class Taken(NamedTuple):
    """What a dequeue got.

    Attributes:
      elements: from the queue.
      own: how many more come from what the same run has enqueued.
    """

    elements: tuple[Element, ...]
    own: int


class QueueState:
    """First in, first out."""

    def __init__(self, name: str, capacity: int):
        self.name = name
        self.capacity = capacity
        self.closed = False
        self._items: Any = deque()
        self._reserved = 0
        self._refuses = False  # pending enqueues are cancelled
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    def __getstate__(self) -> dict[str, Any]:
        """The content alone: a copy has nobody who waits, and room for nobody is reserved."""
        with self._changed:
            state = {k: copy.copy(v) for k, v in self.__dict__.items() if k not in _OF_WAITING}
        return state | {"_reserved": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._changed = threading.Condition()
        self._waiting = deque()

    # ---- order: what subclasses change

    def _push(self, element: Element) -> None:
        self._items.append(element)

    def _pop(self) -> Element:
        return self._items.popleft()

    def _put_back(self, elements: Sequence[Element]) -> None:
        self._items.extendleft(reversed(elements))

    def _ready(self) -> bool:
        """May an element be taken now?"""
        return bool(self._items)

    # ---- dequeue

    def take(
        self, count: int, up_to: bool, own: Sequence[Element], cancelled: threading.Event
    ) -> Taken:
        """Wait for `count` elements; those that the run has enqueued itself come last.

        Raises:
          OutOfRangeError: the queue is closed and has too few; with `up_to`, has none.
          CancelledError: the run was cancelled while it waited.
        """
        taken: list[Element] = []
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while True:
                    if self._waiting[0] is ticket:
                        while len(taken) < count and self._ready():
                            taken.append(self._pop())
                        self._changed.notify_all()
                        if len(taken) + len(own) >= count:
                            return Taken(tuple(taken), count - len(taken))
                        _check(cancelled)  # first: a session that ends closes its queues
                        if self.closed and not self._reserved:
                            found = len(taken) + len(own)
                            if up_to and found:
                                return Taken(tuple(taken), len(own))
                            raise self._exhausted(count, found)
                    _check(cancelled)
                    waits()
                    self._changed.wait(_POLL)
            except BaseException:
                self._put_back(taken)
                raise
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _exhausted(self, count: int, found: int) -> OutOfRangeError:
        return OutOfRangeError(
            None,
            None,
            f"{self.name!r} is closed and has insufficient elements (requested {count}, current "
            f"size {found})",
        )

    def give_back(self, elements: Sequence[Element]) -> None:
        """Have elements again that a run had taken: they come first."""
        with self._changed:
            self._put_back(elements)
            self._changed.notify_all()

    # ---- enqueue

    def check_open(self) -> None:
        """Raises:
        CancelledError: the queue is closed.
        """
        if self.closed:
            raise CancelledError(None, None, f"{self.name!r} is closed: nothing can be enqueued")

    def reserve(self, count: int, cancelled: threading.Event) -> None:
        """Wait for room for `count` elements and keep it.

        More than fit at all wait until the queue is empty and then go in as a whole.

        Raises:
          CancelledError: the run or the pending enqueues were cancelled.
        """
        with self._changed:
            waited = False
            while True:
                if self._refuses or (self.closed and not waited):
                    self.check_open()
                used = len(self._items) + self._reserved
                if self.capacity < 0 or used + count <= self.capacity or not used:
                    self._reserved += count
                    return
                _check(cancelled)
                waited = True
                waits()
                self._changed.wait(_POLL)

    def unreserve(self, count: int) -> None:
        with self._changed:
            self._reserved -= count
            self._changed.notify_all()

    def put(self, elements: Sequence[Element]) -> None:
        """Add elements for which room is reserved."""
        with self._changed:
            self._reserved -= len(elements)
            for element in elements:
                self._push(element)
            self._changed.notify_all()

    # ---- the rest

    def close(self, cancel_pending_enqueues: bool) -> None:
        with self._changed:
            self.closed = True
            self._refuses |= cancel_pending_enqueues
            self._changed.notify_all()

    def cancel(self) -> None:
        """The session closes: wake whoever waits."""
        self.close(True)

    def size(self) -> int:
        with self._changed:
            return len(self._items)


class ShuffleState(QueueState):
    """Any order; keeps `least` elements to choose from until it is closed."""

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_random": copy.deepcopy(self._random)}

    def __init__(self, name: str, capacity: int, least: int, seed: Any):
        super().__init__(name, capacity)
        self._least = least
        self._random = np.random.default_rng(seed)
        self._items = []

    def _pop(self) -> Element:
        items = self._items
        chosen = int(self._random.integers(len(items)))
        items[chosen], items[-1] = items[-1], items[chosen]
        return items.pop()

    def _put_back(self, elements: Sequence[Element]) -> None:
        self._items.extend(elements)

    def _ready(self) -> bool:
        kept = 0 if self.closed else self._least
        return len(self._items) > kept


class PriorityState(QueueState):
    """Smallest first component first; equal ones in the order in which they came."""

    def __init__(self, name: str, capacity: int):
        super().__init__(name, capacity)
        self._items = []
        self._count = 0

    def _push(self, element: Element) -> None:
        self._count += 1
        heapq.heappush(self._items, (int(element[0]), self._count, element))

    def _pop(self) -> Element:
        return heapq.heappop(self._items)[2]

    def _put_back(self, elements: Sequence[Element]) -> None:
        for position, element in enumerate(elements):
            key = (int(element[0]), position - len(elements) - self._count, element)
            heapq.heappush(self._items, key)


class Enqueue:
    """Elements that a run has enqueued and that are released when it commits."""

    def __init__(self, queue: QueueState, elements: Sequence[Element], cancelled: threading.Event):
        self.queue = queue
        self.elements = list(elements)
        self._cancelled = cancelled

    def reserve(self) -> None:
        self.queue.reserve(len(self.elements), self._cancelled)

    def unreserve(self) -> None:
        self.queue.unreserve(len(self.elements))

    def __call__(self) -> None:
        self.queue.put(self.elements)


def own_elements(pending: Sequence[Any], queue: QueueState) -> list[Element]:
    """What a run has enqueued to a queue so far."""
    mine = [o for o in pending if isinstance(o, Enqueue) and o.queue is queue]
    return [element for output in mine for element in output.elements]


def take_own(pending: Sequence[Any], queue: QueueState, count: int) -> list[Element]:
    """Take the first elements of what a run has enqueued itself: they are not released then."""
    taken: list[Element] = []
    for output in pending:
        if isinstance(output, Enqueue) and output.queue is queue:
            part = output.elements[: count - len(taken)]
            output.elements = output.elements[len(part) :]
            taken += part
    return taken


def _check(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise CancelledError(None, None, "the run was cancelled while it waited for a queue")
