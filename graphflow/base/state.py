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


def object_of(kind: str, container: str, name: str) -> tuple[StateKey, str]:
    """The key of an object that is no value, such as a queue; and what messages and logs call it.

    Args:
      kind: objects of two kinds may share a name.
    """
    return StateKey(container, f"{kind} {name}"), f"{container}/{name}" if container else name
