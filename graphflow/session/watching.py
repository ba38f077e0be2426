"""Who watches the runs of all sessions: the commands that show how a program gets on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A call of `run`.

    Attributes:
      fetches, options, run_metadata: as the program gives them.
    """

    fetches: Any
    options: Any
    run_metadata: Any


Watcher = Callable[[Call], AbstractContextManager[Call]]

watchers: tuple[Watcher, ...] = ()  # from outside in


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Inside, each run of a session is made in what the watcher gives for its call; that may ask
    for a trace."""
    global watchers
    watchers = (*watchers, watcher)
    try:
        yield
    finally:
        watchers = tuple([each for each in watchers if each is not watcher])


@contextmanager
def watched(call: Call) -> Iterator[Call]:
    """A run, which all watchers see; the call as they want it."""
    with ExitStack() as stack:
        for watcher in watchers:
            call = stack.enter_context(watcher(call))
        yield call
