"""Messages as plain data: a head of JSON, and the bytes of the arrays in it.

What comes from a network is never unpickled.  JSON knows lists, strings, numbers and nothing that
runs; the annotations of the message classes say what must be where, and anything else is
`Malformed`.  Encoding a step takes 6 us and decoding it 8, most of which is the `json` module's C.

Values (feeds, fetches) may be arrays of numbers or strings, None, bool, int, float, str, bytes,
and tuples of these.  Whatever else is met is `Unencodable`; the caller has Ray for that.
"""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import UnionType
from typing import Any, NamedTuple

import numpy as np

from graphflow.base import dtypes, errors
from graphflow.base.errors import OpError
from graphflow.distribute.messages import (
    Applied,
    Notice,
    Prepared,
    Refused,
    Replay,
    Save,
    Step,
    Ticket,
    Verdict,
)

HEAD_LIMIT = 16 << 20  # bytes of JSON, which may take 20 times as many as objects
ARRAYS_LIMIT = 1 << 16  # arrays in a message
RANK_LIMIT = 64  # NumPy's own

Buffer = Any  # bytes, a memoryview, or an array of bytes


class Malformed(ValueError):
    """What has come is no message."""


class Unencodable(TypeError):
    """A message holds what plain data cannot express."""


# ---- encoding


class _Arrays(list[Any]):
    """Arrays met while a head is encoded."""

    def describe(self, value: Any) -> Any:
        """What the JSON encoder does not know, as what it knows."""
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, _Scalar):
            return self._array(np.asarray(value.value)) | {"g": 1}
        if isinstance(value, Verdict):
            return value.value
        if isinstance(value, bytes):
            return {"b": value.decode("latin-1")}
        if isinstance(value, OpError):
            return _describe_error(value)
        raise Unencodable(f"{type(value).__name__} is not plain data")

    def _array(self, value: np.ndarray[Any, Any]) -> dict[str, Any]:
        if value.dtype == object:
            items = value.ravel().tolist()
            if not all(isinstance(x, (str, bytes)) for x in items):
                raise Unencodable("an array of objects that are no strings")
            return {"o": items, "s": value.shape}
        name = _NAMES.get(value.dtype)
        if name is None:  # another byte order, or not an element type of ours
            native = value.dtype.newbyteorder("=")
            if native not in _NAMES:
                raise Unencodable(f"an array of {value.dtype}")
            value, name = value.astype(native), _NAMES[native]
        if len(self) == ARRAYS_LIMIT:
            raise Unencodable(f"more than {ARRAYS_LIMIT} arrays")
        self.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        return {"a": len(self) - 1, "d": name, "s": value.shape}


