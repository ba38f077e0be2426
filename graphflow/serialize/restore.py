"""TensorFlow's `GraphDef` into a graph: `import_graph_def`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError, UnimplementedError
from graphflow.build import OPS, Operation, Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.ops.known import constant_value
from graphflow.serialize.signatures import (
    FROM_ATTRIBUTE,
    NAMES,
    RENAMED,
    Argument,
    Signature,
    signature,
)
from graphflow.serialize.values import attr_value

# TensorFlow's op -> ours, where inputs and attributes agree.
_ALIASES: Final = {
    **{theirs: ours for ours, theirs in NAMES.items()},
    "AddV2": "Add", "BatchMatMul": "BatchMatMul", "BatchMatMulV3": "BatchMatMul",
}  # fmt: skip
_REFS: Final = {
    "Assign": "AssignVariable", "AssignAdd": "AssignAddVariable",
    "AssignSub": "AssignSubVariable", "IsVariableInitialized": "IsVariableInitialized",
    **{f"Scatter{k}": f"Scatter{k}" for k in ("Add", "Div", "Max", "Min", "Mul", "Sub", "Update")},
}  # fmt: skip


class Importer:
    """Builds operations for nodes.

    Attributes:
      outputs: node -> its output tensors.
      operations: node -> its operation.
      handles: node -> the handle of its variable, where the node is a reference variable.
    """

    def __init__(self, input_map: Mapping[str, Any]):
        self.outputs: dict[str, Sequence[Tensor]] = {}
        self.operations: dict[str, Operation] = {}
        self.handles: dict[str, Tensor] = {}
        self._given = input_map
        self._graph = get_default_graph()

    def tensor(self, ref: str) -> Any:
        """What an input names; replaced by the user's where the map has it."""
        name, _, index = ref.partition(":")
        for key in (ref, f"{name}:{index or 0}", *([name] if index in ("", "0") else [])):
            if key in self._given:
                return as_tensor(self._given[key])
        outputs = self.outputs[name]
        if int(index or 0) >= len(outputs):
            raise GraphError(f"node {name!r} has {len(outputs)} outputs, no {ref!r}")
        return outputs[int(index or 0)]

    def build(self, node: Any) -> None:
        """Add the operation of a node whose inputs are there."""
        data = [ref for ref in node.input if not ref.startswith("^")]
        before = [self.operations[ref[1:]] for ref in node.input if ref.startswith("^")]
        whole = self._whole_name(node.name)
        with self._graph.control_dependencies(before), self._graph.device(node.device or None):
            made = self._made(node, data, whole)
        outputs = made if isinstance(made, (tuple, list)) else (made,)
        operation = made if isinstance(made, Operation) else outputs[0].op
        self.outputs[node.name] = operation.outputs if isinstance(made, Operation) else outputs
        self.operations[node.name] = operation

    def _whole_name(self, name: str) -> str:
        whole = f"{self._graph.scopes.prefix}{name}"
        if whole in self._graph.by_name:
            raise GraphError(f"the graph has an operation {whole!r} already: import under a name")
        self._graph.names.unique(whole)
        return f"{whole}/"

    def _made(self, node: Any, data: list[str], name: str) -> Any:
        if node.op in ("Variable", "VariableV2"):
            return self._reference(node, name)
        special = _SPECIAL.get(node.op)
        attrs = {key: attr_value(value) for key, value in node.attr.items()}
        if node.op in _REFS and data and data[0].partition(":")[0] in self.handles:
            inputs = [self.handles[data[0].partition(":")[0]], *map(self.tensor, data[1:])]
            entry = OPS[_REFS[node.op]]
            if node.op == "Assign" and not attrs.get("validate_shape", True):
                return entry(*inputs, validate_shape=False, name=name)
            return entry(*inputs, name=name)
        inputs = [self.tensor(ref) for ref in data]
        if special is not None:
            return special(inputs, attrs, name)
        return self._alike(node, inputs, attrs, name)

    def _reference(self, node: Any, name: str) -> Any:
        """A reference variable: its value is a read, and assignments take the handle."""
        attrs = {key: attr_value(value) for key, value in node.attr.items()}
        handle = OPS["VarHandle"](
            container=attrs.get("container") or "",
            shared_name=attrs.get("shared_name") or name[:-1],
            dims=attrs["shape"],
            dtype=attrs["dtype"],
            name=f"{name}handle/",
        )
        self.handles[node.name] = handle
        return OPS["ReadVariable"](handle, name=name)

    def _alike(self, node: Any, inputs: list[Tensor], attrs: dict[str, Any], name: str) -> Any:
        """An op that is the same here, but for inputs that are attributes."""
        entry = OPS.get(_ALIASES.get(node.op, node.op))
        sig = signature(node.op)
        if entry is None or sig is None:
            raise UnimplementedError(
                None, None, f"node {node.name!r}: op {node.op} cannot be imported"
            )
        given: dict[str, Any] = {}
        tensors = _split(sig, inputs, attrs, entry.attrs, given, node)
        for key, default in entry.attrs.items():
            theirs = next((n for n in RENAMED.get(key, (key,)) if n in attrs), None)
            if key in given or key == "stream":
                continue
            if theirs is not None:
                given[key] = _ours(key, attrs[theirs], attrs)
            elif default is inspect.Parameter.empty:
                given[key] = _default_of(sig, key, node)
        if "stream" in entry.attrs:
            given["stream"] = self._graph.root.next_id
        return entry(*tensors, name=name, **given)


