"""Frames of several parts on a stream of bytes.

number of parts, their lengths, and then the parts, each padded to whole words
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphflow.distribute.fast.values import ARRAYS_LIMIT, Buffer, Malformed

_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
_ALONE = struct.Struct("<IQ4x")
_WORD = 16  # bytes; arrays lie at multiples of it
_LIMIT = 1 << 40  # bytes of a frame
# Bytes to receive at once.  Less than what malloc takes from the system for each call, and gives
# back (128 KB): that takes 12 us, where receiving takes 2.
_ROOM = 1 << 16


def pack(parts: Sequence[Buffer]) -> list[Buffer]:
    """The bytes of a frame; small parts are joined."""
    if len(parts) == 1 and (size := len(parts[0])) < _ROOM:  # a message without arrays
        return [b"".join([_ALONE.pack(1, size), parts[0], bytes(-size % _WORD)])]
    views = [memoryview(part).cast("B") for part in parts]
    head = _COUNT.pack(len(views)) + b"".join([_LENGTH.pack(len(v)) for v in views])
    joined: list[Any] = [head + bytes(-len(head) % _WORD)]
    for view in views:
        padding = bytes(-len(view) % _WORD)
        if len(view) < _ROOM:
            joined[-1] = b"".join([joined[-1], view, padding])
        else:
            joined += [view, padding]
    return joined


class Stream:
    """Takes frames out of what a connection receives."""

    def __init__(self, connection: Any):
        self._connection = connection
        self._left: Any = b""  # received, and not a whole frame

    def read(self) -> Iterable[list[Any]]:
        """The parts of each frame that is complete after receiving once; those before one that is
        malformed, too.

        Raises:
          EOFError: the connection has ended.
          Malformed: what has come is no frame.
          OSError: the connection failed; BlockingIOError: there was nothing.
        """
        if isinstance(self._left, _Whole):
            self._fill(self._left)
        else:
            data = self._connection.recv(_ROOM)
            if not data:
                raise EOFError("the connection has ended")
            if not self._left and len(data) >= _ALONE.size:
                count, size = _ALONE.unpack_from(data)
                end = _ALONE.size + size
                if count == 1 and len(data) == end + -size % _WORD:  # what most messages are
                    return [[memoryview(data)[_ALONE.size : end]]]
            self._left += data
        return iter(self._next, None)

    def _fill(self, whole: _Whole) -> None:
        count = self._connection.recv_into(whole.memory[whole.filled :])
        if not count:
            raise EOFError("the connection has ended")
        whole.filled += count

    def _next(self) -> list[Any] | None:
        if isinstance(self._left, _Whole):
            if self._left.filled < len(self._left.memory):
                return None
            data, self._left = self._left.memory, b""
            sizes = _sizes(data)
            assert sizes is not None
            return _cut(data, sizes)
        if not self._left or (sizes := _sizes(self._left)) is None:
            return None
        size = _start(len(sizes)) + sum(n + -n % _WORD for n in sizes)
        if size > _LIMIT:
            raise Malformed(f"a frame of {size} bytes")
        data = self._left
        if len(data) >= size:
            self._left = data[size:]
            return _cut(memoryview(data), sizes)
        if size > _ROOM:  # the rest is received where it belongs
            try:
                self._left = _Whole(size, data)
            except MemoryError as error:
                raise Malformed(f"a frame of {size} bytes, for which there is no room") from error
        return None


class _Whole:
    """A large frame, as far as it has come."""

    def __init__(self, size: int, data: bytes):
        self.memory = np.empty(size, np.uint8).data  # takes no memory until it is filled
        self.memory[: len(data)] = data
        self.filled = len(data)


def _start(count: int) -> int:
    size = _COUNT.size + count * _LENGTH.size
    return size + -size % _WORD


def _sizes(data: Any) -> list[int] | None:
    """The lengths of the parts of a frame; None: they have not come yet."""
    if len(data) < _COUNT.size:
        return None
    (count,) = _COUNT.unpack_from(data)
    if not 0 < count <= ARRAYS_LIMIT + 1:
        raise Malformed(f"a frame of {count} parts")
    if len(data) < _start(count):
        return None
    return [_LENGTH.unpack_from(data, _COUNT.size + i * _LENGTH.size)[0] for i in range(count)]


def _cut(data: memoryview, sizes: Sequence[int]) -> list[Any]:
    parts, at = [], _start(len(sizes))
    for size in sizes:
        parts.append(data[at : at + size])
        at += size + -size % _WORD
    return parts
