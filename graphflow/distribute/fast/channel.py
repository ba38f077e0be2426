"""A session's way for values from one worker to another, past Ray.

What is said of a value, but for the attempt, is the same in each step.  So both ends make it once:
in a step that has just gone through megabytes no code is in the cache, and what takes 3 us
otherwise takes 20.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from graphflow.base.errors import ResourceExhaustedError
from graphflow.distribute.channel import Channel
from graphflow.distribute.fast import codec
from graphflow.distribute.fast.codec import Parcel
from graphflow.distribute.fast.desk import Bell
from graphflow.distribute.fast.parcels import Frame, Kind, Lent
from graphflow.distribute.fast.peers import Peers
from graphflow.distribute.fast.slots import LEAST, OWN, Slot, when_dropped
from graphflow.distribute.fast.values import Layout, Malformed, Unencodable, layout, named
from graphflow.distribute.messages import Ticket

_HEADS = 4096  # that are remembered
_HEAD = 1024  # bytes of one that is; what holds strings may have megabytes
_KEPT = 16  # places for values to send that a session keeps at most, see `FastChannel.place`


class FastChannel(Channel):
    """Values in slots of shared memory, or on the connection itself.

    Attributes:
      counts: values "sent", and their "bytes".
    """

    def __init__(self, session: str, peers: Peers, slow: Channel):
        """Args:
        session: its name.
        peers: this worker's connections.
        slow: takes values that are no plain data.
        """
        self.counts: Counter[str] = Counter()
        self._session = session
        self._peers = peers
        self._slow = slow
        self._placed: dict[int, Slot] = {}  # memory for values -> where it is, while it is held
        self._heads: dict[Any, bytes] = {}  # key, dtype and shape -> what is said of such an array
        self._kept: dict[int, list[tuple[Any, Slot]]] = {}  # such memory, by size, to use again

    def send(self, worker: str, ticket: Ticket, key: str, value: Any) -> None:
        try:
            head, arrays = self._packed(key, value)
        except Unencodable:
            self._slow.send(worker, ticket, key, value)
            return
        self._count(arrays)
        if self._peers.shares_memory([worker]):
            arrays = [self._lent(worker, a) if len(a) >= LEAST else a for a in arrays]
        self._peers.send(worker, ticket, head, arrays)

    def _packed(self, key: str, *value: Any) -> tuple[bytes, list[Any]]:
        """What is said of a value, and the bytes of its arrays; of none, of memory to write to."""
        array = value[0] if value else None
        if type(array) is not np.ndarray or named(array.dtype) is None:
            return codec.encode(Parcel(self._session, key, value))
        kind = key, array.dtype, array.shape
        head = self._heads.get(kind)
        if head is not None:
            return head, [np.ascontiguousarray(array).reshape(-1).view(np.uint8)]
        if len(self._heads) == _HEADS:
            self._heads.clear()
        head, arrays = codec.encode(Parcel(self._session, key, value))
        self._heads[kind] = head
        return head, arrays

    def _count(self, arrays: Sequence[Any]) -> None:
        self.counts["sent"] += 1
        self.counts["bytes"] += sum(len(a) for a in arrays)

    def place(self, worker: str, size: int) -> Any:
        if size < LEAST or not self._peers.shares_memory([worker]):
            return None
        for memory, slot in self._kept.get(size, ()):
            # held by: the tuple, the loop's name, the argument
            if sys.getrefcount(memory) == 3 and slot.unread:
                return memory
        fresh = self._slot(size, ())
        return None if fresh is None else self._keep(fresh, size)

    def _keep(self, slot: Slot, size: int) -> Any:
        """A slot's memory, and for the steps to come, too: to take it anew costs each 16 us."""
        if sum(map(len, self._kept.values())) >= _KEPT:
            self._kept.clear()
        memory = slot.view(size, OWN, writeable=True)
        kept = [each for each in self._kept.get(size, ()) if not each[1].spoiled]
        self._kept[size] = [*kept, (memory, slot)]
        self._placed[id(memory)] = slot
        when_dropped(memory, self._placed.pop, id(memory))
        return memory

    def _slot(self, size: int, peers: Collection[str], own: bool = True) -> Slot | None:
        """See `Peers.slot`; what is kept makes room."""
        slot = self._peers.slot(size, peers, own)
        if slot is None and self._kept:
            self._kept.clear()
            slot = self._peers.slot(size, peers, own)
        return slot

    def _lent(self, worker: str, array: Any) -> Any:
        base = array.base
        slot = self._placed.get(id(base))
        if slot is not None and len(base) == len(array) and self._peers.lend(slot, worker):
            return Lent(slot, len(array))  # it was made where it lies
        slot = self._slot(len(array), [worker], own=False)
        if slot is None:  # no room: it goes through the socket
            return array
        slot.data[: len(array)] = array
        return Lent(slot, len(array))

    piece = 1 << 20

    def bell(self) -> threading.Condition:
        return Bell(self._peers.desk)

    def expect(self, ticket: Ticket, key: str, memory: Any) -> None:
        self._peers.expect((self._session, ticket, key), memory.view(np.uint8))

    def memory(self, size: int) -> Any:
        return self._peers.buffers.take(size)

    def lend(self, to: Mapping[str, str], ticket: Ticket, arrays: Sequence[Any]) -> Any:
        if not self._peers.shares_memory(to.values()):
            return None
        size = sum(a.nbytes for a in arrays)
        slot = self._slot(size, to.values())
        if slot is None:
            flat = np.concatenate(arrays)
        else:
            flat = slot.view(size, OWN, writeable=True).view(arrays[0].dtype)
            np.concatenate(arrays, out=flat)
        for key, worker in to.items():
            head, found = self._packed(key, flat)
            self._count(found)
            self._peers.send(worker, ticket, head, [Lent(slot, size)] if slot else found)
        return flat

    def space(self, to: Mapping[str, str], ticket: Ticket, size: int) -> Any:
        if not self._peers.shares_memory(to.values()):
            return None
        slot = self._slot(size, to.values())
        if slot is None:
            raise ResourceExhaustedError(
                None, None, f"no room for {size} bytes among the values that peers still use"
            )
        for key, worker in to.items():
            head, _ = self._packed(key)
            self._peers.send(worker, ticket, head, [Lent(slot, size, True)], Kind.SPACE)
        return slot.view(size, OWN, writeable=True)