def _split(
    sig: Signature, inputs: list[Tensor], attrs: Mapping[str, Any], ours: Mapping[str, Any],
    given: dict[str, Any], node: Any,
) -> list[Tensor]:  # fmt: skip
    """The inputs that are inputs here, too; the others are entered as attributes."""
    left, tensors = list(inputs), []
    for argument in sig.inputs:
        count = _count(argument, attrs)
        taken, left = left[:count], left[count:]
        key = FROM_ATTRIBUTE.get(argument.name)
        if key is None or key not in ours:
            tensors += taken
            continue
        value = constant_value(taken[0])
        if value is None:
            raise UnimplementedError(
                None, None,
                f"node {node.name!r}: {argument.name} of {node.op} must be a constant",
            )  # fmt: skip
        plain = value.tolist()
        if argument.name == "reduction_indices" and not isinstance(plain, list):
            plain = [plain]
        given[key] = tuple(plain) if isinstance(plain, list) else plain
        if isinstance(plain, bytes):
            given[key] = plain.decode()
    return tensors


def _count(argument: Argument, attrs: Mapping[str, Any]) -> int:
    if argument.number_attr:
        return int(attrs[argument.number_attr])
    return len(attrs[argument.type_list_attr]) if argument.type_list_attr else 1


def _ours(key: str, value: Any, attrs: Mapping[str, Any]) -> Any:
    if key == "padding" and value == "EXPLICIT":
        flat = attrs["explicit_paddings"]
        return tuple([tuple(flat[i : i + 2]) for i in range(0, len(flat), 2)])
    if isinstance(value, list):
        if key == "axis":  # of Squeeze: none means all
            return tuple(value) or None
        return tuple(value)
    return value


def _default_of(sig: Signature, key: str, node: Any) -> Any:
    """TensorFlow's default of an attribute that a node leaves out."""
    from graphflow.serialize.values import dtype_of

    theirs = sig.attribute_of(key)
    row = sig.attrs.get(theirs or "")
    if row is None or len(row) < 2:
        raise GraphError(f"node {node.name!r} of {node.op} lacks the attribute {theirs or key}")
    if row[0] == "type":
        return dtype_of(row[1])
    return tuple(row[1]) if isinstance(row[1], list) else row[1]


# ---- ops that are not the same


def _const(inputs: Any, attrs: Any, name: str) -> Any:
    value = attrs["value"]
    value.flags.writeable = False
    return OPS["Const"](value=value, name=name)


def _placeholder(inputs: Any, attrs: Any, name: str) -> Any:
    return OPS["Placeholder"](dims=attrs.get("shape"), dtype=attrs["dtype"], name=name)


def _assign(entry: str) -> Callable[..., Any]:
    def make(inputs: Any, attrs: Any, name: str) -> Any:
        return OPS[entry](*inputs, name=name).op

    return make


def _handle(inputs: Any, attrs: Any, name: str) -> Any:
    shared = attrs.get("shared_name") or name[:-1]
    return OPS["VarHandle"](
        container=attrs.get("container") or "", shared_name=shared, dims=attrs["shape"],
        dtype=attrs["dtype"], name=name,
    )  # fmt: skip


def _stitch(inputs: Any, attrs: Any, name: str) -> Any:
    return OPS["DynamicStitch"](*inputs, name=name)


def _normalized(inputs: Any, attrs: Any, name: str) -> Any:
    """Batch normalisation: the result and the moments; what is kept for gradients has no use."""
    x, scale, offset, mean, variance = inputs
    if attrs.get("data_format", "NHWC") != "NHWC" or x.dtype is dtypes.float16:
        raise UnimplementedError(
            None, None, f"node {name[:-1]!r}: batch normalisation of NHWC float32 only"
        )
    if attrs.get("is_training", True):
        mean = ops.reduce_mean(x, [0, 1, 2])
        variance = ops.reduce_mean(ops.squared_difference(x, mean), [0, 1, 2])
    factor = ops.rsqrt(variance + attrs.get("epsilon", 1e-4)) * scale
    result = ops.identity(x * factor + (offset - mean * factor), name=name)
    return [result, mean, variance, mean, variance, mean]


