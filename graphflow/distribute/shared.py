"""State that several sessions share: what a server of TensorFlow 1 holds for its task.

A session of a cluster owns its state.  On a server, a variable belongs to (server, container,
name), and the sessions of all clients see it.  No update is lost all the same, and none waits
for another client:

- A part of a run that is committed when what it wrote has changed since it was read is executed
  again on this server alone, with the values that it got from other workers.  So the gradients
  of asynchronous workers are applied one after the other, each to the value as it is by then.
  What a worker has read, or fetches, may be older; that is so in TensorFlow, too.
- A run that only this server has a part in is committed when it has been executed.
- A client is told that a run is over when its writes are visible to all, so commits are not put
  off until its next run; and what a run releases (elements, steps) comes after them, see
  `task.MemberLink`.
- Where a client ends while a run of its is prepared here, the servers agree on what becomes of
  that: each stops to listen to the client, and then asks the others.  Where one has been told to
  commit it, all do; otherwise the client has told nobody that it was, and none does.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import OpError
from graphflow.distribute import worker as machine
from graphflow.distribute.channel import Channel
from graphflow.distribute.decisions import Decisions, Part, Place, changes, digest
from graphflow.distribute.host import Host
from graphflow.distribute.messages import OUTPUT, WRITES, Decision, Step, Ticket
from graphflow.distribute.portable import portable
from graphflow.distribute.rows import RowTransaction
from graphflow.distribute.shipment import Shipment
from graphflow.distribute.transactions import Attempt, kept
from graphflow.distribute.work import Work
from graphflow.execute.context import InputLog, RandomStream, Resources
from graphflow.execute.store import Conflict, Store
from graphflow.execute.trace import Trace

# Commits of a session, for servers that may not have heard of them: of those overlap 128 at most.
_REMEMBERED = 1024
_log = logging.getLogger("graphflow")


class Private(NamedTuple):
    """Key of what a session does not share: its random counters."""

    session: str
    key: Hashable


class ServerState:
    """What outlives the sessions on a server.

    Attributes:
      store: values of variables.
      resources: queues, accumulators, tables.
      decisions: writes down in which order runs change these, or has them do it in that of a log;
        None: neither.
    """

    def __init__(self) -> None:
        self.store = SharedStore()
        self.resources = Resources()
        self.decisions: Decisions | None = None


class SharedStore(Store):
    """The variables of a server."""

    def snapshot(self, session: str) -> SharedTransaction:
        """A transaction of a session on the state as it is now."""
        return SharedTransaction(self, self._entries, session)

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Forget values."""
        with self._lock:
            gone = set(keys)
            self._entries = {k: v for k, v in self._entries.items() if k not in gone}


class _View(NamedTuple):
    """A store, for one session."""

    store: SharedStore
    session: str

    def begin(self) -> SharedTransaction:
        return self.store.snapshot(self.session)


class SharedTransaction(RowTransaction):
    """A transaction of one session on a store that it shares."""

    __slots__ = ("_session",)

    def __init__(self, store: SharedStore, snapshot: Any, session: str):
        super().__init__(store, snapshot)
        self._session = session

    def _own(self, key: Hashable) -> Hashable:
        return Private(self._session, key) if isinstance(key, RandomStream) else key

    def read(self, key: Hashable) -> Any:
        return super().read(self._own(key))

    def has(self, key: Hashable) -> bool:
        return super().has(self._own(key))

    def write(self, key: Hashable, value: Any) -> Any:
        return super().write(self._own(key), value)

    @property
    def shows(self) -> bool:
        """Has it written what other sessions see?"""
        return any(not isinstance(key, Private) for key in self._writes)

    def prepare(self, ticket: Ticket) -> None:
        """Take possession of what is to be kept."""
        for key, value in self._writes.items():
            self._writes[key] = kept(value)


