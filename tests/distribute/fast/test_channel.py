"""Values between the workers of a job, over every kind of connection, within one process."""

from __future__ import annotations

import gc
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from graphflow.distribute.fast import certificates, codec, doorway, greeting
from graphflow.distribute.fast.channel import FastChannel, opened, place_of
from graphflow.distribute.fast.codec import Parcel
from graphflow.distribute.fast.greeting import Refused, greet
from graphflow.distribute.fast.parcels import MAGIC, Kind, Reader, pack
from graphflow.distribute.fast.peers import Access, Peers
from graphflow.distribute.fast.slots import LEAST, OWN, READERS, Buffers, Pool
from graphflow.distribute.messages import Ticket

PATIENCE = 5.0
workers_now = []
KEY = b"k" * 32
TICKET = Ticket(0, 1, 1)
PLAIN = Access("test", KEY, "127.0.0.1", shared_memory=False)
WAYS = {
    "shared": PLAIN._replace(shared_memory=True),
    "sockets": PLAIN,
    "tls": Access(*PLAIN[:4], *certificates.make("test")),
}

FLOATS, _ = codec.encode(Parcel("s", "k", [np.zeros(2, np.float32)]))


class Worker:
    def __init__(self, name, access):
        self._came = []
        self._lost = []
        self.odd = []
        self.peers = Peers(name, access, self._take, place_of, self._lose)
        self.channel = FastChannel("s", self.peers, self)
        self.bell = self.channel.bell()

    def _take(self, frame):
        with self.bell:
            self._came.append(opened(frame)[1:])
            self.bell.notify_all()

    def _lose(self, name):
        with self.bell:
            self._lost.append(name)
            self.bell.notify_all()

    def send(self, *arguments):
        self.odd.append(arguments)

    def _first(self, found, patience=PATIENCE):
        with self.bell:
            assert self.bell.wait_for(lambda: found, patience)
            return found.pop(0)

    def parcel(self):
        return self._first(self._came)

    def value(self):
        return self.parcel()[-1]

    def lost(self):
        return self._first(self._lost)

    def hears_nothing(self):
        with self.bell:
            return not self.bell.wait_for(lambda: self._came or self._lost, 0.01)


@contextmanager
def workers(access, count=2):
    found = [Worker(name, access) for name in "abcd"[:count]]
    addresses = {w.peers.name: w.peers.address for w in found}
    workers_now[:] = found
    for worker in found:
        worker.peers.meet(addresses)
    try:
        yield found
    finally:
        workers_now.clear()
        for worker in found:
            worker.peers.close()


def slots_of(worker):
    return [slot for slots in worker.peers.pool._slots.values() for slot in slots]


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        for worker in workers_now:
            worker.hears_nothing()
        gc.collect()


@pytest.mark.parametrize("way", WAYS)
def test_values_of_all_sizes_come_in_order(way):
    with workers(WAYS[way]) as (a, b):
        sent = [np.arange(n, dtype=np.float32) for n in (0, 1, 5000, 1_000_000, 3)]
        for i, value in enumerate([*sent, (sent[1], sent[3]), None, 2.5]):
            a.channel.send("b", TICKET, f"k{i}", value)
        for i, value in enumerate(sent):
            ticket, key, got = b.parcel()
            assert (ticket, key) == (TICKET, f"k{i}")
            np.testing.assert_array_equal(got, value)
            assert not got.flags.writeable
        first, second = b.value()
        np.testing.assert_array_equal(first, sent[1])
        np.testing.assert_array_equal(second, sent[3])
        assert b.value() is None
        assert b.value() == 2.5
        assert a.channel.counts["sent"] == 8
        del got, first, second


def test_memory_is_used_again_when_the_reader_has_let_go():
    with workers(WAYS["shared"]) as (a, b):
        value = np.arange(LEAST, dtype=np.float64)
        for i in range(5):
            a.channel.send("b", TICKET, "k", value + i)
            got = b.value()
            np.testing.assert_array_equal(got, value + i)
            part = got[10:20]
            del got
        assert len(slots_of(a)) == 2  # one that `part` keeps, one for the next value
        for _ in range(3):
            a.channel.send("b", TICKET, "k", value)
            b.value()
        np.testing.assert_array_equal(part, value[10:20] + 4)


