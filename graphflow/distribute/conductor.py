"""Drives the coordinator of a session: carries out its commands, and tells it what happens.

Answers come in on threads of the transport, which only put them down; the threads that wait for a
run take them up.  So no thread of ours is left between runs, and none of the transport's waits.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from graphflow.base.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    OpError,
    ResourceExhaustedError,
    UnavailableError,
)
from graphflow.distribute import coordinator as machine
from graphflow.distribute.calls import gather
from graphflow.distribute.channel import Gone, Link
from graphflow.distribute.host import Shipment
from graphflow.distribute.messages import (
    Broken,
    Message,
    Notice,
    Prepared,
    Rebuild,
    Refused,
    Save,
    Saved,
    Shapes,
    Step,
)
from graphflow.distribute.replacements import Replacement, Replacements
from graphflow.distribute.stalls import Stalls
from graphflow.distribute.watch import Watch

_KIND = {Step: "steps", Save: "saves", Rebuild: "rebuilds"}
_SHORT = 0.002  # seconds between looks at whether runs have ended
CLOSING = 5.0  # seconds, at most, that closing waits for the workers


class Outcome:
    """A run that somebody waits for, or will.

    Attributes:
      number: of the run.
      ahead: it has begun before its turn, and is not claimed.
      done: it has ended.
      error: why it failed.
    """

    def __init__(self, number: int, expires: float | None, ahead: bool = False):
        self.number = number
        self.ahead = ahead
        self.expires = expires
        self.wakes: float | None = None
        self.done = False
        self.answers: Mapping[str, Prepared] = {}
        self.error: OpError | None = None
        self.failure: Exception | None = None  # of output, after the commit


class Conductor:
    """The driver's end of one session.

    Attributes:
      workers: names of those that the session may use.
    """

    def __init__(
        self,
        link: Link,
        workers: Sequence[str],
        deadline: float,
        slots: threading.Semaphore,
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
        slots: one per run that may be under way on the workers, over all sessions.
        clock: gives seconds.
        every: runs from one copy of the workers' state to the next; None: a lost worker ends the
          session.
        start_deadline: seconds that a worker in the place of a lost one may take to start.
        buddies, backup_every: who keeps the copies, see `recovery.Recovery`.
        """
        self.workers = tuple(workers)
        self._link = link
        self._deadline = deadline
        self._slots = slots
        self._clock = clock
        self._machine = machine.Coordinator(workers, every, buddies, backup_every)
        self._incarnations = dict.fromkeys(workers, 0)  # lost workers of that name
        self._watch = Watch(deadline)
        self._stalls = Stalls(deadline / 2)
        self._lock = threading.Lock()  # of what the machine decides, and the order of messages
        self._outcomes: dict[int, Outcome] = {}
        self._runs = 0
        self._admits = threading.Event()  # runs begin; see `quiesce`
        self._admits.set()
        self._bell = link.bell()  # rung when something is in the inbox, or is done
        self._inbox: deque[Any] = deque()
        self._urgent = False  # something in there is no `Prepared`
        self._taken = 0  # how often something was taken up
        self._onlookers = 0  # threads in `_until`, who wait for what others may take up
        self._counts: dict[str, Counter[str]] = {worker: Counter() for worker in workers}
        self._closed = False
        self._replacements = Replacements(
            link, workers, deadline, start_deadline, clock, self._hears, self._counts
        )

    @property
    def seed(self) -> int:
        """Of the session's random ops that have none."""
        return self._replacements.seed

    @property
    def tier(self) -> str:
        """Which tier its workers were asked for."""
        return self._replacements.tier

    @property
    def numerics(self) -> Mapping[str, Any]:
        """Worker -> what the last bits of its results depend on."""
        return self._replacements.numerics

    @property
    def closed(self) -> bool:
        """Has the session ended?"""
        return self._closed

    @property
    def recovers(self) -> bool:
        """Are lost workers replaced?"""
        return self._machine.recovers

    # ---- runs

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
            outcome = self._begin(plan, feeds, timeout, traced=traced)
            return self._result(outcome, started, timeout)
        finally:
            self._slots.release()

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
            return self._begin(plan, feeds, None, ahead=True, after=after)
        except BaseException:
            self._slots.release()
            raise

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
            self._slots.release()

    def withdraw(self, outcome: Outcome) -> None:
        """Nobody wants a run that began ahead: it has no effect, nor has what comes after it."""
        with self._lock:
            if not outcome.done:
                self._handle(machine.Withdrawn(outcome.number))
        self._slots.release()

    def _take_slot(self) -> None:
        # More than the workers have threads for could wait for each other for ever.
        if not self._slots.acquire(blocking=False):
            raise ResourceExhaustedError(
                None, None, "the cluster is busy with as many overlapping runs as it takes"
            )

    def _begin(
        self,
        plan: int,
        feeds: Mapping[str, Sequence[Any]],
        timeout: float | None,
        traced: bool = False,
        ahead: bool = False,
        after: Outcome | None = None,
    ) -> Outcome:
        started = self._clock()
        with self._admitted(timeout):
            self._runs += 1
            number = self._runs
            expires = None if timeout is None else started + timeout
            outcome = self._outcomes[number] = Outcome(number, expires, ahead)
            self._take_up()  # what came since the last run
            before = 0 if after is None or after.done else after.number
            self._handle(machine.Begin(number, plan, feeds, traced, ahead, before))
            if after is not None and after.error is not None and not outcome.done:
                self._handle(machine.Withdrawn(number))
            return outcome

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

    @contextmanager
    def _admitted(self, timeout: float | None) -> Iterator[None]:
        """Holds the lock, while runs may begin."""
        while True:
            if not self._admits.wait(timeout):
                raise DeadlineExceededError(
                    None, None, f"the workers were still being changed after {timeout:g} s"
                )
            with self._lock:
                if self._admits.is_set():
                    yield
                    return

    def _wait(self, number: int, outcome: Outcome, timeout: float) -> None:
        # Looking after each answer took a third of the driver's time in short steps of 32 workers.
        look = self._clock() + self._watch.pause(self._clock())
        while not outcome.done:
            wakes = outcome.wakes  # set by whatever thread takes up what it lost to
            due = min([t for t in (look, outcome.expires, wakes) if t is not None])
            with self._bell:
                self._bell.wait_for(
                    lambda: (
                        self._decides(number) or outcome.done or outcome.wakes != wakes  # noqa: B023
                    ),
                    max(0.0, due - self._clock()),
                )
            with self._lock:
                self._take_up()
                if self._clock() >= due and not outcome.done:
                    self._mind_the_time(number, outcome, timeout)
                    look = self._clock() + self._watch.pause(self._clock())

    def _decides(self, number: int) -> bool:
        """Is there something in the inbox that a run may go on with?  All its answers, or anything
        else: to take up each answer when it comes took twice the time of taking up all."""
        have = len(self._inbox)
        return have > 0 and (self._urgent or have >= self._machine.missing(number))

    def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until no worker is lost and something else is so.

        Raises:
          OpError: that will not be.
        """
        with self._lock:
            self._onlookers += 1
        try:
            while True:
                with self._lock:
                    self._take_up()
                    self._mind_the_workers(self._clock())
                    if self._machine.failure is not None:
                        raise self._machine.failure
                    if self._closed or (self._machine.phase == "serving" and condition()):
                        return
                    taken, pause = self._taken, self._watch.pause(self._clock())
                with self._bell:
                    self._bell.wait_for(
                        lambda: self._inbox or self._taken != taken,  # noqa: B023
                        pause,
                    )
        finally:
            with self._lock:
                self._onlookers -= 1

    def _mind_the_time(self, number: int, outcome: Outcome, timeout: float) -> None:
        now = self._clock()
        if outcome.expires is not None and now >= outcome.expires:
            self._handle(machine.Expired(number, timeout))
        elif outcome.wakes is not None and now >= outcome.wakes:
            outcome.wakes = None
            self._handle(machine.Woken(number))
        self._stalls.look(number, *self._machine.waits_for(number), now)
        self._mind_the_workers(now)

    def _mind_the_workers(self, now: float) -> None:
        for event in self._replacements.look(now):
            self._handle(event)
        silent, frozen = self._watch.look(self._machine.awaited(), now)
        for worker in silent:
            self._counts[worker]["pings"] += 1
            self._link.ping(worker, self._hears(worker))
            self._link.call(worker, "whereabouts", hear=partial(self._stalls.told, worker))
        for worker in frozen:
            reason = f"it gave no sign of life for {self._deadline:g} s"
            self._handle(machine.Lost(worker, reason, frozen=True))

    # ---- events

    def _hears(self, worker: str, message: Any = None) -> Callable[[Any], None]:
        """What puts an answer of that worker down."""
        incarnation = self._incarnations[worker]

        def hear(answer: Any) -> None:
            with self._bell:
                self._inbox.append((worker, incarnation, message, answer))
                self._urgent |= type(answer) is not Prepared
                self._bell.notify_all()

        return hear

    def _take_up(self) -> None:
        """Tell the machine what has come in.  The lock is held."""
        if not self._inbox:
            return
        self._urgent = False
        while self._inbox:
            worker, incarnation, message, answer = self._inbox.popleft()
            if incarnation != self._incarnations[worker]:
                continue  # from one that was lost
            if isinstance(message, Replacement):
                event = self._replacements.heard(worker, message, answer)
                if event is not None:
                    self._handle(event)
                if isinstance(event, machine.Replaced):
                    self._link.outlive(worker, self._hears(worker))
            elif isinstance(answer, Broken):
                self._handle(machine.Lost(worker, answer.reason))
            elif not isinstance(answer, Gone):
                self._watch.heard(worker, self._clock())
                for told in answer.shapes if isinstance(answer, Refused) else ():
                    self._replacements.learn(worker, told)
                if isinstance(answer, Saved) and answer.snapshot is not None:
                    self._counts[worker]["copied"] += answer.snapshot.nbytes
                if answer is not None:
                    self._handle(machine.Answered(worker, answer))
            elif answer.worker_lost or isinstance(message, Rebuild | Notice):
                self._handle(machine.Lost(worker, answer.reason))
            elif isinstance(message, Save):
                error = UnavailableError(None, None, f"{worker} cannot copy it: {answer.reason}")
                saved = Saved(0, message.generation, message.cut, None, error)
                self._handle(machine.Answered(worker, saved))
            elif isinstance(message, Step):
                error = UnavailableError(None, None, f"{worker} did not answer: {answer.reason}")
                refused = Refused(message.ticket, 0, error)
                self._handle(machine.Answered(worker, refused))
        self._taken += 1
        if self._onlookers:
            self._ring()

    def _handle(self, event: machine.Event) -> None:
        """Let the machine decide, and carry out its commands.  The lock is held."""
        for command in self._machine.handle(event):
            if isinstance(command, machine.Send):
                message: Message = command.message
                self._counts[command.worker][_KIND.get(type(message), "notices")] += 1
                self._watch.asked(command.worker, self._clock())
                hear = self._hears(command.worker, message)
                self._link.send(command.worker, message, hear)
            elif isinstance(command, machine.Wake):
                self._outcomes[command.run].wakes = self._clock() + command.seconds
                self._ring()
            elif isinstance(command, machine.Release):
                self._release(command)
            elif isinstance(command, machine.Replace):
                self._incarnations[command.worker] += 1
                self._watch.forget(command.worker)
                self._replacements.start(command.worker)
                self._ring()
            else:
                outcome = self._outcomes.pop(command.run)
                outcome.answers, outcome.error = command.answers, command.error
                outcome.done = True
                self._ring()

    def _release(self, command: machine.Release) -> None:
        """As `Run.release`, for what the driver does itself."""
        for output in command.outputs:
            try:
                output()
            except Exception as error:
                error.add_note("the run was committed before that: what it assigned stays")
                outcome = self._outcomes[command.run]
                outcome.failure = outcome.failure or error

    def _ring(self) -> None:
        with self._bell:
            self._bell.notify_all()

    # ---- calls that are no steps

    def open(self, seed: int, tier: str = "reference") -> None:
        """Make the session known to the workers.

        Args:
          seed: of its random ops that have none.
          tier: see `Tiers`, whose choice is fixed; where one worker has no compiler, all have the
            reference tier.

        Raises:
          OpError: one does not answer within the deadline.
        """
        told = self._replacements
        told.seed, told.tier = seed, tier
        terms: tuple[Any, ...] = (seed, self._deadline, {}, tier)
        told.numerics = self._call("open", dict.fromkeys(self.workers, terms))
        tiers = {each.tier for each in told.numerics.values() if each is not None}
        if len(tiers) > 1:
            self.open(seed, "reference")
        for worker in self.workers:
            self._link.outlive(worker, self._hears(worker))

    def shapes(self, worker: str, plan: int) -> tuple[Shapes, ...]:
        """What a worker has told of its share in a plan, see `Shapes`."""
        with self._lock:
            return self._replacements.shapes(worker, plan)

    def load(self, plan: int, shipments: Mapping[str, Shipment]) -> None:
        """Ship a plan.

        Raises:
          OpError: a worker cannot take it, or does not answer within the deadline.
        """
        for worker, shipment in shipments.items():
            self._counts[worker]["loads"] += 1
            if self._machine.recovers:
                self._replacements.keep(worker, plan, shipment)
        self._call("load", {worker: (plan, s) for worker, s in shipments.items()})

    def lose(self, worker: str, reason: str) -> None:
        """Replace a worker that was found to be gone; returns when its state is back.

        Raises:
          OpError: it cannot be replaced.
        """
        self._hears(worker)(Gone(reason))
        self._until(lambda: True)

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
            time.sleep(_SHORT)

    def admit(self) -> None:
        """Let runs begin again; those of a session that was closed meanwhile are refused."""
        self._admits.set()

    def capture(self) -> Mapping[str, Any]:
        """Worker -> its state, as it is between two runs; none may be under way.

        Raises:
          OpError: the workers are lost, or their state cannot be copied.
        """
        self._until(lambda: not self._machine.saving)
        before = self._machine.archive
        while self._machine.archive == before:
            with self._lock:
                self._handle(machine.Capture())
            self._until(lambda: not self._machine.saving)
            if self._machine.unsaved is not None:
                raise self._machine.unsaved
        return self._machine.snapshots

    def restore(self, snapshots: Mapping[str, Any]) -> None:
        """Go on from the state of an earlier session.

        Raises:
          InvalidArgumentError: it had other workers.
          OpError: the workers are lost.
        """
        if set(snapshots) != set(self.workers):
            raise InvalidArgumentError(
                None,
                None,
                f"the state is that of workers {', '.join(sorted(snapshots)) or 'none'}, these "
                f"are {', '.join(self.workers)}",
            )
        with self._lock:
            self._handle(machine.Restore(snapshots))
        self._until(lambda: True)

    def statistics(self) -> dict[str, dict[str, int]]:
        """See `ClusterTarget.statistics`."""
        answers = self._call("statistics", dict.fromkeys(self.workers, ()))
        with self._lock:
            return {w: dict(self._counts[w]) | answers[w] for w in self.workers}

    def _call(
        self, method: str, arguments: Mapping[str, tuple[Any, ...]], patience: float | None = None
    ) -> dict[str, Any]:
        """Call a method of several workers at once; their answers.

        Raises:
          OpError: one cannot do it, or is lost and not replaced.
        """
        patience = self._deadline if patience is None else patience
        if method == "close":
            return self._answers(method, arguments, patience)
        while True:
            self._until(lambda: True)
            before = self._machine.generation
            try:
                return self._answers(method, arguments, patience)
            except OpError:
                # A worker in the place of a lost one knows the session and its plans; the others
                # take them twice.
                if self._machine.generation == before or self._machine.failure is not None:
                    raise

    def _answers(
        self, method: str, arguments: Mapping[str, tuple[Any, ...]], patience: float
    ) -> dict[str, Any]:
        answers, late = gather(self._link, method, arguments, patience)
        for worker, answer in answers.items():
            if isinstance(answer, OpError):
                raise answer
            if isinstance(answer, Gone):
                raise self._gave_no_answer(worker, method, answer, frozen=worker in late)
        return answers

    def _gave_no_answer(self, worker: str, method: str, gone: Gone, frozen: bool) -> OpError:
        if not gone.worker_lost:
            return UnavailableError(None, None, f"{worker} cannot {method}: {gone.reason}")
        with self._lock:
            self._handle(machine.Lost(worker, gone.reason, frozen))
            failure = self._machine.failure
            return failure or UnavailableError(None, None, f"{worker} was lost: {gone.reason}")

    def close(self) -> None:
        """End the session: runs fail, and its state on the workers is dropped.

        Returns when the workers have answered, or within the deadline.
        """
        if self.abandon():
            left: dict[str, tuple[Any, ...]] = {
                w: () for w in self.workers if w not in self._machine.lost
            }
            with suppress(OpError):  # gone or frozen: whoever owns the workers ends them
                self._call("close", left, min(CLOSING, self._deadline))

    def abandon(self) -> bool:
        """End the session without a word to the workers, which are about to be ended; was it
        open?"""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            self._take_up()
            self._handle(machine.Closed())
            return True
