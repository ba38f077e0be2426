"""The log of a server's decisions, and who writes it or follows it.

It says how asynchronous training went.  One part of a run has one entry, at its commit, in the
order of commits, or after it has failed: whose it is, and how many commits it has seen.  With these
entries a replay needs no clock: a part begins when exactly so many commits are done, and is
committed in its turn.  All else follows from the values, and so has the same bits.

    ["part", [opener, session, plan, turn], seen]      in the order of commits
    ["read", [opener, session, plan, turn], seen]      of a run that changes no variable
    ["failed", [opener, session, plan, turn], seen]    of one that has failed
    ["dequeued", [opener, …], queue, [number, …]]      which elements a part took
    ["taken", accumulator, [[rank, gift], …]]          what a mean was made of
    ["passed", gate, rank, step]                       to which step a worker was let on

What a program reads may decide on what it runs, so runs that change nothing are logged, too, and
those that fail: these see what they had seen, and fail again.  One that took elements of queues is
tried in the turn of the next of its plan that did not fail, or at the end of the log: others may
have these by then.  A log that ends leaves the rest to chance, but for elements that others are yet
to take.  Elements are numbered as they come, which is in the order of commits.
"""

from __future__ import annotations

from pathlib import Path

from graphflow.distribute.decisions import Decisions
from graphflow.distribute.recorder import Recorder
from graphflow.distribute.replayer import Replayer

SUFFIX = ".decisions"


def file_of(folder: str, task: str) -> str:
    """The log of a task, "/job:ps/replica:0/task:0"."""
    return str(Path(folder) / (task.strip("/").replace("/", "-").replace(":", "") + SUFFIX))


def decided(task: str, record: str | None, replay: str | None) -> Decisions | None:
    """What a task's server asks, given the folder of a log to write, or of one to follow.

    Raises:
      AlreadyExistsError, NotFoundError: there is such a log, or there is none.
    """
    if record:
        return Recorder(file_of(record, task))
    return Replayer(file_of(replay, task)) if replay else None
