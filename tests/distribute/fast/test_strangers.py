"""Who may connect, who is believed, and what a member may send."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress

import numpy as np
import pytest

from graphflow.distribute.fast import codec, doorway, greeting
from graphflow.distribute.fast.codec import Parcel
from graphflow.distribute.fast.greeting import Refused, greet
from graphflow.distribute.fast.parcels import MAGIC
from graphflow.distribute.fast.slots import READERS
from tests.distribute.fast.linked import (
    FLOATS,
    KEY,
    PLAIN,
    TICKET,
    WAYS,
    Worker,
    until,
    workers,
)
from tests.until import PATIENCE


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
        until(lambda: a.peers.dropped["refused"] == 1)


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
