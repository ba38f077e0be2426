"""The default graph and the default session of each thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphflow.build.graph import Graph


class _Stacks(threading.local):
    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.sessions: list[Any] = []


_stacks = _Stacks()
_global: list[Graph] = []  # the graph of programs that never make one; shared by all threads
_lock = threading.Lock()


def get_default_graph() -> Graph:
    """The innermost graph entered with `as_default` in this thread, else the global one."""
    if _stacks.graphs:
        return _stacks.graphs[-1]
    with _lock:
        if not _global:
            from graphflow.build.graph import Graph

            _global.append(Graph())
        return _global[0]


def reset_default_graph() -> None:
    """Forget the global graph: what is built next goes into a new one.

    Raises:
      AssertionError: inside `with graph.as_default()`.
    """
    if _stacks.graphs:
        raise AssertionError("reset_default_graph() inside `with graph.as_default()`: leave it")
    with _lock:
        _global.clear()


@contextmanager
def default_graph(graph: Graph) -> Iterator[Graph]:
    """Make `graph` the default of this thread."""
    _stacks.graphs.append(graph)
    try:
        yield graph
    finally:
        _pop(_stacks.graphs, graph)


def get_default_session() -> Any:
    """The innermost session entered in this thread, or None."""
    return _stacks.sessions[-1] if _stacks.sessions else None


@contextmanager
def default_session(session: Any) -> Iterator[Any]:
    """Make `session` the default of this thread."""
    _stacks.sessions.append(session)
    try:
        yield session
    finally:
        _pop(_stacks.sessions, session)


def session_for(session: Any, graph: Graph) -> Any:
    """The given or the default session.

    Raises:
      ValueError: there is none, or it runs another graph.
    """
    session = session or get_default_session()
    if session is None:
        raise ValueError("no default session: use `with tf.Session():` or pass session=")
    if session.graph is not graph.root:
        raise ValueError("the session runs another graph: pass session= of this one's")
    return session


def _pop(stack: list[Any], value: Any) -> None:
    """Remove the newest entry of `value`: sessions may be left in another order."""
    for i in reversed(range(len(stack))):
        if stack[i] is value:
            del stack[i]
            return