def test_steps_that_are_under_way_at_the_end_make_no_more_memory():
    with workers(WAYS["shared"]) as (a, _):
        a.peers.close()
        assert a.channel.place("b", 8 * LEAST) is None
        a.channel.send("b", TICKET, "k", np.arange(LEAST))
        assert slots_of(a) == []  # and no descriptor: see `leaks`


def test_without_room_values_go_through_the_socket():
    with workers(WAYS["shared"]) as (a, b):
        a.peers.pool._limit = 0
        value = np.arange(100_000)
        a.channel.send("b", TICKET, "k", value)
        np.testing.assert_array_equal(b.value(), value)
        assert a.peers.pool.bytes == 0


def test_what_is_made_where_it_can_be_read_is_not_copied():
    with workers(WAYS["shared"]) as (a, b):
        size = 8 * LEAST
        assert a.channel.place("b", LEAST - 1) is None
        assert a.channel.place("nobody", size) is None
        value = a.channel.place("b", size).view(np.float64)
        assert value.ctypes.data % 64 == 0
        value[:] = np.arange(LEAST)
        a.channel.send("b", TICKET, "k", value.reshape(2, -1))
        got = b.value()
        np.testing.assert_array_equal(got, np.arange(LEAST).reshape(2, -1))
        (slot,) = slots_of(a)
        value[0] = 7  # what nobody may do: it shows that this is the same memory
        assert got[0, 0] == 7
        del value
        assert not slot.unread
        value = a.channel.place("b", size)
        assert len(slots_of(a)) == 2  # the first one is read
        del got
        assert slot.unread
        again = a.channel.place("b", size)
        assert np.shares_memory(again, slot.data)  # nobody has it, and `value` the other one
        part = again[8:16].view(np.float64)
        del again
        assert not np.shares_memory(a.channel.place("b", size), part)  # a view has it
        assert len(slots_of(a)) == 3
        del value, part
        a.channel._kept.clear()
        assert all(s.free for s in slots_of(a))
        assert not a.channel._placed


def test_places_that_are_kept_leave_room():
    with workers(WAYS["shared"]) as (a, b):
        a.peers.pool._limit = 1 << 20
        assert a.channel.place("b", 1 << 19) is not None
        value = np.arange(100_000)
        a.channel.send("b", TICKET, "k", value)
        np.testing.assert_array_equal(b.value(), value)
        assert [s.size >= value.nbytes for s in slots_of(a)] == [True]  # it was no use of a socket
        for size in range(LEAST, LEAST + 40):
            a.channel.place("b", size)
        assert len(a.channel._placed) <= 16


def test_what_was_made_in_a_slot_is_copied_when_it_is_not_the_first_or_not_the_whole():
    """A reader has one flag: it clears it when it lets go of the first of two."""
    with workers(WAYS["shared"]) as (a, b):
        value = a.channel.place("b", 16 * LEAST).view(np.float64)
        value[:] = np.arange(2 * LEAST)
        for part in (value, value, value[LEAST:]):
            a.channel.send("b", TICKET, "k", part)
        first, second, part = b.value(), b.value(), b.value()
        value[-1] = 7
        assert [x[-1] for x in (first, second, part)] == [7, 2 * LEAST - 1, 2 * LEAST - 1]
        assert part[0] == LEAST
        del value, first
        assert [s.unread for s in slots_of(a)] == [True, False, False]
        np.testing.assert_array_equal(second, np.arange(2 * LEAST))


def test_slots_that_are_dropped_are_forgotten_by_readers():
    with workers(WAYS["shared"]) as (a, b):
        a.peers.pool._limit = 1 << 20
        for size in (1 << 19, 700_000, 1 << 19):
            value = np.full(size, 7, np.uint8)
            a.channel.send("b", TICKET, "k", value)
            np.testing.assert_array_equal(b.value(), value)
            until(lambda: all(s.free for s in slots_of(a)))
        assert a.peers.pool.bytes <= 1 << 20
        until(lambda: Path("/proc/self/maps").read_text().count("graphflow-test") == 2)  # both ends


