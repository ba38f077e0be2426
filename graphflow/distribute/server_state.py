"""What outlives the sessions on a server: its variables, its objects, and what a run does to them.

See `shared` for what the clients of a server may rely on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

from graphflow.base.errors import AbortedError
from graphflow.distribute.decisions import Decisions, Part, Place
from graphflow.distribute.messages import OUTPUT, WRITES, Ticket
from graphflow.distribute.rows import RowTransaction
from graphflow.distribute.stops import Stops
from graphflow.distribute.transactions import Attempt, kept
from graphflow.execute.context import RandomStream, Resources
from graphflow.execute.inputs import InputLog
from graphflow.execute.store import Conflict, Store


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
      stops: ends sessions that this process was stopped for too long for.
    """

    def __init__(self) -> None:
        self.stops = Stops()
        self.store = SharedStore()
        self.resources = Resources()
        self.decisions: Decisions | None = None


class SharedStore(Store):
    """The variables of a server."""

    def snapshot(self, session: str, state: Any = None) -> SharedTransaction:
        """A transaction of a session on the state as it is now, or on one of before."""
        return SharedTransaction(self, self._entries if state is None else state, session)

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Forget values."""
        with self._lock:
            gone = set(keys)
            self._entries = {k: v for k, v in self._entries.items() if k not in gone}


class _View(NamedTuple):
    """A store, for one session."""

    store: SharedStore
    session: str

    def begin(self, state: Any = None) -> SharedTransaction:
        return self.store.snapshot(self.session, state)


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
    def snapshot(self) -> Any:
        """The state that it sees."""
        return self._snapshot

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
      again: gives the part executed anew, on the state as it is then, with what it had taken.
      part: names it, where what chance decides is logged or replayed.
      place: among the parts of other runs, then.
      done: it is committed.
      failed: its run has failed, and is not tried again.
      applied: set when that has taken effect, where it has a place.
    """

    __slots__ = (
        "_store", "_taken", "_view", "again", "applied", "done", "failed", "part", "place",
    )  # fmt: skip

    def __init__(self, ticket: Ticket, store: SharedStore, session: str, *rest: Any):
        view: Any = _View(store, session)
        super().__init__(ticket, view, *rest)
        self._store = store
        self._view = view
        self._taken = InputLog()  # once it is committed
        self.again: Callable[[InputLog], SharedAttempt] | None = None
        self.part: Part | None = None
        self.place: Place | None = None
        self.done = False
        self.failed = False
        self.applied: threading.Event | None = None

    def renew(self, state: Any = None) -> Any:
        """See the state as it is now, or one of before; gives it."""
        fresh = self._view.begin(state)
        self.transaction = self._two_phase = fresh
        return fresh.snapshot

    @property
    def releases(self) -> int:
        """WRITES, OUTPUT or 0."""
        if self.done:
            return 0
        if self._outputs or self.inputs.leaves:
            return OUTPUT
        shows = self.transaction.shows  # type: ignore[attr-defined]
        return WRITES if shows or self.inputs.takes else 0

    def commit(self) -> None:
        """Apply the writes, computed anew where they are out of date; then release the output.

        Raises:
          OpError: of output, or of what was computed anew; the writes are lost then.
        """
        try:
            self.commit_alone()
        except Conflict:
            self.abort()
            raise AbortedError(
                None,
                None,
                f"run {self.ticket.run} was committed, but would take other input here now, as "
                "other runs have changed what that depends on: what it writes here is lost",
            ) from None

    def commit_alone(self) -> None:
        """As `commit`, where the run may still be tried again.

        Raises:
          Conflict: what it writes is out of date, and it would take other input now.
        """
        if self.done:
            return
        self.done = True
        self._taken = self.inputs.used
        self.inputs.keep()
        try:
            if self.place is None:
                self._apply()
            else:
                self.applied = self.place.commit(self._apply)
        except Conflict:
            self.done = False
            raise

    def abort(self) -> None:
        if self.done:
            return
        super().abort()
        self.again = None
        if self.place is not None:
            self.place.abandon()

    def begun(self, place: Place) -> None:
        """It has its place among the parts of other runs."""
        self.place = place
        if self.failed:
            place.fail()

    def over(self) -> None:
        """What becomes of its run is decided."""
        self.failed = not self.done
        if self.failed and self.place is not None:
            self.place.fail()

    def _apply(self) -> None:
        with self._store.exclusive():
            try:
                self.transaction.commit()
            except Conflict:
                self._commit_anew()
        # It holds this attempt, and what came from other tasks: in a cycle, their memory would be
        # lent until Python's collector comes.
        self.again = None
        self._reserved.clear()
        self.release()

    def _commit_anew(self) -> None:
        assert self.again is not None
        try:
            with self._taken.replayed():
                fresh = self.again(self._taken)
            fresh._two_phase.prepare(self.ticket)
            fresh.transaction.commit()
            fresh.inputs.keep()
            fresh.done = True  # a run on one server alone is told of its commit after this
        finally:
            self._taken.end(self.resources)


class Borrowed:
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

    def give_back(self, key: Hashable, value: Any) -> None:
        """See `Resources.give_back`."""
        self._state.resources.give_back(key, value)

    def close(self) -> None:
        """Nothing: they are not the session's."""
