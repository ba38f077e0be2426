"""What the coordinator of a session is told, and what it wants done: plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from graphflow.base.errors import OpError
from graphflow.distribute.holdings import Holdings
from graphflow.distribute.messages import Feeds, Message, Prepared, Reply

# ---- events


class Begin(NamedTuple):
    """A new run.

    Attributes:
      run: its number, higher than those before.
      plan: what to execute.
      feeds: worker -> values; its keys are the workers that take part.
      traced: ask for the time of each kernel.
      ahead: it begins before its turn, and is not committed until it is claimed.
      after: the run that comes before it, if that is not over.
    """

    run: int
    plan: int
    feeds: Feeds
    traced: bool = False
    ahead: bool = False
    after: int = 0


class Loaded(NamedTuple):
    """Workers get a plan.

    Attributes:
      plan: its number.
      holdings: worker -> what it holds once it has run its share.
    """

    plan: int
    holdings: Mapping[str, Holdings]


class Claimed(NamedTuple):
    """It is the turn of a run that began ahead."""

    run: int


class Withdrawn(NamedTuple):
    """Nobody wants a run any more."""

    run: int


class Answered(NamedTuple):
    """A worker has answered a message."""

    worker: str
    reply: Reply


class Lost(NamedTuple):
    """A worker is gone, or frozen: it has not given a sign of life within the deadline."""

    worker: str
    reason: str
    frozen: bool = False


class Expired(NamedTuple):
    """The time that the user gave a run is over."""

    run: int
    seconds: float


class Woken(NamedTuple):
    """A run has rested."""

    run: int


class Replaced(NamedTuple):
    """A blank worker has taken the name of a lost one, and has all plans."""

    worker: str


class Irreplaceable(NamedTuple):
    """No worker can take the place of a lost one."""

    worker: str
    reason: str


class Capture(NamedTuple):
    """Make a cut now."""


class Restore(NamedTuple):
    """Go on from the state of an earlier session.

    Attributes:
      snapshots: worker -> state.
    """

    snapshots: Mapping[str, Any]


class Closed(NamedTuple):
    """The session ends.

    Attributes:
      why: what runs that are to begin afterwards are told.
    """

    why: str = "the session is closed"


Event = (
    Begin
    | Loaded
    | Claimed
    | Withdrawn
    | Answered
    | Lost
    | Expired
    | Woken
    | Replaced
    | Irreplaceable
    | Capture
    | Restore
    | Closed
)


# ---- commands


class Send(NamedTuple):
    """Send a message to a worker."""

    worker: str
    message: Message


class Wake(NamedTuple):
    """Report `Woken(run)` after so many seconds."""

    run: int
    seconds: float


class Finish(NamedTuple):
    """A run has ended.

    Attributes:
      run: its number.
      answers: worker -> what it prepared; empty where the run failed.
      error: why it failed, or None.
    """

    run: int
    answers: Mapping[str, Prepared]
    error: OpError | None


class Release(NamedTuple):
    """A run is committed: call what its workers have handed over."""

    run: int
    outputs: Sequence[Any]


class Replace(NamedTuple):
    """Find a worker for the name of a lost one; report `Replaced` or `Irreplaceable`."""

    worker: str


Command = Send | Wake | Finish | Release | Replace
