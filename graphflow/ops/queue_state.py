"""Queues as objects: what lives between runs behind the ops of `ops.queues`.

Any number of threads may wait.  Whoever takes several elements gets them as they come, in the
order in which the waiting began, so that a request for more than fits into the queue ends.  What
was taken in vain goes back to the front.

An enqueue is an output of its run: it is released when the run commits.  Room for it is
reserved before, so that committing cannot fail half way.

Where several clients take elements of one queue, chance decides who gets which.  On a server that
writes such decisions down (`distribute.decisions`), elements have the numbers in which they came,
and a dequeue in a replay takes those that it took when that was logged.
"""

from __future__ import annotations

import copy
import heapq
import threading
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import CancelledError, OutOfRangeError
from graphflow.base.waiting import waits

Element = tuple[Any, ...]
_NOT_CONTENT = ("_changed", "_waiting", "decisions", "_came")
_POLL = 0.05  # seconds between looks at whether the run was cancelled; elements wake at once


class Taken(NamedTuple):
    """What a dequeue got.

    Attributes:
      elements: from the queue.
      own: how many more come from what the same run has enqueued.
    """

    elements: tuple[Element, ...]
    own: int


class Numbered(tuple[Any, ...]):
    """An element.

    Attributes:
      number: how many came before it, and itself.
    """

    number: int


class QueueState:
    """First in, first out.

    Attributes:
      decisions: what logs who gets which element, or decides so by a log; None: nobody does.
    """

    def __init__(self, name: str, capacity: int):
        self.name = name
        self.capacity = capacity
        self.decisions: Any = None
        self._came = 0
        self.closed = False
        self._items: Any = deque()
        self._reserved = 0
        self._refuses = False  # pending enqueues are cancelled
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    def __getstate__(self) -> dict[str, Any]:
        """The content alone: a copy has nobody who waits, room for nobody is reserved, and nothing
        is written down."""
        with self._changed:
            state = {k: copy.copy(v) for k, v in self.__dict__.items() if k not in _NOT_CONTENT}
        return state | {"_reserved": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._changed = threading.Condition()
        self._waiting = deque()
        self.decisions, self._came = None, 0

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

    def _elements(self) -> list[Any]:
        """All, `Numbered` where there are decisions."""
        return list(self._items)

    def _drop(self, numbers: Collection[int]) -> None:
        """Take the elements with these numbers out."""
        self._items = deque([e for e in self._items if e.number not in numbers])

    # ---- dequeue

    def take(
        self,
        count: int,
        up_to: bool,
        own: Sequence[Element],
        cancelled: threading.Event,
        place: Any = None,
    ) -> Taken:
        """Wait for `count` elements; those that the run has enqueued itself come last.

        Args:
          place: of the run among those of others, see `distribute.decisions.Place`.

        Raises:
          OutOfRangeError: the queue is closed and has too few; with `up_to`, has none.
          CancelledError: the run was cancelled while it waited.
        """
        wanted = place.wanted(self.name) if place is not None else None
        if wanted is not None:
            return self._take_these(wanted, min(count - len(wanted), len(own)), cancelled)
        others = place.of_others(self.name) if place is not None else ()
        taken: list[Element] = []
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while True:
                    if self._waiting[0] is ticket:
                        while len(taken) < count and self._ready():
                            free = self._pop() if not others else self._pop_beside(others)
                            if free is None:
                                break
                            taken.append(free)
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

    def _take_these(self, numbers: Sequence[int], own: int, cancelled: threading.Event) -> Taken:
        """Wait for the elements of these numbers, whoever else waits."""
        with self._changed:
            while True:
                there = {element.number: element for element in self._elements()}
                if there.keys() >= set(numbers):
                    self._drop(numbers)
                    self._changed.notify_all()
                    return Taken(tuple([there[n] for n in numbers]), own)
                _check(cancelled)
                waits()
                self._changed.wait(_POLL)

    def _pop_beside(self, others: Collection[int]) -> Element | None:
        """An element whose number is none of these; None: there is none."""
        free = [element for element in self._elements() if element.number not in others]
        if not free:
            return None
        first: Element = free[0]
        self._drop([free[0].number])
        return first

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
                # In a replay the log has the order, and a later one in it must not take the room.
                bound = self.capacity >= 0 and not getattr(self.decisions, "replays", False)
                if not bound or used + count <= self.capacity or not used:
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
                self._push(element if self.decisions is None else self._numbered(element))
            self._changed.notify_all()

    def _numbered(self, element: Element) -> Numbered:
        numbered = Numbered(element)
        self._came += 1
        numbered.number = self._came
        return numbered

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

    def _drop(self, numbers: Collection[int]) -> None:
        self._items = [e for e in self._items if e.number not in numbers]

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

    def _elements(self) -> list[Any]:
        return [element for _, _, element in self._items]

    def _drop(self, numbers: Collection[int]) -> None:
        self._items = [item for item in self._items if item[2].number not in numbers]
        heapq.heapify(self._items)


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
