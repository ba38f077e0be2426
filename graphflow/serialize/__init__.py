"""Graphs as TensorFlow's protocol buffers: out, in, and in files."""

from typing import Any

from graphflow.serialize.export import export
from graphflow.serialize.files import (
    convert_variables_to_constants,
    extract_sub_graph,
    remove_training_nodes,
    tensor_shape_from_node_def_name,
    write_graph,
)
from graphflow.serialize.messages import message
from graphflow.serialize.restore import import_graph_def
from graphflow.serialize.values import array_of as make_ndarray
from graphflow.serialize.values import make_tensor_proto


def __getattr__(name: str) -> Any:
    """The messages: GraphDef, NodeDef, AttrValue and the others."""
    try:
        return message(name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


__all__ = [
    "convert_variables_to_constants",
    "export",
    "extract_sub_graph",
    "import_graph_def",
    "make_ndarray",
    "make_tensor_proto",
    "remove_training_nodes",
    "tensor_shape_from_node_def_name",
    "write_graph",
]