def test_memory_that_all_may_write_to():
    with workers(WAYS["shared"], 3) as (a, b, c):
        flat = a.channel.lend({"in": "b", "in2": "c"}, TICKET, [np.ones(2), np.full(3, 2.0)])
        for worker in (b, c):
            np.testing.assert_array_equal(worker.value(), [1, 1, 2, 2, 2])
        np.testing.assert_array_equal(flat, [1, 1, 2, 2, 2])
        space = a.channel.space({"sum": "b", "sum2": "c"}, TICKET, 24)
        others = [worker.value() for worker in (b, c)]
        for i, memory in enumerate([space, *others]):
            memory.view(np.float64)[i] = i + 1.0
        for memory in (space, *others):
            np.testing.assert_array_equal(memory.view(np.float64), [1, 2, 3])
        del space, others, memory, flat
        until(lambda: all(s.free for s in slots_of(a)))


def test_values_are_received_where_they_are_expected():
    with workers(PLAIN) as (a, b):
        memory = np.zeros(LEAST, np.uint8)
        later = Ticket(0, 2, 2)
        for ticket, size in ((TICKET, LEAST), (later, LEAST)):
            b.channel.expect(ticket, "k", memory[:size])
            a.channel.send("b", ticket, "other", np.ones(LEAST, np.uint8))
            assert b.value().any()
            assert not memory.any()
            a.channel.send("b", ticket, "k", np.full(LEAST, 7, np.uint8))
            got = b.value()
            assert np.shares_memory(got, memory)
            assert (memory == 7).all()
            memory[:] = 0
        b.channel.expect(TICKET, "k", memory)
        a.channel.send("b", TICKET, "k", np.full(LEAST + 1, 7, np.uint8))  # of another size
        assert len(b.value()) == LEAST + 1
        assert not memory.any()


def test_a_key_may_name_other_arrays_than_before():
    """What was said of the last one is said again of its like only."""
    with workers(PLAIN) as (a, b):
        x = np.arange(12, dtype=np.int32)
        kinds = [x, x.reshape(3, 4), x.reshape(3, 4).T, x[::2], x[:6], x.astype(">i4"), x[3:4][0],
                 x.view(np.uint32), np.array(["a", "b"], object), x.astype(np.float32), x[:0],
                 np.array(7, np.int32), (x,), [x], None]  # fmt: skip
        for value in kinds * 2:
            a.channel.send("b", TICKET, "k", value)
            got = b.value()
            assert type(got) is type(value)
            if isinstance(value, np.ndarray):
                assert got.dtype == value.dtype.newbyteorder("=")
            np.testing.assert_array_equal(got, value)


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


def test_without_shared_memory_nothing_is_lent():
    with workers(PLAIN) as (a, b):
        assert a.channel.lend({"in": "b"}, TICKET, [np.ones(2)]) is None
        assert a.channel.space({"in": "b"}, TICKET, 8) is None
        assert not b.peers.shares_memory(["a"])


def test_what_is_no_plain_data_goes_the_other_way():
    with workers(PLAIN) as (a, _):
        odd = object()
        a.channel.send("b", TICKET, "k", odd)
        assert a.odd == [("b", TICKET, "k", odd)]


@pytest.mark.parametrize("way", WAYS)
def test_a_sender_does_not_wait_and_the_end_of_a_peer_is_told(way):
    with workers(WAYS[way]) as (a, b):
        a.channel.send("b", TICKET, "k", 1)
        b.channel.send("a", TICKET, "k", 1)
        assert a.value() == b.value() == 1
        start = time.monotonic()
        b.peers.close()
        assert a.lost() == b.peers.address.local
        for _ in range(3):  # nobody is there to take them
            a.channel.send("b", TICKET, "k", np.zeros(1_000_000))
        a.channel.send("nobody", TICKET, "k", 1)
        assert time.monotonic() - start < PATIENCE
        until(lambda: all(s.free for s in slots_of(a)))


@pytest.mark.parametrize("way", WAYS)
def test_a_peer_who_cannot_be_reached_is_told(way):
    """It lives, and would wait for ever."""
    with workers(WAYS[way]) as (a, b):
        b.peers._doorway.close()
        until(lambda: all(s.fileno() < 0 for s in b.peers._doorway._listeners))
        a.channel.send("b", TICKET, "k", np.zeros(LEAST, np.uint8))
        assert a.lost() == b.peers.address.local
        until(lambda: all(s.free for s in slots_of(a)))


