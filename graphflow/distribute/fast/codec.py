"""Messages as plain data: a head of MessagePack, and the bytes of the arrays in it.

What comes from a network is never unpickled.  MessagePack knows lists, strings, numbers and nothing
that runs; the annotations of the message classes say what must be where, which msgspec checks while
it reads, and anything else is `Malformed`.  A step takes 1 us each way; with Python's json, and
checks in Python, it took 3 and 7, for each worker in each step.

Values (feeds, fetches) may be arrays of numbers or strings, None, bool, int, float, str, bytes,
`Again`, and tuples of these.  Whatever else is met is `Unencodable`; the caller has Ray for that.
"""

from __future__ import annotations

import math
import operator
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from graphflow.base import dtypes, errors
from graphflow.base.errors import OpError
from graphflow.distribute.messages import (
    Applied,
    Broken,
    Notice,
    Prepared,
    Refused,
    Replay,
    Save,
    Step,
)
from graphflow.execute.inputs import Again

HEAD_LIMIT = 16 << 20  # bytes of plain data, which may take 20 times as many as objects
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
        name = NAMES.get(value.dtype)
        if name is None:  # another byte order, or not an element type of ours
            native = value.dtype.newbyteorder("=")
            if native not in NAMES:
                raise Unencodable(f"an array of {value.dtype}")
            value, name = value.astype(native), NAMES[native]
        if len(self) == ARRAYS_LIMIT:
            raise Unencodable(f"more than {ARRAYS_LIMIT} arrays")
        self.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        return {"a": len(self) - 1, "d": name, "s": value.shape}


class _NoArrays(_Arrays):
    """Where all fields that may hold some are empty."""

    def _array(self, value: np.ndarray[Any, Any]) -> dict[str, Any]:
        raise Unencodable("an array where there is none")


_NO_ARRAYS: _Arrays = _NoArrays()
_TYPES = {
    t.name: t.np
    for t in vars(dtypes).values()
    if isinstance(t, dtypes.DType) and t.np != np.dtype(object)
}
NAMES = {dtype: name for name, dtype in _TYPES.items()}


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
    form = _FORMS.get(type(message))
    if form is None:
        raise Unencodable(f"a {type(message).__name__}")
    fields, arrays = message, _NO_ARRAYS
    if any(form.loosely(message)):  # most often all are empty
        fields, arrays = list(message), _Arrays()
        for i, fit, _ in form.loose:
            if fields[i]:
                fields[i] = fit(fields[i])
    try:
        head = form.mark + msgspec.msgpack.encode(fields, enc_hook=arrays.describe)
    except (RecursionError, UnicodeError, OverflowError) as error:
        raise Unencodable(str(error)) from error
    if len(head) > HEAD_LIMIT:
        raise Unencodable(f"a head of {len(head)} bytes, where {HEAD_LIMIT} are allowed")
    return head, list(arrays)


def _plain(value: Any) -> Any:
    """A value as what comes back as the same: a record must not become a list."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is int:
        return value if -_WORD <= value < _WORD else _Scalar(value)
    if kind is tuple:
        return [_plain(v) for v in value]
    if kind is list:
        return {"l": [_plain(v) for v in value]}
    if isinstance(value, np.generic):
        return _Scalar(value)
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if kind is Again:
        return {"q": [_plain(v) for v in value.numbers]}
    raise Unencodable(f"{kind.__name__} is not plain data")


_ATOMS = frozenset({type(None), bool, float, str, bytes, np.ndarray})
_WORD = 1 << 63


class _Scalar:
    """A NumPy scalar, or a number of more than 64 bits."""

    def __init__(self, value: Any):
        self.value = value


def bare(message: Any) -> bool:
    """Is there nothing in a message that may be a value, or of which there may be several?"""
    return not any(_FORMS[type(message)].loosely(message))


# ---- decoding

Decode = Callable[[Any, Sequence[Buffer]], Any]


def decode(head: Buffer, arrays: Sequence[Buffer]) -> Any:
    """The message.  Its arrays are read-only views of the given bytes.

    Raises:
      Malformed: it is none.
    """
    if len(head) > HEAD_LIMIT or len(arrays) > ARRAYS_LIMIT:
        raise Malformed("too large")
    form = _BY_MARK.get(head[0]) if len(head) else None
    if form is None:
        raise Malformed(f"a message that begins with {bytes(head[:4])!r}")
    try:
        fields = form.decoder.decode(head[1:])
        if any(form.loosely(fields)):
            fields = list(fields)
            for i, _, opened in form.loose:
                if fields[i]:
                    fields[i] = opened(fields[i], arrays)
        return tuple.__new__(form.kind, fields)  # `_make`, without counting again
    except Malformed:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise Malformed(f"{type(error).__name__}: {error}") from error


def address(head: Buffer) -> Parcel:
    """A parcel whose value has not come yet.

    Raises:
      Malformed: it is none.
    """
    form = _FORMS[Parcel]
    if bytes(head[:1]) != form.mark:
        raise Malformed("no parcel")
    try:
        parcel = Parcel._make(form.decoder.decode(head[1:]))
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from error
    return parcel


class Layout(NamedTuple):
    """How an array is made of its bytes.

    Attributes:
      dtype, shape: of the array.
      size: bytes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int


