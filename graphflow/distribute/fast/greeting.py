"""How two workers that connect convince each other that they belong to one job.

Each proves that it knows the job's key, by an HMAC over what both have thrown in; the key itself
travels by Ray only.  The names of both are in it, so that a proof is good for one connection.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
import time
from typing import Any

MAGIC = b"graphflow data 1"
PATIENCE = 10.0  # seconds for the whole greeting
_NONCE = 32
_LENGTH = struct.Struct("<H")
_NAME_LIMIT = 1024


class Refused(ConnectionError):
    """The other side is none of us, or takes us for a stranger."""


def greet(connection: Any, key: bytes, me: str, peer: str) -> None:
    """The connecting side: prove who I am, and check that it is who I mean.

    Raises:
      Refused: it is not, or does not believe me.
      OSError: the connection failed.
    """
    mine, name = os.urandom(_NONCE), me.encode()
    until = _begin(connection)
    connection.sendall(MAGIC + mine + _LENGTH.pack(len(name)) + name)
    theirs = exactly(connection, _NONCE, until)
    transcript = _transcript(mine, theirs, me, peer)
    connection.sendall(_proof(key, b"connect", transcript))
    if not hmac.compare_digest(exactly(connection, 32, until), _proof(key, b"accept", transcript)):
        raise Refused(f"{peer} does not know the key")
    connection.settimeout(None)


def welcome(connection: Any, key: bytes, me: str) -> str:
    """The accepting side; the name of who has connected.

    Raises:
      Refused: it has not proven that it knows the key.
      OSError: the connection failed.
    """
    until = _begin(connection)
    if exactly(connection, len(MAGIC), until) != MAGIC:
        raise Refused("another protocol")
    theirs = exactly(connection, _NONCE, until)
    (length,) = _LENGTH.unpack(exactly(connection, _LENGTH.size, until))
    if length > _NAME_LIMIT:
        raise Refused("too long a name")
    try:
        peer = exactly(connection, length, until).decode()
    except UnicodeDecodeError as error:
        raise Refused("no name") from error
    mine = os.urandom(_NONCE)
    connection.sendall(mine)
    transcript = _transcript(theirs, mine, peer, me)
    if not hmac.compare_digest(exactly(connection, 32, until), _proof(key, b"connect", transcript)):
        raise Refused(f"{peer} does not know the key")
    connection.sendall(_proof(key, b"accept", transcript))
    connection.settimeout(None)
    return peer


def _begin(connection: Any) -> float:
    """When a greeting must be over: one who sends a byte now and then must not keep a place for
    hours."""
    connection.settimeout(PATIENCE)
    return time.monotonic() + PATIENCE


def _transcript(first: bytes, second: bytes, connecting: str, accepting: str) -> bytes:
    names = [name.encode() for name in (connecting, accepting)]
    return first + second + b"".join(_LENGTH.pack(len(n)) + n for n in names)


def _proof(key: bytes, role: bytes, transcript: bytes) -> bytes:
    return hmac.new(key, role + transcript, hashlib.sha256).digest()


def exactly(connection: Any, size: int, until: float) -> bytes:
    """So many bytes, by that time of the monotonic clock.

    Raises:
      EOFError: the connection ends before.
      TimeoutError: they have not come by then.
    """
    data = bytearray(size)
    fill(connection, memoryview(data), until)
    return bytes(data)


def fill(connection: Any, view: memoryview, until: float | None = None) -> None:
    """Receive into memory, until it is full.

    Raises:
      EOFError: the connection ends before.
      TimeoutError: it is not full by that time of the monotonic clock.
    """
    while len(view):
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the greeting took longer than {PATIENCE:g} s")
            connection.settimeout(left)
        count = connection.recv_into(view)
        if not count:
            raise EOFError("the connection has ended")
        view = view[count:]


def tuned(connection: socket.socket) -> socket.socket:
    """With room for megabytes, so that both ends overlap; small messages leave at once."""
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
    return connection
