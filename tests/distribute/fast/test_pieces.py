"""Frames that come in pieces, and where their bytes are received."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest

from graphflow.distribute.fast.parcels import Kind, Reader, pack
from graphflow.distribute.fast.slots import Buffers
from graphflow.distribute.messages import Ticket
from tests.distribute.fast.linked import FLOATS, TICKET
from tests.until import PATIENCE


class Metered:
    """A connection that tells how many bytes were received in which way, and at most so many at
    once."""

    def __init__(self, connection, most=1 << 20):
        self._connection = connection
        self._most = most
        self.received = Counter()

    def recv(self, size):
        return self._came("new memory", self._connection.recv(min(size, self._most)))

    def recvmsg(self, size, *options):
        data, *rest = self._connection.recvmsg(min(size, self._most), *options)
        return self._came("new memory", data), *rest

    def recv_into(self, view):
        count = self._connection.recv_into(view[: self._most])
        self.received["planned memory"] += count
        return count

    def _came(self, way, data):
        self.received[way] += len(data)
        return data

    def __getattr__(self, name):
        return getattr(self._connection, name)


def connection(family):
    """Both ends."""
    if family == socket.AF_UNIX:
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        return here, listener.accept()[0]


@pytest.mark.parametrize(("family", "twice"), [(socket.AF_INET, 0), (socket.AF_UNIX, 512)])
def test_bytes_that_follow_are_received_where_they_belong_and_copied_nowhere_else(family, twice):
    size = 4 << 20
    memory = np.zeros(size, np.uint8)
    sent = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    here, there = connection(family)
    with here, there:
        metered = Metered(there)
        reader = Reader(metered, Buffers(), lambda ticket, head, size: memory)
        sender = threading.Thread(
            target=lambda: [here.sendall(p) for p in pack(Kind.VALUE, FLOATS, [sent], 0, TICKET)]
        )
        sender.start()
        (frame,) = reader.read()
        sender.join(PATIENCE)
    assert frame.arrays[0] is memory
    np.testing.assert_array_equal(memory, sent)
    assert metered.received["planned memory"] >= size - twice
    assert sum(metered.received.values()) < size + 512


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize("most", [1, 7, 512])
def test_frames_may_come_in_any_pieces(most, family):
    arrays = [np.full(size, size % 251, np.uint8) for size in (3, 0, 40, 2000)]
    head = b"h" * 700
    here, there = connection(family)
    with here, there:
        for ticket in (TICKET, Ticket(1, 2, 3)):
            here.sendall(b"".join(map(bytes, pack(Kind.VALUE, head, arrays, 0, ticket))))
            here.sendall(b"".join(map(bytes, pack(Kind.VALUE, b"", [], 0, ticket))))
        here.shutdown(socket.SHUT_WR)
        reader = Reader(Metered(there, most), Buffers(), lambda ticket, head, size: None)
        frames = []
        with suppress(EOFError):
            while True:
                frames += reader.read()
    assert [f.ticket for f in frames] == [TICKET, TICKET, Ticket(1, 2, 3), Ticket(1, 2, 3)]
    for frame, rest in (frames[:2], frames[2:]):
        assert frame.head == head
        assert [bytes(a) for a in frame.arrays] == [bytes(a) for a in arrays]
        assert rest.head == b""
