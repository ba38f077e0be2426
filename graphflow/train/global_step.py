"""The variable that counts training steps."""

from __future__ import annotations

from typing import Any

from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import Graph
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.ops.get_variable import get_variable
from graphflow.ops.initializers import zeros_initializer
from graphflow.ops.variables import Variable


def get_global_step(graph: Graph | None = None) -> Any:
    """The global step of a graph, or None.

    Raises:
      ValueError: there are several.
      TypeError: it is no integer scalar.
    """
    graph = graph or get_default_graph()
    found = graph.get_collection(GraphKeys.GLOBAL_STEP)
    if not found:
        named = [v for v in graph.get_collection(GraphKeys.GLOBAL_VARIABLES)
                 if v.name == "global_step:0"]  # fmt: skip
        found = named
    if len(found) > 1:
        raise GraphError(f"a graph has one global step, not {[v.name for v in found]}")
    if not found:
        return None
    assert_global_step(found[0])
    return found[0]


def create_global_step(graph: Graph | None = None) -> Variable:
    """Make the global step, an int64 scalar that starts at 0.

    Raises:
      ValueError: there is one already.
    """
    graph = graph or get_default_graph()
    if get_global_step(graph) is not None:
        raise GraphError("the graph has a global step already")
    with graph.as_default(), graph.name_scope(None):
        return get_variable(
            GraphKeys.GLOBAL_STEP,
            shape=[],
            dtype=dtypes.int64,
            initializer=zeros_initializer(),
            trainable=False,
            collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP],
        )


def get_or_create_global_step(graph: Graph | None = None) -> Any:
    """The global step, made where there is none."""
    found = get_global_step(graph)
    return create_global_step(graph) if found is None else found


def assert_global_step(global_step_tensor: Any) -> None:
    """Raises:
    TypeError: it is no integer scalar.
    """
    dims = global_step_tensor.dims
    if not global_step_tensor.dtype.is_integer or (dims is not None and dims != ()):
        raise TypeError(f"the global step must be an integer scalar, not {global_step_tensor!r}")


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """The value of the global step in a session."""
    return int(sess.run(global_step_tensor))