def test_who_takes_the_place_of_a_lost_peer_keeps_what_is_lent_to_it():
    """Though the end of the lost one is noticed later."""
    with workers(WAYS["shared"]) as (a, b):
        b.channel.send("a", TICKET, "k", 1)
        assert a.value() == 1
        fresh = Worker("b", WAYS["shared"])
        try:
            a.peers.meet({"a": a.peers.address, "b": fresh.peers.address})
            a.channel.send("b", TICKET, "k", np.full(LEAST, 7, np.uint8))
            b.peers.close()
            assert a.lost() == b.peers.address.local
            a.channel.send("b", TICKET, "k", np.full(LEAST, 8, np.uint8))
            first, second = fresh.value(), fresh.value()
            assert (first == 7).all()
            assert (second == 8).all()
            del first, second
            workers_now[:] = [fresh]
            until(lambda: all(s.free for s in slots_of(a)))
        finally:
            fresh.peers.close()


LENDER = """
import os, socket, sys
from graphflow.distribute.fast.parcels import Kind, Lent, pack
from graphflow.distribute.fast.slots import Pool

slot = Pool("graphflow-killed").take(1 << 20, [3])
slot.data[:] = 7
frame = pack(Kind.VALUE, b"", [Lent(slot, 1 << 20)], 3)
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), frame, [slot.descriptor])
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_worker_has_lent_is_there_until_its_readers_let_go():
    here, there = socket.socketpair()
    with here, there:
        arguments = [sys.executable, "-c", LENDER, str(there.fileno())]
        assert subprocess.run(arguments, pass_fds=[there.fileno()]).returncode == -9
        there.close()
        reader = Reader(here, Buffers(), lambda ticket, head, size: None)
        (frame,) = reader.read()
        with pytest.raises(EOFError):
            list(reader.read())
        reader.close()
        del reader
    (value,) = frame.arrays
    assert (value == 7).all()
    assert "graphflow-killed" in Path("/proc/self/maps").read_text()
    del frame, value
    assert "graphflow-killed" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("give", ["space", "value", "placed"])
def test_who_was_given_up_may_still_use_what_it_has_and_disturbs_nobody(give):
    """It may be frozen in a step, and go on for a moment before it is ended: what it then writes
    must be no value of the steps that the others do again, nor may it see these."""
    with workers(WAYS["shared"], 3) as (a, b, c):
        size = 8 * LEAST

        def lent(key, fill):
            """Memory of a's that has been given to its peers."""
            if give == "space":
                memory = a.channel.space({key: "b", key + "'": "c"}, TICKET, size)
                memory[:] = fill
                return memory
            memory = a.channel.place("b", size) if give == "placed" else np.empty(size, np.uint8)
            memory[:] = fill
            for peer in "bc":
                a.channel.send(peer, TICKET, key, memory)
            return memory

        b.channel.send("a", TICKET, "k", 1)
        assert a.value() == 1
        lent("before", 1)
        frozen = b.value()
        assert (c.value() == 1).all()
        b.peers._outgoing["a"]._hang_up()
        assert a.lost() == b.peers.address.local
        for fill in range(2, 6):
            memory = lent("after", fill)
            if give == "space":
                frozen[:] = 99
            value = c.value()
            assert (value == fill).all()
            assert (memory == fill).all()
            del memory, value
        assert frozen[0] == (99 if give == "space" else 1)


def test_a_slow_reader_holds_up_nobody():
    with workers(PLAIN) as (a, b):
        block = threading.Event()
        take, b.peers._deliver = b.peers._deliver, lambda *x: (block.wait(PATIENCE), take(*x))
        start = time.monotonic()
        for i in range(10):
            a.channel.send("b", TICKET, "k", np.full(1_000_000, i, np.float32))
        assert time.monotonic() - start < PATIENCE
        block.set()
        for i in range(10):
            assert (b.value() == i).all()


# ---- strangers


def connected(peers, family):
    address = peers.address
    if family == socket.AF_UNIX:
        connection = socket.socket(family)
        connection.connect(address.local)
    else:
        connection = socket.create_connection((address.host, address.port))
    connection.settimeout(PATIENCE)
    return connection


