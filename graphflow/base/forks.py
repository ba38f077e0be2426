"""What belongs to the process that has made it.

A fork of that process has the objects, but neither the threads behind them nor connections of its
own, and may end as any process does, with all that happens then.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

_owned: weakref.WeakSet[Owned] = weakref.WeakSet()


class Owned(Protocol):
    """Something that is of no use in a fork."""

    def disown(self) -> None:
        """In a fork: refuse what is asked, and leave alone what others have.  No lock can be taken
        that another thread may have had."""


def own(thing: Owned) -> None:
    """Disown it in forks of this process."""
    _owned.add(thing)


def _disown() -> None:
    for thing in list(_owned):
        thing.disown()


os.register_at_fork(after_in_child=_disown)
