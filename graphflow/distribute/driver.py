"""The driver's end of a session: carries out the commands of the coordinator, and tells it what
happens.

Answers come in on threads of the transport, which only put them down; the threads that wait for a
run take them up.  So no thread of ours is left between runs, and none of the transport's waits.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

from graphflow.base.errors import OpError, UnavailableError
from graphflow.base.forks import own
from graphflow.base.interrupts import in_slices, interruptible
from graphflow.base.tuples import made
from graphflow.distribute import coordinator as machine
from graphflow.distribute.channel import Gone, Link
from graphflow.distribute.messages import (
    Broken,
    Notice,
    Prepared,
    Rebuild,
    Refused,
    Save,
    Saved,
    Step,
)
from graphflow.distribute.replacements import Replacement, Replacements
from graphflow.distribute.stalls import Stalls
from graphflow.distribute.watch import Watch

FORKED = "the session is that of the process from which this one was forked: open one here"
_KIND = {Step: "steps", Save: "saves", Rebuild: "rebuilds"}


class Outcome:
    """A run that somebody waits for, or will.

    Attributes:
      number: of the run.
      ahead: it has begun before its turn, and is not claimed.
      done: it has ended.
      error: why it failed.
    """

    wakes: float | None = None
    done = False
    answers: Mapping[str, Prepared] = MappingProxyType({})
    error: OpError | None = None
    failure: Exception | None = None  # of output, after the commit

    def __init__(self, number: int, expires: float | None, ahead: bool = False):
        self.number = number
        self.ahead = ahead
        self.expires = expires


class Driver:
    """Between the coordinator of a session and the way to its workers.

    Attributes:
      workers: names of those that the session may use.
    """

    def __init__(
        self,
        link: Link,
        workers: Sequence[str],
        deadline: float,
        clock: Callable[[], float],
        every: int | None,
        start_deadline: float,
        buddies: Mapping[str, str] | None,
        backup_every: int,
    ):
        """Args:
        link: the way to the workers.
        workers: their names.
        deadline: seconds without a sign of life after which a worker is given up.
        clock: gives seconds.
        every: runs from one copy of the workers' state to the next; None: a lost worker ends the
          session.
        start_deadline: seconds that a worker in the place of a lost one may take to start.
        buddies, backup_every: who keeps the copies, see `cuts.Cuts`.
        """
        self.workers = tuple(workers)
        self._link = link
        self._deadline = deadline
        self._clock = clock
        self._machine = machine.Coordinator(workers, every, buddies, backup_every, link.returning)
        self._incarnations = dict.fromkeys(workers, 0)  # lost workers of that name
        self._watch = Watch(deadline)
        self._stalls = Stalls(deadline / 2)
        self._lock = threading.Lock()  # of what the machine decides, and the order of messages
        self._outcomes: dict[int, Outcome] = {}
        self._bell = link.bell()  # rung when something is in the inbox, or is done
        self._inbox: deque[Any] = deque()
        self._urgent = False  # something in there is no `Prepared`
        self._taken = 0  # how often something was taken up
        self._onlookers = 0  # threads in `_looking_on`, who wait for what others may take up
        self._counts: dict[str, Counter[str]] = {worker: Counter() for worker in workers}
        self._closed = self._forked = False
        own(self)
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

    def disown(self) -> None:
        """See `forks.Owned`: the workers are the other process's."""
        self._closed = self._forked = True
        self._lock, self._bell = threading.Lock(), threading.Condition()
        self._inbox.clear()
        self._outcomes.clear()
        self._machine = machine.Coordinator(self.workers)
        self._machine.handle(machine.Closed(FORKED))

    # ---- waiting

    def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until no worker is lost and something else is so.

        Raises:
          OpError: that will not be.
        """
        with self._looking_on():
            while True:
                with self._lock:
                    self._take_up()
                    self._mind_the_workers(self._clock())
                    if self._machine.failure is not None:
                        raise self._machine.failure
                    if self._closed or (self._machine.phase == "serving" and condition()):
                        return
                    taken, pause = self._taken, self._watch.pause(self._clock())
                self._await_news(taken, pause)

    @contextmanager
    def _looking_on(self) -> Iterator[None]:
        """Have the bell rung for what comes in."""
        with self._lock:
            self._onlookers += 1
        try:
            yield
        finally:
            with self._lock:
                self._onlookers -= 1

    def _await_news(self, taken: int, pause: float) -> None:
        """Wait until something comes in, or more than that has been taken up."""
        with self._bell:
            self._bell.wait_for(lambda: self._inbox or self._taken != taken, in_slices(pause))
        interruptible()

    def _mind_the_time(self, number: int, outcome: Outcome, timeout: float) -> None:
        now = self._clock()
        self._stalls.look(number, *self._machine.waits_for(number), now)
        if outcome.expires is not None and now >= outcome.expires:
            self._handle(machine.Expired(number, timeout))
        elif outcome.wakes is not None and now >= outcome.wakes:
            outcome.wakes = None
            self._handle(machine.Woken(number))
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
        now = self._clock()
        while self._inbox:
            worker, incarnation, message, answer = self._inbox.popleft()
            if incarnation != self._incarnations[worker]:
                continue  # from one that was lost
            if type(answer) is Prepared:  # what most are
                self._watch.heard(worker, now)
                self._handle(made(machine.Answered, (worker, answer)))
            else:
                self._heed(worker, message, answer, now)
        self._taken += 1
        if self._onlookers:
            self._ring()

    def _heed(self, worker: str, message: Any, answer: Any, now: float) -> None:
        """Tell the machine of an answer that is no vote for a commit."""
        if isinstance(message, Replacement):
            event = self._replacements.heard(worker, message, answer)
            if event is not None:
                self._handle(event)
            if isinstance(event, machine.Replaced):
                self._link.outlive(worker, self._hears(worker))
        elif isinstance(answer, Broken):
            self._handle(machine.Lost(worker, answer.reason))
        elif not isinstance(answer, Gone):
            self._watch.heard(worker, now)
            for told in answer.shapes if isinstance(answer, Refused) else ():
                self._replacements.learn(worker, told)
            if isinstance(answer, Saved) and answer.snapshot is not None:
                self._counts[worker]["copied"] += answer.snapshot.nbytes
            if answer is not None:
                self._handle(machine.Answered(worker, answer))
        elif answer.worker_lost or isinstance(message, (Rebuild, Notice)):
            self._handle(machine.Lost(worker, answer.reason))
        elif isinstance(message, Save):
            error = UnavailableError(None, None, f"{worker} cannot copy it: {answer.reason}")
            saved = Saved(0, message.generation, message.cut, None, error)
            self._handle(machine.Answered(worker, saved))
        elif isinstance(message, Step):
            error = UnavailableError(None, None, f"{worker} did not answer: {answer.reason}")
            refused = Refused(message.ticket, 0, error)
            self._handle(machine.Answered(worker, refused))

    def _handle(self, event: machine.Event) -> None:
        """Let the machine decide, and carry out its commands.  The lock is held."""
        commands = self._machine.handle(event)
        if not commands:
            return
        now = self._clock()
        for command in commands:
            if isinstance(command, machine.Send):
                worker, message = command
                self._counts[worker][_KIND.get(type(message), "notices")] += 1
                if type(message) is Rebuild and message.staying and message.worker:
                    self._counts[worker]["mirrored"] += 1
                self._watch.asked(worker, now)
                self._link.send(worker, message, self._hears(worker, message))
            elif isinstance(command, machine.Wake):
                self._outcomes[command.run].wakes = now + command.seconds
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
