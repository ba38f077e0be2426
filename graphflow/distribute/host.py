"""What a worker does for one session: drives the state machine with threads and programs.

It knows no transport: Ray calls its methods in production, tests call them in one process.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from graphflow.base.errors import InternalError, OpError, UnavailableError
from graphflow.base.tuples import made
from graphflow.base.waiting import patiently, waits
from graphflow.distribute import buddies, failpoints
from graphflow.distribute import worker as machine
from graphflow.distribute.channel import Channel
from graphflow.distribute.messages import (
    Applied,
    Broken,
    Notice,
    Prepared,
    Rebuild,
    Rebuilt,
    Refused,
    Save,
    Saved,
    Shapes,
    Step,
    Ticket,
)
from graphflow.distribute.performer import Pending, Performer, begun, cancelled
from graphflow.distribute.portable import portable
from graphflow.distribute.rows import in_place
from graphflow.distribute.shipment import Part, Shipment, observed, shapes_of
from graphflow.distribute.snapshot import Snapshot, difference
from graphflow.distribute.transactions import Attempt, Promised
from graphflow.distribute.work import Mailbox, Work, together
from graphflow.execute.devices import Device, open_device
from graphflow.execute.program import Program
from graphflow.execute.store import Conflict
from graphflow.execute.tiered import TieredProgram
from graphflow.execute.tiers import Tiers
from graphflow.execute.trace import Trace

_log = logging.getLogger("graphflow")
_MANY = 4096  # threads at most for the second and further devices of a worker


class _Loaded(NamedTuple):
    programs: tuple[Program | TieredProgram, ...]
    shipment: Shipment
    parts: tuple[tuple[Program | TieredProgram, Part], ...]


class _Rehearsed(Conflict):
    """The attempt has only told shapes; the next one finds native code."""

    def __init__(self, shapes: Sequence[Shapes]):
        super().__init__()
        self.shapes = shapes


class Host(Performer):
    """One session on one worker, as its driver and its peers see it."""

    def __init__(
        self,
        seed: int,
        channel: Channel,
        patience: float = 30.0,
        shipments: Mapping[int, Shipment] | None = None,
        tiers: Tiers | None = None,
    ):
        """Args:
        seed: the session's seed, for random ops that have none.
        channel: the way to the peers.
        patience: seconds that a message waits for those sent before it.
        shipments: plans, where the session has begun without this worker.
        tiers: make programs of plans; None: the reference tier.
        """
        super().__init__(seed)
        self._channel = channel
        self._patience = patience
        self._tiers = tiers or Tiers("reference", 1)
        self._loaded: dict[int, _Loaded] = {}
        self._devices: dict[str, Device] = {}
        self._copies = buddies.Copies()
        self._pool: ThreadPoolExecutor | None = None
        # Of the pool: who needs it may hold the store of a server, for which others wait who hold
        # the session's lock.
        self._opening = threading.Lock()
        self._broken: str | None = None  # what failed outside of the kernels
        self._closed = False
        for plan, shipment in (shipments or {}).items():
            self.load(plan, shipment)

    # ---- what the driver and the peers call

    def load(self, plan: int, shipment: Shipment) -> None:
        """Get ready to execute a share of a plan.

        Raises:
          InvalidArgumentError: a device is not here.
        """
        failpoints.hit("load")
        programs = tuple(
            [self._tiers.program(p.plan, self._device(p.device)) for p in shipment.parts]
        )
        for program in programs:
            in_place(program)
        for told in shipment.shapes:
            program = programs[told.part]
            if isinstance(program, TieredProgram):
                program.learn(*observed(told))
        with self._lock:
            parts = tuple(zip(programs, shipment.parts, strict=True))
            self._loaded[plan] = _Loaded(programs, shipment, parts)

    def step(self, step: Step) -> Prepared | Refused | Broken:
        """Execute a share of a plan, and prepare to commit it."""
        return self._guarded(self._step, step)

    def notice(self, message: Notice | Save | Rebuild) -> Applied | Saved | Rebuilt | Broken:
        """Apply decisions; keep the state as it is then, or go back to such a state."""
        return self._guarded(self._notice, message)

    def deliver(self, ticket: Ticket, key: str, value: Any) -> None:
        """Take a value from a peer, or a part of a copy of its state."""
        try:
            if not ticket.run:
                failpoints.hit("copy")
                self._copies.deliver(ticket, key, value)
                return
            failpoints.hit("receive")
            with self._lock:
                self._handle(machine.Delivered(ticket, key, value))
        except Exception as error:  # who waits for the value answers for it
            self._break(error)

    def undelivered(self, ticket: Ticket, key: str, why: str) -> None:
        """A value from a peer has come as far as this worker, which cannot read it."""
        with self._lock:
            void = ticket.generation < self._machine.generation
        if not void:
            self._break(UnavailableError(None, None, f"it cannot take {key}: {why}"))

    @property
    def dropped(self) -> Counter[str]:
        """Values from peers that came "late": what they were for was over, or void by a loss."""
        return Counter(late=self._late + self._copies.late)

    def _guarded(self, answer: Callable[[Any], Any], message: Any) -> Any:
        """The answer to a message; `Broken` where something fails outside of the kernels."""
        if self._broken is None:
            try:
                reply = answer(message)
            except Exception as error:
                self._break(error)
        return reply if self._broken is None else Broken(self._broken)

    def _break(self, error: Exception) -> None:
        """Nobody may go on with this state; wakes whoever waits."""
        with self._lock:
            if self._broken is not None:
                return
            what = "it ran out of memory" if isinstance(error, MemoryError) else "it failed"
            self._broken = f"{what} outside of any kernel: {type(error).__name__}: {error}"
            self._wake_all()
        # last, and without the lock: to format the first traceback of a process takes milliseconds
        _log.error("a session is in no known state on this worker", exc_info=error)

    def _known_state(self) -> None:
        """Whoever is about to wait looks here, under the lock under which he becomes known: what
        broke the session before has woken only those who were known then.

        Raises:
          UnavailableError: it is broken.
        """
        if self._broken is not None:
            raise UnavailableError(None, None, self._broken)

    def _wake_all(self) -> None:
        """Nobody waits any more, and what has not begun will not."""
        self._copies.enter(math.inf)
        for work in self._work.values():
            work.wake(cancelled())
            if work.started is not None:
                work.abandoned |= work.attempt is None
                work.started.set()
        for notice in self._notices.values():
            notice.error = cancelled()
            notice.taken.set()

    def _step(self, step: Step) -> Prepared | Refused:
        ticket = step.ticket
        work = Work(self._channel.bell)
        with self._lock:
            self._known_state()
            self._work[ticket] = work
            self._handle(made(machine.Arrived, (step,)))
            if work.attempt is None and not work.abandoned:
                work.started = threading.Event()
            if self._closed:
                self._wake_all()
        if not self._starts(work):
            reason = cancelled() if work.cancelled.is_set() else self._stuck()
            return Refused(ticket, self._machine.applied, reason)
        attempt = begun(work)
        error: BaseException | None = None
        values: list[Any] = []
        trace = Trace() if step.traced else None
        try:
            values = self._prepare(step, work, trace)
        except BaseException as caught:
            error = caught
        releases = attempt.releases
        with self._lock:
            outcome = self._handle(made(machine.Executed, (ticket, error is None)))
            applied = self._machine.applied
        if outcome == "prepared":
            spans = trace.dated() if trace else ()
            logged, handed = attempt.inputs.taken, attempt.handed
            streams = attempt.streams if self._loaded[step.plan].shipment.mirrored else ()
            return Prepared(
                ticket, applied, values, releases, spans, attempt.changes, logged, handed, streams
            )
        if isinstance(error, Conflict):
            holder = error.holder if isinstance(error, Promised) else None
            shapes = error.shapes if isinstance(error, _Rehearsed) else ()
            return Refused(ticket, applied, None, holder, shapes)
        if outcome == "refused":  # the run fails, and others may wait for what it has taken
            begun(work).inputs.log.end(self._resources)
        return Refused(ticket, applied, portable(error or cancelled()))

    def _prepare(self, step: Step, work: Work, trace: Trace | None) -> list[Any]:
        """Execute a step so that it can be committed; values for the driver."""
        values = self._execute(step, work, trace)
        attempt = begun(work)
        if attempt.rehearsed:
            raise _Rehearsed(self._told(step.plan, attempt))
        attempt.prepare()
        failpoints.hit("prepared")
        return values

    def _told(self, plan: int, attempt: Attempt) -> list[Shapes]:
        programs = self._loaded[plan].programs
        return [
            shapes_of(plan, programs.index(program), inputs, found)
            for program, inputs, found in attempt.rehearsed
        ]

    def _starts(self, work: Work) -> bool:
        """Wait for the messages that were sent before this one, and for the step that it builds
        on, which may take as long as it likes."""
        if work.started is None:
            return not work.abandoned
        while True:
            begun = _set(work.started, self._patience)
            with self._lock:
                if begun or work.started.is_set() or work.before is None:
                    work.abandoned |= not (begun or work.started.is_set())
                    return not work.abandoned

    def _notice(self, message: Notice | Save | Rebuild) -> Applied | Saved | Rebuilt:
        if isinstance(message, Rebuild):
            return self._rebuild(message)
        key = message.generation, message.sequence
        notice = Pending()
        with self._lock:
            self._known_state()
            self._notices[key] = notice
            self._handle(machine.Arrived(message))
            if self._closed:
                self._wake_all()
        _set(notice.taken, self._patience)
        with self._lock:
            self._notices.pop(key, None)
            applied = self._machine.applied if self._machine.generation == key[0] else 0
            if isinstance(message, Notice):
                return Applied(applied, tuple(self._failures), key[0])
        error = None if notice.snapshot else notice.error or self._stuck()
        if message.copying is None:
            return Saved(applied, key[0], message.cut, notice.snapshot, error)
        missing = self._exchange(message, notice)
        return Saved(applied, key[0], message.cut, None, error or missing)

    def _exchange(self, message: Save, notice: Pending) -> OpError | None:
        """Send the buddy a copy of the state, and wait for those of others; what went wrong."""
        copying, snapshot, since = message.copying, notice.snapshot, None
        assert copying is not None
        if snapshot is not None and notice.before is not None and not copying.whole:
            snapshot, since = difference(snapshot, notice.before), message.last
        ticket = Ticket(message.generation, 0, message.cut)
        self._copies.forget(message.last)  # before others come: all have those of that cut
        buddies.send(self._channel, copying.buddy, ticket, copying.worker, snapshot, since)
        for ward in copying.wards:
            if self._copies.wait(ward, message.cut, ticket.generation, self._patience) is None:
                reason = f"the copy of the state of {ward} did not come"
                return UnavailableError(None, None, reason)
        return None

    def _rebuild(self, message: Rebuild) -> Rebuilt:
        ticket = Ticket(message.generation, 0, message.copy)
        self._copies.enter(message.generation)
        if message.worker:
            snapshot = self._copies.wait(
                message.worker, message.copy, message.generation, self._patience
            )
            if snapshot is None:
                return Rebuilt(message.generation, missing=True)
            message = message._replace(snapshot=snapshot)
        with self._lock:
            self._handle(machine.Arrived(message))
            mine = self.store.entries
        for ward in message.wards:
            if message.staying is None:
                snapshot = self._copies.wait(ward, message.cut)
            else:
                wanted = message.staying.variables
                snapshot = Snapshot({k: e for k, e in mine.items() if k in wanted}, {}, {})
            buddies.send(self._channel, ward, ticket, ward, snapshot)
        self._copies.forget(message.cut)
        return Rebuilt(message.generation)

    def close(self) -> None:
        """Give up everything that belongs to the session; wakes whoever waits."""
        with self._lock:
            self._closed = True
            self._wake_all()
        self._resources.close()
        self._tiers.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    # ---- executing

    def _device(self, name: str) -> Device:
        with self._lock:
            if name not in self._devices:
                self._devices[name] = open_device(name)
            return self._devices[name]

    def _execute(self, step: Step, work: Work, trace: Trace | None) -> list[Any]:
        """Values for the driver."""
        failpoints.hit("kernel")
        loaded = self._loaded[step.plan]
        mailbox = self._mailbox(step.ticket, loaded.shipment, work)

        def one(program: Program | TieredProgram, part: Part) -> list[Any]:
            try:
                feeds = [step.feeds[i] for i in part.feeds]
                return program.run(begun(work), feeds, mailbox, trace)
            except BaseException as error:
                work.rendezvous.abort(error)
                raise

        results = together(self._threads, one, loaded.parts)
        return [
            loaded.programs[part].device.get(results[part][position])
            for part, position in loaded.shipment.outputs
        ]

    def _mailbox(self, ticket: Ticket, shipment: Shipment, work: Work) -> Any:
        return Mailbox(ticket, shipment, self._channel, work)

    def _threads(self) -> ThreadPoolExecutor:
        with self._opening:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_MANY, thread_name_prefix="graphflow-device")
            return self._pool

    def _stuck(self) -> OpError:
        return InternalError(
            None, None, f"a message that was sent before did not come within {self._patience:g} s"
        )


def _set(event: threading.Event, patience: float) -> bool:
    """Wait for an event that another message brings; has it come?"""
    if event.is_set():
        return True
    waits()
    return patiently(event.wait, patience)