def _diagonal(entry: str, count: int) -> Callable[..., Any]:
    """The newer ops of diagonals, of the main one."""

    def make(inputs: Any, attrs: Any, name: str) -> Any:
        options = [constant_value(t) for t in inputs[count:]]
        plain = all(v is not None and np.all(np.isin(v, (0, -1))) for v in options)
        if not plain or np.any(options[0]):
            raise UnimplementedError(
                None, None, f"node {name[:-1]!r}: only main diagonals can be imported"
            )
        return OPS[entry](*inputs[:count], name=name)

    return make


_SPECIAL: Final[dict[str, Callable[..., Any]]] = {
    "AssignAddVariableOp": _assign("AssignAddVariable"),
    "AssignSubVariableOp": _assign("AssignSubVariable"),
    "AssignVariableOp": _assign("AssignVariable"),
    "Const": _const,
    "DynamicStitch": _stitch,
    "FusedBatchNorm": _normalized,
    "FusedBatchNormV2": _normalized,
    "FusedBatchNormV3": _normalized,
    "MatrixDiagPartV3": _diagonal("MatrixDiagPart", 1),
    "MatrixDiagV3": _diagonal("MatrixDiag", 1),
    "MatrixSetDiagV3": _diagonal("MatrixSetDiag", 2),
    "Placeholder": _placeholder,
    "ReadVariableOp": lambda inputs, attrs, name: OPS["ReadVariable"](*inputs, name=name),
    "StaticRegexReplace": lambda inputs, attrs, name: OPS["RegexReplace"](
        *inputs, pattern=attrs["pattern"], rewrite=attrs["rewrite"],
        replace_global=attrs.get("replace_global", True), name=name,
    ),
    "VarHandleOp": _handle,
    **{
        theirs: _assign(ours)
        for ours, theirs in NAMES.items()
        if theirs.startswith("ResourceScatter")
    },
}  # fmt: skip


# ---- order


def _order(nodes: Mapping[str, Any]) -> list[Any]:
    """The nodes, inputs first.

    Raises:
      ValueError: a node is missing, or nodes wait for each other.
    """
    done: dict[str, bool] = {}
    order: list[Any] = []
    stack = [(name, False) for name in reversed(list(nodes))]
    while stack:
        name, leaving = stack.pop()
        if leaving:
            done[name] = True
            order.append(nodes[name])
        elif name not in done:
            done[name] = False
            stack.append((name, True))
            for ref in reversed(nodes[name].input):
                needed = ref.lstrip("^").partition(":")[0]
                if needed not in nodes:
                    raise GraphError(f"node {name!r} takes {ref!r}, which is not in the graph")
                if done.get(needed) is False:
                    raise GraphError(
                        f"nodes {name!r} and {needed!r} wait for each other: loops that were "
                        "written as cycles cannot be imported"
                    )
                if needed not in done:
                    stack.append((needed, False))
    return order


def import_graph_def(
    graph_def: Any,
    input_map: Mapping[str, Any] | None = None,
    return_elements: Sequence[str] | None = None,
    name: str | None = None,
    op_dict: Any = None,
    producer_op_list: Any = None,
) -> list[Any] | None:
    """Add the operations of a `GraphDef` to the default graph.

    Args:
      graph_def: this package's `tf.GraphDef`, or TensorFlow's.
      input_map: names of tensors in it, such as "x:0" -> tensors to take in their place.
      return_elements: names of operations and tensors in it to return.
      name: prefix of the names, by default "import"; "" for none.
      op_dict, producer_op_list: accepted for TensorFlow's sake.

    Returns:
      The elements, or None.

    Raises:
      TypeError: it is no `GraphDef`.
      ValueError: it is not consistent, a name of the map or of the elements is not in it, or a
        name is taken.
      UnimplementedError: it has an op that there is not here.
    """
    if not hasattr(graph_def, "node"):
        raise TypeError(f"import_graph_def takes a GraphDef, not {type(graph_def).__name__}")
    nodes = {node.name: node for node in graph_def.node}
    if len(nodes) != len(graph_def.node):
        raise GraphError("the GraphDef has two nodes of one name")
    given = {key.removesuffix(":0"): value for key, value in (input_map or {}).items()}
    unknown = [key for key in given if key.lstrip("^").partition(":")[0] not in nodes]
    if unknown:
        raise GraphError(f"input_map names {unknown}, which the GraphDef does not have")
    scope = "import" if name is None else name
    graph = get_default_graph()
    importer = Importer(given)
    with graph.name_scope(scope if scope else None):
        for node in _order(nodes):
            importer.build(node)
    if return_elements is None:
        return None
    return [_element(importer, str(element)) for element in return_elements]


def _element(importer: Importer, name: str) -> Any:
    node = name.partition(":")[0]
    if node not in importer.operations:
        raise GraphError(f"return_elements names {name!r}, which the GraphDef does not have")
    return importer.tensor(name) if ":" in name else importer.operations[node]