def fixed(kind, length, count):
    """How a frame begins."""
    return struct.pack("<2sBxIIQQQ", MAGIC, kind, length, count, *TICKET)


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_strangers_are_refused_and_counted(family):
    with workers(WAYS["shared"]) as (a, _):
        with connected(a.peers, family) as stranger, pytest.raises((Refused, EOFError, OSError)):
            greet(stranger, b"wrong" * 6, "b", a.peers.address.local)
        with connected(a.peers, family) as stranger, pytest.raises((Refused, EOFError, OSError)):
            greet(stranger, KEY, "b", "c")  # means somebody else
        for noise in (b"", b"GET / HTTP/1.1\r\n\r\n" * 9, greeting.MAGIC + os.urandom(400)):
            with connected(a.peers, family) as stranger, suppress(OSError):
                stranger.sendall(noise)
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(100):
                    pass
        until(lambda: a.peers.dropped["refused"] == 5)
        assert a.hears_nothing()


def test_a_stranger_who_sends_a_byte_now_and_then_is_refused(monkeypatch):
    monkeypatch.setattr(greeting, "PATIENCE", 0.2)
    with workers(PLAIN) as (a, _), connected(a.peers, socket.AF_INET) as stranger:
        with suppress(OSError):  # refused while it still sends
            for byte in greeting.MAGIC * 3:
                stranger.sendall(bytes([byte]))
                time.sleep(0.05)
        assert a.peers.dropped["refused"] == 1


def test_strangers_are_no_more_than_so_many_at_once():
    """Each has a thread for as long as a greeting may take."""
    with workers(PLAIN) as (a, _), ExitStack() as stack:
        for _ in range(doorway._STRANGERS):
            stack.enter_context(connected(a.peers, socket.AF_INET))
        with connected(a.peers, socket.AF_INET) as late:
            assert late.recv(1) == b""
        assert a.peers.dropped["refused"] == 1
        stack.close()
        until(lambda: a.peers.dropped["refused"] == 1 + doorway._STRANGERS)
        with connected(a.peers, socket.AF_INET) as honest:
            greet(honest, KEY, "b", a.peers.address.local)