class SharedAttempt(Attempt):
    """A part of a run on a server.

    Attributes:
      again: gives the part executed anew, on the state as it is then.
      place: among the parts of other runs, where that is logged or replayed.
      done: it is committed.
      applied: set when that has taken effect, where it has a place.
    """

    __slots__ = ("_store", "_view", "again", "applied", "done", "place")

    def __init__(self, ticket: Ticket, store: SharedStore, session: str, *rest: Any):
        view: Any = _View(store, session)
        super().__init__(ticket, view, *rest)
        self._store = store
        self._view = view
        self.again: Callable[[], SharedAttempt] | None = None
        self.place: Place | None = None
        self.done = False
        self.applied: threading.Event | None = None

    def renew(self) -> None:
        """See the state as it is now."""
        self.transaction = self._two_phase = self._view.begin()

    @property
    def releases(self) -> int:
        """WRITES, OUTPUT or 0."""
        if self.done:
            return 0
        if self._outputs:
            return OUTPUT
        return WRITES if self.transaction.shows else 0  # type: ignore[attr-defined]

    def commit(self) -> None:
        """Apply the writes, computed anew where they are out of date; then release the output.

        Raises:
          OpError: of output, or of what was computed anew; the writes are lost then.
        """
        if self.done:
            return
        self.done = True
        if self.place is None:
            self._apply()
        else:
            self.applied = self.place.commit(self._apply)

    def abort(self) -> None:
        if self.done:
            return
        super().abort()
        self.again = None
        if self.place is not None:
            self.place.abandon()

    def _apply(self) -> None:
        with self._store.exclusive():
            try:
                self.transaction.commit()
            except Conflict:
                assert self.again is not None
                fresh = self.again()
                fresh._two_phase.prepare(self.ticket)
                fresh.transaction.commit()
                fresh.done = True  # a run on one server alone is told of its commit after this
        # It holds this attempt, and what came from other tasks: in a cycle, their memory would be
        # lent until Python's collector comes.
        self.again = None
        self._reserved.clear()
        self.release()


class _Borrowed:
    """The objects of a server, for a session: they stay when it ends."""

    def __init__(self, state: ServerState):
        self._state = state

    def get(self, key: Hashable, factory: Callable[[], Any]) -> Any:
        """See `Resources.get`; what decides something is told by whom."""

        def made() -> Any:
            fresh = factory()
            if hasattr(fresh, "decisions"):
                fresh.decisions = self._state.decisions
            return fresh

        return self._state.resources.get(key, made)

    def close(self) -> None:
        """Nothing: they are not the session's."""


class _Replay:
    """The mailbox of a part that may run again: what came stays, and what went is not sent
    again.  Transfers between devices of the server are made anew."""

    def __init__(self, mailbox: Any, routes: Mapping[str, str], incoming: frozenset[str]):
        self._mailbox = mailbox
        self._routes = routes
        self._incoming = incoming
        self._received: dict[str, Any] = {}
        self._sent: set[str] = set()
        self._meetings: dict[str, _ReplayMeeting] = {}

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

    def meeting(self, device: str) -> _ReplayMeeting:
        """A device's way to those it sums with."""
        if device not in self._meetings:
            self._meetings[device] = _ReplayMeeting(self._mailbox.meeting(device))
        return self._meetings[device]


class _ReplayMeeting:
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


