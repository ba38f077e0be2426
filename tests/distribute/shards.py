"""Workers of a `World`: the real machine of each, with a model of its store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graphflow.distribute.messages import Saved


@dataclass
class Attempt:
    """What a worker knows of one."""

    base: tuple[int, ...]  # the list as the attempt saw it
    ahead: tuple[Any, ...] = ()  # undecided attempts on which it builds
    running: bool = True
    promised: bool = False


@dataclass
class Shard:
    """A worker: the real machine, and a model of its store."""

    machine: Any
    runs: tuple[int, ...] = ()
    snapshots: dict[int, tuple[int, ...]] = field(default_factory=lambda: {0: ()})
    cut: int = 0  # the last one
    attempts: dict[Any, Attempt] = field(default_factory=dict)
    held: dict[Any, tuple[tuple[int, ...], tuple[Any, ...]]] = field(default_factory=dict)
    released: dict[int, int] = field(default_factory=dict)  # run -> cut, as in `Host`
    quiet: set[Any] = field(default_factory=set)  # attempts whose output has gone out before
    copies: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)
    saved: list[tuple[Saved, tuple[str, ...]]] = field(default_factory=list)  # waits for copies
    rebuild: Any = None  # waits for one's own copy

    def promise(self, attempt: Attempt) -> Any:
        """Another attempt that has prepared a write, and is not one that this one builds on."""
        others = [t for t, a in self.attempts.items() if a.promised and t not in attempt.ahead]
        return others[-1] if others else None

    def now(self, attempt: Attempt) -> tuple[int, ...]:
        """The list, with what was prepared by those that the attempt builds on."""
        return (*self.runs, *[t.run for t in attempt.ahead if t in self.attempts])
