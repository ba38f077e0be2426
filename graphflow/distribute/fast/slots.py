"""Shared memory between the processes of a machine: slots that are written once, read by several
peers where they lie, and used again when all of those have let go.

A slot is a memory file without a name (memfd), whose descriptor goes to a peer over a Unix socket.
So nothing is left behind when a process is killed, and a container's small /dev/shm is no limit.
Its first bytes are flags, one per reader, set by the writer and cleared by the reader: no message
says that a slot is free.  A reader that is given up clears no flag; it may live, frozen, and go on
for a moment to use what it has before it is ended.  So what is lent to it then is never lent again,
and is given back to the system when the others have let go.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

READERS = 64  # flags, and so peers on a machine that may share a slot; a cache line
OWN = READERS - 1  # the flag of the process that has made a slot
_NOBODY = bytes(READERS)  # to compare bytes takes a fifth of the time of `any`
LEAST = 1 << 14  # bytes; smaller values are copied through the socket in less time
LIMIT = 1 << 30  # bytes of slots that a process keeps
# Its size is fixed, so that a reader need not fear that it shrinks, which would end the process.
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class _Watch(weakref.ref[Any]):
    """Sees an array go."""

    __slots__ = ("argument", "function")
    function: Callable[[Any], Any]
    argument: Any


_watches: dict[int, _Watch] = {}


def when_dropped(array: Any, function: Callable[[Any], Any], argument: Any) -> None:
    """Call a function when nothing refers to an array, or to a view of it, any more; not when the
    process ends.  As `weakref.finalize`, which takes three times as long: 14 us of a step that has
    just gone through megabytes, after which no code is in the cache."""
    watch = _Watch(array, _dropped)
    watch.function, watch.argument = function, argument
    _watches[id(watch)] = watch


def _dropped(watch: _Watch) -> None:
    del _watches[id(watch)]
    watch.function(watch.argument)


class Slot:
    """A piece of shared memory, in a process that has it mapped.

    Attributes:
      number: its name among the slots of its owner.
      size: bytes of data.
      data: the bytes.
      spoiled: somebody who was given up may still read or write it.
    """

    def __init__(self, number: int, descriptor: int, size: int):
        self.spoiled = False
        self.number = number
        self.size = size
        self.descriptor = descriptor
        self._whole = mmap.mmap(descriptor, READERS + size)
        everything = np.frombuffer(self._whole, np.uint8)
        self._flags, self.data = everything[:READERS], everything[READERS:]

    @property
    def free(self) -> bool:
        """Have all readers let go?"""
        return self._flags.data == _NOBODY

    @property
    def unread(self) -> bool:
        """Have all readers but this process let go?"""
        return not self.spoiled and self._flags.data[:OWN] == _NOBODY[:OWN]

    def is_lent(self, reader: int) -> bool:
        """Has that reader not let go?"""
        return bool(self._flags[reader])

    def lend(self, readers: Iterable[int]) -> None:
        """Set the flags of those who will read it."""
        for reader in readers:
            self._flags[reader] = 1

    def give_back(self, reader: int) -> None:
        """Clear the flag of a reader."""
        self._flags[reader] = 0

    def view(self, size: int, reader: int, writeable: bool = False) -> Bytes:
        """The first bytes, as an array; the reader's flag is cleared when nothing refers to that
        array, or to a view of it, any more."""
        view = np.frombuffer(self._whole, np.uint8, size, READERS)
        if not writeable:
            view.flags.writeable = False
        when_dropped(view, self.give_back, reader)
        return view


class Pool:
    """The slots of one process.

    Attributes:
      bytes: of all its slots.
      dropped: numbers of slots that are no more, for whoever has to tell the readers.
    """

    def __init__(self, name: str, limit: int = LIMIT):
        """Args:
        name: shows in /proc/PID/maps; a job's.
        limit: bytes.
        """
        self.bytes = 0
        self.dropped: list[int] = []
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._slots: dict[int, list[Slot]] = {}  # by size
        self._count = 0

    def take(self, size: int, readers: Iterable[int]) -> Slot | None:
        """A free slot of at least that size, lent to these readers; None: there is no room."""
        size = _rounded(size)
        with self._lock:
            slots = self._slots.setdefault(size, [])
            slot = next((s for s in slots if s.free and not s.spoiled), None)
            if slot is None and self._has_room(size):
                slot = self._make(size)
                if slot is not None:
                    slots.append(slot)
            if slot is not None:
                slot.lend(readers)
            return slot

    def lend(self, slot: Slot, reader: int) -> bool:
        """Lend a slot that the caller holds to one more reader, unless that one has it already: it
        has one flag, and would clear it when it lets go of what it got first."""
        with self._lock:
            if slot.spoiled or slot.is_lent(reader):
                return False
            slot.lend([reader])
            return True

    def _has_room(self, size: int) -> bool:
        """Make room by dropping free slots: those of no use any more, and others if need be."""
        for slots in self._slots.values():
            for slot in [s for s in slots if s.free]:
                if not slot.spoiled and self.bytes + size <= self._limit:
                    continue
                slots.remove(slot)
                os.close(slot.descriptor)
                self.bytes -= slot.size
                self.dropped.append(slot.number)
        return self.bytes + size <= self._limit

    def _make(self, size: int) -> Slot | None:
        """None: the system has no descriptor or no addresses left."""
        self._count += 1
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        try:
            descriptor = os.memfd_create(f"{self._name}-{self._count}", flags)
        except OSError:
            return None
        try:
            os.ftruncate(descriptor, READERS + size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
            slot = Slot(self._count, descriptor, size)
        except OSError:
            os.close(descriptor)
            return None
        self.bytes += size
        return slot

    def release(self, reader: int) -> None:
        """A reader is given up: it will clear no flag."""
        with self._lock:
            for slots in self._slots.values():
                for slot in slots:
                    if slot.is_lent(reader):
                        slot.spoiled = True
                        slot.give_back(reader)

    def close(self) -> None:
        """Close the descriptors; what is mapped stays as long as something refers to it."""
        with self._lock:
            self._limit = -1  # a step that is under way would make one that nobody closes
            for slots in self._slots.values():
                for slot in slots:
                    os.close(slot.descriptor)
            self._slots.clear()
            self.bytes = 0


def _rounded(size: int) -> int:
    """At most an eighth more, so that values of about one size use the same slots."""
    step = max(4096, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step


class Buffers:
    """Memory to receive into, used again when nothing refers to it.

    A fresh array of megabytes costs a page fault per 4 KB, as much time as to fill it.
    """

    def __init__(self, limit: int = 256 << 20):
        self._limit = limit
        self._free: dict[int, list[Bytes]] = {}
        self._kept = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> Bytes:
        """An array of that many bytes; its memory comes back by itself."""
        if size < LEAST:
            return np.empty(size, np.uint8)
        rounded = _rounded(size)
        with self._lock:
            free = self._free.get(rounded)
            memory = free.pop() if free else None
            self._kept -= rounded if memory is not None else 0
        if memory is None:
            memory = np.empty(rounded, np.uint8)
        view = np.frombuffer(memory.data, np.uint8, size)
        when_dropped(view, self._put, memory)
        return view

    def _put(self, memory: Bytes) -> None:
        # A finalizer may run while this thread holds the lock: it must not wait for it.
        if self._lock.acquire(blocking=False):
            try:
                if self._kept + len(memory) <= self._limit:
                    self._kept += len(memory)
                    self._free.setdefault(len(memory), []).append(memory)
            finally:
                self._lock.release()
