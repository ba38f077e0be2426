"""Graphs in files, and what programs do with them: `tf.train.write_graph`, `tf.graph_util`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from graphflow.base.errors import GraphError
from graphflow.serialize.export import export
from graphflow.serialize.messages import message
from graphflow.serialize.values import attr_proto


def write_graph(graph_or_graph_def: Any, logdir: str, name: str, as_text: bool = True) -> str:
    """Write a graph to a file, as TensorFlow's `GraphDef`.

    Args:
      graph_or_graph_def: a `Graph` or a `GraphDef`.
      logdir: folder, made where it is missing.
      name: the file's name.
      as_text: readable text instead of bytes.

    Returns:
      The file's path.
    """
    given = graph_or_graph_def
    graph_def = given if hasattr(given, "SerializeToString") else export(given)
    path = os.path.join(os.fspath(logdir), name)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if as_text:
        Path(path).write_text(text_format.MessageToString(graph_def))
    else:
        Path(path).write_bytes(graph_def.SerializeToString(deterministic=True))
    return path


def extract_sub_graph(graph_def: Any, dest_nodes: Iterable[str]) -> Any:
    """The nodes that the given ones need, in a `GraphDef` of their own.

    Raises:
      ValueError: one is not in the graph.
    """
    if isinstance(dest_nodes, str):
        raise TypeError("dest_nodes must be a list of names, not a string")
    nodes = {node.name: node for node in graph_def.node}
    needed: set[str] = set()
    stack = list(dest_nodes)
    while stack:
        name = stack.pop()
        if name not in nodes:
            raise GraphError(f"node {name!r} is not in the graph")
        if name not in needed:
            needed.add(name)
            stack += [ref.lstrip("^").partition(":")[0] for ref in nodes[name].input]
    found = message("GraphDef")()
    found.versions.CopyFrom(graph_def.versions)
    found.node.extend([node for node in graph_def.node if node.name in needed])
    return found


def convert_variables_to_constants(
    sess: Any,
    input_graph_def: Any,
    output_node_names: Sequence[str],
    variable_names_whitelist: Iterable[str] | None = None,
    variable_names_blacklist: Iterable[str] | None = None,
) -> Any:
    """A `GraphDef` of what the outputs need, in which variables are constants.

    Args:
      sess: the session that has their values.
      input_graph_def: of the session's graph.
      output_node_names: names of operations.
      variable_names_whitelist: convert only these variables.
      variable_names_blacklist: do not convert these variables.

    Raises:
      ValueError: an output is not in the graph.
      FailedPreconditionError: a variable has no value.
    """
    graph_def = extract_sub_graph(input_graph_def, output_node_names)
    kept = set(variable_names_blacklist or ())
    handles = [node.name for node in graph_def.node if node.op == "VarHandleOp"]
    chosen = [n for n in handles if n not in kept]
    if variable_names_whitelist is not None:
        chosen = [n for n in chosen if n in set(variable_names_whitelist)]
    reads = [sess.graph.get_tensor_by_name(f"{name}:0") for name in chosen]
    values = dict(zip(chosen, sess.run(reads), strict=True))
    found = message("GraphDef")()
    found.versions.CopyFrom(graph_def.versions)
    for node in graph_def.node:
        if node.name in values:
            array = values[node.name]
            new = found.node.add(name=node.name, op="Const", device=node.device)
            new.attr["value"].CopyFrom(attr_proto(array, "tensor"))
            new.attr["dtype"].type = new.attr["value"].tensor.dtype
        elif node.op == "ReadVariableOp" and node.input[0] in values:
            new = found.node.add(name=node.name, op="Identity", device=node.device)
            new.input.extend(node.input)
            new.attr["T"].type = node.attr["dtype"].type
        else:
            found.node.add().CopyFrom(node)
    return found


def remove_training_nodes(input_graph: Any, protected_nodes: Iterable[str] | None = None) -> Any:
    """A `GraphDef` without identities and checks of numerics; what took their output takes their
    input."""
    kept = set(protected_nodes or ())
    plain = ("Identity", "CheckNumerics", "StopGradient")
    instead = {
        node.name: node.input[0]
        for node in input_graph.node
        if node.op in plain and node.name not in kept and len(node.input) == 1
    }

    def resolved(ref: str) -> str:
        mark, name = ("^", ref[1:]) if ref.startswith("^") else ("", ref)
        name = name.removesuffix(":0")
        while name in instead:
            name = instead[name]
        return mark + (name.partition(":")[0] if mark else name)

    found = message("GraphDef")()
    found.versions.CopyFrom(input_graph.versions)
    for node in input_graph.node:
        if node.name not in instead:
            new = found.node.add()
            new.CopyFrom(node)
            del new.input[:]
            new.input.extend([resolved(ref) for ref in node.input])
    return found


def tensor_shape_from_node_def_name(graph: Any, input_name: str) -> Any:
    """The static shape of an operation's first output."""
    return graph.get_tensor_by_name(f"{input_name.partition(':')[0]}:0").shape
