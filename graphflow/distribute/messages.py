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
    ABORT = "abort"  # undo it; the run has failed
    RETRY = "retry"  # undo it, but keep the input it took: the run is tried again


class Decision(NamedTuple):
    """Attributes:
    number: its place in the sequence of decisions for this worker, from 1.
    ticket: the attempt decided on.
    verdict: what becomes of it.
    """

    number: int
    ticket: Ticket
    verdict: Verdict


class Step(NamedTuple):
    """Execute your part of a plan, and prepare to commit it.

    Attributes:
      sequence: place among the messages to this worker, from 1.
      decisions: to be applied before it begins.
      ticket: the attempt.
      plan: number of a plan that was loaded.
      feeds: values for the plan's inputs on this worker.
      traced: the answer tells when each kernel ran.
    """

    sequence: int
    decisions: tuple[Decision, ...]
    ticket: Ticket
    plan: int
    feeds: Sequence[Any]
    traced: bool


class Notice(NamedTuple):
    """Decisions alone, where no step is there to carry them."""

    sequence: int
    decisions: tuple[Decision, ...]


Message = Step | Notice


class Prepared(NamedTuple):
    """The worker has executed its part, and will commit it if told to.

    Attributes:
      ticket: the attempt.
      applied: number of the last decision it has applied.
      values: its fetches, per plan output.
      releases: output (an enqueue, a print) waits for the commit: it must not be put off.
      spans: `execute.trace.Span`s, where the step was traced.
    """

    ticket: Ticket
    applied: int
    values: Sequence[Any]
    releases: bool
    spans: Sequence[Any] = ()


class Refused(NamedTuple):
    """The worker has undone its part.

    Attributes:
      ticket: the attempt.
      applied: number of the last decision it has applied.
      error: why; None: another run has written what this one read and writes.
      holder: the undecided attempt that has; None: it is committed already.
    """

    ticket: Ticket
    applied: int
    error: OpError | None
    holder: Ticket | None = None


class Applied(NamedTuple):
    """Answer to a notice.

    Attributes:
      applied: number of the last decision the worker has applied.
      failures: the last attempts that were committed, but whose output could not be released.
    """

    applied: int
    failures: Sequence[tuple[Ticket, OpError]] = ()


Reply = Prepared | Refused | Applied

Feeds = Mapping[str, Sequence[Any]]  # worker -> values for its part
