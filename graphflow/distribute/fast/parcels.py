"""Values on a connection between two workers: framing, for bytes that follow and for slots.

    fixed part     magic, kind, length of the head, number of arrays, the attempt
    per array      where it is (it follows, or lies in a slot), slot, length, size of the slot
    head           what is the same in each step, see `channel`
    bytes of the arrays that follow

The descriptor of a slot comes beside the first frame that names it (SCM_RIGHTS).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from graphflow.distribute.fast.codec import HEAD_LIMIT
from graphflow.distribute.fast.greeting import PATIENCE, fill
from graphflow.distribute.fast.slots import LEAST, READERS, SEALS, Buffers, Slot
from graphflow.distribute.fast.values import ARRAYS_LIMIT, Buffer, Malformed
from graphflow.distribute.messages import Ticket

MAGIC = b"gd"
_FIXED = struct.Struct("<2sBxIIQQQ")
_ARRAY = struct.Struct("<BBxxIQQ")
_NONE = Ticket(0, 0, 0)  # attempt of a frame that belongs to none
_SIZE_LIMIT = 1 << 40  # bytes of an array
# Bytes to receive at once within a machine: most often a whole frame, whose values lie in slots.
# Between machines values follow, and are received from their first byte where they belong: none is
# copied twice, and the rest would lie across the lines of the cache.
_AHEAD = 512
_BESIDE = socket.CMSG_SPACE(4 * 253)  # bytes; the kernel's limit on descriptors of one message


class Kind(IntEnum):
    """What a frame is for."""

    VALUE = 1  # of a transfer: the head tells which
    SPACE = 2  # the same, but it is memory to write to
    FORGET = 3  # the slots of these numbers are no more


class Where(IntEnum):
    """Where an array's bytes are."""

    HERE = 0  # they follow
    SLOT = 1
    OPEN_SLOT = 2  # and the reader may write there


class Lent(NamedTuple):
    """An array that lies in a slot.

    Attributes:
      slot: of the sender.
      size: bytes.
      writeable: the reader may write there.
    """

    slot: Slot
    size: int
    writeable: bool = False


def pack(
    kind: Kind,
    head: bytes,
    arrays: Sequence[Buffer | Lent],
    reader: int = 0,
    ticket: Ticket = _NONE,
) -> list[Buffer]:
    """The parts of a frame for a reader of slots."""
    table, follow = [_FIXED.pack(MAGIC, kind, len(head), len(arrays), *ticket)], []
    for array in arrays:
        if isinstance(array, Lent):
            where = Where.OPEN_SLOT if array.writeable else Where.SLOT
            table.append(_ARRAY.pack(where, reader, array.slot.number, array.size, array.slot.size))
        else:
            view = memoryview(array).cast("B")
            table.append(_ARRAY.pack(Where.HERE, 0, 0, len(view), 0))
            follow.append(view)
    return [b"".join([*table, head]), *follow]


class Frame(NamedTuple):
    """Attributes:
    kind: what it is for.
    ticket: the attempt that it belongs to.
    head: bytes.
    arrays: the bytes of each.
    """

    kind: Kind
    ticket: Ticket
    head: bytes
    arrays: list[Any]


