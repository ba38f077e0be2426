"""State that several sessions share: what a server of TensorFlow 1 holds for its task.

A session of a cluster owns its state.  On a server, a variable belongs to (server, container,
name), and the sessions of all clients see it.  Their updates are serial all the same, in two
ways that differ from a session's own state:

- A client is told that a run is over when its writes are visible to all, so commits are not put
  off until its next run.
- Where two runs write the same variable, the part of the later one on this server alone is run
  again, with the values that it got from other workers.  So the gradients of asynchronous
  workers are applied one after the other, each to the value as it is by then, and none is lost
  or computed again; what a worker has read may be old, as it is in TensorFlow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from graphflow.base.errors import AbortedError
from graphflow.distribute.channel import Channel
from graphflow.distribute.host import Host, _Work
from graphflow.distribute.messages import Step, Ticket
from graphflow.distribute.transactions import Attempt, ShardStore, TwoPhase
from graphflow.execute.context import InputLog, RandomStream, Resources
from graphflow.execute.store import Conflict
from graphflow.execute.trace import Trace

TURNS = 64  # of a part that loses races, before its whole run is tried again
# Seconds that a run waits for an undecided one.  Two that wait for each other on two servers
# must give up at different times: each takes its own share of the last half.
PATIENCE = 0.4
DOUBT = 30.0  # seconds after which the client of an undecided run counts as gone


class Private(NamedTuple):
    """Key of what a session does not share: its random counters."""

    session: str
    key: Hashable


class ServerState:
    """What outlives the sessions on a server.

    Attributes:
      store: values of variables.
      resources: queues, accumulators, tables.
    """

    def __init__(self) -> None:
        self.store = SharedStore()
        self.resources = Resources()


class SharedStore(ShardStore):
    """The variables of a server."""

    def __init__(self) -> None:
        super().__init__()
        self._settled = threading.Condition(self._lock)
        self._since: dict[int, tuple[Ticket, float]] = {}  # by identity: tickets are per session
        self._broken: list[Ticket] = []

    def view(self, session: str) -> View:
        """The store as a session sees it."""
        return View(self, session)

    def snapshot(self, session: str) -> SharedTransaction:
        return SharedTransaction(self, self._entries, session)

    def settle(self, patience: float) -> bool:
        """Wait until the runs that are undecided now are decided; are they?

        A run that is committed elsewhere may be undecided here for a moment.  What begins after
        it must see its writes, so it waits.
        """
        with self._settled:
            doubtful = list(self._promises.values())

            def over() -> bool:
                self._doubt()
                left = self._promises.values()
                return not any(ticket is other for ticket in doubtful for other in left)

            return not doubtful or self._settled.wait_for(over, patience)

    def promise(self, snapshot: Any, read: set[Hashable], writes: Any, ticket: Ticket) -> None:
        def free() -> bool:
            self._doubt()
            return not any(key in self._promises for key in writes)

        with self._settled:
            self._settled.wait_for(free, _share(ticket))
            super().promise(snapshot, read, writes, ticket)
            self._since[id(ticket)] = ticket, time.monotonic()

    def withdraw(self, writes: Any) -> None:
        with self._settled:
            for key in writes:
                self._since.pop(id(self._promises.get(key)), None)
            super().withdraw(writes)
            self._settled.notify_all()

    def _doubt(self) -> None:
        """Break the promises of clients that are gone.  The lock is held."""
        for ticket, since in list(self._since.values()):
            if time.monotonic() - since > DOUBT:
                self._broken.append(ticket)
                self.withdraw([k for k, t in self._promises.items() if t is ticket])

    def check_unbroken(self, ticket: Ticket) -> None:
        """Raises:
        AbortedError: others were let past the run, as no decision on it came.
        """
        if any(ticket is broken for broken in self._broken):
            raise AbortedError(
                None, None, f"run {ticket.run} was given up: no decision came for {DOUBT:g} s"
            )

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Forget values."""
        with self._lock:
            gone = set(keys)
            self._entries = {k: v for k, v in self._entries.items() if k not in gone}


