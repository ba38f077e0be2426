"""Decides on a server as its log says, see `decision_log`."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from graphflow.base.errors import CancelledError, FailedPreconditionError, NotFoundError
from graphflow.distribute.decisions import Part, Place, Take, at_once, log_of

# Seconds that a replay waits for a part that the log has next.  Where others wait to be committed
# after it, they are then, and no more parts begin.
PATIENCE = 60.0
_POLL = 0.05  # seconds between looks at whether a run was cancelled
_DONE = ("part", "read")  # kinds of records of what has not failed

_log = logging.getLogger("graphflow")


def _followed(records: Sequence[Any]) -> tuple[list[Any], dict[Part, Part]]:
    """What a replay goes by, without some of what has failed: runs after which their session did
    nothing more, as its end, or that of the server, may have been why; and those that took
    elements of queues, which others may have by then: they are tried in the turn of the next one of
    their plan, where there is any that did not fail.  What is left; and part -> in whose turn.
    """
    last = {tuple(r[1][:2]): i for i, r in enumerate(records) if r[0] in _DONE}
    turns = defaultdict(list)  # by plan
    for record in records:
        if record[0] in _DONE:
            turns[tuple(record[1][:3])].append(int(record[1][3]))
    took = {tuple(r[1]) for r in records if r[0] == "dequeued"}
    instead, ended = {}, set()
    for i, record in enumerate(records):
        if record[0] == "failed":
            part = Part(*record[1])
            if last.get(part[:2], -1) < i:
                ended.add(part)
            elif part in took and turns[part[:3]]:
                turn = min((t for t in turns[part[:3]] if t > part.turn), default=0)
                instead[part] = part._replace(turn=turn)
    out = ended | instead.keys()
    return [r for r in records if r[0] in ("taken", "passed") or Part(*r[1]) not in out], instead


class Replayer:
    """Decides as a log says, and as chance will where that has ended."""

    replays = True

    def __init__(self, path: str):
        """Read a log.

        Raises:
          NotFoundError: there is none.
          OpError: it cannot be read.
        """
        records = log_of(path).records
        if not records:
            raise NotFoundError(None, None, f"there are no decisions to replay in {path}")
        records, self._instead = _followed(records)
        self._changed = threading.Condition(threading.RLock())
        self._order = [Part(*r[1]) for r in records if r[0] == "part"]
        self._failed = {Part(*r[1]) for r in records if r[0] == "failed"}
        self._seen = {Part(*r[1]): int(r[2]) for r in records if r[0] in (*_DONE, "failed")}
        self._coming_up = set(self._seen)  # what has not begun
        self._begins = Counter(self._seen.values())  # the same, counted
        self._commits = 0
        self._states: dict[Part, Any] = {}  # that parts saw which failed, and are tried again
        self._waiting: dict[Part, Any] = {}  # commits whose turn has not come
        self._thread: threading.Thread | None = None
        self._closed = False
        self._diverged = ""  # why the log is not followed any more
        self._taken: dict[str, deque[Any]] = defaultdict(deque)
        self._passed: dict[tuple[str, int], deque[int]] = defaultdict(deque)
        self._dequeued: dict[tuple[Part, str], list[list[int]]] = defaultdict(list)
        self._coming: dict[str, set[int]] = defaultdict(set)  # queue -> elements yet to be taken
        for kind, *rest in records:
            if kind == "dequeued":
                part, numbers = Part(*rest[0]), [int(n) for n in rest[2]]
                self._dequeued[part, rest[1]].append(numbers)
                if part not in self._failed:  # else it gives them back
                    self._coming[rest[1]].update(numbers)
            elif kind == "taken":
                self._taken[rest[0]].append([(int(r), int(n)) for r, n in rest[1]])
            elif kind == "passed":
                self._passed[rest[0], int(rest[1])].append(int(rest[2]))

    def begin(
        self, part: Part, changes: bool, snapshot: Callable[..., Any], cancelled: threading.Event
    ) -> Place:
        with self._changed:
            if self._diverged:
                raise FailedPreconditionError(None, None, self._diverged)
            part = self._instead.get(part, part)
            fails = part in self._failed
            kind = _Failing if fails else _Replayed if changes else _ReplayedRead
            if part in self._states:  # others may have been committed since
                return kind(self, part, snapshot(self._states.pop(part)))
            seen = self._seen.get(part, len(self._order))  # not in the log: after it
            begins = fails
            try:
                self._await(lambda: self._commits >= seen, part, cancelled)
                state, begins = snapshot(), True
            finally:
                if begins and part in self._coming_up:  # what has failed may have been cancelled
                    self._coming_up.remove(part)
                    self._begins[seen] -= 1
                    self._changed.notify_all()
            return kind(self, part, state)

    def _await(self, turn: Callable[[], bool], entry: Part, cancelled: threading.Event) -> None:
        left = PATIENCE
        before = self._commits
        while not turn():
            if cancelled.is_set():
                raise CancelledError(None, None, "the run was cancelled before its turn came")
            if left <= 0:
                raise FailedPreconditionError(None, None, self._stuck(entry))
            self._changed.wait(_POLL)
            left, before = (left - _POLL if before == self._commits else PATIENCE), self._commits

    def _stuck(self, entry: Part) -> str:
        told = f"{entry.opener}'s run {entry.turn} of plan {entry.plan} is not due"
        if self._commits == len(self._order):
            return told
        due = self._order[self._commits]
        return (
            f"{told}: the log has {due.opener}'s run {due.turn} of plan {due.plan} next, which "
            f"has not come for {PATIENCE:g} s. Is the program the one that was logged?"
        )

    def committed(self, entry: Part, apply: Callable[[], None]) -> threading.Event:
        """Have a part's effects applied in its turn; until then others go on."""
        done = threading.Event()
        with self._changed:
            if entry in self._seen and not self._diverged:
                self._waiting[entry] = apply, done
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._commit, name="graphflow-replay", daemon=True
                    )
                    self._thread.start()
                self._changed.notify_all()
                return done
        apply()
        return at_once()

    def succeeded(self, entry: Part) -> None:
        """What had failed is committed."""
        with self._changed:
            if self._commits < len(self._order) and not self._diverged:
                self._diverge(
                    f"{entry.opener}'s run {entry.turn} of plan {entry.plan} is committed, and "
                    "had failed when it was logged. Is the program the one that was logged?"
                )

    def _diverge(self, why: str) -> None:
        self._diverged = why
        _log.error("the log of decisions is followed no more: %s", why)
        self._changed.notify_all()

    def _commit(self) -> None:
        """Apply what is due, once all have begun that saw the state as it is before that.

        On a thread of its own: whoever brings a commit holds its session's lock, which what is
        computed anew for another one may need.
        """
        while (due := self._due()) is not None:
            apply, done = due
            try:
                apply()
            except Exception:
                _log.warning("the output of a run that was replayed failed", exc_info=True)
            with self._changed:
                self._commits += 1
                self._changed.notify_all()
            done.set()

    def _due(self) -> Any:
        """The next commit; None: there is none any more."""
        with self._changed:
            since = None  # when a commit began to wait for its turn, if one does
            while not self._closed and self._commits < len(self._order):
                entry = self._order[self._commits]
                if entry in self._waiting and not self._begins[self._commits]:
                    return self._waiting.pop(entry)
                if self._diverged:  # in the order in which they came
                    return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None
                if not self._waiting:
                    since = None
                    self._changed.wait()  # no deadline: nobody waits for what is next
                    continue
                since = time.monotonic() if since is None else since
                if time.monotonic() - since < PATIENCE:
                    self._changed.wait(_POLL)
                else:
                    self._diverge(self._stuck(next(iter(self._waiting))))
            return None

    def abandoned(self, entry: Part, state: Any, takes: Iterable[Take]) -> None:
        """It may be tried again: then it sees the same state, and takes the same elements."""
        with self._changed:
            for take in takes:
                self._coming[take.queue].update(take.numbers)
            if entry in self._seen:
                self._states[entry] = state

    def failed(self, entry: Part) -> None:
        """It is not tried again."""
        with self._changed:
            self._states.pop(entry, None)

    def dequeued(self, entry: Part, queue: str, nth: int) -> Sequence[int] | None:
        """The elements that a part takes from a queue at its nth time; None: it did not."""
        found = self._dequeued.get((entry, queue), ())
        return found[nth] if nth < len(found) else None

    def coming(self, queue: str) -> Collection[int]:
        """Elements that somebody is yet to take."""
        with self._changed:
            return frozenset(self._coming[queue])

    def came(self, take: Take) -> None:
        """Elements were taken."""
        with self._changed:
            self._coming[take.queue].difference_update(take.numbers)

    def wanted(self, accumulator: str) -> list[tuple[int, int]] | None:
        with self._changed:
            waiting = self._taken[accumulator]
            return waiting[0] if waiting else None

    def taken(self, accumulator: str, given: Iterable[tuple[int, int]]) -> None:
        with self._changed:
            if self._taken[accumulator]:
                self._taken[accumulator].popleft()

    def step(self, gate: str, rank: int) -> int | None:
        with self._changed:
            waiting = self._passed[gate, rank]
            return waiting[0] if waiting else None

    def passed(self, gate: str, rank: int, step: int) -> None:
        with self._changed:
            if self._passed[gate, rank]:
                self._passed[gate, rank].popleft()

    def close(self) -> None:
        """Decide nothing more."""
        with self._changed:
            self._closed = True
            for _, done in self._waiting.values():  # their server ends
                done.set()
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()  # no deadline: it ends with the commit that it applies


