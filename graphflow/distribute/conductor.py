"""Runs the plans of a session on its workers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphflow.base.errors import DeadlineExceededError, ResourceExhaustedError
from graphflow.base.interrupts import in_slices, interruptible, uninterrupted
from graphflow.distribute import coordinator as machine
from graphflow.distribute.calls import Calls
from graphflow.distribute.channel import Link
from graphflow.distribute.driver import Outcome
from graphflow.distribute.messages import Prepared

_FEW = 4  # answers
_SHORT = 0.002  # seconds between looks at whether runs have ended


class Conductor(Calls):
    """One session, in the driver."""

    def __init__(
        self,
        link: Link,
        workers: Sequence[str],
        deadline: float,
        slots: deque[None],
        clock: Callable[[], float] = time.monotonic,
        every: int | None = None,
        start_deadline: float = 60.0,
        buddies: Mapping[str, str] | None = None,
        backup_every: int = 1,
    ):
        """Args:
        link: the way to the workers.
        workers: their names.
        deadline: seconds without a sign of life after which a worker is given up.
        slots: one per run that may begin on the workers, over all sessions; it takes one out.
        clock: gives seconds.
        every: runs from one copy of the workers' state to the next; None: a lost worker ends the
          session.
        start_deadline: seconds that a worker in the place of a lost one may take to start.
        buddies, backup_every: who keeps the copies, see `cuts.Cuts`.
        """
        super().__init__(
            link, workers, deadline, clock, every, start_deadline, buddies, backup_every
        )
        self._slots = slots
        self._runs = 0
        self._admits = threading.Event()  # runs begin; see `quiesce`
        self._admits.set()

    @uninterrupted
    def run(
        self,
        plan: int,
        feeds: Mapping[str, Sequence[Any]],
        timeout: float | None = None,
        traced: bool = False,
    ) -> Mapping[str, Prepared]:
        """Run a plan; what each worker with a part in it has answered.

        Raises:
          ResourceExhaustedError: too many runs are under way.
          OpError: it failed; nothing was changed.
        """
        self._take_slot()
        try:
            started = self._clock()
            outcome = self._begin(plan, feeds, started, timeout, traced)
            return self._result(outcome, started, timeout)
        finally:
            self._slots.append(None)

    @uninterrupted
    def begin(
        self, plan: int, feeds: Mapping[str, Sequence[Any]], after: Outcome | None
    ) -> Outcome:
        """Begin a run before its turn, which `claim` or `withdraw` ends; see `series`.

        Args:
          plan, feeds: as for `run`.
          after: the one before it, unless that was claimed and is over.

        Raises:
          ResourceExhaustedError: too many runs are under way.
        """
        self._take_slot()
        try:
            return self._begin(plan, feeds, self._clock(), ahead=True, after=after)
        except BaseException:
            self._slots.append(None)
            raise

    @uninterrupted
    def claim(self, outcome: Outcome, timeout: float | None = None) -> Mapping[str, Prepared]:
        """The result of a run that began ahead, as of `run`: now it is its turn.

        Raises:
          CancelledError: it was taken back meanwhile.
          OpError: it failed; nothing was changed.
        """
        started = self._clock()
        try:
            with self._lock:
                if not outcome.done:
                    outcome.ahead = False
                    outcome.expires = None if timeout is None else started + timeout
                    self._take_up()
                    self._handle(machine.Claimed(outcome.number))
            return self._result(outcome, started, timeout)
        finally:
            self._slots.append(None)

    @uninterrupted
    def withdraw(self, outcome: Outcome) -> None:
        """Nobody wants a run that began ahead: it has no effect, nor has what comes after it."""
        with self._lock:
            if not outcome.done:
                self._handle(machine.Withdrawn(outcome.number))
        self._slots.append(None)

    def _take_slot(self) -> None:
        # More than the workers have threads for could wait for each other for ever.
        try:
            self._slots.pop()  # a semaphore takes 0.9 us more
        except IndexError:
            message = "the cluster is busy with as many overlapping runs as it takes"
            raise ResourceExhaustedError(None, None, message) from None

    def _begin(
        self,
        plan: int,
        feeds: Mapping[str, Sequence[Any]],
        started: float,
        timeout: float | None = None,
        traced: bool = False,
        ahead: bool = False,
        after: Outcome | None = None,
    ) -> Outcome:
        expires = None if timeout is None else started + timeout
        while True:
            with self._lock:
                if self._admits.is_set():
                    self._runs += 1
                    number = self._runs
                    outcome = self._outcomes[number] = Outcome(number, expires, ahead)
                    self._take_up()  # what came since the last run
                    before = 0 if after is None or after.done else after.number
                    self._handle(machine.Begin(number, plan, feeds, traced, ahead, before))
                    if after is not None and after.error is not None and not outcome.done:
                        self._handle(machine.Withdrawn(number))
                    return outcome
            if not self._admits.wait(timeout):
                raise DeadlineExceededError(
                    None, None, f"the workers were still being changed after {timeout:g} s"
                )

    def _result(
        self, outcome: Outcome, started: float, timeout: float | None
    ) -> Mapping[str, Prepared]:
        number = outcome.number
        try:
            self._wait(number, outcome, timeout or 0.0)
        except BaseException:  # an interrupt: nobody waits for the run any more
            with self._lock:
                self._handle(machine.Expired(number, self._clock() - started))
            self._stalls.ended(number)
            raise
        report = self._stalls.ended(number)
        failure = outcome.error or outcome.failure
        if failure is not None:
            if report and isinstance(failure, DeadlineExceededError):
                failure.add_note(report)
            raise failure
        return outcome.answers

    def _wait(self, number: int, outcome: Outcome, timeout: float) -> None:
        # Looking after each answer took a third of the driver's time in short steps of 32 workers.
        now = self._clock()
        look = now + self._watch.pause(now)
        wakes: float | None = None

        def goes_on() -> bool:
            """Has it ended, or can it go on with what is in the inbox?  That is all its answers, or
            anything else: to take up each of 32 when it came took twice the time of taking up all;
            of a few, all but the last one is done while others are still waited for."""
            have = len(self._inbox)
            if have:
                missing = self._machine.missing(number)
                if self._urgent or missing <= _FEW or have >= missing:
                    return True
            return outcome.done or outcome.wakes != wakes

        while not outcome.done:
            due, wakes = look, outcome.wakes  # set by whatever thread takes up what it lost to
            if outcome.expires is not None or wakes is not None:
                due = min([t for t in (look, outcome.expires, wakes) if t is not None])
            with self._bell:
                self._bell.wait_for(goes_on, in_slices(max(0.0, due - now)))
            interruptible()
            with self._lock:
                self._take_up()
                now = self._clock()
                if now >= due and not outcome.done:
                    self._mind_the_time(number, outcome, timeout)
                    look = now + self._watch.pause(now)

    # ---- changes of the workers

    @uninterrupted
    def quiesce(self) -> None:
        """Wait until no run is under way; then none begins until `admit`.

        Raises:
          DeadlineExceededError: one does not end within the deadline.
        """
        start = self._clock()
        self._admits.clear()
        with self._lock:
            for outcome in list(self._outcomes.values()):
                if outcome.ahead and not outcome.done:
                    self._handle(machine.Withdrawn(outcome.number))
        while True:
            with self._lock:
                if not self._machine.running:
                    self._admits.clear()
                    return
            passed = self._clock() - start
            if passed >= self._deadline / 2:  # what is under way may wait for a run that is not
                self._admits.set()
            if passed >= self._deadline:
                raise DeadlineExceededError(
                    None, None, f"runs are still under way after {self._deadline:g} s"
                )
            interruptible()
            time.sleep(_SHORT)

    def admit(self) -> None:
        """Let runs begin again; those of a session that was closed meanwhile are refused."""
        self._admits.set()
