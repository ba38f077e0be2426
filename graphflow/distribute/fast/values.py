"""Values as plain data: what messages hold of feeds, fetches and errors.

They may be arrays of numbers or strings, None, bool, int, float, str, bytes, `Again`, and tuples of
these.  What plain data has no word for is a mapping with a tag; the bytes of arrays lie beside it.
Whatever else is met is `Unencodable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphflow.base import dtypes, errors
from graphflow.base.errors import OpError
from graphflow.execute.inputs import Again

ARRAYS_LIMIT = 1 << 16  # arrays in a message
RANK_LIMIT = 64  # NumPy's own

Buffer = Any  # bytes, a memoryview, or an array of bytes


class Malformed(ValueError):
    """What has come is no message."""


class Unencodable(TypeError):
    """A message holds what plain data cannot express."""


# ---- encoding


class Arrays(list[Any]):
    """Arrays met while a head is encoded."""

    def describe(self, value: Any) -> Any:
        """What MessagePack does not know, as what it knows."""
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, _Scalar):
            return self._scalar(value.value)
        if isinstance(value, OpError):
            return _describe_error(value)
        raise Unencodable(f"{type(value).__name__} is not plain data")

    def _scalar(self, value: Any) -> dict[str, Any]:
        if isinstance(value, int):
            return {"i": str(value)}
        return self._array(np.asarray(value)) | {"g": 1}

    def _array(self, value: np.ndarray[Any, Any]) -> dict[str, Any]:
        if value.dtype == object:
            items = value.ravel().tolist()
            if not all(isinstance(x, (str, bytes)) for x in items):
                raise Unencodable("an array of objects that are no strings")
            return {"o": items, "s": value.shape}
        name = named(value.dtype)
        if name is None:  # another byte order, or not an element type of ours
            native = value.dtype.newbyteorder("=")
            if native not in NAMES:
                raise Unencodable(f"an array of {value.dtype}")
            value, name = value.astype(native), NAMES[native]
        if len(self) == ARRAYS_LIMIT:
            raise Unencodable(f"more than {ARRAYS_LIMIT} arrays")
        self.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        return {"a": len(self) - 1, "d": name, "s": value.shape}


class _NoArrays(Arrays):
    """Where all fields that may hold some are empty."""

    def _array(self, value: np.ndarray[Any, Any]) -> dict[str, Any]:
        raise Unencodable("an array where there is none")


NO_ARRAYS: Arrays = _NoArrays()
_TYPES = {
    t.name: t.np
    for t in vars(dtypes).values()
    if isinstance(t, dtypes.DType) and t.np != np.dtype(object)
}
NAMES = {dtype: name for name, dtype in _TYPES.items()}
_LATE = "bfloat16"  # its module is imported when it is first needed


def named(dtype: np.dtype[Any]) -> str | None:
    """The name of an element type of ours; None: it is none, or has another byte order."""
    name = NAMES.get(dtype)
    if name is None and dtype.name == _LATE:
        name = NAMES[dtype] = _LATE
    return name


def _type(name: Any) -> np.dtype[Any]:
    if name == _LATE and name not in _TYPES:
        _TYPES[name] = dtypes.as_dtype(name).np
    return _TYPES[name]


def _describe_error(error: OpError) -> dict[str, Any]:
    node = error.node_def
    if node is not None and not isinstance(node, str):
        raise Unencodable(f"an error about {type(node).__name__}")
    notes = [str(note) for note in getattr(error, "__notes__", ())]
    name = type(error).__name__
    if _ERRORS.get(name) is not type(error):
        raise Unencodable(f"an error of class {name}")
    return {"e": name, "n": node, "m": str(error.message), "c": error.error_code, "w": notes}


_ERRORS = {n: t for n, t in vars(errors).items() if isinstance(t, type) and issubclass(t, OpError)}


def plain(value: Any) -> Any:
    """A value as what comes back as the same: a record must not become a list."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is int:
        return value if -_WORD <= value < _WORD else _Scalar(value)
    if kind is tuple:
        return [plain(v) for v in value]
    if kind is list:
        return {"l": [plain(v) for v in value]}
    if isinstance(value, np.generic):
        return _Scalar(value)
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if kind is Again:
        return {"q": [plain(v) for v in value.numbers]}
    raise Unencodable(f"{kind.__name__} is not plain data")


