"""Queues as objects: what lives between runs behind the ops of `ops.queues`.

Any number of threads may wait.  Whoever takes several elements gets them as they come, in the
order in which the waiting began, so that a request for more than fits into the queue ends.

An enqueue is an output of its run: it is released when the run commits.  Room for it is
reserved before, so that committing cannot fail half way.

Elements have the numbers in which they came, which is in the order of commits.  So what was taken
in vain goes back to its place, whoever took what meanwhile; and where a run is done again, after a
loss or as a log of decisions says (`distribute.decision_log`), it takes the elements that it took.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import CancelledError, OutOfRangeError
from graphflow.base.waiting import waits
from graphflow.ops.waitable import Waitable

Parts = tuple[Any, ...]  # the components of an element
_POLL = 0.05  # seconds between looks at whether the run was cancelled; elements wake at once


class Element(NamedTuple):
    """An element of a queue.

    Attributes:
      number: how many came before it, and itself.
      parts: its components.
    """

    number: int
    parts: Parts


class Taken(NamedTuple):
    """What a dequeue got.

    Attributes:
      elements: from the queue.
      own: how many more come from what the same run has enqueued.
      drawn: how many elements had been drawn by then.
    """

    elements: tuple[Element, ...]
    own: int
    drawn: int

    @property
    def numbers(self) -> list[int]:
        """Which elements."""
        return [element.number for element in self.elements]


class QueueState(Waitable):
    """First in, first out."""

    _TRANSIENT = Waitable._TRANSIENT | {"_waiting"}

    def __init__(self, name: str, capacity: int):
        super().__init__(name)
        self.capacity = capacity
        self._came = 0  # elements so far
        self._drawn = 0  # those that were taken, and did not go back
        self.closed = False
        self._items: Any = deque()
        self._reserved = 0
        self._refuses = False  # pending enqueues are cancelled
        self._waiting: deque[object] = deque()

    def __getstate__(self) -> dict[str, Any]:
        """See `Waitable`; in a copy room for nobody is reserved."""
        return super().__getstate__() | {"_reserved": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._waiting = deque()

    # ---- order: what subclasses change

    def _push(self, element: Element) -> None:
        self._items.append(element)

    def _pop(self) -> Element:
        return self._items.popleft()

    def _put_back(self, elements: Sequence[Element]) -> None:
        self._items = deque(sorted([*elements, *self._items]))

    def _ready(self) -> bool:
        """May an element be taken now?"""
        return bool(self._items)

    def _elements(self) -> list[Element]:
        """All, in any order."""
        return list(self._items)

    def _drop(self, numbers: Collection[int]) -> None:
        """Take the elements with these numbers out."""
        self._items = deque([e for e in self._items if e.number not in numbers])

    # ---- dequeue

    def take(
        self,
        count: int,
        up_to: bool,
        own: Sequence[Parts],
        cancelled: threading.Event,
        place: Any = None,
        numbers: Sequence[int] | None = None,
    ) -> Taken:
        """Wait for `count` elements; those that the run has enqueued itself come last.

        Args:
          place: of the run among those of others, see `distribute.decisions.Place`.
          numbers: of the elements to take; None: whichever come, or what the place wants.

        Raises:
          OutOfRangeError: the queue is closed and has too few; with `up_to`, has none.
          CancelledError: the run was cancelled while it waited.
        """
        if numbers is None and place is not None:
            numbers = place.wanted(self.name)
        if numbers is not None:
            return self._take_these(numbers, min(count - len(numbers), len(own)), cancelled)
        others = place.of_others(self.name) if place is not None else ()
        taken: list[Element] = []
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while True:
                    if self._waiting[0] is ticket:
                        while len(taken) < count and self._ready():
                            free = self._next(others)
                            if free is None:
                                break
                            taken.append(free)
                        self._changed.notify_all()
                        if len(taken) + len(own) >= count:
                            return Taken(tuple(taken), count - len(taken), self._drawn)
                        _check(cancelled)  # first: a session that ends closes its queues
                        if self.closed and not self._reserved:
                            found = len(taken) + len(own)
                            if up_to and found:
                                return Taken(tuple(taken), len(own), self._drawn)
                            raise self._exhausted(count, found)
                    _check(cancelled)
                    waits()
                    self._changed.wait(_POLL)
            except BaseException:
                self._undo(Taken(tuple(taken), 0, self._drawn))
                raise
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _take_these(self, numbers: Sequence[int], own: int, cancelled: threading.Event) -> Taken:
        """Wait for the elements of these numbers, whoever else waits."""
        with self._changed:
            while True:
                there = {element.number: element for element in self._elements()}
                if there.keys() >= set(numbers):
                    self._drop(numbers)
                    self._drawn += len(numbers)
                    self._changed.notify_all()
                    return Taken(tuple([there[n] for n in numbers]), own, self._drawn)
                _check(cancelled)
                waits()
                self._changed.wait(_POLL)

    def _next(self, others: Collection[int]) -> Element | None:
        """The element that comes next, but for those of others; None: there is none."""
        passed: list[Element] = []
        found: Element | None = None
        while found is None and self._ready():
            element: Element = self._pop()
            if element.number in others:
                passed.append(element)
            else:
                found = element
        if passed:
            self._put_back(passed)
        self._drawn += found is not None
        return found

    def _exhausted(self, count: int, found: int) -> OutOfRangeError:
        return OutOfRangeError(
            None,
            None,
            f"{self.name!r} is closed and has insufficient elements (requested {count}, current "
            f"size {found})",
        )

    def give_back(self, taken: Taken) -> None:
        """Have elements again that a run had taken, where they were."""
        with self._changed:
            self._undo(taken)
            self._changed.notify_all()

    def _undo(self, taken: Taken) -> None:
        if taken.elements:
            self._put_back(taken.elements)
        if self._drawn == taken.drawn:  # nobody has drawn since
            self._drawn -= len(taken.elements)

    # ---- enqueue

    def check_open(self) -> None:
        """Raises:
        CancelledError: the queue is closed.
        """
        if self.closed:
            raise CancelledError(None, None, f"{self.name!r} is closed: nothing can be enqueued")

    def reserve(self, count: int, cancelled: threading.Event, bound: bool = True) -> None:
        """Wait for room for `count` elements and keep it.

        More than fit at all wait until the queue is empty and then go in as a whole.

        Args:
          bound: otherwise there is always room.

        Raises:
          CancelledError: the run or the pending enqueues were cancelled.
        """
        with self._changed:
            waited = False
            while True:
                if self._refuses or (self.closed and not waited):
                    self.check_open()
                used = len(self._items) + self._reserved
                # In a replay the log has the order, and a later one in it must not take the room.
                bound = bound and not getattr(self.decisions, "replays", False)
                if not bound or used + count <= self.capacity or not used or self.capacity < 0:
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

    def put(self, elements: Sequence[Parts]) -> None:
        """Add elements for which room is reserved."""
        with self._changed:
            self._reserved -= len(elements)
            for parts in elements:
                self._came += 1
                self._push(Element(self._came, parts))
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
    """Any order; keeps `least` elements to choose from until it is closed.

    Which one is next depends on the seeds, on how many were drawn, and on what is there.
    """

    def __init__(self, name: str, capacity: int, least: int, seeds: Sequence[int]):
        super().__init__(name, capacity)
        self._least = least
        self._seeds = tuple(seeds)
        self._items = []

    def _pop(self) -> Element:
        element: Element = self._items.pop(self._choice() % len(self._items))
        return element

    def _choice(self) -> int:
        block, nth = divmod(self._drawn, _BLOCK)
        return _choices(self._seeds, block)[nth]

    def _put_back(self, elements: Sequence[Element]) -> None:
        self._items = sorted([*elements, *self._items])

    def _drop(self, numbers: Collection[int]) -> None:
        self._items = [e for e in self._items if e.number not in numbers]

    def _ready(self) -> bool:
        kept = 0 if self.closed else self._least
        return len(self._items) > kept


_BLOCK = 256  # numbers drawn at once: a generator of their own for each would take 15 us


@lru_cache(64)
def _choices(seeds: tuple[int, ...], block: int) -> list[int]:
    generator = np.random.default_rng([*seeds, block])
    found: list[int] = generator.integers(1 << 62, size=_BLOCK).tolist()
    return found


class PriorityState(QueueState):
    """Smallest first component first; equal ones in the order in which they came."""

    def __init__(self, name: str, capacity: int):
        super().__init__(name, capacity)
        self._items = []

    def _push(self, element: Element) -> None:
        heapq.heappush(self._items, (int(element.parts[0]), element))

    def _pop(self) -> Element:
        element: Element = heapq.heappop(self._items)[1]
        return element

    def _put_back(self, elements: Sequence[Element]) -> None:
        for element in elements:
            self._push(element)

    def _elements(self) -> list[Element]:
        return [element for _, element in self._items]

    def _drop(self, numbers: Collection[int]) -> None:
        self._items = [item for item in self._items if item[1].number not in numbers]
        heapq.heapify(self._items)


class Enqueue:
    """Elements that a run has enqueued and that are released when it commits."""

    def __init__(
        self,
        queue: QueueState,
        elements: Sequence[Parts],
        cancelled: threading.Event,
        bound: bool = True,
    ):
        """Args:
        bound: it waits for room.
        """
        self.queue = queue
        self.elements = list(elements)
        self._cancelled = cancelled
        self._bound = bound

    def reserve(self) -> None:
        self.queue.reserve(len(self.elements), self._cancelled, self._bound)

    def unreserve(self) -> None:
        self.queue.unreserve(len(self.elements))

    def __call__(self) -> None:
        self.queue.put(self.elements)


def own_elements(pending: Sequence[Any], queue: QueueState) -> list[Parts]:
    """What a run has enqueued to a queue so far."""
    mine = [o for o in pending if isinstance(o, Enqueue) and o.queue is queue]
    return [element for output in mine for element in output.elements]


def take_own(pending: Sequence[Any], queue: QueueState, count: int) -> list[Parts]:
    """Take the first elements of what a run has enqueued itself: they are not released then."""
    taken: list[Parts] = []
    for output in pending:
        if isinstance(output, Enqueue) and output.queue is queue:
            part = output.elements[: count - len(taken)]
            output.elements = output.elements[len(part) :]
            taken += part
    return taken


def _check(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise CancelledError(None, None, "the run was cancelled while it waited for a queue")
