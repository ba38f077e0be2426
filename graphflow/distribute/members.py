"""How a session reaches the servers of all tasks of a cluster, and how these reach each other.

No transport is known here: `ray_tasks` makes a task an actor, and servers of one process call each
other (`task.LocalMember`).
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from graphflow.distribute import failpoints
from graphflow.distribute.channel import Channel, Gone, Hear, Link
from graphflow.distribute.messages import WRITES, Message, Notice, Step, Ticket, Verdict

# Environment variable, set by `graphflow run`: tasks that have been started again, and how often.
INCARNATIONS = "GRAPHFLOW_INCARNATIONS"


class Opener(NamedTuple):
    """Who has opened a session.

    Attributes:
      name: the task that it is with.
      incarnation: how often that had been started again by then.
    """

    name: str = ""
    incarnation: int = 0


NOBODY = Opener()


def incarnations() -> dict[str, int]:
    """How often tasks of the job had been started again when this process was, by name."""
    found: dict[str, int] = json.loads(os.environ.get(INCARNATIONS, "{}"))
    return found


class Member(Protocol):
    """The server of a task, as seen from another process or its own.

    No method waits; `hear` is called as `channel.Link` says.
    """

    @property
    def handle(self) -> Any:
        """What other tasks reach it by."""
        ...

    def send(self, session: str, message: Message, hear: Hear) -> None: ...

    def call(self, session: str, method: str, arguments: tuple[Any, ...], hear: Hear) -> None: ...

    def ping(self, hear: Hear) -> None: ...

    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None: ...

    def outlive(self, name: str, listener: Listener) -> None:
        """Tell a listener of that task's end, for as long as somebody else knows it."""
        ...


class Listener(Protocol):
    """Who wants to know of the end of tasks."""

    def lost(self, name: str, reason: str) -> None: ...


class MemberLink(Link):
    """The driver's way to the tasks of one session; see `channel.Link`.

    Where a run writes on some tasks and releases output on others, those that release learn of
    the commit when the others have applied it: whoever gets an element, or is let through to the
    next step, sees all that was written before.
    """

    returning = True

    def __init__(
        self,
        session: str,
        members: Mapping[str, Member],
        opener: Opener = NOBODY,
        bell: Callable[[], threading.Condition] | None = None,
        driver: str = "",
    ):
        """Args:
        session: its name.
        members: the tasks that it sees.
        opener: the task that it is with.
        bell: makes what threads wait at, where messages travel past Ray.
        driver: what this process is called there; "": they do not.
        """
        self._session = session
        self._members = members
        self._opener = opener
        self._new_bell = bell
        self._driver = driver
        self._lock = threading.Lock()
        self._writers: dict[Ticket, set[str]] = {}  # those that have not applied it
        self._held: list[tuple[str, Notice, Hear]] = []
        self._parts: set[str] = set()  # tasks that have had a part in a run
        self._outlived: dict[str, Hear] = {}

    def send(self, worker: str, message: Message, hear: Hear) -> None:
        assert isinstance(message, (Step, Notice))  # nobody recovers: no state is saved or rebuilt
        with self._lock:
            if isinstance(message, Step):
                self._parts.add(worker)
            for decision in message.decisions:
                if decision.verdict is not Verdict.COMMIT:  # it will never be visible
                    self._writers.pop(decision.ticket, None)
            if isinstance(message, Notice) and self._comes_too_early(worker, message):
                self._held.append((worker, message, hear))
                return
        if isinstance(message, Notice):
            failpoints.hit("decided")
        answered = (
            self._noting(worker, hear)
            if isinstance(message, Step)
            else self._applying(worker, message, hear)
        )
        self._members[worker].send(self._session, message, answered)

    def _comes_too_early(self, worker: str, notice: Notice) -> bool:
        return any(self._waits(worker, decision.ticket) for decision in notice.decisions)

    def _waits(self, worker: str, ticket: Ticket) -> bool:
        writers = self._writers.get(ticket, set())
        return bool(writers) and worker not in writers

    def _noting(self, worker: str, hear: Hear) -> Hear:
        """Note which tasks have written."""

        def answered(answer: Any) -> None:
            if getattr(answer, "releases", 0) == WRITES:
                with self._lock:
                    self._writers.setdefault(answer.ticket, set()).add(worker)
            hear(answer)

        return answered

    def _applying(self, worker: str, notice: Notice, hear: Hear) -> Hear:
        """Let those go on that waited for this task."""

        def answered(answer: Any) -> None:
            with self._lock:
                for decision in notice.decisions:
                    writers = self._writers.get(decision.ticket, set())
                    writers.discard(worker)
                    if not writers:
                        self._writers.pop(decision.ticket, None)
                held, self._held = self._held, []
            hear(answer)
            for each in held:
                self.send(*each)

        return answered

    def call(self, worker: str, method: str, *arguments: Any, hear: Hear) -> None:
        if method == "open":
            handles = {name: m.handle for name, m in self._members.items()}
            arguments = (*arguments, handles, self._opener, self._driver)
        self._members[worker].call(self._session, method, arguments, hear)

    def bell(self) -> threading.Condition:
        return self._new_bell() if self._new_bell is not None else super().bell()

    def ping(self, worker: str, hear: Hear) -> None:
        self._members[worker].ping(hear)

    def outlive(self, worker: str, hear: Hear) -> None:
        self._outlived[worker] = hear
        self._members[worker].outlive(worker, self)

    def lost(self, name: str, reason: str) -> None:
        """A task has ended.  That is no matter where the session has had nothing to do with it:
        workers go on without those whose variables they do not see."""
        with self._lock:
            hear = self._outlived.pop(name, None) if name in self._parts else None
        if hear is not None:
            hear(Gone(reason))

    def replace(self, worker: str, hear: Hear) -> None:
        hear(Gone("the state of a server is lost with it"))


class MemberChannel(Channel):
    """A task's way to the others, for one session; see `channel.Channel`."""

    def __init__(self, session: str, members: Mapping[str, Member]):
        self.counts: Counter[str] = Counter()
        self._session = session
        self._members = members

    def send(self, worker: str, ticket: Ticket, key: str, value: Any) -> None:
        self.counts["sent"] += 1
        self.counts["bytes"] += getattr(value, "nbytes", 0)
        self._members[worker].deliver(self._session, ticket, key, value)
