"""TensorFlow 1's functions that act on the default graph: scopes and collections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build.convert import is_symbolic
from graphflow.build.defaults import get_default_graph


def device(device_name_or_function: Any) -> AbstractContextManager[None]:
    """Request a device for what is built inside; see `Graph.device`."""
    return get_default_graph().device(device_name_or_function)


def container(container_name: str) -> AbstractContextManager[str]:
    """Put what state is built inside into a container; see `Graph.container`."""
    return get_default_graph().container(container_name)


def control_dependencies(control_inputs: Any) -> AbstractContextManager[None]:
    """What is built inside runs after the given operations; see `Graph.control_dependencies`."""
    return get_default_graph().control_dependencies(control_inputs)


def colocate_with(op: Any, ignore_existing: bool = False) -> AbstractContextManager[None]:
    """What is built inside shares the device of `op`; see `Graph.colocate_with`."""
    return get_default_graph().colocate_with(op, ignore_existing)


@contextmanager
def name_scope(name: Any, default_name: str | None = None, values: Any = None) -> Iterator[str]:
    """Prefix the names of what is built inside; gives the prefix, with its slash.

    Args:
      name: the scope's name; where it is None, `default_name` is taken.
      default_name: the name by default.
      values: tensors whose graph to use, where it is not the default one.

    Raises:
      TypeError: the name is no string.
      ValueError: values are given, but no name.
    """
    chosen = default_name if name is None else name
    if chosen is not None and not isinstance(chosen, str):
        raise TypeError(f"the name of a scope is a string, not {chosen!r}")
    if chosen is None and values is not None:
        raise GraphError("name_scope needs a name or a default name beside values")
    graph = get_default_graph()
    for value in values or ():
        if is_symbolic(value) and value.graph.root is not graph.root:
            graph = value.graph
            break
    if graph is get_default_graph():
        with graph.name_scope(chosen) as scope:
            yield scope
    else:
        with graph.as_default(), graph.name_scope(chosen) as scope:
            yield scope


def add_to_collection(name: Any, value: Any) -> None:
    """Add a value to a collection of the default graph."""
    get_default_graph().add_to_collection(name, value)


def add_to_collections(names: Any, value: Any) -> None:
    """Add a value to several collections of the default graph."""
    get_default_graph().add_to_collections(names, value)


def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    """A copy of a collection of the default graph; see `Graph.get_collection`."""
    return get_default_graph().get_collection(key, scope)


def get_collection_ref(key: Any) -> list[Any]:
    """A collection of the default graph itself: changes to it stay."""
    return get_default_graph().get_collection_ref(key)
