"""All states that a system can reach, visited one by one."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from tests.distribute.laws import check, check_end
from tests.distribute.world import World


class TooMany(Exception):
    """There are more states than were to be visited."""


class Explored(NamedTuple):
    """How many states were visited, and those in which nothing more can happen."""

    states: int
    ends: frozenset[Any]


def explore(first: World, limit: int, gives_up: bool = False, reduced: bool = True) -> Explored:
    """Visit the states that can be reached, breadth first, and check them.

    Args:
      first: the first one.
      limit: how many, at most.
      gives_up: runs may fail.
      reduced: visit those that suffice, see `World.enough`.

    Raises:
      AssertionError: something does not hold; its notes tell the way to that state.
      TooMany: there are more.
    """
    seen = {key(first)}
    todo: deque[tuple[bytes, Any]] = deque([(pickle.dumps(first), None)])
    ends = set()
    while todo:
        packed, way = todo.popleft()
        state = pickle.loads(packed)
        actions = state.enough() if reduced else list(state.actions())
        if not actions and state.complete:
            ends.add(key(state))
            _checked(state, way, lambda s: check_end(s, gives_up))
        for action in actions:
            state = pickle.loads(packed)
            _checked(state, (action, way), lambda s, a=action: (s.perform(a), check(s)))
            found = key(state)
            if found not in seen:
                seen.add(found)
                if len(seen) > limit:
                    raise TooMany(f"more than {limit} states")
                todo.append((pickle.dumps(state), (action, way)))
    return Explored(len(seen), frozenset(ends))


def _checked(state: World, way: Any, do: Any) -> None:
    try:
        do(state)
    except Exception as error:
        steps = []
        while way is not None:
            steps.append(str(way[0]))
            way = way[1]
        error.add_note("\n".join(reversed(steps)))
        raise


def key(value: Any) -> Any:
    """What tells states apart, as something that can be hashed."""
    return hash(frozen(value))


def frozen(value: Any) -> Any:
    """A state as plain tuples, which compare by what is in them."""
    if isinstance(value, str | int | float | None | bytes | Enum | type):
        return value
    if isinstance(value, tuple | list | deque):
        return tuple([frozen(v) for v in value])
    if isinstance(value, Mapping):
        return tuple(sorted([(repr(k), frozen(v)) for k, v in value.items()], key=lambda p: p[0]))
    if isinstance(value, set | frozenset):
        return tuple(sorted(map(repr, value)))
    if callable(value):
        return None
    names = getattr(value, "__slots__", None) or value.__dict__
    return (type(value).__name__, *[frozen(getattr(value, name)) for name in names])
