"""The control channel: who may connect, and what becomes of what is no frame."""

from __future__ import annotations

import socket
from contextlib import suppress
from urllib.parse import urlparse

import pytest
import zmq

from graphflow.distribute.channel import Gone
from graphflow.distribute.fast import codec, stream
from graphflow.distribute.fast.door import client
from graphflow.distribute.fast.exchange import NOBODY
from graphflow.distribute.fast.frames import Kind, pack
from graphflow.distribute.fast.greeting import greet
from graphflow.distribute.messages import Notice
from tests.distribute.fast.asking import SESSION, ask, gone, ping, step
from tests.until import PATIENCE, until


@pytest.fixture
def outsider():
    """Makes sockets that have no place here."""
    context = zmq.Context()
    sockets = []

    def make(kind):
        sockets.append(context.socket(kind))
        sockets[-1].linger = 0
        return sockets[-1]

    yield make
    for each in sockets:
        each.close(0)
    context.term()


def says(socket, what):
    """Say it, unless its connection is refused before: it would wait for another for ever then."""
    with suppress(zmq.Again):
        socket.send(what, zmq.DONTWAIT)


def test_connections_without_keys_are_refused_and_counted(exchange, services, outsider):
    invitation = exchange.invite("c")
    plain = outsider(zmq.PUSH)
    plain.connect(invitation.answers)
    says(plain, pack(Kind.PONG, NOBODY, 1))
    until(lambda: exchange.dropped["refused"] >= 1)
    foreign = outsider(zmq.DEALER)
    before = exchange.dropped["refused"]
    client(foreign, invitation.messages, invitation.server, *zmq.curve_keypair())
    says(foreign, b"hello")
    until(lambda: exchange.dropped["refused"] > before)
    assert ask(exchange, "a", step(1, 3)).result().values == (3,)
    assert exchange.dropped["malformed"] == 0


def test_a_wrong_server_key_reaches_nobody(exchange, services, outsider):
    invitation = exchange.invite("c")
    wrong, _ = zmq.curve_keypair()
    lost = outsider(zmq.PUSH)
    client(lost, invitation.answers, wrong, invitation.public, invitation.secret)
    says(lost, b"hello")
    until(lambda: exchange.dropped["refused"] >= 1)
    assert exchange.dropped["malformed"] == 0


def test_plain_bytes_on_the_port_do_no_harm(exchange, services):
    address = urlparse(exchange.invite("c").answers)
    for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 200):
        with socket.create_connection((address.hostname, address.port)) as raw:
            raw.sendall(noise)
    assert ask(exchange, "b", step(1, 4)).result().values == (4,)


def test_a_dismissed_worker_does_not_come_back(exchange, services, outsider):
    old = exchange.invite("c")
    exchange.lose("c", "gone")
    socket = outsider(zmq.PUSH)
    client(socket, old.answers, old.server, old.public, old.secret)
    says(socket, b"hello")
    until(lambda: exchange.dropped["refused"] >= 1)


@pytest.mark.parametrize("exchange", [False], indirect=True)
def test_malformed_and_replayed_frames_are_dropped_and_counted(exchange, services, outsider):
    """Of a member: whoever has keys may be broken."""
    invitation = exchange.invite("c")
    member = outsider(zmq.PUSH)
    client(member, invitation.answers, invitation.server, invitation.public, invitation.secret)
    member.send(b"nonsense")
    member.send_multipart([pack(Kind.REPLY, SESSION, 1, b'["Applied",1]')])
    until(lambda: exchange.dropped["malformed"] == 2)
    member.send(pack(Kind.PONG, NOBODY, 12345))
    until(lambda: exchange.dropped["replayed"] == 1)
    name = exchange._members["a"].name
    for serial in (0, 1):
        exchange._out.send_multipart([name, pack(Kind.PING, NOBODY, serial)])
    until(lambda: services["a"].dropped == {"replayed": 2})
    assert ask(exchange, "a", step(1, 5)).result().values == (5,)


def test_a_worker_that_answers_nonsense_is_lost(exchange, services):
    """It gives signs of life, and what somebody waits for may have been in there."""
    waiting = ask(exchange, "a", step(7))
    services["a"]._send(b"nonsense")
    assert gone(waiting) in ("its connection has ended", "its answer cannot be read")
    assert exchange.dropped["malformed"] == 1
    services["a"]._find(SESSION).go_on.set()
    assert ask(exchange, "b", step(1, 3)).result().values == (3,)


def test_a_worker_that_gets_nonsense_hangs_up(exchange, services):
    """Its driver would wait for the answer, and it gives signs of life."""
    waiting = ask(exchange, "a", step(7))
    with exchange._lock:
        parts = [b"\x80\x04N."]  # a pickle
        assert exchange._post("a", exchange._members["a"], parts) is None
    assert gone(waiting) == "its connection has ended"
    assert services["a"].dropped == {"malformed": 1}
    services["a"]._find(SESSION).go_on.set()
    assert ask(exchange, "b", step(1, 3)).result().values == (3,)


def local_stranger(invitation):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(invitation.local)
    return connection


@pytest.mark.parametrize("exchange", [True], indirect=True)
def test_strangers_of_this_machine_are_refused_and_counted(exchange, services):
    invitation = exchange.invite("c")
    for key, name in ((b"wrong", invitation.name.hex()), (invitation.key, "nobody")):
        with local_stranger(invitation) as stranger, suppress(OSError, EOFError):
            greet(stranger, key, name, invitation.local)
            assert stranger.recv(10) == b""  # knows the key, but was not invited
    with local_stranger(invitation) as stranger, suppress(OSError):
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        assert stranger.recv(10) == b""
    until(lambda: exchange.dropped["refused"] == 3)
    assert ask(exchange, "a", step(1, 4)).result().values == (4,)


@pytest.mark.parametrize("exchange", [True], indirect=True)
@pytest.mark.parametrize("noise", [b"x" * 100, b"\0" * 100, b"\xff" * 100])
def test_what_is_no_stream_of_frames_ends_the_connection(exchange, services, noise):
    invitation = exchange.invite("c")
    with local_stranger(invitation) as member:
        greet(member, invitation.key, invitation.name.hex(), invitation.local)
        waiting = ask(exchange, "c", step(1))
        until(lambda: "c" in exchange._lines)
        waiting = ask(exchange, "c", step(1))
        member.sendall(noise)
        assert waiting.result() == Gone("its connection has ended")
    assert exchange.dropped == {"malformed": 1}


@pytest.mark.parametrize("exchange", [True], indirect=True)
def test_answers_that_come_before_noise_are_taken(exchange, services):
    invitation = exchange.invite("c")
    with local_stranger(invitation) as member:
        greet(member, invitation.key, invitation.name.hex(), invitation.local)
        until(lambda: "c" in exchange._lines)
        answered, lost = ping(exchange, "c"), ping(exchange, "c")
        first = min(exchange._waiting)
        (pong,) = stream.pack([pack(Kind.PONG, NOBODY, first)])
        member.sendall(pong + b"\xff" * 100)
        assert (answered.result(), lost.result()) == (None, Gone("its connection has ended"))


@pytest.mark.parametrize("exchange", [True], indirect=True)
def test_messages_that_come_before_noise_are_taken(exchange, services):
    """Of a driver; then the connection ends."""
    head, _ = codec.encode(Notice(1, ()))
    (message,) = stream.pack([pack(Kind.MESSAGE, SESSION, 1 << 40, head)])
    exchange._lines["a"].send([message + b"\xff" * 100])
    until(lambda: services["a"]._find(SESSION).notices)
    assert isinstance(ping(exchange, "a").result(), Gone)
