"""A graph as TensorFlow's `GraphDef`.

Operations keep their names.  What is an attribute here and an input there, such as the axis of a
sum, becomes a constant "<operation>/<input>"; what TensorFlow writes in several ops becomes these,
with the operation's name on the last one.  Ops that TensorFlow lacks are written as they are: its
parser reads them, but it cannot import them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from graphflow.base.dtypes import DType
from graphflow.build import Graph, Operation, Tensor
from graphflow.serialize import rewritten
from graphflow.serialize.messages import message
from graphflow.serialize.signatures import (
    FROM_ATTRIBUTE,
    NAMES,
    Argument,
    Signature,
    signature,
)
from graphflow.serialize.values import attr_proto, guessed, number_of, shape_proto

PRODUCER: Final = 134  # the version of graphs that TensorFlow 1.15 writes
_WINDOWS: Final = ("ksize", "strides", "dilations", "rates")


class Unlike(Exception):
    """TensorFlow's op of that name does not take these inputs or attributes."""


class Writer:
    """Collects the nodes of a graph.

    Attributes:
      graph_def: what has been written.
      refs: tensors whose value is another node's than that of their operation.
    """

    def __init__(self, add_shapes: bool):
        self.graph_def = message("GraphDef")()
        self.graph_def.versions.producer = PRODUCER
        self.refs: dict[Tensor, str] = {}
        self._add_shapes = add_shapes
        self._operation: Any = None

    def ref(self, tensor: Tensor) -> str:
        """The text that names a tensor as an input."""
        if tensor in self.refs:
            return self.refs[tensor]
        return tensor.op.name if not tensor.index else f"{tensor.op.name}:{tensor.index}"

    def node(self, op: str, inputs: Sequence[str], attrs: dict[str, Any], suffix: str = "") -> str:
        """Write a node of the operation at hand; its name.

        Args:
          attrs: name -> `AttrValue`, or a dtype.
          suffix: of its name; "" is the operation itself, with its control inputs.
        """
        operation = self._operation
        name = f"{operation.name}/{suffix}" if suffix else operation.name
        node = self.graph_def.node.add(name=name, op=op, device=operation.device)
        node.input.extend(inputs)
        if not suffix:
            node.input.extend([f"^{before.name}" for before in operation.control_inputs])
            if operation.colocation:
                node.attr["_class"].list.s.extend(operation.colocation_groups())
            if self._add_shapes:
                shapes = [shape_proto(t.dims) for t in operation.outputs]
                node.attr["_output_shapes"].list.shape.extend(shapes)
        for key, value in attrs.items():
            known = attr_proto(value, "type") if isinstance(value, DType) else value
            node.attr[key].CopyFrom(known)
        return name

    def constant(self, value: Any, suffix: str) -> str:
        """Write a constant that belongs to the operation at hand; its name."""
        array = np.asarray(value)
        if array.dtype.kind in "SU":
            array = np.array([str(v).encode() for v in array.ravel()], object).reshape(array.shape)
        number = attr_proto(array, "tensor").tensor.dtype
        kind = message("AttrValue")(type=number)
        return self.node("Const", [], {"value": attr_proto(array, "tensor"), "dtype": kind}, suffix)

    def write(self, operation: Operation) -> None:
        self._operation = operation
        count = len(self.graph_def.node)
        special = rewritten.OPS.get(operation.type)
        try:
            if special is None or not special(self, operation):
                self._plain(operation)
        except Unlike:
            del self.graph_def.node[count:]
            attrs = {key: guessed(value) for key, value in operation.attrs.items()}
            found = {key: value for key, value in attrs.items() if value is not None}
            self.node(operation.type, [self.ref(t) for t in operation.inputs], found)

    def _plain(self, operation: Operation) -> None:
        """An op of which TensorFlow has the same."""
        name = NAMES.get(operation.type, operation.type)
        sig = signature(name)
        if sig is None:
            raise Unlike(name)
        left = dict(operation.attrs)
        left.pop("stream", None)  # a name that only this package gives
        attrs: dict[str, Any] = {}
        inputs = self._inputs(operation, sig, left, attrs)
        for key, value in left.items():
            theirs = sig.attribute_of(key)
            if theirs is not None:
                attrs |= _attribute(sig, theirs, value, operation)
            elif value != operation.opdef.attrs.get(key):
                raise Unlike(f"{name} has no attribute for {key}")
        for argument, tensor in zip(sig.outputs, operation.outputs, strict=False):
            if argument.type_attr and not argument.several:
                attrs.setdefault(argument.type_attr, tensor.dtype)
        for key, (_, *default) in sig.attrs.items():
            if key not in attrs and not default:
                raise Unlike(f"{name} needs {key}")
        self.node(name, inputs, attrs)

    def _inputs(
        self, operation: Operation, sig: Signature, left: dict[str, Any], attrs: dict[str, Any]
    ) -> list[str]:
        """The inputs in TensorFlow's order; takes attributes that are inputs there out of `left`,
        and enters into `attrs` what the inputs tell."""
        tensors = list(operation.inputs)
        single = sum(not a.several and not _from(a, left) for a in sig.inputs)
        found: list[str] = []
        for argument in sig.inputs:
            ours = _from(argument, left)
            if ours:
                found.append(self._as_input(operation, argument, left.pop(ours), attrs))
                continue
            count = len(tensors) - single if argument.several else 1
            if not 0 <= count <= len(tensors):
                raise Unlike(f"{operation.type} takes other inputs")
            taken, tensors = tensors[:count], tensors[count:]
            single -= not argument.several
            found += [self.ref(t) for t in taken]
            _tell(argument, taken, attrs)
        if tensors:
            raise Unlike(f"{operation.type} takes fewer inputs")
        return found

    def _as_input(
        self, operation: Operation, argument: Argument, value: Any, attrs: dict[str, Any]
    ) -> str:
        if value is None:
            return self._every_axis(operation, argument.name)
        array = np.asarray(value, None if isinstance(value, str) else np.int32)
        if argument.type_attr:
            attrs[argument.type_attr] = message("AttrValue")(type=3)
        return self.constant(array, argument.name)

    def _every_axis(self, operation: Operation, what: str) -> str:
        """All axes of the first input, backwards for a permutation."""
        dims = operation.inputs[0].dims
        if dims is None:
            raise Unlike("the rank is not known")
        axes = np.arange(len(dims), dtype=np.int32)
        return self.constant(axes[::-1] if what == "perm" else axes, what)