_ATOMS = frozenset({type(None), bool, float, str, bytes, np.ndarray})
_WORD = 1 << 63


class _Scalar:
    """A NumPy scalar, or a number of more than 64 bits."""

    def __init__(self, value: Any):
        self.value = value


# ---- decoding

Decode = Callable[[Any, Sequence[Buffer]], Any]


class Layout(NamedTuple):
    """How an array is made of its bytes.

    Attributes:
      dtype, shape: of the array.
      size: bytes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int


def layout(found: Sequence[Any]) -> Layout | None:
    """That of values, as plain data, of which no bytes have come; None: not one array alone."""
    data = found[0] if len(found) == 1 else None
    if type(data) is not dict or data.keys() != {"a", "d", "s"} or data["a"] != 0:
        return None
    try:
        dtype, shape = _type(data["d"]), _shape(data["s"])
    except (Malformed, KeyError, TypeError):
        return None  # decoding it will say so
    if math.prod(n or 1 for n in shape) * dtype.itemsize >= _WORD:
        return None  # nor does NumPy take that, though it were empty
    return Layout(dtype, shape, math.prod(shape) * dtype.itemsize)


def _value(data: Any, arrays: Sequence[Buffer]) -> Any:
    kind = type(data)
    if kind is dict:
        for tag, build in _TAGGED.items():
            if tag in data:
                return build(data, arrays)
        raise Malformed(f"a value with the keys {sorted(data)[:5]}")
    if kind is list:
        return tuple([_value(v, arrays) for v in data])
    return data


def sequence(data: Sequence[Any], arrays: Sequence[Buffer]) -> tuple[Any, ...]:
    return tuple([_value(v, arrays) for v in data]) if data else ()


def _unwrapped(data: Any, arrays: Sequence[Buffer]) -> list[Any]:
    return [_value(v, arrays) for v in _exactly(list, data["l"])]


def _again(data: Any, arrays: Sequence[Buffer]) -> Again:
    return Again(sequence(_exactly(list, data["q"]), arrays))


def _number(data: Any, arrays: Sequence[Buffer]) -> int:
    return int(_exactly(str, data["i"]))


def _array(data: Any, arrays: Sequence[Buffer]) -> Any:
    dtype, shape, index = _type(data["d"]), _shape(data["s"]), _exactly(int, data["a"])
    if not 0 <= index < len(arrays):
        raise Malformed(f"array {index} of {len(arrays)}")
    flat = np.frombuffer(arrays[index], np.uint8)
    if len(flat) != math.prod(shape) * dtype.itemsize:
        raise Malformed(f"{len(flat)} bytes for {data['d']}{shape}")
    array = flat.view(dtype).reshape(shape)
    if not array.flags.aligned:  # ZeroMQ's small messages lie anywhere
        array = array.copy()
    array.flags.writeable = False
    return array[()] if "g" in data else array


def _strings(data: Any, arrays: Sequence[Buffer]) -> Any:
    shape, items = _shape(data["s"]), data["o"]
    if type(items) is not list or len(items) != math.prod(shape):
        raise Malformed(f"strings for the shape {shape}")
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item if type(item) is str else _exactly(bytes, item)
    return array.reshape(shape)


def _shape(data: Any) -> tuple[int, ...]:
    if type(data) is not list or len(data) > RANK_LIMIT:
        raise Malformed("no shape")
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in data):
        raise Malformed(f"the shape {data[:8]}")
    return tuple(data)


def error_of(kind: type, data: Any) -> OpError:
    """An error, where the annotation of a field names their class."""
    if kind is not OpError:
        raise Malformed(f"a {kind.__name__} cannot travel")
    node = data["n"] if data["n"] is None else _exactly(str, data["n"])
    error = _ERRORS[_exactly(str, data["e"])](
        node, None, _exactly(str, data["m"]), _exactly(int, data["c"])
    )
    for note in _exactly(list, data["w"]):
        error.add_note(_exactly(str, note))
    return error


_TAGGED: dict[str, Decode] = {
    "a": _array,
    "o": _strings,
    "l": _unwrapped,
    "i": _number,
    "q": _again,
}


def _exactly(kind: type, data: Any) -> Any:
    if type(data) is not kind:
        raise Malformed(f"{kind.__name__} expected, not {type(data).__name__}")
    return data
