"""Names of pieces of state: variables, queues, random streams."""

from __future__ import annotations

from typing import NamedTuple


class StateKey(NamedTuple):
    """What a handle tensor holds when the graph runs.

    Attributes:
      container: TF1's resource container, "" by default.
      name: unique in the container.
    """

    container: str
    name: str
