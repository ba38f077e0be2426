"""A worker's side of a session as a pure state machine: events in, commands out, no I/O.

Messages are taken in the order in which they were sent, whatever order they arrive in.  Of each
attempt the machine knows one of three states; an attempt that is none of them is over, or has not
begun:

            Step           prepared             COMMIT
    (none) ──────► running ────────► prepared ─────────► (none)
                   │  │ refused                │ ABORT, RETRY
     ABORT, RETRY  │  └───► (none) ◄───────────┘
                   ▼           ▲
                aborted ───────┘
                     its execution ends

A step may come before the one that it builds on is decided on.  It is *waiting* until that one has
prepared here, and does not begin where that one was refused: the coordinator undoes both.

A worker that is told to go back to a cut gives up all attempts, and takes nothing any more that
was sent before that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from graphflow.base.errors import InternalError
from graphflow.base.tuples import made
from graphflow.distribute.messages import (
    Decision,
    Message,
    Notice,
    Rebuild,
    Save,
    Step,
    Ticket,
    Verdict,
)

# ---- events


class Arrived(NamedTuple):
    """A message from the coordinator."""

    message: Message


class Delivered(NamedTuple):
    """A value from another worker."""

    ticket: Ticket
    key: str
    value: Any


class Executed(NamedTuple):
    """The execution of a step has ended.

    Attributes:
      ticket: the attempt.
      prepared: it can be committed; otherwise it failed, or was in conflict.
    """

    ticket: Ticket
    prepared: bool


Event = Arrived | Delivered | Executed


# ---- commands


class Start(NamedTuple):
    """Begin a transaction and execute a step in it.

    Attributes:
      step: what to execute.
      early: values from other workers that came before the step did, by key.
    """

    step: Step
    early: Mapping[str, Any]


class Hold(NamedTuple):
    """Note the state as it is now: a step will begin there, on top of what others have done.

    Attributes:
      ticket: the attempt.
      ahead: undecided attempts whose effects it sees, in order.
    """

    ticket: Ticket
    ahead: tuple[Ticket, ...]


class Skip(NamedTuple):
    """A step that was waiting will not begin."""

    ticket: Ticket


class Put(NamedTuple):
    """Hand a value to an attempt that may wait for it."""

    ticket: Ticket
    key: str
    value: Any


class Late(NamedTuple):
    """A value is dropped and counted: its attempt is over, or will never begin."""

    ticket: Ticket
    key: str


class Cancel(NamedTuple):
    """Make an attempt stop waiting: it will be undone."""

    ticket: Ticket


class Commit(NamedTuple):
    """Apply the effects of a prepared attempt."""

    ticket: Ticket


class Rollback(NamedTuple):
    """Undo an attempt that has ended."""

    ticket: Ticket


class Forget(NamedTuple):
    """A run is over, and what it took as input need not be kept."""

    run: int


class Answer(NamedTuple):
    """Answer a step: it is prepared, or it is not, or (cancelled) nobody waits for it."""

    ticket: Ticket
    outcome: str


class Acknowledge(NamedTuple):
    """Answer a notice."""

    sequence: int


class Keep(NamedTuple):
    """Keep the state as it is now, and answer with a copy."""

    message: Save


class Recall(NamedTuple):
    """Go back to the state of a cut, and answer when that is done."""

    message: Rebuild


class Drop(NamedTuple):
    """A message comes too late: nobody waits for its answer."""

    message: Step | Notice | Save


Command = (
    Start
    | Hold
    | Skip
    | Put
    | Late
    | Cancel
    | Commit
    | Rollback
    | Forget
    | Answer
    | Acknowledge
    | Keep
    | Recall
    | Drop
)

WAITING, RUNNING, PREPARED, ABORTED = "waiting", "running", "prepared", "aborted"
BACK = "back"  # to a cut
REFUSED = "refused"  # what it builds on

# (state, what happens) -> (next state, commands about the attempt)
TABLE: Mapping[tuple[str | None, Any], tuple[str | None, tuple[type, ...]]] = {
    (RUNNING, True): (PREPARED, ()),
    (RUNNING, False): (None, (Rollback,)),
    (RUNNING, Verdict.ABORT): (ABORTED, (Cancel,)),
    (RUNNING, Verdict.RETRY): (ABORTED, (Cancel,)),
    (ABORTED, Verdict.ABORT): (ABORTED, ()),  # it was to be tried again, and will not
    (ABORTED, True): (None, (Rollback,)),
    (ABORTED, False): (None, (Rollback,)),
    (PREPARED, Verdict.COMMIT): (None, (Commit,)),
    (PREPARED, Verdict.ABORT): (None, (Rollback,)),
    (PREPARED, Verdict.RETRY): (None, (Rollback,)),
    (None, Verdict.ABORT): (None, ()),  # it was refused here
    (None, Verdict.RETRY): (None, ()),
    (WAITING, Verdict.ABORT): (None, (Skip,)),
    (WAITING, Verdict.RETRY): (None, (Skip,)),
    (WAITING, REFUSED): (None, (Skip,)),
    (WAITING, BACK): (None, (Skip,)),
    (RUNNING, BACK): (ABORTED, (Cancel,)),
    (ABORTED, BACK): (ABORTED, ()),
    (PREPARED, BACK): (None, (Rollback,)),
}

# (state, was it executed?) -> what is answered; whatever else there is was cancelled meanwhile
OUTCOMES = {(RUNNING, True): "prepared", (RUNNING, False): "refused"}


class Worker:
    """What one worker does for one session.

    Attributes:
      generation: what was sent under a lower one is void.
      applied: number of the last decision applied.
      states: attempt -> state.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.applied = 0
        self.states: dict[Ticket, str] = {}
        self._taken = 0  # messages
        # What arrived before messages that were sent before it.
        self._ahead: dict[int, Step | Notice | Save] = {}
        self._begun = 0  # the highest serial number of a step taken
        self._early: dict[Ticket, dict[str, Any]] = {}
        self._save: Save | None = None  # waits until attempts that are undone have ended
        self._waiting: dict[Ticket, Start] = {}
        self._after: dict[Ticket, Ticket] = {}  # undecided attempt -> what it builds on
        self._refused: set[Ticket] = set()  # here, and not decided on

    def handle(self, event: Event) -> list[Command]:
        """What is to be done about an event, in this order.

        Raises:
          InternalError: the coordinator has broken the protocol.
        """
        if isinstance(event, Arrived):
            return self._in_turn(event.message) or self._arrived(event.message)
        if isinstance(event, Delivered):
            return self._delivered(event)
        return self._as_expected(event) or self._executed(event)

    # ---- the usual: what the rules below come to where nothing else is under way, in a third of
    # the time.  None: they are to be asked.

    def _in_turn(self, step: Any) -> list[Command] | None:
        """A step, perhaps with the decision to commit the one before it."""
        if type(step) is not Step or self._ahead or self._early or self._save is not None:
            return None
        ticket, decisions, states = step.ticket, step.decisions, self.states
        if (
            step.sequence != self._taken + 1
            or ticket.generation != self.generation
            or ticket.serial <= self._begun
            or step.after is not None
            or len(decisions) > 1
        ):
            return None
        commands: list[Command] = []
        for number, done, verdict in decisions:
            if (
                number <= self.applied
                or verdict is not Verdict.COMMIT
                or states.get(done) != PREPARED
            ):
                return None
            self.applied = number
            del states[done]
            self._after.pop(done, None)
            commands += made(Commit, (done,)), made(Forget, (done.run,))
        self._taken = step.sequence
        self._begun = ticket.serial
        states[ticket] = RUNNING
        commands.append(made(Start, (step, {})))
        return commands

    def _as_expected(self, event: Executed) -> list[Command] | None:
        """An attempt that nobody has given up has prepared."""
        ticket, prepared = event
        if not prepared or self._waiting or self._save is not None:
            return None
        if self.states[ticket] != RUNNING:
            return None
        self.states[ticket] = PREPARED
        return [made(Answer, (ticket, "prepared"))]

    # ---- the rules

    def _executed(self, event: Executed) -> list[Command]:
        ticket, prepared = event
        outcome = OUTCOMES.get((self.states[ticket], prepared), "cancelled")
        commands = self._move(ticket, prepared)
        commands.append(Answer(ticket, outcome))
        if outcome == "refused":
            self._refused.add(ticket)
        if self._waiting:
            commands += self._go_after(ticket)
        return commands if self._save is None else [*commands, *self._go_on()]

    def _arrived(self, message: Message) -> list[Command]:
        if isinstance(message, Rebuild):
            return self._rebuild(message)
        sent = message.ticket.generation if isinstance(message, Step) else message.generation
        if sent < self.generation:
            return [Drop(message)]
        if message.sequence <= self._taken:
            return []  # a repetition
        if message.sequence == self._taken + 1 and self._save is None and not self._ahead:
            self._taken += 1
            return self._take(message)
        self._ahead[message.sequence] = message
        return self._go_on()

    def _go_on(self) -> list[Command]:
        """Take the messages whose turn it is."""
        commands: list[Command] = []
        if self._save is not None and not self._busy():
            commands.append(Keep(self._save))
            self._save = None
        while self._save is None and (message := self._ahead.pop(self._taken + 1, None)):
            self._taken += 1
            commands += self._take(message)
        return commands

    def _busy(self) -> bool:
        """Does an attempt still execute?  It may take input while it does."""
        return RUNNING in self.states.values() or ABORTED in self.states.values()

    def _take(self, message: Step | Notice | Save) -> list[Command]:
        commands: list[Command] = []
        for decision in message.decisions:
            commands += self._decide(decision)
        if isinstance(message, Notice):
            return [*commands, Acknowledge(message.sequence)]
        if isinstance(message, Save):
            self._save = message
            return [*commands, *self._go_on()]
        ticket = message.ticket
        if ticket.serial <= self._begun:
            raise InternalError(None, None, f"step {ticket} comes after step {self._begun}")
        self._begun = ticket.serial
        early = self._early.pop(ticket, {})
        if self._early:  # what was kept for attempts before this one has no taker
            commands += self._let_go([t for t in self._early if t.serial < ticket.serial])
        return [*commands, *self._begin(Start(message, early), message.after)]

    def _begin(self, start: Start, after: Ticket | None) -> list[Command]:
        ticket = start.step.ticket
        if after is None:
            self.states[ticket] = RUNNING
            return [start]
        if after in self._refused:
            self._refused.add(ticket)
            return [Skip(ticket)]
        if after not in self.states:  # it is committed, or has no part here
            self.states[ticket] = RUNNING
            return [start]
        self._after[ticket] = after
        self.states[ticket] = WAITING
        self._waiting[ticket] = start
        return [Hold(ticket, self._ahead_of(ticket)), *self._go_after(after)]

    def _ahead_of(self, ticket: Ticket) -> tuple[Ticket, ...]:
        found: list[Ticket] = []
        while (before := self._after.get(ticket)) in self.states:
            assert before is not None
            found.insert(0, before)
            ticket = before
        return tuple(found)

    def _go_after(self, ticket: Ticket) -> list[Command]:
        """What waits for an attempt can go on, or never will."""
        commands: list[Command] = []
        state = self.states.get(ticket)
        for each in [t for t in self._waiting if self._after[t] == ticket]:
            if state == PREPARED:
                self.states[each] = RUNNING
                commands.append(self._waiting.pop(each))
            elif ticket in self._refused:
                self._refused.add(each)
                commands += [*self._move(each, REFUSED), *self._go_after(each)]
        return commands

    def _decide(self, decision: Decision) -> list[Command]:
        if decision.number <= self.applied:
            return []  # a message before this one has carried it, too
        self.applied, ticket, verdict = decision
        commands = self._move(ticket, verdict)
        self._refused.discard(ticket)
        if verdict is not Verdict.RETRY:
            commands.append(Forget(ticket.run))
        return commands

    def _rebuild(self, message: Rebuild) -> list[Command]:
        if message.generation <= self.generation:
            return []  # a repetition, or overtaken by a further loss
        self.generation = message.generation
        commands: list[Command] = []
        for decision in message.staying.decisions if message.staying else ():
            if decision.verdict is not Verdict.COMMIT or decision.ticket in self.states:
                commands += self._decide(decision)
        commands += [c for ticket in list(self.states) for c in self._move(ticket, BACK)]
        commands += [Drop(m) for m in (self._save, *self._ahead.values()) if m is not None]
        self._save = None
        self._ahead.clear()
        self._refused.clear()
        self._taken = self.applied = 0
        commands += self._let_go([t for t in self._early if t.generation < self.generation])
        return [*commands, Recall(message)]

    def _move(self, ticket: Ticket, what: Any) -> list[Command]:
        state = self.states.get(ticket)
        move = TABLE.get((state, what))
        if move is None:
            raise InternalError(None, None, f"{what} for {ticket}, which is {state}")
        following, commands = move
        if following is not None:
            self.states[ticket] = following
        elif state is not None:
            del self.states[ticket]
            if self._after:
                self._after.pop(ticket, None)
                self._waiting.pop(ticket, None)
        return [command(ticket) for command in commands] if commands else []

    def _delivered(self, event: Delivered) -> list[Command]:
        if event.ticket in self.states:
            return [Put(event.ticket, event.key, event.value)]
        if event.ticket.serial <= self._begun or event.ticket.generation < self.generation:
            return [Late(event.ticket, event.key)]
        self._early.setdefault(event.ticket, {})[event.key] = event.value
        return []

    def _let_go(self, tickets: Iterable[Ticket]) -> list[Command]:
        """Values that came before their attempts, which will not begin."""
        return [Late(ticket, key) for ticket in tickets for key in self._early.pop(ticket)]
