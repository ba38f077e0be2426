"""What a run takes: from outside, and out of queues, which its session or its server owns.

It is taken once, however often the run is tried, and each operation finds its own again, whatever
others do: an attempt may see another state than the one before, and go another way.  What comes
out of a queue is gone for good when the run commits and has used it.  Otherwise it goes back to
its place: an element of a branch that was not taken in the end, and all of a run that fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import numpy as np

from graphflow.base.errors import CancelledError
from graphflow.execute.store import Conflict


class Again(NamedTuple):
    """Stands for what came out of a queue, for a run that is done again on the state from before
    it: there it is again.

    Attributes:
      numbers: which elements, see `ops.queue_state.Element`.
    """

    numbers: tuple[Any, ...]


class Place(NamedTuple):
    """Where something was taken.

    Attributes:
      device, operation: who asked.
      nth: how often it had asked before in the same attempt.
    """

    device: str
    operation: str
    nth: int


class Taken(NamedTuple):
    """What was taken.

    Attributes:
      value: that; with `numbers`, which tell what it was, where there is a source.
      of: digest of the values that it depends on; None: it stands, whatever these are.
      source: key of the queue that it came out of; None: it came from outside.
    """

    value: Any
    of: bytes | None = None
    source: Hashable = None

    @property
    def logged(self) -> Any:
        """What tells, when the run is done again, what it had taken."""
        return self.value if self.source is None else Again(tuple(self.value.numbers))


class Sources(Protocol):
    """Those who can have again what was taken, see `context.Resources`."""

    def give_back(self, key: Hashable, value: Any) -> None: ...


class InputLog:
    """What the attempts of a run have taken."""

    def __init__(self, taken: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Args:
        taken: what was logged elsewhere, see `Inputs.taken`: the run is done again.
        """
        self.again = taken is not None
        self._taken: dict[Place, Taken] = _placed(taken) if taken else {}
        self._attempt: Inputs | None = None
        self._closed = False
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _holding, (self._taken,)

    def begin(self) -> Inputs:
        """An attempt begins; one before it, which may still be about to end, takes nothing more."""
        with self._lock:
            self._attempt = Inputs(self)
            return self._attempt

    def end(self, sources: Sources) -> None:
        """The run is over: what is left goes back to where it was."""
        with self._lock:
            self._attempt = None
            if not self._taken:
                return
            left, self._taken = self._taken, {}
        for each in reversed(left.values()):
            if each.source is not None:
                sources.give_back(each.source, each.value)

    def copy(self) -> InputLog:
        """What it is now."""
        return _holding(dict(self._taken))

    def rewound(self) -> InputLog:
        """For a run that is tried again on an earlier state, where queues have their elements
        again: what has come from outside, by device up to the first that came out of a queue."""
        left: dict[Place, Taken] = {}
        ended: set[str] = set()  # devices
        for place, each in self._taken.items():
            if each.source is not None:
                ended.add(place.device)
            if place.device not in ended:
                left[place] = each
        return _holding(left)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, a run that asks for more than was taken before conflicts instead of waiting:
        it keeps others from committing, and so nobody could give it what it waits for."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False


def _placed(taken: Mapping[str, Sequence[Any]]) -> dict[Place, Taken]:
    found = {}
    for where, values in taken.items():
        device, _, operation = where.partition(" ")
        for nth, value in enumerate(values):
            found[Place(device, operation, nth)] = Taken(value)
    return found


def _holding(taken: dict[Place, Taken]) -> InputLog:
    log = InputLog()
    log._taken = taken
    return log


class Inputs:
    """What one attempt takes, or finds in the log of its run.

    Attributes:
      log: that of its run.
    """

    def __init__(self, log: InputLog):
        self.log = log
        self._used: dict[Place, Taken] = {}

    def take(self, place: Place, function: Callable[[], Any], of: Sequence[Any] = ()) -> Any:
        """What the function gives, or gave.

        Args:
          place: who asks.
          function: takes it from outside.
          of: values on which it depends.

        Raises:
          CancelledError: another attempt has begun.
        """
        digest = _digest(of) if of else None
        found = self._found(place, digest)
        if found is not None and found.of in (None, digest):
            return found.value
        value = function()
        if not self._note(place, Taken(value, digest)):
            raise _cancelled()
        return value

    def take_from(
        self,
        sources: Sources,
        source: Hashable,
        place: Place,
        function: Callable[[Sequence[Any] | None], Any],
        of: Sequence[Any],
    ) -> Any:
        """As `take`, out of a queue.

        Args:
          sources: has what is wanted no more again.
          source: key of the queue.
          function: takes it, given which elements; None: any.
        """
        digest = _digest(of)
        found = self._found(place, digest, inside=True)
        numbers: Sequence[Any] | None = None
        if found is not None and isinstance(found.value, Again):
            numbers = found.value.numbers
        elif found is not None and found.of == digest:
            return found.value
        elif found is not None:
            sources.give_back(source, found.value)
        value = function(numbers)
        if not self._note(place, Taken(value, digest, source)):
            sources.give_back(source, value)
            raise _cancelled()
        return value

    def _found(self, place: Place, digest: bytes | None, inside: bool = False) -> Taken | None:
        """What was taken there before; where that is not wanted any more, it is out of the log."""
        log = self.log
        with log._lock:
            if log._attempt is not self:
                raise _cancelled()
            found = log._taken.get(place)
            fits = found is not None and found.of in (None, digest)
            if log._closed and not fits and (found is None or inside):
                raise Conflict(place)
            if found is not None and fits:
                self._used[place] = found
            elif found is not None:
                del log._taken[place]
            return found

    def _note(self, place: Place, taken: Taken) -> bool:
        log = self.log
        with log._lock:
            if log._attempt is not self:
                return False
            log._taken[place] = self._used[place] = taken
            return True

    @property
    def takes(self) -> bool:
        """Has it taken anything out of a queue?"""
        used = self._used  # mostly nothing
        return bool(used) and any(each.source is not None for each in used.values())

    @property
    def leaves(self) -> bool:
        """Did an earlier attempt take something out of a queue that this one does not use?"""
        log = self.log._taken
        return len(log) > len(self._used) and any(
            log[place].source is not None for place in log.keys() - self._used.keys()
        )

    @property
    def taken(self) -> Mapping[str, Sequence[Any]] | None:
        """ "device operation" -> what it took, or None where there is nothing.  For a run that is
        done again on the state from before it."""
        if not self._used:
            return None
        found: dict[str, list[Any]] = {}
        for place in sorted(self._used):
            where = f"{place.device} {place.operation}"
            found.setdefault(where, []).append(self._used[place].logged)
        return found

    @property
    def used(self) -> InputLog:
        """What it has used."""
        return _holding(dict(self._used))

    def keep(self) -> None:
        """The attempt is committed, and what it has used is gone for good."""
        if self._used:
            with self.log._lock:
                for place in self._used:
                    self.log._taken.pop(place, None)


def _cancelled() -> CancelledError:
    return CancelledError(None, None, "the run was cancelled")


def _digest(values: Sequence[Any]) -> bytes:
    """Tells values apart, to the last bit."""
    found = blake2b(digest_size=16)
    for value in values:
        array = np.asarray(value)
        found.update(f"{array.dtype.str}{array.shape}".encode())
        plain = array.dtype != object
        found.update(np.ascontiguousarray(array).data if plain else repr(array.tolist()).encode())
    return found.digest()
