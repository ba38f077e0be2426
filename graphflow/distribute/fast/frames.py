"""Frames: what the control channel carries, whole or not at all.

    parts[0]     prefix (magic, kind, session, serial), then the head of a message
    parts[1:]    the bytes of its arrays

CURVE has authenticated whoever sends one.  A frame that is not well formed all the same, or was
there before, is dropped and counted.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from graphflow.base.tuples import made
from graphflow.distribute.fast import codec
from graphflow.distribute.fast.values import Buffer, Malformed

MAGIC = b"gf1"
_PREFIX = struct.Struct("<3sB16sQ")


class Kind(IntEnum):
    """What a frame is for."""

    MESSAGE = 1  # of a coordinator, to a worker
    REPLY = 2  # to the message of that serial number
    PING = 3
    PONG = 4
    REPORT = 5  # of a worker, not asked for


class Frame(NamedTuple):
    """Attributes:
    kind: what it is for.
    session: 16 bytes that name a session.
    serial: place among the frames of its sender; of an answer, that of what it answers.
    body: a message; None for the kinds that have none.
    """

    kind: Kind
    session: bytes
    serial: int
    body: Any = None


_WITH_BODY = frozenset({Kind.MESSAGE, Kind.REPLY, Kind.REPORT})


def pack(kind: Kind, session: bytes, serial: int, head: bytes = b"") -> bytes:
    """The first part of a frame; `codec.encode` gives the head, and the other parts."""
    return _PREFIX.pack(MAGIC, kind, session, serial) + head


def parse(
    parts: Sequence[Buffer], decode: Callable[[Buffer, Sequence[Buffer]], Any] = codec.decode
) -> Frame:
    """The frame in these parts.

    Args:
      decode: reads a message, see `codec.decode`.

    Raises:
      Malformed: there is none.
    """
    first = parts[0] if parts else b""
    if len(first) < _PREFIX.size:
        raise Malformed("too short")
    magic, number, session, serial = _PREFIX.unpack_from(first)
    kind = _KINDS.get(number)
    if magic != MAGIC or kind is None:
        raise Malformed(f"a frame that begins with {bytes(first[:4])!r}")
    if kind in _WITH_BODY:
        body = decode(memoryview(first)[_PREFIX.size :], parts[1:])
        frame: Frame = made(Frame, (kind, session, serial, body))
        return frame
    if len(parts) > 1 or len(first) > _PREFIX.size:
        raise Malformed("a body where there is none")
    return Frame(kind, session, serial)


_KINDS = {int(kind): kind for kind in Kind}


class Gate:
    """Lets frames in, each once.

    Attributes:
      dropped: counts by reason, "malformed" and "replayed".
    """

    def __init__(self, decode: Callable[[Buffer, Sequence[Buffer]], Any] = codec.decode) -> None:
        """Args:
        decode: see `parse`.
        """
        self.dropped: Counter[str] = Counter()
        self._decode = decode
        self._last = 0

    def enter(self, parts: Sequence[Buffer]) -> Frame | None:
        """The frame, or None where it is dropped.  Serial numbers of one sender only grow."""
        frame = self.read(parts)
        if frame is None:
            return None
        if frame.serial <= self._last:
            self.dropped["replayed"] += 1
            return None
        self._last = frame.serial
        return frame

    def read(self, parts: Sequence[Buffer]) -> Frame | None:
        """As `enter`, for answers: who waits for them notices those that come again."""
        try:
            return parse(parts, self._decode)
        except Malformed:
            self.dropped["malformed"] += 1
            return None
