"""Who may come in: ZeroMQ asks for each connection (its protocol ZAP, RFC 27)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import zmq
from zmq.utils import z85

# A peer that speaks no CURVE, or another one's, fails in the handshake, before ZAP is asked.
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
WATCHED = _FAILED | zmq.EVENT_DISCONNECTED


class Door:
    """Lets the holders of known keys in.

    Attributes:
      zap: the socket on which ZeroMQ asks; `answer` whenever it is readable.
      dropped: counts "refused" connections.
    """

    def __init__(self, context: zmq.Context[Any]):
        self.dropped: Counter[str] = Counter()
        self.zap = context.socket(zmq.REP)
        self.zap.bind("inproc://zeromq.zap.01")
        self._known: set[bytes] = set()

    def admit(self, public: bytes) -> None:
        """Let the holder of the secret to this public key in, from now on."""
        self._known.add(z85.decode(public))

    def dismiss(self, public: bytes) -> None:
        """No longer."""
        self._known.discard(z85.decode(public))

    def answer(self) -> None:
        """Answer a question of ZeroMQ's."""
        # no deadline: called when there is one
        version, request, _, _, _, mechanism, *credentials = self.zap.recv_multipart()
        known = mechanism == b"CURVE" and credentials[0] in self._known
        if not known:
            self.dropped["refused"] += 1
        code, text = (b"200", b"OK") if known else (b"400", b"unknown key")
        self.zap.send_multipart([version, request, code, text, b"", b""])

    def heard(self, event: int) -> None:
        """Take note of what a socket's monitor tells."""
        # What ZAP has refused is counted there; here, what never got so far.
        if event & _FAILED and event != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.dropped["refused"] += 1


def server(socket: Any, secret: bytes, address: str) -> str:
    """Have a socket take connections under CURVE; its endpoint."""
    socket.linger = 0
    socket.curve_server = True
    socket.curve_secretkey = secret
    socket.bind(f"tcp://{address}:*")
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def client(socket: Any, endpoint: str, server_key: bytes, public: bytes, secret: bytes) -> None:
    """Connect a socket under CURVE."""
    socket.linger = 0
    socket.curve_serverkey = server_key
    socket.curve_publickey = public
    socket.curve_secretkey = secret
    socket.connect(endpoint)