def layout(parcel: Parcel) -> Layout | None:
    """That of the value of a parcel that has not come yet; None: it is not one array alone."""
    data = parcel.value[0] if len(parcel.value) == 1 else None
    if type(data) is not dict or data.keys() != {"a", "d", "s"} or data["a"] != 0:
        return None
    try:
        dtype, shape = _TYPES[data["d"]], _shape(data["s"])
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


def _sequence(data: Sequence[Any], arrays: Sequence[Buffer]) -> tuple[Any, ...]:
    return tuple([_value(v, arrays) for v in data]) if data else ()


def _unwrapped(data: Any, arrays: Sequence[Buffer]) -> list[Any]:
    return [_value(v, arrays) for v in _exactly(list, data["l"])]


def _again(data: Any, arrays: Sequence[Buffer]) -> Again:
    return Again(_sequence(_exactly(list, data["q"]), arrays))


def _number(data: Any, arrays: Sequence[Buffer]) -> int:
    return int(_exactly(str, data["i"]))


def _array(data: Any, arrays: Sequence[Buffer]) -> Any:
    dtype, shape, index = _TYPES[data["d"]], _shape(data["s"]), _exactly(int, data["a"])
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


def _error(kind: type, data: Any) -> OpError:
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


# ---- messages


class Parcel(NamedTuple):
    """A value on its way from one worker to another.

    Attributes:
      session: whose.
      key: of the transfer.
      value: one, in a list; none, where memory to write to is lent.
    """

    session: str
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


_ANSWERS = (Prepared, Refused, Applied, Broken)
_CLASSES = (Step, Notice, Save, *_ANSWERS, Parcel, Failed, Missed, Elsewhere)


# ---- fields that hold values, which need more care than MessagePack takes


def _values(found: Sequence[Any]) -> list[Any]:
    return [_plain(v) for v in found]


def _taken(found: Mapping[str, Sequence[Any]] | None) -> Any:
    return found and {device: _values(v) for device, v in found.items()}


def _taken_there(data: Any, arrays: Sequence[Buffer]) -> Any:
    return data and {device: _sequence(v, arrays) for device, v in data.items()}


def _replayed(replay: Replay | None) -> Any:
    return replay and replay._replace(inputs=_taken(replay.inputs))


def _replayed_there(data: Replay | None, arrays: Sequence[Buffer]) -> Any:
    return data and data._replace(inputs=_taken_there(data.inputs, arrays))


# annotation of a field, what is done before it is encoded, and after it is decoded
_FITS: list[tuple[Any, Callable[[Any], Any], Decode]] = [
    (Sequence[Any], _values, _sequence),
    (Mapping[str, Sequence[Any]] | None, _taken, _taken_there),
    (Replay | None, _replayed, _replayed_there),
]


class _Form(NamedTuple):
    """How messages of a class travel.

    Attributes:
      kind: the class.
      mark: the first byte of a head.
      decoder: reads the rest, as a tuple.
      loose: (position, what is done before, and after) of fields that need more.
      loosely: gives those fields.
    """

    kind: Any
    mark: bytes
    decoder: msgspec.msgpack.Decoder[Any]
    loose: list[tuple[int, Callable[[Any], Any], Decode]]
    loosely: Callable[[Any], Any]


def _form(number: int, kind: Any) -> _Form:
    loose: list[tuple[int, Callable[[Any], Any], Decode]] = []
    hints = list(typing.get_type_hints(kind).values())
    several: Any = tuple
    for i, hint in enumerate(hints):
        if typing.get_origin(hint) is Sequence:
            loose.append((i, list, lambda data, arrays: data))
            hints[i] = several[typing.get_args(hint)[0], ...]
        for annotation, fit, opened in _FITS:
            if hint == annotation:
                loose = [each for each in loose if each[0] != i] + [(i, fit, opened)]
    decoder = msgspec.msgpack.Decoder(several[tuple(hints)], dec_hook=_error)
    at = [position for position, _, _ in loose]
    loosely = operator.itemgetter(*at) if len(at) > 1 else operator.itemgetter(_slice(at))
    return _Form(kind, bytes([number]), decoder, loose, loosely)


def _slice(positions: Sequence[int]) -> slice:
    """One position, or none."""
    return slice(positions[0], positions[0] + 1) if positions else slice(0)


_FORMS = {kind: _form(number, kind) for number, kind in enumerate(_CLASSES)}
_BY_MARK = {form.mark[0]: form for form in _FORMS.values()}