def _from(argument: Argument, left: dict[str, Any]) -> str | None:
    """Our attribute that is an input of TensorFlow's op, where it is one of this operation."""
    ours = FROM_ATTRIBUTE.get(argument.name)
    return ours if ours in left else None


def _tell(argument: Argument, tensors: Sequence[Tensor], attrs: dict[str, Any]) -> None:
    """Enter the attributes that follow from the tensors of an input."""
    if argument.number_attr:
        attrs[argument.number_attr] = attr_proto(len(tensors), "int")
    if argument.type_list_attr:
        attrs[argument.type_list_attr] = attr_proto([t.dtype for t in tensors], "list(type)")
    elif argument.type_attr and tensors:
        attrs[argument.type_attr] = tensors[0].dtype
    elif argument.type and any(number_of(t.dtype) != argument.type for t in tensors):
        raise Unlike(f"{argument.name} has another dtype there")


def _attribute(sig: Signature, name: str, value: Any, operation: Operation) -> dict[str, Any]:
    kind = sig.attrs[name][0]
    if name == "padding" and not isinstance(value, str):
        flat = [n for pair in value for n in pair]
        return {
            "padding": attr_proto("EXPLICIT", "string"),
            "explicit_paddings": attr_proto(flat, "list(int)"),
        }
    if name in _WINDOWS:
        value = _whole_window(value, operation)
    elif kind.startswith("list("):
        value = () if value is None else value if isinstance(value, tuple) else (value,)
    elif value is None:
        raise Unlike(f"{name} is not given")
    try:
        return {name: attr_proto(value, kind)}
    except (TypeError, ValueError, KeyError):
        raise Unlike(f"{name} is {value!r}") from None


def _whole_window(value: Any, operation: Operation) -> tuple[int, ...]:
    """A number for each axis, of numbers for the spatial ones."""
    space = 3 if "3D" in operation.type else 2
    given = value if isinstance(value, tuple) else (value,)
    given = given * space if len(given) == 1 else given
    if len(given) == space + 2:
        return given
    first = str(operation.attrs.get("data_format", "NHWC")).startswith("NC")
    return (1, 1, *given) if first else (1, *given, 1)


def export(graph: Graph, from_version: int | None = None, add_shapes: bool = False) -> Any:
    """The `GraphDef` of a graph.

    Args:
      from_version: only operations that were added since `graph.version` was this.
      add_shapes: give each node its output shapes, in the attribute "_output_shapes".
    """
    writer = Writer(add_shapes)
    least = 0 if from_version is None else from_version
    for operation in graph.get_operations():
        if operation.id >= least:
            writer.write(operation)
    return writer.graph_def
