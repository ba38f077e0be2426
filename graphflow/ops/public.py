"""From an op's entry to TensorFlow's function of that name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graphflow.base.errors import DTypeError
from graphflow.build.defaults import get_default_graph
from graphflow.build.graph import Graph
from graphflow.build.opdef import OpDef
from graphflow.build.tensor import Tensor


def function(entry: OpDef) -> Callable[..., Any]:
    """The public function of an entry: its inputs, then `name`, by position or keyword.

        @function
        @op("Exp", ...)
        def exp(xp: Any, x: Float) -> Array:

    The entry stays reachable as `exp.entry`.
    """
    count = len(entry.params)
    kernel = entry.kernel
    assert kernel is not None

    def call(*inputs: Any, name: str | None = None, **more: Any) -> Any:
        if len(inputs) == count + 1:
            *inputs, name = inputs  # type: ignore[assignment]
        return entry(*inputs, name=name, **more)

    kinds = inspect.Parameter
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [kinds(p, kinds.POSITIONAL_OR_KEYWORD) for p in entry.params]
        + [kinds("name", kinds.POSITIONAL_OR_KEYWORD, default=None)]
    )
    call.__name__ = call.__qualname__ = kernel.__name__.lstrip("_")
    call.__module__ = kernel.__module__
    call.__doc__ = entry.doc
    call.entry = entry  # type: ignore[attr-defined]
    return call


def graph_of(*values: Any) -> Graph:
    """The graph in force, or that of the values where they belong to another one."""
    graph = get_default_graph()
    for value in values:
        if isinstance(value, Tensor):
            return graph if value.graph.root is graph.root else value.graph
    return graph


@contextmanager
def composite(name: str | None, default: str, *values: Any) -> Iterator[str]:
    """The name scope of a function that adds several operations, in the graph of its inputs."""
    graph = graph_of(*values)
    with graph.as_default(), graph.name_scope(name or default) as scope:
        yield scope


def renamed(new: Any, old: Any, new_name: str, old_name: str, default: Any = None) -> Any:
    """The value of an argument that TensorFlow 1 also takes under a deprecated name.

    Raises:
      ValueError: both are given.
    """
    if old is None:
        return default if new is None else new
    if new is not None:
        raise ValueError(f"{new_name} and its old name {old_name} are both given: use {new_name}")
    return old


def require(condition: bool, tensor: Tensor, what: str) -> None:
    """Raises:
    DTypeError: the condition does not hold.
    """
    if not condition:
        raise DTypeError(f"{what} is needed, not {tensor.dtype.name} ({tensor!r})")
