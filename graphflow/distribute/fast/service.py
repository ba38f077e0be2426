"""A worker's end of the control channel: takes messages, and answers them.

Whoever has received a message works on it himself, and another thread takes his place at the
socket: a step is not handed from thread to thread, which costs as much as a message.
"""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import zmq

from graphflow.distribute.fast import codec
from graphflow.distribute.fast.codec import Elsewhere, Failed, Missed, Unencodable
from graphflow.distribute.fast.door import client
from graphflow.distribute.fast.exchange import NOBODY, Invitation
from graphflow.distribute.fast.frames import Frame, Gate, Kind, pack
from graphflow.distribute.host import Host
from graphflow.distribute.messages import Step


class Service:
    """Serves the sessions of one driver."""

    def __init__(self, invitation: Invitation, find: Callable[[bytes], Host | None]):
        """Args:
        invitation: from the driver's `Exchange`.
        find: gives what this worker does for a session; None: it is closed.
        """
        self._find = find
        self._context: zmq.Context[Any] = zmq.Context()
        self._in = self._context.socket(zmq.DEALER)
        self._in.routing_id = invitation.name
        self._in.rcvhwm = 0
        self._out = self._context.socket(zmq.PUSH)
        self._out.sndhwm = 0
        keys = invitation.server, invitation.public, invitation.secret
        client(self._in, invitation.messages, *keys)
        client(self._out, invitation.answers, *keys)
        self._gate = Gate()
        self._left: dict[int, Any] = {}  # answers that are no plain data, by what they answer
        self._turn = threading.Lock()  # who holds it receives
        self._sending = threading.Lock()
        self._free = 0  # threads that wait for their turn
        self._count = threading.Lock()
        self._closed = False
        self._more()

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were "malformed" or "replayed", so far."""
        return self._gate.dropped

    def _more(self) -> None:
        threading.Thread(target=self._serve, name="graphflow-step", daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._count:
                self._free += 1
            with self._turn:
                frame = self._receive()
                if frame is None:
                    return
                with self._count:
                    self._free -= 1
                    if not self._free and not self._closed:
                        self._more()
            self._answer(frame)

    def _receive(self) -> Frame | None:
        """The next frame; None: it is closed."""
        while not self._closed:
            try:
                parts = self._in.recv_multipart(copy=False)
            except zmq.ContextTerminated:
                break
            frame = self._gate.enter([part.buffer for part in parts])
            if frame is not None:
                return frame
        self._closed = True
        self._in.close(0)
        return None

    def _answer(self, frame: Frame) -> None:
        if frame.kind is Kind.PING:
            self._send(pack(Kind.PONG, NOBODY, frame.serial))
            return
        reply = self._reply(frame)
        try:
            head, arrays = codec.encode(reply)
        except Unencodable:
            self._left[frame.serial] = reply
            head, arrays = codec.encode(Elsewhere())
        self._send(pack(Kind.REPLY, frame.session, frame.serial, head), *arrays)

    def _reply(self, frame: Frame) -> Any:
        host = self._find(frame.session)
        if host is None:
            return Failed("the session is closed")
        message = frame.body
        try:
            return host.step(message) if isinstance(message, Step) else host.notice(message)
        except Exception as error:
            return Failed("".join(traceback.format_exception(error)))

    def collect(self, serial: int) -> Any:
        """An answer that the driver was told to take another way."""
        return self._left.pop(serial)

    def report(self, name: str) -> None:
        """Tell the driver that the connection to another worker has ended."""
        head, _ = codec.encode(Missed(name))
        self._send(pack(Kind.REPORT, NOBODY, 0, head))

    def _send(self, *parts: Any) -> None:
        with self._sending:
            if not self._out.closed:
                self._out.send_multipart(parts)

    def close(self) -> None:
        """Take no more messages.  Steps under way go on, and their answers go nowhere."""
        with self._sending:
            self._out.close(0)
        self._context.term()  # whoever receives wakes, and the others that wait for their turn
