"""What a worker holds for one session, and what the state machine has it do with that.

The machine says what (`worker.py`), `host` when: it brings events, and waits for what they lead to.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from graphflow.base.errors import CancelledError, OpError
from graphflow.distribute import failpoints
from graphflow.distribute import worker as machine
from graphflow.distribute.messages import Rebuild, Step, Ticket
from graphflow.distribute.portable import portable
from graphflow.distribute.snapshot import EMPTY, Snapshot, settled
from graphflow.distribute.transactions import Ahead, Attempt, ShardStore
from graphflow.distribute.work import Work
from graphflow.execute.context import RandomStream, Resources
from graphflow.execute.inputs import InputLog
from graphflow.execute.store import Entry


class Pending:
    """A message that is no step, until it is answered."""

    def __init__(self) -> None:
        self.taken = threading.Event()
        self.snapshot: Snapshot | None = None
        self.before: Snapshot | None = None  # that of the last cut
        self.error: OpError | None = None


class Performer:
    """What one session has on one worker.  Commands are carried out under its lock.

    Attributes:
      store: the session's variables that live here.
    """

    _performs: ClassVar[Mapping[type, Callable[[Any, Any], None]]]  # by command

    def __init__(self, seed: int):
        """Args:
        seed: the session's seed, for random ops that have none.
        """
        self.store = ShardStore()
        self._seed = seed
        self._resources = Resources()
        self._machine = machine.Worker()
        self._lock = threading.RLock()
        self._work: dict[Ticket, Work] = {}
        self._notices: dict[tuple[int, int], Pending] = {}  # by generation and sequence
        self._inputs: dict[int, InputLog] = {}
        self._snapshots: dict[int, Snapshot] = {0: EMPTY}  # by cut
        self._cut = 0  # the last one
        self._released: dict[int, int] = {}  # run whose output has gone out -> cut before that
        self._abandoned: list[Ticket] = []
        self._failures: deque[tuple[Ticket, OpError]] = deque(maxlen=8)
        self._late = 0  # values that nobody waited for any more

    def _handle(self, event: machine.Event) -> str:
        """Perform what the machine wants; the outcome of a step, where it answers one."""
        outcome = ""
        performs = self._performs
        for command in self._machine.handle(event):
            if type(command) is machine.Answer:
                outcome = command.outcome
            else:
                performs[type(command)](self, command)
        while self._abandoned:
            self._handle(machine.Executed(self._abandoned.pop(), False))
        return outcome

    def _start(self, command: machine.Start) -> None:
        step = command.step
        ticket = step.ticket
        work = self._work[ticket]
        quiet = False
        if step.replay is not None:
            self._inputs[ticket.run] = InputLog(step.replay.inputs)
            quiet = step.replay.released or ticket.run in self._released
        work.attempt = self._attempt(ticket, work, quiet)
        for key, value in command.early.items():
            work.rendezvous.send(key, value)
        if work.abandoned:
            self._abandoned.append(ticket)
        if work.started is not None:
            work.started.set()

    def _hold(self, command: machine.Hold) -> None:
        ahead = [self._work[ticket] for ticket in command.ahead]
        self._work[command.ticket].before = self.store.entries, ahead

    def _skip(self, command: machine.Skip) -> None:
        work = self._work.pop(command.ticket)
        work.abandoned = True
        work.cancelled.set()
        if work.started is not None:
            work.started.set()

    def _attempt(self, ticket: Ticket, work: Work, quiet: bool = False) -> Attempt:
        inputs = self._inputs.setdefault(ticket.run, InputLog())
        store: ShardStore | Ahead = self.store
        if work.before is not None:
            entries, ahead = work.before
            store = Ahead(self.store, entries, [begun(each) for each in ahead])
            work.before = None
        return Attempt(ticket, store, self._resources, self._seed, inputs, work.cancelled, quiet)

    def _put(self, command: machine.Put) -> None:
        self._work[command.ticket].rendezvous.send(command.key, command.value)

    def _count(self, command: machine.Late) -> None:
        self._late += 1

    def _cancel(self, command: machine.Cancel) -> None:
        self._work[command.ticket].wake(cancelled())

    def _commit(self, command: machine.Commit) -> None:
        attempt = begun(self._work.pop(command.ticket))
        if attempt.goes_out:
            self._released[command.ticket.run] = self._cut
        try:
            attempt.commit()
        except OpError as error:  # of output: the decision is carried out nevertheless
            self._failures.append((command.ticket, portable(error)))
        failpoints.hit("committed")

    def _rollback(self, command: machine.Rollback) -> None:
        begun(self._work.pop(command.ticket)).abort()

    def _forget(self, command: machine.Forget) -> None:
        log = self._inputs.pop(command.run, None)
        if log is not None:
            log.end(self._resources)

    def _acknowledge(self, command: machine.Acknowledge) -> None:
        notice = self._notices.get((self._machine.generation, command.sequence))
        if notice is not None:  # else it has waited too long
            notice.taken.set()

    def _keep(self, command: machine.Keep) -> None:
        message = command.message
        for cut in [cut for cut in self._snapshots if cut < message.last]:
            del self._snapshots[cut]
        self._released = {run: cut for run, cut in self._released.items() if cut >= message.last}
        inputs = {run: log.rewound() for run, log in self._inputs.items()}
        notice = self._notices.get((message.generation, message.sequence), Pending())
        try:
            failpoints.hit("save")
            resources = self._resources.copies()
            for log in self._inputs.values():  # what they have taken, they take again from there
                log.copy().end(Resources(resources))
            snapshot = Snapshot(self.store.entries, resources, inputs)
            self._snapshots[message.cut] = notice.snapshot = snapshot
            self._cut = message.cut
            notice.before = self._snapshots.get(message.last)
        except Exception as error:  # a resource that cannot be copied
            notice.error = portable(error)
        notice.taken.set()

    def _recall(self, command: machine.Recall) -> None:
        failpoints.hit("rebuild")
        message = command.message
        if message.staying is not None:
            self._stay(message)
            return
        self._cut = message.cut
        if message.snapshot is not None:
            self._snapshots = {message.cut: settled(message.snapshot)}
        snapshot = self._snapshots[message.cut]
        self.store = ShardStore(snapshot.entries)
        # Those who wait at the old ones are cancelled already, and what they take is not missed.
        self._resources = Resources(Resources(snapshot.resources).copies())
        logs = dict(snapshot.inputs) if message.snapshot is not None else {}
        self._inputs = {r: log.rewound() for r, log in (logs | self._inputs).items()}
        self._failures.clear()

    def _stay(self, message: Rebuild) -> None:
        """What is committed stays; a worker without state gets what the others have."""
        assert message.staying is not None
        self._cut = message.cut
        if message.snapshot is not None:
            entries = dict(settled(message.snapshot).entries)
            for stream, value in message.staying.streams.items():
                entries[RandomStream(stream)] = Entry(value, 0)
            self.store = ShardStore(entries)
            self._snapshots = {}  # it was not there at the cut

    def _drop(self, command: machine.Drop) -> None:
        message = command.message
        if isinstance(message, Step):
            work = self._work.pop(message.ticket)
            work.abandoned = True
            if work.started is not None:
                work.started.set()
        else:
            notice = self._notices.get((message.generation, message.sequence))
            if notice is not None:
                notice.error = cancelled()
                notice.taken.set()


Performer._performs = {
    machine.Start: Performer._start,
    machine.Hold: Performer._hold,
    machine.Skip: Performer._skip,
    machine.Put: Performer._put,
    machine.Late: Performer._count,
    machine.Cancel: Performer._cancel,
    machine.Commit: Performer._commit,
    machine.Rollback: Performer._rollback,
    machine.Forget: Performer._forget,
    machine.Acknowledge: Performer._acknowledge,
    machine.Keep: Performer._keep,
    machine.Recall: Performer._recall,
    machine.Drop: Performer._drop,
}


def begun(work: Work) -> Attempt:
    """The attempt of what has begun."""
    assert work.attempt is not None
    return work.attempt


def cancelled() -> CancelledError:
    """Why a run ends that nobody wants any more."""
    return CancelledError(None, None, "the run was cancelled")
