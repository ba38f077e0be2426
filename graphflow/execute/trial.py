"""A device's part of a run that may begin anew while the other devices of the run go on.

Native code is made for shapes that were met before.  Where it meets others, the reference tier
does the part from its beginning: what was written is dropped, what was received is there still,
and what was sent, which the others may have used, stands.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from graphflow.compile.plan import Step
from graphflow.execute.context import Context, Output, Run
from graphflow.execute.devices import Device


class Trial:
    """Stands for the run: effects of the part count once they are kept.

    Attributes:
      transaction, resources, seed, inputs, cancelled, choices: as those of `Run`.
    """

    def __init__(self, run: Run, rendezvous: Any):
        self.resources = run.resources
        self.seed = run.seed
        self.inputs = run.inputs
        self.cancelled = run.cancelled
        self.choices = run.choices
        self._run = run
        self._exchange = _Exchange(rendezvous)
        self.restart()

    def restart(self) -> None:
        """Drop what was written and given out."""
        self.transaction = _Writes(self._run.transaction)
        self._outputs: list[Output] = []

    def context(self, device: Device) -> Context:
        """For kernels of the part, from its beginning."""
        return _Context(self, device, self._exchange)  # type: ignore[arg-type]

    def output(self, release: Any, step: Step | None = None, own: bool = False) -> None:
        """As `Run.output`."""
        self._outputs.append(Output(release, step, own))

    def outputs(self) -> list[Any]:
        """As `Run.outputs`."""
        return [*self._run.outputs(), *[output.release for output in self._outputs]]

    def keep(self) -> None:
        """Hand the effects to the run."""
        self.transaction.apply()
        for output in self._outputs:
            self._run.output(*output)


class _Writes:
    """A transaction within another one; devices share no state, so nobody else reads it."""

    def __init__(self, outer: Any):
        self._outer = outer
        self._writes: dict[Hashable, Any] = {}
        self._rows: dict[Hashable, Any] = {}  # writes of rows, see `Context.write_rows`

    def read(self, key: Hashable) -> Any:
        if key in self._rows:
            self._writes[key] = self._rows.pop(key).whole()
        return self._writes[key] if key in self._writes else self._outer.read(key)

    def read_table(self, key: Hashable) -> Any:
        if key in self._rows or key in self._writes:
            return self.read(key)
        return getattr(self._outer, "read_table", self._outer.read)(key)

    def read_all(self, keys: Sequence[Hashable]) -> list[Any]:
        if not self._writes and not self._rows:
            found: list[Any] = self._outer.read_all(keys)
            return found
        return [self.read(key) for key in keys]

    def get(self, key: Hashable, default: Any) -> Any:
        return self.read(key) if self.has(key) else default

    def has(self, key: Hashable) -> bool:
        return key in self._writes or key in self._rows or bool(self._outer.has(key))

    def write(self, key: Hashable, value: Any) -> Any:
        self._rows.pop(key, None)
        self._writes[key] = value
        return value

    def write_all(self, values: Mapping[Hashable, Any]) -> None:
        for key, value in values.items():
            self.write(key, value)

    def write_rows(self, key: Hashable, write: Any) -> bool:
        """Is a write of rows taken?"""
        if not hasattr(self._outer, "write_rows") or key in self._writes or key in self._rows:
            return False
        self._rows[key] = write
        return True

    def apply(self) -> None:
        self._outer.write_all(self._writes)
        for key, write in self._rows.items():
            if not self._outer.write_rows(key, write):
                self._outer.write(key, write.whole())


class _Exchange:
    """A rendezvous that remembers what came, and what went."""

    def __init__(self, rendezvous: Any):
        self.sums: dict[str, list[Any]] = {}
        self._rendezvous = rendezvous
        self._received: dict[str, Any] = {}
        self._sent: set[str] = set()

    def send(self, key: str, value: Any) -> None:
        if key not in self._sent:
            self._sent.add(key)
            self._rendezvous.send(key, value)

    def place(self, key: str, size: int) -> Any:
        return self._rendezvous.place(key, size)

    def meeting(self, device: str) -> Any:
        return self._rendezvous.meeting(device)

    def receive(self, key: str) -> Any:
        if key not in self._received:
            self._received[key] = self._rendezvous.receive(key)
        return self._received[key]


class _Context(Context):
    __slots__ = ()

    def all_reduce(self, key: str, members: Any, buckets: Any) -> list[Any]:
        sums = self._rendezvous.sums
        if key not in sums:
            sums[key] = super().all_reduce(key, members, buckets)
        return list(sums[key])
