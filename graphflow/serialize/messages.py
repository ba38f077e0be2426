"""The protocol buffers of TensorFlow's graphs, with its names and field numbers.

They are built from the table below, in a pool of their own: a process may load TensorFlow, too.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message -> field: (number, type[, label]); "*" repeats, "|" is the `oneof value`, "map" a map
# from strings.  Types that are no scalars are messages of this table.
_TABLE: Final[dict[str, dict[str, tuple[Any, ...]]]] = {
    "TensorShapeProto": {"dim": (2, "TensorShapeProto.Dim", "*"), "unknown_rank": (3, "bool")},
    "TensorShapeProto.Dim": {"size": (1, "int64"), "name": (2, "string")},
    "TensorProto": {
        "dtype": (1, "DataType"),
        "tensor_shape": (2, "TensorShapeProto"),
        "version_number": (3, "int32"),
        "tensor_content": (4, "bytes"),
        "half_val": (13, "int32", "*"),
        "float_val": (5, "float", "*"),
        "double_val": (6, "double", "*"),
        "int_val": (7, "int32", "*"),
        "string_val": (8, "bytes", "*"),
        "scomplex_val": (9, "float", "*"),
        "int64_val": (10, "int64", "*"),
        "bool_val": (11, "bool", "*"),
        "dcomplex_val": (12, "double", "*"),
        "uint32_val": (16, "uint32", "*"),
        "uint64_val": (17, "uint64", "*"),
    },
    "AttrValue": {
        "s": (2, "bytes", "|"),
        "i": (3, "int64", "|"),
        "f": (4, "float", "|"),
        "b": (5, "bool", "|"),
        "type": (6, "DataType", "|"),
        "shape": (7, "TensorShapeProto", "|"),
        "tensor": (8, "TensorProto", "|"),
        "list": (1, "AttrValue.ListValue", "|"),
        "func": (10, "NameAttrList", "|"),
        "placeholder": (9, "string", "|"),
    },
    "AttrValue.ListValue": {
        "s": (2, "bytes", "*"),
        "i": (3, "int64", "*"),
        "f": (4, "float", "*"),
        "b": (5, "bool", "*"),
        "type": (6, "DataType", "*"),
        "shape": (7, "TensorShapeProto", "*"),
        "tensor": (8, "TensorProto", "*"),
        "func": (9, "NameAttrList", "*"),
    },
    "NameAttrList": {"name": (1, "string"), "attr": (2, "AttrValue", "map")},
    "NodeDef": {
        "name": (1, "string"),
        "op": (2, "string"),
        "input": (3, "string", "*"),
        "device": (4, "string"),
        "attr": (5, "AttrValue", "map"),
    },
    "VersionDef": {
        "producer": (1, "int32"),
        "min_consumer": (2, "int32"),
        "bad_consumers": (3, "int32", "*"),
    },
    "GraphDef": {
        "node": (1, "NodeDef", "*"),
        "versions": (4, "VersionDef"),
        "version": (3, "int32"),
    },
}
# TensorFlow's numbers of dtypes; 100 more is a reference to such a tensor.
NUMBERS: Final = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7,
    "complex64": 8, "int64": 9, "bool": 10, "bfloat16": 14, "uint16": 17, "complex128": 18,
    "float16": 19, "resource": 20, "variant": 21, "uint32": 22, "uint64": 23,
}  # fmt: skip
_ENUM: Final = {
    "float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF",
}  # fmt: skip
_FIELD: Final = descriptor_pb2.FieldDescriptorProto


@cache
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(
        name="graphflow/graph.proto", package="tensorflow", syntax="proto3"
    )
    enum = file.enum_type.add(name="DataType")
    enum.value.add(name="DT_INVALID", number=0)
    for name, number in NUMBERS.items():
        text = _ENUM.get(name, f"DT_{name.upper()}")
        enum.value.add(name=text, number=number)
        enum.value.add(name=f"{text}_REF", number=number + 100)
    made: dict[str, Any] = {}
    for path, fields in _TABLE.items():
        outer, _, name = path.rpartition(".")
        message = (made[outer].nested_type if outer else file.message_type).add(name=name)
        made[path] = message
        if any("|" in f for f in fields.values()):
            message.oneof_decl.add(name="value")
        for field, (number, kind, *label) in fields.items():
            _add_field(message, path, field, number, kind, *label)
    pool.Add(file)
    return pool


def _add_field(message: Any, path: str, name: str, number: int, kind: str, label: str = "") -> None:
    field = message.field.add(name=name, number=number)
    field.label = _FIELD.LABEL_REPEATED if label in ("*", "map") else _FIELD.LABEL_OPTIONAL
    if label == "|":
        field.oneof_index = 0
    if label == "map":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, path, "key", 1, "string")
        _add_field(entry, path, "value", 2, kind)
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".tensorflow.{path}.{entry.name}"
    elif kind == "DataType" or kind in _TABLE:
        field.type = _FIELD.TYPE_ENUM if kind == "DataType" else _FIELD.TYPE_MESSAGE
        field.type_name = f".tensorflow.{kind}"
    else:
        field.type = getattr(_FIELD, f"TYPE_{kind.upper()}")


@cache
def message(name: str) -> Any:
    """The class of a message, such as "GraphDef"."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"tensorflow.{name}"))
