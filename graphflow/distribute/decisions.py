"""What chance decides on a server, as an interface: who asks, and what.

Asynchronous workers change variables in an order that nobody plans, and each sees the variables as
they are when it asks; of gradients that are given to an accumulator, a step may leave some out.
`recorder` lets chance decide, and writes down what it does; `replayer` decides as it was written
down; `decision_log` says how.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from graphflow.checkpoint.record import RecordFile
from graphflow.compile.plan import Plan

FORM = 2  # of the records of a log


class Part(NamedTuple):
    """A task's part of a run, by names that are the same when the program is started again.

    Attributes:
      opener: the task whose session it is.
      session: number among the sessions that it has opened here, from 1.
      plan: digest of the operations.
      turn: number among the session's runs of that plan, in the order in which they come, from 1.
    """

    opener: str
    session: int
    plan: str
    turn: int = 0


class Take(NamedTuple):
    """What a part took.

    Attributes:
      queue: its name.
      numbers: of the elements.
    """

    queue: str
    numbers: Sequence[int]


class Place(Protocol):
    """The place of a part among the others."""

    def commit(self, apply: Callable[[], None]) -> threading.Event:
        """Apply the part's effects, now or in its turn; set when that is done.

        Raises:
          OpError: what `apply` raises, if it is now.
        """
        ...

    def abandon(self) -> None:
        """It will not be committed; its run may be tried again."""
        ...

    def fail(self) -> None:
        """Its run has failed, and is not tried again: before or after `abandon`."""
        ...

    def wanted(self, queue: str) -> Sequence[int] | None:
        """Which elements it takes next from a queue; None: whichever it gets."""
        ...

    def of_others(self, queue: str) -> Collection[int]:
        """Elements that others are yet to take."""
        ...

    def took(self, queue: str, numbers: Sequence[int]) -> None:
        """It has taken these elements."""
        ...


class Decisions(Protocol):
    """What a server asks.

    Attributes:
      replays: it decides by a log.
    """

    replays: bool

    def begin(
        self, part: Part, changes: bool, snapshot: Callable[..., Any], cancelled: threading.Event
    ) -> Place:
        """Have a part see the state: calls `snapshot` at the right moment.

        Args:
          part: which.
          changes: it may write variables or give output; otherwise nobody waits for its commit.
          snapshot: takes the state as it is, or the one that it is given, and gives it.
          cancelled: set when the run is cancelled.

        Raises:
          CancelledError: the run was cancelled.
          FailedPreconditionError: the log and the program do not agree.
        """
        ...

    def wanted(self, accumulator: str) -> list[tuple[int, int]] | None:
        """What the next mean is made of: (rank, number among its gradients); None: of all that
        there are once these are enough."""
        ...

    def taken(self, accumulator: str, given: Iterable[tuple[int, int]]) -> None:
        """A mean was made of these."""
        ...

    def step(self, gate: str, rank: int) -> int | None:
        """The step to which a worker is let on next; None: the newest."""
        ...

    def passed(self, gate: str, rank: int, step: int) -> None:
        """A worker was let on to a step."""
        ...

    def close(self) -> None:
        """Nothing more is asked."""
        ...


def changes(plan: Plan) -> bool:
    """Does a plan write variables or give output, or do its bodies?  Of what only takes input no
    commit may ever come: nobody waits for it."""
    return any(
        step.opdef.writes
        or step.opdef.effect == "output"
        or any(changes(a) for a in step.attrs.values() if isinstance(a, Plan))
        for step in plan.steps
    )


def digest(plans: Iterable[Plan]) -> str:
    """Names a set of plans by their operations."""
    names = "\n".join(step.name for plan in plans for step in plan.steps)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def log_of(path: str) -> RecordFile:
    """The log of a server's decisions, as far as there is one; see `decision_log`.

    Raises:
      FailedPreconditionError: a version of graphflow has written it that logs something else.
      OpError: the disk fails.
    """
    return RecordFile(path, "decisions of a server", FORM)


def at_once() -> threading.Event:
    """What tells that a commit has taken effect, where it has."""
    event = threading.Event()
    event.set()
    return event