class SharedHost(Host):
    """One session on a server."""

    def __init__(
        self,
        state: ServerState,
        session: str,
        seed: int,
        channel: Channel,
        patience: float,
        opener: tuple[str, int] = ("", 1),
    ):
        """Args:
        state: the server's.
        session: its name.
        seed, channel, patience: see `Host`.
        opener: the task that has opened the session, and its number among those.
        """
        super().__init__(seed, channel, patience)
        self._state = state
        self._shared = state.store
        self._resources: Any = _Borrowed(state)
        self._session = session
        self._opener = opener
        self._parts: dict[int, tuple[Part, bool]] = {}  # by plan; has it effects?
        self._placed: dict[Ticket, SharedAttempt] = {}  # until they are decided on
        self._incoming: dict[int, frozenset[str]] = {}
        self._replays: dict[Ticket, _Replay] = {}
        self._commits: deque[Ticket] = deque(maxlen=_REMEMBERED)  # to commit what others see
        self._undecided: dict[Ticket, SharedAttempt] | None = None  # once nothing more is heard

    def load(self, plan: int, shipment: Any) -> None:
        steps = [step for part in shipment.parts for step in part.plan.steps]
        sent = {s.attrs["key"] for s in steps if s.opdef.name == "Send"}
        received = {s.attrs["key"] for s in steps if s.opdef.name == "Recv"}
        self._incoming[plan] = frozenset(received - sent)
        plans = [part.plan for part in shipment.parts]
        self._parts[plan] = Part(*self._opener, digest(plans)), any(map(changes, plans))
        super().load(plan, shipment)

    def _attempt(self, ticket: Ticket, work: Work, quiet: bool = False) -> SharedAttempt:
        inputs = self._inputs.setdefault(ticket.run, InputLog())
        return self._attempt_with(inputs, ticket, work, quiet)

    def _attempt_with(
        self, inputs: InputLog, ticket: Ticket, work: Work, quiet: bool = False
    ) -> SharedAttempt:
        return SharedAttempt(
            ticket, self._shared, self._session, self._resources, self._seed, inputs,
            work.cancelled, quiet,
        )  # fmt: skip

    def _mailbox(self, ticket: Ticket, shipment: Shipment, work: Work) -> Any:
        return self._replays[ticket]

    def _prepare(self, step: Step, work: Work, trace: Trace | None) -> list[Any]:
        ticket = step.ticket
        shipment = self._loaded[step.plan].shipment
        mailbox = super()._mailbox(ticket, shipment, work)
        replay = _Replay(mailbox, shipment.routes, self._incoming[step.plan])
        self._replays[ticket] = replay
        attempt = work.attempt
        assert isinstance(attempt, SharedAttempt)
        inputs = attempt.inputs  # in a replay its turn may come when the run is over

        def again() -> SharedAttempt:
            """Everything the part asked for came before: it waits for nothing."""
            self._replays[ticket] = replay
            try:
                work.attempt = fresh = self._attempt_with(inputs, ticket, work)
                self._execute(step, work, None)
            finally:
                self._replays.pop(ticket, None)
            return fresh

        attempt.again = again
        decisions = self._state.decisions
        try:
            if decisions is not None:
                part = self._parts[step.plan]
                attempt.place = decisions.begin(*part, attempt.renew, work.cancelled)
                self._placed[ticket] = attempt
            values = super()._prepare(step, work, trace)
            if shipment.alone:  # nobody else can refuse: one message and its answer are enough
                attempt.commit()
                _await(attempt.applied)
            return values
        finally:
            self._replays.pop(ticket, None)

    def step(self, step: Step) -> Any:
        """See `Host.step`."""
        answer = super().step(step)
        self._await_visible(step.decisions)
        return answer

    def notice(self, notice: Any) -> Any:
        """See `Host.notice`; what was committed is visible to all at the answer."""
        answer = super().notice(notice)
        self._await_visible(notice.decisions)
        return answer

    def _await_visible(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions if self._placed else ():
            attempt = self._placed.pop(decision.ticket, None)
            if attempt is not None:
                _await(attempt.applied)

    # ---- the end of the client

    def fence(self) -> None:
        """Carry out no decision of the client's any more."""
        with self._lock:
            if self._undecided is None:
                self._undecided = {
                    ticket: attempt
                    for ticket, work in self._work.items()
                    if self._machine.states.get(ticket) == machine.PREPARED
                    and isinstance(attempt := work.attempt, SharedAttempt)
                }

    def undecided(self) -> list[Ticket]:
        """What waits for a decision that others would see; `fence` came before."""
        return [ticket for ticket, each in (self._undecided or {}).items() if each.releases]

    def told(self) -> frozenset[Ticket]:
        """What the client has told this server to commit; `fence` came before, so that the answer
        stays true."""
        with self._lock:
            return frozenset(self._commits)

    def settle(self, commits: Iterable[Ticket]) -> None:
        """End what is undecided: commit these, and undo the rest."""
        with self._lock:
            undecided, self._undecided = self._undecided or {}, {}
            self._commits.extend(commits)
        for ticket, attempt in undecided.items():
            if ticket not in self._commits:
                attempt.abort()
                continue
            try:
                attempt.commit()
            except OpError as error:  # of output: the decision is carried out nevertheless
                _log.warning("of a run whose client has ended: %s", portable(error))

    def _handle(self, event: machine.Event) -> str:
        outcome = super()._handle(event)
        if self._undecided is not None and isinstance(event, machine.Executed):
            work = self._work.pop(event.ticket, None)  # prepared too late
            if work is not None and work.attempt is not None:
                work.attempt.abort()
        return outcome

    def _commit(self, command: machine.Commit) -> None:
        if self._undecided is not None:
            return
        attempt = self._work[command.ticket].attempt
        if attempt is not None and attempt.releases:
            self._commits.append(command.ticket)
        super()._commit(command)

    def _rollback(self, command: machine.Rollback) -> None:
        if self._undecided is None or command.ticket not in self._undecided:
            super()._rollback(command)

    def close(self) -> None:
        self.fence()
        self.settle(())
        super().close()
        store = self._shared
        store.drop([k for k in store if isinstance(k, Private) and k.session == self._session])


def _await(applied: threading.Event | None) -> None:
    """Wait until a commit has taken effect, where that comes in its turn."""
    if applied is not None:
        applied.wait()  # no deadline: a replay whose next commit does not come goes on without it


SharedHost._performs = {
    **Host._performs,
    machine.Commit: SharedHost._commit,
    machine.Rollback: SharedHost._rollback,
}