class Reader:
    """Reads the frames of one connection, and maps the slots that they name."""

    def __init__(
        self, connection: Any, buffers: Buffers, planned: Callable[[Ticket, bytes, int], Any]
    ):
        """Args:
        connection: a socket, on which the other side is known.
        buffers: to receive into; but
        planned: gives memory of so many bytes for what an attempt and a head announce, or None.
        """
        self._planned = planned
        self._connection = connection
        connection.settimeout(PATIENCE)
        self._buffers = buffers
        self._local = getattr(connection, "family", None) == socket.AF_UNIX
        self._left = b""  # received, and not read
        self._descriptors: deque[int] = deque()
        self._slots: dict[int, Slot] = {}

    def read(self) -> Iterator[Frame]:
        """The next frame, and those that have come with it.  The first one may be long in coming,
        but what has begun must go on: who reads for others would wait for ever for a peer that has
        stopped in the middle.

        Raises:
          EOFError: the connection has ended.
          Malformed: what has come is no frame; nothing after it can be read.
          OSError: the connection failed; TimeoutError: nothing came for `PATIENCE` seconds in the
            middle of a frame.
        """
        yield self._frame()
        while self._left:
            yield self._frame()
        if self._descriptors:  # they would fill the table of this process
            raise Malformed(f"{len(self._descriptors)} descriptors that no array names")

    def _frame(self) -> Frame:
        self._await(_FIXED.size)
        magic, number, length, count, *ticket = _FIXED.unpack_from(self._left)
        if magic != MAGIC or number not in _KINDS or length > HEAD_LIMIT or count > ARRAYS_LIMIT:
            raise Malformed(f"a frame that begins with {magic!r}, {number}, {length}, {count}")
        start = _FIXED.size + count * _ARRAY.size
        self._await(start + length)
        begun, self._left = self._left, self._left[start + length :]
        head, of = begun[start : start + length], Ticket(*ticket)
        arrays = [
            self._array(of, head, *_ARRAY.unpack_from(begun, _FIXED.size + i * _ARRAY.size))
            for i in range(count)
        ]
        return Frame(_KINDS[number], of, head, arrays)

    def _await(self, size: int) -> None:
        """Receive until so many bytes are left."""
        while (missing := size - len(self._left)) > 0:
            if missing > _AHEAD:  # of a long head
                rest = bytearray(missing)
                fill(self._connection, memoryview(rest))
                self._left += rest
                return
            try:
                some = self._some(_AHEAD if self._local else missing)
            except TimeoutError:
                if self._left:
                    raise
                continue
            if not some:
                raise EOFError("the connection has ended")
            self._left = self._left + some if self._left else some

    def _some(self, size: int) -> bytes:
        if not self._local:
            received: bytes = self._connection.recv(size)
            return received
        some, beside, _, _ = self._connection.recvmsg(size, _BESIDE, socket.MSG_CMSG_CLOEXEC)
        for _, _, data in beside:
            self._descriptors.extend(memoryview(data).cast("i"))
        return bytes(some)

    def _fill(self, view: memoryview) -> None:
        """Receive into memory, until it is full."""
        ahead = self._left[: len(view)]
        view[: len(ahead)] = ahead
        self._left = self._left[len(ahead) :]
        fill(self._connection, view[len(ahead) :])

    def _array(
        self,
        ticket: Ticket,
        head: bytes,
        where: int,
        reader: int,
        number: int,
        size: int,
        whole: int,
    ) -> Any:
        if size > _SIZE_LIMIT or where not in _WHERES or reader >= READERS:
            raise Malformed(f"an array of {size} bytes at {where} for reader {reader}")
        if where == Where.HERE:
            array = self._planned(ticket, head, size) if size >= LEAST else None
            if array is None:
                array = self._buffers.take(size)
            self._fill(array.data)
            return array
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = self._map(number, whole)
        if size > slot.size:
            raise Malformed(f"{size} bytes of a slot of {slot.size}")
        return slot.view(size, reader, where == Where.OPEN_SLOT)

    def _map(self, number: int, size: int) -> Slot:
        if not self._descriptors:
            raise Malformed(f"slot {number} is unknown")
        descriptor = self._descriptors.popleft()
        try:
            if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS != SEALS:
                raise Malformed("a slot that may shrink")
            if size > _SIZE_LIMIT or os.fstat(descriptor).st_size != READERS + size:
                raise Malformed(f"a slot that has not {size} bytes")
            return Slot(number, descriptor, size)
        finally:
            os.close(descriptor)

    def forget(self, frame: Frame) -> None:
        """Unmap the slots that a frame names, as soon as nothing refers to them.

        Raises:
          Malformed: it names none.
        """
        for array in frame.arrays:
            if len(array) % 4:
                raise Malformed(f"numbers of slots in {len(array)} bytes")
            for number in array.view(np.uint32):
                self._slots.pop(int(number), None)

    def close(self) -> None:
        """Close descriptors that nobody has asked for."""
        while self._descriptors:
            os.close(self._descriptors.popleft())


_KINDS = {int(kind): kind for kind in Kind}
_WHERES = frozenset(int(where) for where in Where)
