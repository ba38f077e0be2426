"""The server of one task.

A task is a process of a TensorFlow 1 cluster: "/job:ps/replica:0/task:0".  Its server holds the
task's state and the sessions on it.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import FailedPreconditionError, UnavailableError
from graphflow.distribute.calls import gather
from graphflow.distribute.channel import Channel, Gone, Hear
from graphflow.distribute.members import (
    NOBODY,
    Listener,
    Member,
    MemberChannel,
    MemberLink,
    Opener,
)
from graphflow.distribute.messages import UNKNOWN_SESSION, Message, Step, Ticket
from graphflow.distribute.portable import portable
from graphflow.distribute.server_state import ServerState
from graphflow.distribute.shared import SharedHost
from graphflow.distribute.stops import SAFE
from graphflow.execute.devices import gpu_memory
from graphflow.execute.whereabouts import Whereabouts, whereabouts
from graphflow.place.devices import machine_memory

STOPPED = "its server was stopped"
TELLING = 5.0  # seconds for tasks to tell what a client has told them that has ended
# The same for the task of a client whose connection has ended: it has mostly ended, too.
LIVING = 2.0
DEFAULT = "localhost"  # what TensorFlow calls the container of what names none
_ENDED = 64  # sessions that have ended, and may be asked for
THREADS = 160  # as many runs as may overlap on a task, and some that were cancelled


class Found(NamedTuple):
    """What a task tells of itself.

    Attributes:
      node: identifies the machine.
      cpus: threads that kernels may use.
      gpus: bytes of memory of each GPU that CuPy can use.
      memory: bytes that the processes of its machine, or of its container, may have.
    """

    node: str
    cpus: int
    gpus: tuple[int, ...]
    memory: int


class Task:
    """The server of one task.

    Attributes:
      name: "/job:worker/replica:0/task:1".
      state: what its sessions share.
      incarnations: how often tasks have been started again, by name: what they were before may
        live on, unknown to Ray, and open sessions.
    """

    def __init__(
        self,
        name: str,
        reach: Callable[[Any], Member],
        node: str = "here",
        past: Callable[[str, MemberChannel], Channel] | None = None,
    ):
        """Args:
        name: the task's.
        reach: from a handle to a member.
        node: the machine's.
        past: a session and its way to the members -> one past these, for drivers that use it.
        """
        self.name = name
        self.state = ServerState()
        self.incarnations: dict[str, int] = {}
        self._reach = reach
        self._node = node
        self._past = past
        self._hosts: dict[str, SharedHost] = {}
        self._channels: dict[str, Any] = {}
        self._openers: dict[str, Opener] = {}  # by session
        self._drivers: dict[str, str] = {}  # by session: who sends messages past Ray; or ""
        self._opened: Counter[str] = Counter()  # sessions, by who has opened them
        self._members: dict[str, Mapping[str, Member]] = {}  # by session
        # Of sessions that have ended, what they were told to commit: others may ask for that.
        self._ended: OrderedDict[str, frozenset[Ticket]] = OrderedDict()
        self._ending = threading.Lock()
        self._given_up: set[str] = set()  # sessions that are being ended

    def call(self, session: str, method: str, arguments: tuple[Any, ...]) -> Any:
        """Describe, open, load, close, reset, statistics; an error is returned, not raised."""
        try:
            return _METHODS[method](self, session, *arguments)
        except Exception as error:
            return portable(error)

    def _describe(self, session: str) -> Found:
        cpus = int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1
        return Found(self._node, cpus, gpu_memory(), machine_memory())

    def _open(
        self, session: str, seed: int, deadline: float, _: Any, tier: str,
        handles: Mapping[str, Any], opener: Opener, driver: str, safe: float = SAFE,
    ) -> None:  # fmt: skip
        members = {name: self._reach(handle) for name, handle in handles.items()}
        channel: Any = MemberChannel(session, members)
        if driver and self._past is not None:
            channel = self._past(session, channel)
        self._channels[session] = channel
        self._members[session] = members
        self._drivers[session] = driver
        self._opened[opener.name] += 1
        who = opener.name, self._opened[opener.name]
        self._hosts[session] = SharedHost(
            self.state, session, seed, channel, deadline, who, safe * deadline
        )
        self._openers[session] = opener
        if self._is_lost(opener):  # asked last: either `forget` finds the session, or it is here
            self._end(session, 0.0)
            raise FailedPreconditionError(
                None, None,
                f"{self.name} takes no session of {opener.name} as that was before it was lost: "
                "another process has its place",
            )  # fmt: skip

    def _load(self, session: str, plan: int, shipment: Any) -> None:
        self._known(session).load(plan, shipment)

    def _statistics(self, session: str) -> dict[str, int]:
        host = self._known(session)
        counts = self._channels[session].counts
        return {"sent": counts["sent"], "bytes": counts["bytes"], **+host.dropped}

    def _whereabouts(self, session: str) -> Whereabouts:
        return whereabouts()

    def _close(self, session: str) -> None:
        self._end(session, TELLING)

    def _end(self, session: str, patience: float) -> None:
        """End a session; its client tells nothing more, or what it tells is void.

        Args:
          session: which.
          patience: seconds for the client's own task to say what it was told.
        """
        with self._ending:
            opener = self._openers.pop(session, NOBODY).name
            self._drivers.pop(session, None)
            self._channels.pop(session, None)
            members = self._members.pop(session, {})
            host = self._hosts.get(session)
            if host is None:
                return
            host.fence()
            self._ended[session] = host.told()
            while len(self._ended) > _ENDED:
                self._ended.popitem(last=False)
            del self._hosts[session]
            undecided = host.undecided()
            told: set[Ticket] = set()
            if undecided:
                ask = partial(self._told, session, members, undecided)
                told = ask([name for name in members if name != opener], TELLING)
                told |= ask([opener] if patience and not told else [], patience)
            host.settle(told)
            host.close()

    def _told(
        self,
        session: str,
        members: Mapping[str, Member],
        undecided: Sequence[Ticket],
        names: Sequence[str],
        patience: float,
    ) -> set[Ticket]:
        """Which attempts other tasks have been told to commit."""
        others: dict[str, tuple[Any, ...]] = {
            name: (tuple(undecided),) for name in names if name in members and name != self.name
        }
        # One that is gone has lost the state that it may have committed to.
        answers, _ = gather(MemberLink(session, members), "outcome", others, patience)
        return {t for told in answers.values() if isinstance(told, (tuple, list)) for t in told}

    def _outcome(self, session: str, tickets: Sequence[Ticket]) -> tuple[Ticket, ...]:
        """Which attempts the client has told this task to commit; from now on, it tells none."""
        host = self._hosts.get(session)
        if host is not None:
            host.fence()
        told = self._ended.get(session, frozenset()) if host is None else host.told()
        return tuple(told.intersection(tickets))

    def _reset(self, session: str, containers: tuple[str, ...]) -> None:
        """Forget what is in containers; in all where none is named."""
        named = ["" if name == DEFAULT else name for name in containers]

        def meant(key: Any) -> bool:
            return not named or getattr(key, "container", "") in named

        store = self.state.store
        store.drop(key for key in store if meant(key))
        self.state.resources.close(meant)

    def host(self, session: str) -> SharedHost | None:
        """What it does for a session; None: that is closed, or given up."""
        self.state.stops.look()
        host = self._hosts.get(session)
        return None if host is None or host.given_up else host

    def look(self) -> None:
        """Called every `TICK` seconds; ends the sessions that were given up."""
        self.state.stops.look()
        given_up = {s for s, host in list(self._hosts.items()) if host.given_up}
        for session in given_up - self._given_up:
            # on a thread of its own: it waits for others, and the next look must not
            threading.Thread(target=self._end, args=(session, LIVING), daemon=True).start()
        self._given_up = given_up

    def forget(self, opener: str, incarnation: int) -> None:
        """End the sessions that a lost task has opened, who decides on their runs no more, and
        take none from it; the next incarnation of the task has that number."""
        self.incarnations[opener] = incarnation
        with self._ending:  # those that are ended already are over then
            openers = list(self._openers.items())
            found = [s for s, o in openers if o.name == opener and self._is_lost(o)]
        for session in found:
            self._end(session, 0.0)

    def _is_lost(self, opener: Opener) -> bool:
        return opener.incarnation < self.incarnations.get(opener.name, 0)

    def left(self, driver: str) -> None:
        """End the sessions of a driver whose connection has ended: it takes this task for lost,
        or is lost itself."""
        for session in [s for s, d in list(self._drivers.items()) if d == driver]:
            self._end(session, LIVING)

    def step(self, session: str, step: Step) -> Any:
        """See `Host.step`.

        Raises:
          UnavailableError: the session was closed, or opened on a task that was lost.
        """
        return self._known(session).step(step)

    def _known(self, session: str) -> SharedHost:
        host = self.host(session)
        if host is None:
            raise UnavailableError(None, None, f"{self.name}: {UNKNOWN_SESSION}")
        return host

    def notice(self, session: str, notice: Any) -> Any:
        """See `Host.notice`.

        Raises:
          UnavailableError: as `step`; who waits for the answer must learn that none comes.
        """
        return self._known(session).notice(notice)

    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None:
        """See `Host.deliver`."""
        host = self._hosts.get(session)
        if host is not None:  # else it was closed
            host.deliver(ticket, key, value)

    def undelivered(self, session: str, ticket: Ticket, key: str, why: str) -> None:
        """See `Host.undelivered`."""
        host = self._hosts.get(session)
        if host is not None:  # else it was closed
            host.undelivered(ticket, key, why)

    def close(self) -> None:
        """End all sessions, and wake whoever waits."""
        for session in list(self._hosts):
            self._hosts.pop(session).close()
        self._openers.clear()
        self._drivers.clear()
        self._channels.clear()
        self._members.clear()
        self.state.resources.close()
        if self.state.decisions is not None:
            self.state.decisions.close()


_METHODS: Mapping[str, Callable[..., Any]] = {
    "describe": Task._describe,
    "open": Task._open,
    "load": Task._load,
    "close": Task._close,
    "outcome": Task._outcome,
    "reset": Task._reset,
    "statistics": Task._statistics,
    "whereabouts": Task._whereabouts,
}


class LocalMember:
    """A task of this process: calls run on threads of its own, and values go by reference."""

    def __init__(self, task: Task, handle: Any = None):
        """Args:
        task: the task.
        handle: what other processes reach it by; None: no other process does.
        """
        self.task = task
        self._handle = handle
        self._closed = False
        self._audience: weakref.WeakKeyDictionary[Listener, str] = weakref.WeakKeyDictionary()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"graphflow{task.name}")

    @property
    def handle(self) -> Any:
        return self if self._handle is None else self._handle

    def send(self, session: str, message: Message, hear: Hear) -> None:
        if isinstance(message, Step):
            message = message._replace(feeds=[_copied(value) for value in message.feeds])
            self._submit(hear, self.task.step, session, message)
        else:
            self._submit(hear, self.task.notice, session, message)

    def call(self, session: str, method: str, arguments: tuple[Any, ...], hear: Hear) -> None:
        if method == "open":
            arguments = (*arguments, math.inf)  # its client is stopped when the task is
        self._submit(hear, self.task.call, session, method, arguments)

    def ping(self, hear: Hear) -> None:
        self._submit(hear, lambda: None)

    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None:
        self.task.deliver(session, ticket, key, value)

    def _submit(self, hear: Hear, function: Callable[..., Any], *arguments: Any) -> None:
        def answer() -> None:
            try:
                result = function(*arguments)
            except BaseException as error:
                result = Gone(f"{type(error).__name__}: {error}", worker_lost=False)
            hear(Gone(STOPPED) if self._closed else result)

        try:
            self._pool.submit(answer)
        except RuntimeError:  # it takes nothing any more
            hear(Gone(STOPPED))

    def close(self) -> None:
        """End the task and its threads; who waits for it is told."""
        self._closed = True
        self.task.close()
        self._pool.shutdown(wait=True)
        for listener, name in list(self._audience.items()):
            listener.lost(name, STOPPED)

    def outlive(self, name: str, listener: Listener) -> None:
        self._audience[listener] = name


def _copied(value: Any) -> Any:
    """What a run gets is its own: it may keep it, and the user may change the array."""
    return value.copy() if isinstance(value, np.ndarray) else value
