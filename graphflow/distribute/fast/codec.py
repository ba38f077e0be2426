"""Messages as plain data: a head of MessagePack, and the bytes of the arrays in it.

What comes from a network is never unpickled.  MessagePack knows lists, strings, numbers and nothing
that runs; the annotations of the message classes say what must be where, which msgspec checks while
it reads, and anything else is `Malformed`.  A step takes 1 us each way; with Python's json, and
checks in Python, it took 3 and 7, for each worker in each step.

Of values (feeds, fetches) `values` tells which may be met.  Whatever else is met is `Unencodable`;
the caller has Ray for that.
"""

from __future__ import annotations

import operator
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from graphflow.distribute.fast.values import (
    ARRAYS_LIMIT,
    NO_ARRAYS,
    Arrays,
    Buffer,
    Decode,
    Malformed,
    Unencodable,
    error_of,
    plain,
    sequence,
)
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

HEAD_LIMIT = 16 << 20  # bytes of plain data, which may take 20 times as many as objects


def encode(message: Any) -> tuple[bytes, list[Buffer]]:
    """The head of a message, and the bytes of its arrays, which are not copied where that can be
    avoided.

    Raises:
      Unencodable: it holds something that is no plain data, or too much.
    """
    form = _FORMS.get(type(message))
    if form is None:
        raise Unencodable(f"a {type(message).__name__}")
    fields, arrays = message, NO_ARRAYS
    if any(form.loosely(message)):  # most often all are empty
        fields, arrays = list(message), Arrays()
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


def bare(message: Any) -> bool:
    """Is there nothing in a message that may be a value, or of which there may be several?"""
    return not any(_FORMS[type(message)].loosely(message))


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
    return [plain(v) for v in found]


def _taken(found: Mapping[str, Sequence[Any]] | None) -> Any:
    return found and {device: _values(v) for device, v in found.items()}


def _taken_there(data: Any, arrays: Sequence[Buffer]) -> Any:
    return data and {device: sequence(v, arrays) for device, v in data.items()}


def _replayed(replay: Replay | None) -> Any:
    return replay and replay._replace(inputs=_taken(replay.inputs))


def _replayed_there(data: Replay | None, arrays: Sequence[Buffer]) -> Any:
    return data and data._replace(inputs=_taken_there(data.inputs, arrays))


# annotation of a field, what is done before it is encoded, and after it is decoded
_FITS: list[tuple[Any, Callable[[Any], Any], Decode]] = [
    (Sequence[Any], _values, sequence),
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
    decoder = msgspec.msgpack.Decoder(several[tuple(hints)], dec_hook=error_of)
    at = [position for position, _, _ in loose]
    loosely = operator.itemgetter(*at) if len(at) > 1 else operator.itemgetter(_slice(at))
    return _Form(kind, bytes([number]), decoder, loose, loosely)


def _slice(positions: Sequence[int]) -> slice:
    """One position, or none."""
    return slice(positions[0], positions[0] + 1) if positions else slice(0)


_FORMS = {kind: _form(number, kind) for number, kind in enumerate(_CLASSES)}
_BY_MARK = {form.mark[0]: form for form in _FORMS.values()}