def place_of(ticket: Ticket, head: bytes) -> Any:
    """What `Peers.expect` knows a value by; None: the head is not that of one."""
    try:
        parcel, _ = _read(head)
    except Malformed:
        return None  # opening it will say so
    return (parcel.session, ticket, parcel.key)


def opened(frame: Frame) -> tuple[str, Ticket, str, Any]:
    """Session, ticket, key and value of what a peer has sent.

    Raises:
      Malformed: it is no parcel.
    """
    parcel, layout = _read(frame.head)
    value: Any
    if layout is None and frame.kind is Kind.VALUE:
        values = codec.decode(frame.head, frame.arrays).value
        value = values[0] if values else None
    else:
        if len(frame.arrays) != 1 or (layout and layout.size != len(frame.arrays[0])):
            raise Malformed(f"{len(frame.arrays)} arrays for a value of {layout}")
        value = frame.arrays[0]
        if layout:
            value = np.ndarray(layout.shape, layout.dtype, value)
            value.setflags(write=False)
    return parcel.session, frame.ticket, parcel.key, value


def _read(head: bytes) -> tuple[Parcel, Layout | None]:
    """What a head says."""
    return _remembered(head) if len(head) <= _HEAD else _remembered.__wrapped__(head)


@lru_cache(maxsize=_HEADS)
def _remembered(head: bytes) -> tuple[Parcel, Layout | None]:
    parcel = codec.address(head)
    return parcel, layout(parcel.value)