class _Replayed:
    """The place of a part that changes something."""

    def __init__(self, replayer: Replayer, entry: Part, state: Any):
        self._replayer = replayer
        self._entry = entry
        self._state = state
        self._takes: list[Take] = []

    def commit(self, apply: Callable[[], None]) -> threading.Event:
        return self._replayer.committed(self._entry, apply)

    def abandon(self) -> None:
        self._replayer.abandoned(self._entry, self._state, self._takes)

    def fail(self) -> None:
        """It had not: the next of its plan sees and takes the same."""

    def wanted(self, queue: str) -> Sequence[int] | None:
        nth = sum(take.queue == queue for take in self._takes)
        return self._replayer.dequeued(self._entry, queue, nth)

    def of_others(self, queue: str) -> Collection[int]:
        return self._replayer.coming(queue)

    def took(self, queue: str, numbers: Sequence[int]) -> None:
        self._takes.append(Take(queue, numbers))
        self._replayer.came(self._takes[-1])


class _ReplayedRead(_Replayed):
    """That of one that only takes input."""

    def commit(self, apply: Callable[[], None]) -> threading.Event:
        apply()
        return at_once()

    def abandon(self) -> None:
        """Nobody waits for its turn."""


class _Failing(_Replayed):
    """That of one whose run had failed: it sees what it had seen.  If it took elements, it takes
    what there is, and gives it back."""

    _over = False

    def commit(self, apply: Callable[[], None]) -> threading.Event:
        self._replayer.succeeded(self._entry)
        apply()
        return at_once()

    def abandon(self) -> None:
        super().abandon()
        if self._over:
            self.fail()

    def fail(self) -> None:
        self._over = True
        self._replayer.failed(self._entry)

    def wanted(self, queue: str) -> None:
        return None

    def of_others(self, queue: str) -> Collection[int]:
        took = super().wanted(queue) is not None
        return () if took else super().of_others(queue)

    def took(self, queue: str, numbers: Sequence[int]) -> None:
        """They are not missed."""