@pytest.mark.parametrize("way", ["sockets", "tls"])
def test_under_tls_nobody_on_the_wire_reads_a_value(way):
    seen = []

    def relay(source, sink):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                seen.append(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    with workers(WAYS[way]) as (a, b), socket.create_server(("127.0.0.1", 0)) as wire:
        there = b.peers.address
        a.peers.meet({"a": a.peers.address, "b": there._replace(port=wire.getsockname()[1])})
        secret = np.frombuffer(b"nobody may read this" * 1000, np.uint8)
        a.channel.send("b", TICKET, "k", secret)
        near, _ = wire.accept()
        with near, socket.create_connection((there.host, there.port)) as far:
            threads = [
                threading.Thread(target=relay, args=ends) for ends in ((near, far), (far, near))
            ]
            for thread in threads:
                thread.start()
            np.testing.assert_array_equal(b.value(), secret)
            near.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(PATIENCE)
    assert (b"nobody may read this" in b"".join(seen)) == (way == "sockets")


def test_a_recorded_greeting_is_good_for_nothing():
    """What one connection has said is replayed on another one."""
    with workers(PLAIN) as (a, _):
        said = []

        class Tap:
            def __init__(self, connection):
                self.connection = connection

            def __getattr__(self, name):
                return getattr(self.connection, name)

            def sendall(self, data):
                said.append(bytes(data))
                self.connection.sendall(data)

        with connected(a.peers, socket.AF_INET) as honest:
            greet(Tap(honest), KEY, "b", a.peers.address.local)
        with connected(a.peers, socket.AF_INET) as replaying:
            for data in said:
                replaying.sendall(data)
            assert len(replaying.recv(100)) == 32  # its own nonce, and then the end
            assert replaying.recv(100) == b""
        assert a.peers.dropped["refused"] == 1


def test_one_who_does_not_know_the_key_is_not_believed():
    with workers(PLAIN) as (a, _):
        false = Worker("b", PLAIN._replace(key=b"x" * 32))
        a.peers.meet({"a": a.peers.address, "b": false.peers.address})
        a.channel.send("b", TICKET, "secret", 1)
        until(lambda: false.peers.dropped["refused"] == 1)
        assert a.lost() == false.peers.address.local
        false.peers.close()
        assert not false._came


@pytest.mark.parametrize(
    "frame",
    [
        b"x" * 36,
        fixed(9, 0, 0),
        fixed(1, 1 << 31, 0),
        fixed(1, 0, 1 << 31),
        fixed(1, 2, 0) + b"{}",
        fixed(1, 12, 0) + b'["Notice",1]',
        fixed(1, len(FLOATS), 0) + FLOATS,
        fixed(1, len(FLOATS), 1) + struct.pack("<BBxxIQQ", 0, 0, 0, 7, 0) + FLOATS + bytes(7),
        fixed(2, len(FLOATS), 0) + FLOATS,
        fixed(1, 0, 1) + struct.pack("<BBxxIQQ", 0, 0, 0, 1 << 60, 0),
        fixed(1, 0, 1) + struct.pack("<BBxxIQQ", 1, 0, 3, 10, 10),  # no descriptor came
        fixed(1, 0, 1) + struct.pack("<BBxxIQQ", 7, 0, 3, 10, 10),
        fixed(1, 0, 1) + struct.pack("<BBxxIQQ", 1, 99, 3, 10, 10),
    ],
)
def test_malformed_frames_end_the_connection_and_are_counted(frame):
    with workers(WAYS["shared"]) as (a, _), connected(a.peers, socket.AF_UNIX) as member:
        greet(member, KEY, "b", a.peers.address.local)
        member.sendall(frame)
        assert a.lost() == "b"
        assert member.recv(10) == b""
        assert a.peers.dropped["malformed"] == 1
        assert a.hears_nothing()


@pytest.mark.parametrize("sealed", [True, False])
def test_memory_that_could_shrink_under_the_reader_is_refused(sealed):
    flags = os.MFD_ALLOW_SEALING
    descriptor = os.memfd_create("graphflow-test", flags)
    os.ftruncate(descriptor, READERS + (99 if sealed else 100))
    if sealed:  # but not of the size that it claims
        import fcntl

        from graphflow.distribute.fast.slots import SEALS

        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    with workers(WAYS["shared"]) as (a, _), connected(a.peers, socket.AF_UNIX) as member:
        greet(member, KEY, "b", a.peers.address.local)
        head, _ = codec.encode(Parcel("s", "k", [np.zeros(10, np.uint8)]))
        frame = fixed(1, len(head), 1) + struct.pack("<BBxxIQQ", 1, 0, 3, 10, 100) + head
        socket.send_fds(member, [frame], [descriptor])
        os.close(descriptor)
        assert a.lost() == "b"
        assert member.recv(10) == b""
        assert a.peers.dropped["malformed"] == 1


def test_a_pool_lends_to_each_reader_once():
    pool = Pool("graphflow-test")
    slot = pool.take(100, [0, 3, OWN])
    slot.give_back(0)
    assert not slot.free
    slot.give_back(3)
    view = slot.view(100, OWN)
    assert not slot.free
    del view
    assert slot.free
    assert pool.take(90, [1]) is slot
    assert pool.take(90, [1]) is not slot
    pool.close()


def test_what_a_reader_that_was_given_up_has_is_dropped_when_the_others_have_let_go():
    pool = Pool("graphflow-test")
    both, other = pool.take(100, [0, 3]), pool.take(100, [0])
    pool.release(3)
    other.give_back(0)
    assert pool.take(100, [1]) is other
    assert not pool.lend(both, 2)
    assert pool.take(100, [1]) not in (both, other)
    assert not pool.dropped  # the first one is being read
    both.give_back(0)
    pool.take(100, [1])
    assert pool.dropped == [both.number]
    assert pool.bytes == 3 * other.size
    pool.close()


def test_a_worker_with_a_key_of_its_own_is_reached_with_that_one():
    """Tasks of servers know no common key: whoever is to connect is told that of each."""
    with workers(PLAIN) as (_, b):
        own = os.urandom(32)
        c = Worker("c", PLAIN._replace(key=own))
        workers_now.append(c)
        try:
            there = c.peers.address
            known = {"b": b.peers.address, "c": there}
            b.peers.meet(known)
            b.channel.send("c", TICKET, "x", 1)
            assert b.lost() == there.local
            assert c.peers.dropped["refused"] == 1
            b.peers.meet({**known, "c": there._replace(key=own, born=1.0)})
            b.channel.send("c", TICKET, "x", 2)
            assert c.value() == 2
        finally:
            c.peers.close()
