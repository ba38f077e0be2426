"""What the stages make of a set of fetches, and where that is executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from graphflow.build import Tensor
from graphflow.compile import Plan
from graphflow.execute.numerics import Numerics
from graphflow.partition import Partitions
from graphflow.place import Placement, Topology
from graphflow.session.fetches import Pack


class Target(Protocol):
    """Where partitions are executed: this process, or a cluster."""

    @property
    def topology(self) -> Topology: ...

    def load(self, partitions: Partitions) -> Executable: ...

    def close(self) -> None: ...

    def capture(self) -> Any: ...

    def restore(self, state: Any) -> None: ...

    @property
    def numerics(self) -> Numerics: ...


class Executable(Protocol):
    """Partitions ready to run."""

    @property
    def plans(self) -> Mapping[str, Plan]:
        """Device -> what it runs."""
        ...

    def keeps(self, feed: Tensor) -> bool: ...

    def run(self, feeds: Sequence[Any], timeout: float | None, trace: Any) -> list[Any]: ...


class Prepared(NamedTuple):
    """A set of fetches and fed tensors, taken through all the stages.

    Attributes:
      keys: the keys of the feeds, as the user gives them.
      converters: one per key, from the user's value to an array.
      executable: what computes the fetched tensors.
      pack: from their values to the user's structure.
      placement: which device runs what.
    """

    keys: tuple[Any, ...]
    converters: tuple[Callable[[Any], Any], ...]
    executable: Executable
    pack: Pack
    placement: Placement