_TYPES = {
    t.name: t.np
    for t in vars(dtypes).values()
    if isinstance(t, dtypes.DType) and t.np != np.dtype(object)
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


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


def encode(message: Any) -> tuple[bytes, list[Buffer]]:
    """The head of a message, and the bytes of its arrays, which are not copied where that can be
    avoided.

    Raises:
      Unencodable: it holds something that is no plain data, or too much.
    """
    kind = type(message)
    if kind not in _LOOSE:
        raise Unencodable(f"a {kind.__name__}")
    fields = list(message)
    for i, fit in _LOOSE[kind]:
        fields[i] = fit(fields[i])
    arrays = _Arrays()
    encoder = json.JSONEncoder(check_circular=False, separators=(",", ":"), default=arrays.describe)
    try:
        head = encoder.encode([kind.__name__, *fields]).encode()
    except (RecursionError, UnicodeError) as error:
        raise Unencodable(str(error)) from error
    if len(head) > HEAD_LIMIT:
        raise Unencodable(f"a head of {len(head)} bytes, where {HEAD_LIMIT} are allowed")
    return head, list(arrays)


def _plain(value: Any) -> Any:
    """A value as what comes back as the same: JSON would take a NumPy float for a float, and a
    record for a list."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is tuple:
        return [_plain(v) for v in value]
    if kind is list:
        return {"l": [_plain(v) for v in value]}
    if isinstance(value, np.generic):
        return _Scalar(value)
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    raise Unencodable(f"{kind.__name__} is not plain data")


_ATOMS = frozenset({type(None), bool, int, float, str, bytes, np.ndarray})


class _Scalar:
    """A NumPy scalar, which JSON must not see."""

    def __init__(self, value: Any):
        self.value = value


# ---- decoding

Decode = Callable[[Any, Sequence[Buffer]], Any]


def decode(head: Buffer, arrays: Sequence[Buffer]) -> Any:
    """The message.  Its arrays are read-only views of the given bytes.

    Raises:
      Malformed: it is none.
    """
    if len(head) > HEAD_LIMIT or len(arrays) > ARRAYS_LIMIT:
        raise Malformed("too large")
    try:
        kind, *fields = json.loads(bytes(head))
        return _KINDS[kind](fields, arrays)
    except Malformed:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise Malformed(f"{type(error).__name__}: {error}") from error


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


def _unwrapped(data: Any, arrays: Sequence[Buffer]) -> list[Any]:
    return [_value(v, arrays) for v in _list(data["l"])]


def _array(data: Any, arrays: Sequence[Buffer]) -> Any:
    dtype, shape, index = _TYPES[data["d"]], _shape(data["s"]), _int(data["a"], arrays)
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
        array[i] = item if type(item) is str else _bytes(item, arrays)
    return array.reshape(shape)


def _bytes(data: Any, arrays: Sequence[Buffer]) -> bytes:
    return _str(data["b"], arrays).encode("latin-1")


def _shape(data: Any) -> tuple[int, ...]:
    if type(data) is not list or len(data) > RANK_LIMIT:
        raise Malformed("no shape")
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in data):
        raise Malformed(f"the shape {data[:8]}")
    return tuple(data)


def _error(data: Any, arrays: Sequence[Buffer]) -> OpError:
    node = data["n"] if data["n"] is None else _str(data["n"], arrays)
    error = _ERRORS[_str(data["e"], arrays)](
        node, None, _str(data["m"], arrays), _int(data["c"], arrays)
    )
    for note in _list(data["w"]):
        error.add_note(_str(note, arrays))
    return error


_TAGGED: dict[str, Decode] = {"a": _array, "o": _strings, "b": _bytes, "l": _unwrapped}


def _exactly(kind: type) -> Decode:
    def check(data: Any, arrays: Sequence[Buffer]) -> Any:
        if type(data) is not kind:
            raise Malformed(f"{kind.__name__} expected, not {type(data).__name__}")
        return data

    return check


_int, _str = _exactly(int), _exactly(str)


def _list(data: Any) -> list[Any]:
    if type(data) is not list:
        raise Malformed(f"a list expected, not {type(data).__name__}")
    return data


def _float(data: Any, arrays: Sequence[Buffer]) -> float:
    if type(data) not in (int, float):
        raise Malformed(f"a number expected, not {type(data).__name__}")
    return float(data)


# ---- decoders from annotations


def _decoder(annotation: Any) -> Decode:
    """What decodes a field.

    Raises:
      TypeError: such a field cannot travel.
    """
    if annotation in _LEAVES:
        return _LEAVES[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (UnionType, typing.Union):
        return _optional(*arguments)
    if origin is Mapping:
        return _mapping(_decoder(arguments[1]))
    if origin is not None and (arguments[1:] in ((), (...,))):
        return _repeated(_decoder(arguments[0]))
    if origin is tuple:
        return _record(tuple, [_decoder(a) for a in arguments])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return lambda data, arrays: annotation(data)
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        hints = typing.get_type_hints(annotation)
        return _record(annotation._make, [_decoder(h) for h in hints.values()])  # type: ignore[attr-defined]
    raise TypeError(f"{annotation} cannot travel as plain data")


_LEAVES: dict[Any, Decode] = {
    Any: _value,
    bool: _exactly(bool),
    float: _float,
    int: _int,
    str: _str,
    OpError: _error,
}


def _optional(*arguments: Any) -> Decode:
    kind, none = arguments
    if none is not type(None):
        raise TypeError(f"{kind} | {none} cannot travel as plain data")
    inner = _decoder(kind)
    return lambda data, arrays: None if data is None else inner(data, arrays)


def _repeated(inner: Decode) -> Decode:
    return lambda data, arrays: tuple([inner(v, arrays) for v in _list(data)])


def _mapping(inner: Decode) -> Decode:
    def decode(data: Any, arrays: Sequence[Buffer]) -> Any:
        if type(data) is not dict:
            raise Malformed(f"a mapping expected, not {type(data).__name__}")
        return {key: inner(v, arrays) for key, v in data.items()}

    return decode


def _record(make: Callable[[Any], Any], inner: Sequence[Decode]) -> Decode:
    def decode(data: Any, arrays: Sequence[Buffer]) -> Any:
        if len(_list(data)) != len(inner):
            raise Malformed(f"{len(data)} fields instead of {len(inner)}")
        return make([field(v, arrays) for field, v in zip(inner, data, strict=True)])

    return decode


class Parcel(NamedTuple):
    """A value on its way from one worker to another.

    Attributes:
      session: whose.
      ticket: the attempt that it belongs to.
      key: of the transfer.
      value: one, in a list; none, where memory to write to is lent.
    """

    session: str
    ticket: Ticket
    key: str
    value: Sequence[Any]


class Failed(NamedTuple):
    """No other answer will come."""

    reason: str


class Missed(NamedTuple):
    """A worker's connection to another one has ended.

    Attributes:
      name: of that one, to its peers.
    """

    name: str


class Elsewhere(NamedTuple):
    """The answer is no plain data: it lies ready for another way."""


_CLASSES = (Step, Notice, Save, Prepared, Refused, Applied, Parcel, Failed, Missed, Elsewhere)
_KINDS: dict[str, Decode] = {kind.__name__: _decoder(kind) for kind in _CLASSES}


# ---- fields that hold values, which need more care than JSON takes


def _values(found: Sequence[Any]) -> list[Any]:
    return [_plain(v) for v in found]


def _taken(found: Mapping[str, Sequence[Any]] | None) -> Any:
    return found and {device: _values(v) for device, v in found.items()}


def _replayed(replay: Replay | None) -> Any:
    return replay and replay._replace(inputs=_taken(replay.inputs))


_FITS: list[tuple[Any, Callable[[Any], Any]]] = [
    (Sequence[Any], _values),
    (Mapping[str, Sequence[Any]] | None, _taken),
    (Replay | None, _replayed),
]
_LOOSE = {
    kind: [
        (i, fit)
        for i, hint in enumerate(typing.get_type_hints(kind).values())
        for annotation, fit in _FITS
        if hint == annotation
    ]
    for kind in _CLASSES
}
