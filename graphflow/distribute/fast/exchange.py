"""The driver's end of the control channel.

    driver  ROUTER ──── messages ───► DEALER   worker on another machine
            PULL   ◄─── answers ─────  PUSH

            Unix socket ◄──────────► Unix socket   worker on this one

ZeroMQ's sockets either send, under a lock, or receive, on one thread: they are not for several.  It
hands each message through a thread of its own at both ends, which takes 70 us of the 100 that a
message to two workers and back takes under CURVE; on one machine, where nobody listens on the wire,
a plain socket takes 30, and 600 for 32 workers instead of 2000.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from graphflow.base.errors import UnavailableError
from graphflow.base.tuples import made
from graphflow.distribute.channel import Gone, Hear
from graphflow.distribute.fast import repeats, stream
from graphflow.distribute.fast.codec import Elsewhere, Failed, Missed
from graphflow.distribute.fast.desk import Bell, Desk
from graphflow.distribute.fast.door import WATCHED, Door, server
from graphflow.distribute.fast.doorway import Doorway
from graphflow.distribute.fast.frames import Frame, Gate, Kind, pack
from graphflow.distribute.fast.peers import machine
from graphflow.distribute.fast.sender import Sender
from graphflow.distribute.fast.stream import Stream
from graphflow.distribute.fast.values import Malformed

_log = logging.getLogger("graphflow")
NOBODY = bytes(16)  # the session of frames that belong to none
_RETRY = 0.002  # seconds between attempts to reach a worker that is about to connect


class Invitation(NamedTuple):
    """What a worker needs to take part.  Secret: it travels by Ray's authenticated calls only.

    Attributes:
      messages, answers: endpoints.
      server: the driver's public key.
      public, secret: the worker's keys.
      name: what the driver calls it by; nobody can guess it.
      machine: the driver's, see `peers.machine`.
      local: the driver's Unix socket; "": it takes messages by ZeroMQ only.
      key: by which driver and worker know each other there.
    """

    messages: str
    answers: str
    server: bytes
    public: bytes
    secret: bytes
    name: bytes
    machine: str
    local: str
    key: bytes


def _told(tell: Callable[..., None], *what: Any) -> Exception | None:
    """Call somebody who waits.  What fails there is logged and returned: it is no fault of the
    worker's, and others wait, too."""
    try:
        tell(*what)
    except Exception as error:
        _log.error("what comes of a worker cannot be taken up", exc_info=error)
        return error
    return None


class _Waiting(NamedTuple):
    worker: str
    hear: Hear
    collect: Callable[[int], None] | None