def _share(ticket: Ticket) -> float:
    """How long an attempt waits: another time for each, from PATIENCE / 2 to PATIENCE."""
    return PATIENCE * (0.5 + id(ticket) // 16 % 64 / 128)


class View(NamedTuple):
    """A store, for one session."""

    store: SharedStore
    session: str

    def begin(self) -> SharedTransaction:
        return self.store.snapshot(self.session)


class SharedTransaction(TwoPhase):
    """A transaction of one session on a store that it shares."""

    __slots__ = ("_session", "_ticket")

    def __init__(self, store: SharedStore, snapshot: Any, session: str):
        super().__init__(store, snapshot)
        self._session = session
        self._ticket: Ticket | None = None

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
        self._ticket = ticket
        super().prepare(ticket)

    def commit(self) -> int:
        store = self._shard
        assert isinstance(store, SharedStore)
        if self._ticket is not None:
            store.check_unbroken(self._ticket)
        return super().commit()


class SharedAttempt(Attempt):
    """A part of a run on a server."""

    __slots__ = ()

    @property
    def releases(self) -> bool:
        """Others wait for what it writes: it must not be put off until the client's next run."""
        transaction = self._two_phase
        assert isinstance(transaction, SharedTransaction)
        return super().releases or transaction.shows


class _Borrowed:
    """The objects of a server, for a session: they stay when it ends."""

    def __init__(self, resources: Resources):
        self.get = resources.get

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

    def send(self, key: str, value: Any) -> None:
        if key in self._routes:
            if key in self._sent:
                return
            self._sent.add(key)
        self._mailbox.send(key, value)

    def receive(self, key: str) -> Any:
        if key not in self._incoming:
            return self._mailbox.receive(key)
        if key not in self._received:
            self._received[key] = self._mailbox.receive(key)
        return self._received[key]


class SharedHost(Host):
    """One session on a server."""

    def __init__(
        self, state: ServerState, session: str, seed: int, channel: Channel, patience: float
    ):
        super().__init__(seed, channel, patience)
        self.store = state.store
        self._resources: Any = _Borrowed(state.resources)
        self._state = state
        self._session = session
        self._incoming: dict[int, frozenset[str]] = {}
        self._replays: dict[Ticket, _Replay] = {}

    def load(self, plan: int, shipment: Any) -> None:
        steps = [step for part in shipment.parts for step in part.plan.steps]
        sent = {s.attrs["key"] for s in steps if s.opdef.name == "Send"}
        received = {s.attrs["key"] for s in steps if s.opdef.name == "Recv"}
        self._incoming[plan] = frozenset(received - sent)
        super().load(plan, shipment)

    def _attempt(self, ticket: Ticket, work: _Work) -> Attempt:
        inputs = self._inputs.setdefault(ticket.run, InputLog())
        view: Any = self._state.store.view(self._session)
        return SharedAttempt(ticket, view, self._resources, self._seed, inputs, work.cancelled)

    def _mailbox(self, ticket: Ticket, routes: Mapping[str, str], work: _Work) -> Any:
        return self._replays[ticket]

    def _prepare(self, step: Step, work: _Work, trace: Trace | None) -> list[Any]:
        ticket = step.ticket
        routes = self._loaded[step.plan].shipment.routes
        mailbox = super()._mailbox(ticket, routes, work)
        self._replays[ticket] = _Replay(mailbox, routes, self._incoming[step.plan])
        try:
            for _ in range(TURNS):
                if not self._state.store.settle(_share(ticket)):
                    raise Conflict(ticket)
                self._begin_anew(ticket, work)
                try:
                    return super()._prepare(step, work, trace)
                except Conflict as lost:
                    again = lost
            raise Conflict(ticket) from again
        except Conflict as lost:  # its holder is a run of another client: nothing to say of it
            raise Conflict(ticket) from lost
        finally:
            del self._replays[ticket]

    def _begin_anew(self, ticket: Ticket, work: _Work) -> None:
        """An attempt on the state as it is now."""
        with self._lock:
            assert work.attempt is not None
            work.attempt.abort()
            work.attempt = self._attempt(ticket, work)

    def close(self) -> None:
        super().close()
        store = self._state.store
        store.drop(k for k in store if isinstance(k, Private) and k.session == self._session)
