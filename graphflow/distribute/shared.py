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
  `members.MemberLink`.
- Where a client ends while a run of its is prepared here, the servers agree on what becomes of
  that: each stops to listen to the client, and then asks the others.  Where one has been told to
  commit it, all do; otherwise the client has told nobody that it was, and none does.
- A server that was stopped for so long that clients may have given it up ends their sessions when
  it goes on, see `stops`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

from graphflow.base.errors import OpError, UnavailableError
from graphflow.distribute import worker as machine
from graphflow.distribute.channel import Channel
from graphflow.distribute.decisions import Part, changes, digest
from graphflow.distribute.host import Host
from graphflow.distribute.messages import UNKNOWN_SESSION, Decision, Step, Ticket
from graphflow.distribute.portable import portable
from graphflow.distribute.repeatable import RepeatableMailbox
from graphflow.distribute.server_state import Borrowed, Private, ServerState, SharedAttempt
from graphflow.distribute.shipment import Shipment
from graphflow.distribute.work import Work
from graphflow.execute.inputs import InputLog
from graphflow.execute.trace import Trace

# Commits of a session, for servers that may not have heard of them: of those overlap 128 at most.
_REMEMBERED = 1024
_log = logging.getLogger("graphflow")


class SharedHost(Host):
    """One session on a server.

    Attributes:
      given_up: its client may have given up this process, which was stopped.
    """

    def __init__(
        self,
        state: ServerState,
        session: str,
        seed: int,
        channel: Channel,
        patience: float,
        opener: tuple[str, int] = ("", 1),
        safe: float = math.inf,
    ):
        """Args:
        state: the server's.
        session: its name.
        seed, channel, patience: see `Host`.
        opener: the task that has opened the session, and its number among those.
        safe: seconds for which this process may be stopped, and its client has not given it up.
        """
        super().__init__(seed, channel, patience)
        self._state = state
        self._shared = state.store
        self._resources: Any = Borrowed(state)
        self._session = session
        self._opener = opener
        self._parts: dict[int, tuple[Part, bool]] = {}  # by plan; has it effects?
        self._turns: Counter[Part] = Counter()  # where decisions are logged or replayed; and so are
        self._named: dict[int, Part] = {}  # by run, until it is over
        self._placed: dict[Ticket, SharedAttempt] = {}  # until they are decided on
        self._incoming: dict[int, frozenset[str]] = {}
        self._mailboxes: dict[Ticket, RepeatableMailbox] = {}
        self._commits: deque[Ticket] = deque(maxlen=_REMEMBERED)  # to commit what others see
        self._undecided: dict[Ticket, SharedAttempt] | None = None  # once nothing more is heard
        self.given_up = False
        state.stops.enter(self, safe)

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
        return self._mailboxes[ticket]

    def _prepare(self, step: Step, work: Work, trace: Trace | None) -> list[Any]:
        ticket = step.ticket
        shipment = self._loaded[step.plan].shipment
        mailbox = super()._mailbox(ticket, shipment, work)
        repeatable = RepeatableMailbox(mailbox, shipment.routes, self._incoming[step.plan])
        self._mailboxes[ticket] = repeatable
        attempt = work.attempt
        assert isinstance(attempt, SharedAttempt)

        def again(inputs: InputLog) -> SharedAttempt:
            """Everything the part asked for came before: it waits for nothing."""
            self._mailboxes[ticket] = repeatable
            try:
                work.attempt = fresh = self._attempt_with(inputs, ticket, work)
                self._execute(step, work, None)
            finally:
                self._mailboxes.pop(ticket, None)
            return fresh

        attempt.again = again
        decisions = self._state.decisions
        try:
            if decisions is not None:
                assert attempt.part is not None
                changes = self._parts[step.plan][1]
                place = decisions.begin(attempt.part, changes, attempt.renew, work.cancelled)
                with self._lock:
                    attempt.begun(place)
            values = super()._prepare(step, work, trace)
            if shipment.alone:  # nobody else can refuse: one message and its answer are enough
                self._state.stops.look()
                if self.given_up:
                    raise UnavailableError(None, None, UNKNOWN_SESSION)
                attempt.commit_alone()
                attempt.inputs.log.end(self._resources)
                _await(attempt.applied)
            return values
        finally:
            self._mailboxes.pop(ticket, None)

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

    def give_up(self, stopped: float) -> None:
        """See `stops.Session`."""
        _log.warning("this server was stopped for %.0f s: it ends a session", stopped)
        self.given_up = True
        self.fence()

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

    def _start(self, command: machine.Start) -> None:
        super()._start(command)
        if self._state.decisions is None:
            return
        ticket, plan = command.step.ticket, self._parts[command.step.plan][0]
        if ticket.run not in self._named:
            self._turns[plan] += 1
            self._named[ticket.run] = plan._replace(turn=self._turns[plan])
        attempt = self._work[ticket].attempt
        assert isinstance(attempt, SharedAttempt)
        attempt.part = self._named[ticket.run]
        self._placed[ticket] = attempt

    def _commit(self, command: machine.Commit) -> None:
        if self._undecided is not None:
            return
        attempt = self._work[command.ticket].attempt
        if attempt is not None and attempt.releases:
            self._commits.append(command.ticket)
        super()._commit(command)

    def _forget(self, command: machine.Forget) -> None:
        if self._undecided is not None:  # at the end: what is undecided may be committed
            return
        if self._named.pop(command.run, None) is not None:
            for ticket, attempt in list(self._placed.items()):
                if ticket.run == command.run:
                    attempt.over()
        super()._forget(command)

    def _rollback(self, command: machine.Rollback) -> None:
        if self._undecided is None or command.ticket not in self._undecided:
            super()._rollback(command)

    def close(self) -> None:
        self._state.stops.leave(self)
        self.fence()
        self.settle(())
        super().close()
        for log in list(self._inputs.values()):  # others may want what its runs had taken
            log.end(self._resources)
        store = self._shared
        store.drop([k for k in store if isinstance(k, Private) and k.session == self._session])


def _await(applied: threading.Event | None) -> None:
    """Wait until a commit has taken effect, where that comes in its turn."""
    if applied is not None:
        applied.wait()  # no deadline: a replay whose next commit does not come goes on without it


SharedHost._performs = {
    **Host._performs,
    machine.Start: SharedHost._start,
    machine.Commit: SharedHost._commit,
    machine.Rollback: SharedHost._rollback,
    machine.Forget: SharedHost._forget,
}