class Exchange:
    """Sends messages to workers, and hands their answers to whoever waits for them.

    Answers, and the loss of a connection, are told on a thread of its own, or on one that waits at
    a bell of its.

    Attributes:
      audience: who is told of each worker that is lost, by `lost(worker, reason)`; as long as
        somebody else knows them.
    """

    def __init__(self, address: str, local: bool = True):
        """Args:
        address: the interface to listen on; loopback, where all workers are on this machine.
        local: reach workers of this machine by Unix sockets.
        """
        self._context: zmq.Context[Any] = zmq.Context()
        self._public, secret = zmq.curve_keypair()
        self._door = Door(self._context)
        self._encode = repeats.Encoder()
        self._gate = Gate(repeats.Decoder())
        self._out = self._context.socket(zmq.ROUTER)
        self._out.router_mandatory = 1  # an error where a worker is not connected
        self._out.sndhwm = 0  # never wait: a step is one message, and has an answer
        self._in = self._context.socket(zmq.PULL)
        self._in.rcvhwm = 0
        self._messages = server(self._out, secret, address)
        self._answers = server(self._in, secret, address)
        self._monitors = {s: s.get_monitor_socket(WATCHED) for s in (self._out, self._in)}
        self._lock = threading.Lock()  # of what follows, and of sending
        self._serials = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._members: dict[str, Invitation] = {}
        # Who ends with a connection: by its descriptor, or by the name that peers report.
        self._connections: dict[Any, tuple[str, Invitation]] = {}
        self.audience: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lines: dict[str, Sender] = {}  # to workers of this machine
        self._desk = Desk()
        self._key = secrets.token_bytes(32)
        self._doorway: Doorway | None = None
        if local:
            name = f"\0graphflow-{os.getpid()}-{secrets.token_hex(8)}"
            self._doorway = Doorway(name, "", self._key, lambda plain: plain, self._enter)
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="graphflow-control", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> Counter[str]:
        """Connections "refused", frames "malformed" or "replayed", so far."""
        local = self._doorway.dropped if self._doorway is not None else Counter()
        return self._door.dropped + self._gate.dropped + local

    def bell(self) -> Bell:
        """A condition; who waits for it receives answers meanwhile."""
        return Bell(self._desk)

    # ---- members

    def invite(self, worker: str) -> Invitation:
        """Keys for a worker, in place of those that it had."""
        public, secret = zmq.curve_keypair()
        invitation = Invitation(
            self._messages,
            self._answers,
            self._public,
            public,
            secret,
            b"w" + os.urandom(16),
            machine(),
            self._doorway.local if self._doorway is not None else "",
            self._key,
        )
        with self._lock:
            before = self._members.get(worker)
            if before is not None:
                self._door.dismiss(before.public)
            self._members[worker] = invitation
            self._door.admit(public)
        return invitation

    def greet(self, worker: str, patience: float) -> None:
        """Wait until a worker that was invited is connected, both ways.

        Raises:
          TimeoutError: it is not.
          UnavailableError: it was lost meanwhile.
        """
        bell = self.bell()
        until = time.monotonic() + patience
        answer: list[Any] = []

        def hear(what: Any) -> None:
            with bell:
                answer.append(what)
                bell.notify_all()

        while True:
            answer.clear()
            self.send(worker, NOBODY, Kind.PING, hear)
            with bell:
                bell.wait_for(lambda: answer, max(0.0, until - time.monotonic()))
            if answer and answer[-1] is None:
                return
            if answer and not self.has(worker):
                raise UnavailableError(
                    None, None, f"{worker} was lost while it connected: {answer[-1].reason}"
                )
            if time.monotonic() >= until:
                raise TimeoutError(worker)
            time.sleep(_RETRY)

    def settle(self, invitation: Invitation, name: str) -> None:
        """Learn by which name its peers know who was invited."""
        with self._lock:
            for worker, member in self._members.items():
                if member is invitation:
                    self._connections[name] = worker, member

    def has(self, worker: str) -> bool:
        """Is a worker of that name connected, or about to be?"""
        with self._lock:
            return worker in self._members

    def lose(self, worker: str, reason: str, member: Invitation | None = None) -> None:
        """Nothing will come from a worker any more: tell those who wait.

        Args:
          worker: its name.
          reason: why.
          member: nothing is done where another one has that name by now.
        """
        with self._lock:
            present = self._members.get(worker)
            if present is None or member not in (None, present):
                return
            del self._members[worker]
            self._door.dismiss(present.public)
            self._connections = {k: v for k, v in self._connections.items() if v[1] != present}
            lost = [serial for serial, w in self._waiting.items() if w.worker == worker]
            hears = [self._waiting.pop(serial).hear for serial in lost]
            line = self._lines.pop(worker, None)
            audience = list(self.audience)
        if line is not None:
            line.close()
        for hear in hears:
            _told(hear, Gone(reason))
        for listener in audience:
            _told(listener.lost, worker, reason)

    # ---- messages

    def send(
        self,
        worker: str,
        session: bytes,
        kind: Kind,
        hear: Callable[[Any], None],
        message: Any = None,
        collect: Callable[[int], None] | None = None,
    ) -> None:
        """Send a message, or a ping.  Does not wait.

        `hear` gets the answer, None to a ping, or `Gone`, on this thread where it is known by now;
        or `collect` the message's number, where the answer has to be taken another way.

        Raises:
          Unencodable: the message is not plain data.
        """
        head, arrays = self._encode(message) if message is not None else (b"", [])
        gone: Gone | None = None
        with self._lock:
            member = self._members.get(worker)
            if member is None or self._closed:
                gone = Gone("its connection was closed")
            else:
                serial = next(self._serials)
                self._waiting[serial] = made(_Waiting, (worker, hear, collect))
                parts = [pack(kind, session, serial, head), *arrays]
                reason = self._post(worker, member, parts)
                if reason is not None:
                    del self._waiting[serial]
                    gone = Gone(f"it is not connected: {reason}")
        if gone is not None:
            hear(gone)

    def _post(self, worker: str, member: Invitation, parts: list[Any]) -> Any:
        """Send the parts of a frame; why that fails, or None.  The lock is held."""
        line = self._lines.get(worker)
        if line is not None:
            return None if line.send(stream.pack(parts)) else "its connection has ended"
        try:
            self._out.send_multipart([member.name, *parts])
        except zmq.ZMQError as error:
            return error
        return None

    # ---- workers of this machine

    def _enter(self, name: str, connection: Any) -> None:
        """Serve the connection of a worker that knows the key, until it ends."""
        ended = threading.Event()
        line = Sender(ended.set, connection)
        reader = Stream(connection)
        with self._lock:
            found = [(w, m) for w, m in self._members.items() if m.name.hex() == name]
            if not found or self._closed:
                self._door.dropped["refused"] += not self._closed
                return
            worker, member = found[0]
            self._lines[worker] = line

        def read() -> None:
            try:
                for parts in reader.read():
                    if not self._received(parts, None):
                        ended.set()
            except (Malformed, MemoryError):
                self._gate.dropped["malformed"] += 1
                ended.set()
            except (EOFError, OSError):
                ended.set()
            if ended.is_set():
                self._desk.forget(descriptor)
                self.lose(worker, "its connection has ended", member)

        descriptor = connection.fileno()
        self._desk.watch(descriptor, read)
        # no deadline: it may be idle; who waits for an answer looks at the time, and pings
        ended.wait()
        self._desk.forget(descriptor)
        self.lose(worker, "its connection has ended", member)

    # ---- the thread

    def _serve(self) -> None:
        poller = zmq.Poller()
        for socket in (self._in, self._door.zap, *self._monitors.values()):
            poller.register(socket, zmq.POLLIN)
        try:
            while True:
                # no deadline: as for connections; `close` ends the context
                for socket, _ in poller.poll():
                    if socket is self._in:
                        self._receive()
                    elif socket is self._door.zap:
                        self._door.answer()
                    else:
                        self._monitored(socket)
        except zmq.ContextTerminated:
            pass
        finally:
            for socket in (self._in, self._door.zap, *self._monitors.values()):
                socket.close(0)

    def _receive(self) -> None:
        parts = self._in.recv_multipart(copy=False)  # no deadline: `poll` has told of it
        if not self._received([part.buffer for part in parts], parts[0]):
            self._end(parts[0].get(zmq.SRCFD), "its answer cannot be read")

    def _received(self, parts: Sequence[Any], source: Any) -> bool:
        """Hand an answer on.  The source tells the connection of those that came by ZeroMQ.

        Returns:
          False: it cannot be read; somebody may wait for it, and for nothing else of that worker.
        """
        try:
            frame = self._gate.read(parts)
            if frame is not None:
                self._hand_on(frame, source)
            return frame is not None
        except Exception as error:
            _log.error("what a worker has sent cannot be taken", exc_info=error)
            return False

    def _hand_on(self, frame: Frame, source: Any) -> None:
        kind, _, serial, body = frame
        if isinstance(body, Missed):
            self._end(body.name, "another worker has no connection to it any more")
            return
        with self._lock:
            waiting = self._waiting.pop(serial, None)
            if source is not None and waiting is not None and kind is Kind.PONG:
                member = self._members.get(waiting.worker)
                if member is not None:
                    self._connections[source.get(zmq.SRCFD)] = waiting.worker, member
        if waiting is None:
            self._gate.dropped["replayed"] += 1
            return
        tell: Any = waiting.hear
        if isinstance(body, Failed):
            body = Gone(body.reason, worker_lost=False)
        elif isinstance(body, Elsewhere):
            tell, body = waiting.collect, serial
        error = _told(tell, body)
        if error is not None:  # else he would wait; where that fails, too, the worker is lost
            waiting.hear(Gone(f"{type(error).__name__}: {error}", worker_lost=False))

    def _monitored(self, monitor: Any) -> None:
        # no deadline: `poll` has told of it
        event = parse_monitor_message(monitor.recv_multipart())
        self._door.heard(event["event"])
        if event["event"] == zmq.EVENT_DISCONNECTED and monitor is self._monitors[self._in]:
            self._end(event["value"], "its connection has ended")

    def _end(self, sign: Any, reason: str) -> None:
        with self._lock:
            worker, member = self._connections.get(sign, ("", None))
        if member is not None:
            self.lose(worker, reason, member)

    def close(self) -> None:
        """Close all connections; who waits for an answer is told."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._out.close(0)
            members = list(self._members)
        for worker in members:
            self.lose(worker, "the cluster was closed")
        if self._doorway is not None:
            self._doorway.close()
        self._desk.close()
        # Wakes the thread, which closes its sockets; ends when all are closed.
        self._context.term()
        self._thread.join()  # no deadline: it ends with the context
