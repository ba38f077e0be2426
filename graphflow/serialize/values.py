"""Values of attributes, to and from protocol buffers: arrays, shapes, dtypes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DataLossError, GraphError
from graphflow.base.shapes import Dims, size_of
from graphflow.build import Graph
from graphflow.ops.sources import constant
from graphflow.serialize.messages import NUMBERS, message

_NAMES: Final = {number: name for name, number in NUMBERS.items()}
# dtype -> the field that lists its elements, where they are not in tensor_content
_FIELDS: Final = {
    "float32": "float_val", "float64": "double_val", "int32": "int_val", "uint8": "int_val",
    "int16": "int_val", "int8": "int_val", "uint16": "int_val", "int64": "int64_val",
    "bool": "bool_val", "uint32": "uint32_val", "uint64": "uint64_val", "string": "string_val",
    "complex64": "scomplex_val", "complex128": "dcomplex_val", "float16": "half_val",
    "bfloat16": "half_val",
}  # fmt: skip


def number_of(dtype: DType) -> int:
    """TensorFlow's number of a dtype."""
    return NUMBERS[dtype.name]


def dtype_of(number: int) -> DType:
    """The dtype of a number, or of a reference to it.

    Raises:
      ValueError: there is none, such as the quantized ones.
    """
    name = _NAMES.get(number - 100 if number > 100 else number)
    if name is None:
        raise GraphError(f"graphs with dtype number {number} cannot be imported")
    return as_dtype(name)


def shape_proto(dims: Dims) -> Any:
    proto = message("TensorShapeProto")()
    if dims is None:
        proto.unknown_rank = True
    for n in dims or ():
        proto.dim.add(size=-1 if n is None else n)
    return proto


def dims_of(proto: Any) -> Dims:
    if proto.unknown_rank:
        return None
    return tuple([None if d.size < 0 else d.size for d in proto.dim])


def tensor_proto(array: Any) -> Any:
    """A `TensorProto` of an array; strings are listed, all others are their bytes."""
    array = np.asarray(array)
    dtype = dtypes.string if array.dtype == object else as_dtype(array.dtype)
    proto = message("TensorProto")(dtype=number_of(dtype), tensor_shape=shape_proto(array.shape))
    if dtype is dtypes.string:
        proto.string_val.extend(array.ravel().tolist())
    else:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        proto.tensor_content = np.ascontiguousarray(little).tobytes()
    return proto


def make_tensor_proto(
    values: Any, dtype: Any = None, shape: Any = None, verify_shape: bool = False
) -> Any:
    """The `TensorProto` of a value; Args and errors are those of `tf.constant`."""
    with Graph().as_default():
        return tensor_proto(constant(values, dtype, shape, "Const", verify_shape).op.attrs["value"])


def array_of(proto: Any) -> Any:
    """The array of a `TensorProto`; a list of fewer elements goes on with its last one.

    Raises:
      DataLossError: the bytes or elements do not fill the shape.
    """
    dtype, dims = dtype_of(proto.dtype), dims_of(proto.tensor_shape)
    size = size_of(dims)
    if dims is None or size is None:
        raise DataLossError(None, None, f"a constant has the shape {proto.tensor_shape}")
    if proto.tensor_content:
        found = np.frombuffer(proto.tensor_content, dtype.np.newbyteorder("<"))
        found = found.astype(dtype.np)
    else:
        found = _listed(dtype, list(getattr(proto, _FIELDS[dtype.name])))
    if found.size > size or (size and not found.size and dtype is dtypes.string):
        raise DataLossError(None, None, f"{found.size} elements for a constant of shape {dims}")
    if found.size < size:
        last = found[-1:] if found.size else np.zeros(1, dtype.np)
        found = np.concatenate([found, np.repeat(last, size - found.size)])
    return found.reshape(dims)


def _listed(dtype: DType, values: list[Any]) -> Any:
    if dtype is dtypes.string:
        found = np.empty(len(values), object)
        found[:] = values
        return found
    if dtype.is_complex:
        return np.array(values, dtype.real_dtype.np).view(dtype.np)
    if dtype.name in ("float16", "bfloat16"):
        return np.array(values, np.uint16).view(dtype.np)
    return np.array(values).astype(dtype.np)


# ---- attributes


def attr_proto(value: Any, kind: str) -> Any:
    """The `AttrValue` of a Python value.

    Args:
      kind: TensorFlow's kind of attribute: "int", "type", "list(shape)" and so on.
    """
    proto = message("AttrValue")()
    if kind.startswith("list("):
        field, convert = _KINDS[kind[5:-1]]
        proto.list.SetInParent()
        getattr(proto.list, field).extend([convert(v) for v in value])
        return proto
    field, convert = _KINDS[kind]
    if kind in ("shape", "tensor"):
        getattr(proto, field).CopyFrom(convert(value))
    else:
        setattr(proto, field, convert(value))
    return proto


def attr_value(proto: Any) -> Any:
    """The Python value of an `AttrValue`: a list of them for a list, text for bytes."""
    kind = proto.WhichOneof("value")
    if kind == "list":
        fields = [f.name for f, _ in proto.list.ListFields()]
        return [_plain(v, fields[0]) for v in getattr(proto.list, fields[0])] if fields else []
    return None if kind is None else _plain(getattr(proto, kind), kind)


def _plain(value: Any, kind: str) -> Any:
    if kind == "s":
        return value.decode("utf-8", "surrogateescape")
    if kind == "type":
        return dtype_of(value)
    if kind == "shape":
        return dims_of(value)
    return array_of(value) if kind == "tensor" else value


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


_KINDS: Final[dict[str, tuple[str, Any]]] = {
    "int": ("i", int), "float": ("f", float), "bool": ("b", bool), "string": ("s", _bytes),
    "type": ("type", number_of), "shape": ("shape", shape_proto),
    "tensor": ("tensor", tensor_proto),
}  # fmt: skip


def guessed(value: Any) -> Any:
    """The `AttrValue` of an attribute whose kind no signature tells; None: it has none."""
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "bool"), (int, "int"), (float, "float"), (str, "string"), (bytes, "string"),
        (DType, "type"), (np.ndarray, "tensor"),
    )  # fmt: skip
    for python, kind in kinds:
        if isinstance(value, python):
            return attr_proto(value, kind)
        if isinstance(value, tuple) and value and all(isinstance(v, python) for v in value):
            return attr_proto(value, f"list({kind})")
    return None
