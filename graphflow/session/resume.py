"""Sessions that outlive their process: `Session(resume="folder")`.

The folder holds what each run fetched, and now and then all of the session's state.  When the
script is started again, it goes through the same runs: those before the last copy of the state are
answered from the folder, the others are executed again and must give the same values; then it goes
on.  Fetches of each run are compared by name, what computes them and what is fed by hash.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphflow import checkpoint
from graphflow.base import errors
from graphflow.base.errors import DataLossError, FailedPreconditionError, InternalError, OpError
from graphflow.checkpoint import files
from graphflow.checkpoint.record import RecordFile
from graphflow.checkpoint.tree import flatten, unflatten
from graphflow.execute.numerics import Numerics

_warn = logging.getLogger("graphflow")
FORM = 2  # of what a folder holds: records of runs, and copies of the state
_STATE = re.compile(r"state-(\d+)\.index$")


class Done(NamedTuple):
    """One run.

    Attributes:
      names: what it fetched and what was fed, by name.
      computes: hash of the operations, see `identity`.
      feeds: hash of the fed values.
      values: of the fetched tensors; None where it failed.
      error: name of the class of its error, and the message; None where it did not fail.
    """

    names: str
    computes: str
    feeds: str
    values: Sequence[Any] | None
    error: Sequence[str] | None


class Resumption:
    """A session's folder.

    Attributes:
      seed: the session's seed when it began.
      run: how many runs there have been.
      identities: of what runs compute, by fetches, fed tensors and epoch of the graph.
    """

    def __init__(self, folder: str, seed: int, chosen: bool, every: int):
        """Open the folder, or make it.

        Args:
          folder: its path.
          seed: of the session.
          chosen: the user has given that seed.
          every: runs from one copy of the state to the next.

        Raises:
          ValueError: the folder is of a session with another seed.
          FailedPreconditionError: a version of graphflow has made it that keeps other things.
          OpError: the disk fails, or the folder is corrupt.
        """
        with files.typed_errors(folder, "make", ""):
            os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.run = 0
        self.identities: dict[Any, str] = {}
        self._every = every
        self._log = RecordFile(os.path.join(folder, "runs"), "runs of a session", FORM)
        self._busy = threading.Lock()
        records = self._log.records
        self._new = not records
        self.seed = seed if self._new else records[0][0]
        if chosen and self.seed != seed:
            raise ValueError(
                f"{folder!r} is of a session with seed {self.seed}, not {seed}: leave seed=... "
                "out, or give resume=... another folder"
            )
        self._numerics = None if self._new else Numerics(*records[0][1])
        self._past = [Done(*record) for record in records[1:]]
        self._state, self._restored = self._last_state()
        self._tried = self._restored  # the run after which the state was to be kept
        self._lost: str | None = None  # that a run was not written down

    @property
    def tier(self) -> str | None:
        """Which tier has computed so far; None: there was no run."""
        return self._numerics and self._numerics.tier

    def agree(self, now: Numerics) -> None:
        """Compute by these from the first run to the last.

        Raises:
          FailedPreconditionError: before, it was by others.
        """
        if self._numerics not in (None, now):
            assert self._numerics is not None
            pairs = zip(Numerics._fields, self._numerics, now, strict=True)
            other = "; ".join(f"{name} was {a!r}, is {b!r}" for name, a, b in pairs if a != b)
            raise FailedPreconditionError(
                None,
                None,
                f"what {self.folder!r} holds was computed otherwise, and would not go on to the "
                f"same bits: {other}",
            )
        self._log.open()
        if self._numerics is None:
            self._numerics = now
            self._log.append([self.seed, list(now)])

    def _last_state(self) -> tuple[Any, int]:
        """The newest copy of the state that is whole, and the run after which it was made."""
        found = [int(m[1]) for name in os.listdir(self.folder) if (m := _STATE.search(name))]
        for run in sorted(found, reverse=True):
            try:
                reader = checkpoint.Reader(self._prefix(run))
                tensors = reader.read()
            except DataLossError:
                continue
            if run <= len(self._past):
                return unflatten(reader.manifest.metadata["state"], tensors), run
        return None, 0

    def _prefix(self, run: int) -> str:
        return os.path.join(self.folder, f"state-{run}")

    # ---- a run

    def __enter__(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise FailedPreconditionError(
                None,
                None,
                "a session that can be resumed executes one run at a time: the order of runs on "
                "several threads would be another one the next time",
            )
        if self._lost is not None:
            self._busy.release()
            raise FailedPreconditionError(None, None, self._lost)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            # An interrupt: nobody knows whether the run has taken effect, and is written down.
            self._lost = (
                f"run {self.run + 1} was interrupted, and may have been executed without being "
                f"written down: {self._how()}"
            )
        self._busy.release()

    @property
    def answers(self) -> bool:
        """Is the next run answered from the folder?"""
        return self.run < self._restored

    def answer(self, names: str, computes: str, feeds: str) -> Sequence[Any]:
        """What the next run gave.

        Raises:
          FailedPreconditionError: this is another run than it was.
          OpError: what it raised.
        """
        done = self._same(names, computes, feeds)
        self.run += 1
        if done.error is not None:
            kind, message = done.error
            raise getattr(errors, kind)(None, None, message)
        return done.values or ()

    def take_state(self) -> Any:
        """The state from which to go on, once; None: there is none, or it was taken."""
        state, self._state = self._state, None
        return state

    def finish(
        self,
        names: str,
        computes: str,
        feeds: str,
        values: Any,
        error: OpError | None,
        save: Any,
    ) -> None:
        """A run has been executed.

        Args:
          names, computes, feeds, values: as in `Done`.
          error: what it raised.
          save: gives the session's state.

        Raises:
          FailedPreconditionError, InternalError: this is another run than it was, or gives other
            values.
          OpError: the disk fails, and the session is over.
        """
        failure = None if error is None else (type(error).__name__, error.message)
        now = Done(names, computes, feeds, None if error else list(values), failure)
        if self.run < len(self._past):
            if not _equal(self._same(names, computes, feeds), now):
                raise InternalError(
                    None,
                    None,
                    f"run {self.run + 1} gives other values than before its process ended: it "
                    "depends on more than feeds, variables and random seeds",
                )
        else:
            self._write_down(now)
        self.run += 1
        if self.run >= len(self._past) and self.run >= self._tried + self._every:
            self.save(save())

    def _write_down(self, done: Done) -> None:
        """Log a run.  Where that fails, no other one may follow: it would be taken for this one."""
        try:
            self._log.append(list(done))
        except OpError as error:
            self._lost = (
                f"run {self.run + 1} was executed, but not written down: {error.message}.  Make "
                f"room, and {self._how()}"
            )
            error.add_note(self._lost)
            raise

    def _how(self) -> str:
        return f"start the script again with resume={self.folder!r}: it goes on with that run"

    def save(self, state: Any) -> None:
        """Keep the session's state as it is now.  A crash on the way leaves the last one, and so
        does a disk that fails: it is tried again later, as the log has all that came since.

        Raises:
          OpError: the log is not safe.
        """
        self._tried = self.run
        self._log.sync()
        tensors: dict[str, Any] = {}
        plain = flatten(state, tensors)
        try:
            checkpoint.write(self._prefix(self.run), tensors, metadata={"state": plain})
        except OpError as error:
            _warn.warning("the state after run %d is not kept: %s", self.run, error.message)
            return
        if 0 < self._restored < self.run:
            checkpoint.delete(self._prefix(self._restored))
        self._restored = self.run

    def close(self) -> None:
        """Close the folder's files."""
        self._log.close()

    def _same(self, names: str, computes: str, feeds: str) -> Done:
        done = self._past[self.run]
        if (done.names, done.computes, done.feeds) != (names, computes, feeds):
            what = "feeds other values"
            if done.computes != computes:
                what = "computes something else by the same names"
            if done.names != names:
                what = f"is {names}, not {done.names}"
            raise FailedPreconditionError(
                None,
                None,
                f"run {self.run + 1} of this script {what}: {self.folder!r} is of another script, "
                "or of one that does not do the same each time.  Use another folder",
            )
        return done


# Errors that tell of the moment, and not of the run: it does not count, and may be tried again.
PASSING = (
    errors.AbortedError,
    errors.CancelledError,
    errors.DeadlineExceededError,
    errors.ResourceExhaustedError,
    errors.UnavailableError,
)


def names_of(tensors: Iterable[Any], operations: Iterable[Any], fed: Iterable[Any]) -> str:
    """What a run fetches and is fed, by name."""
    fetched = [*[t.name for t in tensors], *[o.name for o in operations]]
    return f"{', '.join(fetched) or 'nothing'} by {', '.join(t.name for t in fed) or 'nothing'}"


def _equal(one: Done, other: Done) -> bool:
    if one.error is not None or other.error is not None:
        return one.error is not None and other.error is not None and one.error[0] == other.error[0]
    pairs = list(zip(one.values or (), other.values or (), strict=True))
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
