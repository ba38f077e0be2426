"""What the coordinator and the workers of a session say to each other.

Every message carries its place in the sequence of messages to that worker, and all decisions that
the worker is not known to have applied.  So messages may overtake each other, and a decision needs
no message of its own: that on run k rides on the step of run k + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from graphflow.base.errors import OpError
from graphflow.base.state import StateKey
from graphflow.execute.trace import Span


class Ticket(NamedTuple):
    """One attempt to execute one run.

    Attributes:
      generation: how many workers had been lost when it began.
      run: number of the run in its session, from 1.
      serial: number of the attempt in its session; later attempts have higher ones.
    """

    generation: int
    run: int
    serial: int


class Verdict(Enum):
    """What becomes of an attempt."""

    COMMIT = "commit"  # apply its effects
    ABORT = "abort"  # undo it; the run has failed, and what it took goes back
    RETRY = "retry"  # undo it, but keep the input it took: the run is tried again

    __hash__ = object.__hash__  # not by the name, in Python: each decision is looked up


class Decision(NamedTuple):
    """Attributes:
    number: its place in the sequence of decisions for this worker, from 1.
    ticket: the attempt decided on.
    verdict: what becomes of it.
    """

    number: int
    ticket: Ticket
    verdict: Verdict


class Replay(NamedTuple):
    """The step was committed before a loss, and is executed again to get its effects back.

    Attributes:
      inputs: what it took from outside, see `InputLog.taken`.
      released: its output has gone out, and must not again.
    """

    inputs: Mapping[str, Sequence[Any]]
    released: bool


class Step(NamedTuple):
    """Execute your part of a plan, and prepare to commit it.

    Attributes:
      sequence: place among the messages to this worker, from 1.
      decisions: to be applied before it begins.
      ticket: the attempt.
      plan: number of a plan that was loaded.
      feeds: values for the plan's inputs on this worker.
      traced: the answer tells when each kernel ran.
      replay: None but in a recovery.
      after: an attempt whose effects it sees, though that is not decided on; None: there is none.
    """

    sequence: int
    decisions: tuple[Decision, ...]
    ticket: Ticket
    plan: int
    feeds: Sequence[Any]
    traced: bool
    replay: Replay | None = None
    after: Ticket | None = None


class Notice(NamedTuple):
    """Decisions alone, where no step is there to carry them."""

    sequence: int
    decisions: tuple[Decision, ...]
    generation: int = 0


class Copying(NamedTuple):
    """Where copies of workers' state are kept, beside the driver.

    Attributes:
      worker: the name of the one who is told.
      buddy: who gets the copy of its state.
      wards: whose copies it gets.
      whole: the buddy has not that of the last cut.
    """

    worker: str
    buddy: str
    wards: tuple[str, ...]
    whole: bool


class Save(NamedTuple):
    """Keep your state as it is after these decisions, and hand a copy on.

    Attributes:
      cut: number of the moment at which all workers keep theirs, from 1.
      last: the last cut of which all copies are known to be safe; those before are needed no more.
      copying: None: hand the copy back.
    """

    sequence: int
    decisions: tuple[Decision, ...]
    generation: int
    cut: int
    last: int
    copying: Copying | None = None


class Staying(NamedTuple):
    """No state is lost, as other workers have copies of all that a lost one had.

    Attributes:
      decisions: to be applied, unless they are.
      variables: those that a ward of this worker needs.
      streams: random counters of a worker that has no state.
    """

    decisions: tuple[Decision, ...]
    variables: frozenset[StateKey]
    streams: Mapping[int, int]


class Rebuild(NamedTuple):
    """A worker was lost: undo all that is not committed, and go back to a cut, or stay there.

    Attributes:
      generation: number of losses; what was sent under a lower one is void.
      cut: which; 0: before the first run.
      snapshot: the state, for a worker that has none; None: it has kept its own.
      worker: name of a worker that has none and gets it from another one; else "".
      wards: to whom this worker is to give copies.
      staying: None: all go back to the cut.
    """

    generation: int
    cut: int
    snapshot: Any = None
    worker: str = ""
    wards: tuple[str, ...] = ()
    staying: Staying | None = None

    @property
    def copy(self) -> int:
        """What tells the copies apart that go from worker to worker: those of cuts have positive
        numbers."""
        return -self.generation if self.staying else self.cut


Message = Step | Notice | Save | Rebuild


# Why a message is not answered.
UNKNOWN_SESSION = (
    "the session is not known there: it was closed, or began before the task was started again, "
    "or before that was stopped for so long that it may have been given up"
)

OUTPUT = 1  # an enqueue, a print, an element that goes back
WRITES = 2  # writes that other sessions on a server see


class Prepared(NamedTuple):
    """The worker has executed its part, and will commit it if told to.

    Attributes:
      ticket: the attempt.
      applied: number of the last decision it has applied.
      values: its fetches, per plan output.
      releases: what waits for the commit, so that it must not be put off: 0, OUTPUT, or WRITES.
      spans: when its kernels ran, where the step was traced.
      changes: committing it changes state, takes input or gives output.
      inputs: what it took from outside, see `InputLog.taken`.
      outputs: functions to be called when it is committed.
      streams: random counters that it has moved, and where to; see `Shipment.mirrored`.
    """

    ticket: Ticket
    applied: int
    values: Sequence[Any]
    releases: int
    spans: Sequence[Span] = ()
    changes: bool = True
    inputs: Mapping[str, Sequence[Any]] | None = None
    outputs: Sequence[Any] = ()
    streams: Sequence[tuple[int, int]] = ()


class Shapes(NamedTuple):
    """What the slots of a plan hold, for inputs of some shapes: what native code is made for.

    Attributes:
      plan: its number.
      part: which of the worker's.
      inputs: shapes of the part's inputs.
      slots: slot, element type and shape.
    """

    plan: int
    part: int
    inputs: Sequence[Sequence[int]]
    slots: Sequence[tuple[int, str, Sequence[int]]]


class Refused(NamedTuple):
    """The worker has undone its part.

    Attributes:
      ticket: the attempt.
      applied: number of the last decision it has applied.
      error: why; None: another run has written what this one read and writes, or see `shapes`.
      holder: the undecided attempt that has; None: it is committed already.
      shapes: the attempt was a rehearsal, which has told these; native code is ready for them now.
    """

    ticket: Ticket
    applied: int
    error: OpError | None
    holder: Ticket | None = None
    shapes: Sequence[Shapes] = ()


class Applied(NamedTuple):
    """Answer to a notice.

    Attributes:
      applied: number of the last decision the worker has applied.
      failures: the last attempts that were committed, but whose output could not be released.
    """

    applied: int
    failures: Sequence[tuple[Ticket, OpError]] = ()
    generation: int = 0


class Saved(NamedTuple):
    """Answer to `Save`.

    Attributes:
      applied: number of the last decision the worker has applied.
      generation, cut: those of the message.
      snapshot: a copy of the state; None: there is an error, or the buddy has it.
      error: why the state cannot be copied.
    """

    applied: int
    generation: int
    cut: int
    snapshot: Any
    error: OpError | None = None


class Rebuilt(NamedTuple):
    """Answer to `Rebuild`.

    Attributes:
      missing: the buddy's copy did not come, and nothing was done.
    """

    generation: int
    missing: bool = False


class Broken(NamedTuple):
    """Answer to anything: something failed outside of the kernels, and the worker's part of the
    session may be neither as it was before nor as it should be afterwards.  Nobody may build on it.

    Attributes:
      reason: what failed.
    """

    reason: str


Reply = Prepared | Refused | Applied | Saved | Rebuilt

Feeds = Mapping[str, Sequence[Any]]  # worker -> values for its part
