"""A worker's end of the control channel: takes messages, and answers them."""

from __future__ import annotations

import logging
import select
import socket
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import zmq

from graphflow.distribute.fast import codec, stream
from graphflow.distribute.fast.codec import Elsewhere, Failed, Missed
from graphflow.distribute.fast.crew import Crew
from graphflow.distribute.fast.door import client
from graphflow.distribute.fast.exchange import NOBODY, Invitation
from graphflow.distribute.fast.frames import Frame, Gate, Kind, pack
from graphflow.distribute.fast.greeting import PATIENCE, greet, tuned
from graphflow.distribute.fast.peers import machine
from graphflow.distribute.fast.sender import Sender, shut
from graphflow.distribute.fast.stream import Stream
from graphflow.distribute.fast.values import Malformed, Unencodable
from graphflow.distribute.host import Host
from graphflow.distribute.messages import UNKNOWN_SESSION, Step

_log = logging.getLogger("graphflow")
_LOOK = 10_000  # milliseconds between looks at whether a connection was closed
_LEFT = 256  # answers that wait to be collected; more than there may be runs under way


class Service:
    """Serves the sessions of one driver."""

    def __init__(
        self,
        invitation: Invitation,
        find: Callable[[bytes], Host | None],
        ended: Callable[[], None] = lambda: None,
    ):
        """Args:
        invitation: from the driver's `Exchange`.
        find: gives what this worker does for a session; None: it is closed.
        ended: called when the driver has closed the connection, or has ended.  By ZeroMQ nobody
          learns of that: it connects again.
        """
        self._find = find
        self._ended = ended
        self._closed = False
        local = invitation.local and invitation.machine == machine()
        self._way: Way = _Local(invitation) if local else _ZeroMQ(invitation)
        self._gate = Gate()
        # Answers that are no plain data, by what they answer, with their session.
        self._left: dict[int, tuple[bytes, Any]] = {}
        self._leaving = threading.Lock()
        self._crew = Crew(self._receive, self._answer)

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were "malformed" or "replayed", so far."""
        return self._gate.dropped

    def _receive(self) -> Frame | None:
        """The next frame; None: it is closed."""
        while (parts := self._way.receive()) is not None:
            try:
                frame = self._gate.enter(parts)
            except Exception as error:  # memory has ended, and there is no frame to answer
                self._fail(error)
                continue
            if frame is not None:
                return frame
            if self._gate.dropped["malformed"]:  # its sender waits for an answer
                self._way.hang_up()
        if not self._closed:
            self._closed = True
            self._ended()
        return None

    def _answer(self, frame: Frame) -> None:
        """Do what a frame asks for.  Its sender waits until there is an answer: where there will
        be none, the connection ends."""
        try:
            if frame.kind is Kind.PING:
                self._send(pack(Kind.PONG, NOBODY, frame.serial))
            else:
                head, arrays = self._encoded(frame, self._reply(frame))
                self._send(pack(Kind.REPLY, frame.session, frame.serial, head), *arrays)
        except Exception as error:
            self._fail(error)

    def _encoded(self, frame: Frame, reply: Any) -> tuple[bytes, Sequence[Any]]:
        try:
            return codec.encode(reply)
        except Unencodable:
            self._leave(frame, reply)
            return codec.encode(Elsewhere())

    def _fail(self, error: Exception) -> None:
        """End the connection, which tells the driver that this worker is lost to it."""
        self._way.hang_up()
        _log.error("an answer cannot be given, so the connection ends", exc_info=error)

    def _leave(self, frame: Frame, reply: Any) -> None:
        """Keep an answer until it is collected: not for a session that is closed, whose driver
        may never come, nor more than can be asked for."""
        with self._leaving:
            kept = [(s, left) for s, left in self._left.items() if self._find(left[0]) is not None]
            self._left = dict(kept[1 - _LEFT :]) | {frame.serial: (frame.session, reply)}

    def _reply(self, frame: Frame) -> Any:
        host = self._find(frame.session)
        if host is None:
            return Failed(UNKNOWN_SESSION)
        message = frame.body
        try:
            return host.step(message) if isinstance(message, Step) else host.notice(message)
        except Exception as error:
            return Failed("".join(traceback.format_exception(error)))

    def collect(self, serial: int) -> Any:
        """An answer that the driver was told to take another way."""
        with self._leaving:
            return self._left.pop(serial)[1]

    def report(self, name: str) -> None:
        """Tell the driver that the connection to another worker has ended."""
        head, _ = codec.encode(Missed(name))
        self._send(pack(Kind.REPORT, NOBODY, 0, head))

    def _send(self, *parts: Any) -> None:
        self._way.send(parts)

    def close(self) -> None:
        """Take no more messages.  Steps under way go on, and their answers go nowhere."""
        self._closed = True
        self._way.close()  # whoever receives wakes


class Way(Protocol):
    """A connection with the driver.  One thread at a time receives; all may send."""

    def receive(self) -> list[Any] | None:
        """The parts of the next frame; None: the connection is closed."""
        ...

    def send(self, parts: Sequence[Any]) -> None:
        """Send a frame; nothing happens where the connection is closed."""
        ...

    def hang_up(self) -> None:
        """End the connection as the driver sees it; called also by who receives."""
        ...

    def close(self) -> None:
        """End the connection, and wake who receives."""
        ...


class _ZeroMQ:
    """With a driver on another machine."""

    def __init__(self, invitation: Invitation):
        self._context: zmq.Context[Any] = zmq.Context()
        self._in = self._context.socket(zmq.DEALER)
        self._in.routing_id = invitation.name
        self._in.rcvhwm = 0
        self._out = self._context.socket(zmq.PUSH)
        self._out.sndhwm = 0
        keys = invitation.server, invitation.public, invitation.secret
        client(self._in, invitation.messages, *keys)
        client(self._out, invitation.answers, *keys)
        self._sending = threading.Lock()

    def receive(self) -> list[Any] | None:
        try:
            # no deadline: a driver may have nothing to run; `close` ends the context
            return [part.buffer for part in self._in.recv_multipart(copy=False)]
        except zmq.ContextTerminated:
            self._in.close(0)
            return None

    def send(self, parts: Sequence[Any]) -> None:
        with self._sending:
            if not self._out.closed:
                self._out.send_multipart(parts)

    def hang_up(self) -> None:
        with self._sending:
            self._out.close(0)

    def close(self) -> None:
        self.hang_up()
        self._context.term()  # waits for who receives


class _Local:
    """With a driver on this machine.

    Raises:
      OSError, EOFError: it cannot be reached, or does not believe that this is who was invited.
    """

    def __init__(self, invitation: Invitation):
        self._connection = tuned(socket.socket(socket.AF_UNIX))
        try:
            self._connection.settimeout(PATIENCE)
            self._connection.connect(invitation.local)
            greet(self._connection, invitation.key, invitation.name.hex(), invitation.local)
        except BaseException:
            self._connection.close()
            raise
        self._sender = Sender(lambda: None, self._connection)
        self._stream = Stream(self._connection)
        self._frames: deque[list[Any]] = deque()
        self._closed = False
        # Who waits in `recv` is woken for nothing when the other end takes what was sent; who polls
        # for what is readable is not.
        self._readable = select.poll()
        self._readable.register(self._connection, select.POLLIN)

    def receive(self) -> list[Any] | None:
        while not self._frames:
            if self._closed:
                self._connection.close()
                return None
            try:
                if self._readable.poll(_LOOK):
                    self._frames.extend(self._stream.read())
            except (EOFError, OSError, Malformed):
                self.close()  # once what has come before is done
        return self._frames.popleft()

    def send(self, parts: Sequence[Any]) -> None:
        self._sender.send(stream.pack(parts))

    def hang_up(self) -> None:
        """Who receives closes the connection: a descriptor that is closed before he polls it may
        be that of another one by then, on which nothing comes."""
        self._closed = True
        shut(self._connection)
        self._sender.close()

    close = hang_up
