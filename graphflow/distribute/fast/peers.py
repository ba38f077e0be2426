"""A worker's connections to its peers, for values.

Each goes one way and is made when first needed: a Unix socket within a machine, through which
slots of shared memory are lent, and TCP between machines.  What a connection cannot take at once
is sent by a thread of its own, so that no kernel waits for a peer.
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphflow.distribute.fast.certificates import contexts
from graphflow.distribute.fast.codec import Buffer, Malformed
from graphflow.distribute.fast.greeting import PATIENCE, Refused, greet, tuned, welcome
from graphflow.distribute.fast.parcels import Frame, Kind, Lent, Reader, pack
from graphflow.distribute.fast.slots import OWN, Buffers, Pool, Slot

_STRANGERS = 64  # connections at once that have not proven who they are


class Address(NamedTuple):
    """Where a worker takes values.

    Attributes:
      machine: same for workers that can share memory.
      local: name of a Unix socket, without a file.
      host, port: for the other machines.
    """

    machine: str
    local: str
    host: str
    port: int


class Access(NamedTuple):
    """What a worker needs to meet its peers.  Secret: it travels by Ray's authenticated calls.

    Attributes:
      job: shows in the names of what belongs to it.
      key: by which the workers of a job know each other.
      interface: address to listen on.
      shared_memory: use it, where peers are on one machine.
      certificate, private_key: in PEM, for TLS between machines; empty: it is not wanted.
    """

    job: str
    key: bytes
    interface: str
    shared_memory: bool = True
    certificate: str = ""
    private_key: str = ""


def machine() -> str:
    """Names what processes must share to share memory: a kernel and its sockets."""
    if sys.platform != "linux":
        return f"process-{os.getpid()}"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{os.stat('/proc/self/ns/net').st_ino}"


class Peers:
    """Sends to the other workers of a job, and takes what they send.

    Attributes:
      name: of this worker.
      address: where it takes values.
      pool: the slots that it lends.
      dropped: counts "refused" connections and "malformed" frames.
    """

    def __init__(
        self,
        name: str,
        access: Access,
        deliver: Callable[[Frame], None],
        lost: Callable[[str], None],
    ):
        """Args:
        name: of this worker.
        access: to the job.
        deliver: gets each frame that comes, on a thread of the connection.
        lost: gets the local address of a peer whose connection has ended: its name may be another
          one's by now.
        """
        self.name = name
        self.pool = Pool(f"graphflow-{access.job}")
        self.dropped: Counter[str] = Counter()
        self._access = access
        self._deliver = deliver
        self._lost = lost
        self._buffers = Buffers()
        self._addresses: Mapping[str, Address] = {}
        self._names: dict[str, str] = {}  # local address -> peer
        self._lock = threading.Lock()
        self._outgoing: dict[str, Outgoing] = {}
        self._incoming: set[socket.socket] = set()
        self._readers: dict[str, int] = {}  # peer -> its flag in our slots
        self._closed = False
        self._tls = contexts(access.certificate, access.private_key) if access.certificate else ()
        local = f"\0graphflow-{access.job}-{os.urandom(8).hex()}"
        self._listeners = [_listen(socket.AF_INET, (access.interface, 0))]
        if sys.platform == "linux":
            self._listeners.append(_listen(socket.AF_UNIX, local))
        host, port = self._listeners[0].getsockname()
        self.address = Address(machine(), local, host, port)
        self._strangers = threading.Semaphore(_STRANGERS)
        self._wake, self._woken = socket.socketpair()
        threading.Thread(target=self._accept, name="graphflow-accept", daemon=True).start()

    def meet(self, addresses: Mapping[str, Address]) -> None:
        """Learn where the peers are; those at a new address are new."""
        with self._lock:
            self._names |= {address.local: peer for peer, address in addresses.items()}
            moved = [p for p, a in self._addresses.items() if addresses.get(p) != a]
            self._addresses = dict(addresses)
            gone = [self._outgoing.pop(p) for p in moved if p in self._outgoing]
        for outgoing in gone:
            outgoing.close()

    def shares_memory(self, peers: Iterable[str]) -> bool:
        """Can slots be lent to all of these?  All of them answer alike."""
        if not self._access.shared_memory or len(self._addresses) > OWN + 1:
            return False
        there = [self._addresses.get(peer) for peer in peers]
        return all(a is not None and a.machine == self.address.machine for a in there)

    def slot(self, size: int, peers: Iterable[str], own: bool = False) -> Slot | None:
        """A slot of at least that size, lent to these, and to ourselves; None: there is no room."""
        slot = self.pool.take(size, [*self._flags(peers), *([OWN] if own else [])])
        if self.pool.dropped:
            with self._lock:
                dropped, self.pool.dropped = self.pool.dropped, []
                everyone = list(self._outgoing.values())
            for outgoing in everyone:
                outgoing.send(Kind.FORGET, b"", [np.array(dropped, np.uint32)], 0)
        return slot

    def _flags(self, peers: Iterable[str]) -> list[int]:
        """Their flags in our slots."""
        with self._lock:
            return [self._readers.setdefault(p, len(self._readers)) % OWN for p in peers]

    # ---- sending

    def send(
        self, peer: str, head: bytes, arrays: Sequence[Buffer | Lent], kind: Kind = Kind.VALUE
    ) -> None:
        """Send a frame.  Does not wait for the peer, and is silent when it is gone; arrays that
        are not lent must not change before the peer has them."""
        (flag,) = self._flags([peer])
        outgoing = self._outgoing.get(peer) or self._open(peer)
        if outgoing is None or not outgoing.send(kind, head, arrays, flag):
            for array in arrays:
                if isinstance(array, Lent):  # nobody will read it
                    array.slot.give_back(flag)

    def _open(self, peer: str) -> Outgoing | None:
        with self._lock:
            address = self._addresses.get(peer)
            if address is None or self._closed:
                return None
            if peer not in self._outgoing:
                self._outgoing[peer] = Outgoing(
                    lambda: self._connect(peer, address), lambda: self._release(peer)
                )
            return self._outgoing[peer]

    def _release(self, peer: str) -> None:
        """A peer is gone, with what it has borrowed."""
        self.pool.release(*self._flags([peer]))

    def _connect(self, peer: str, address: Address) -> Any:
        """A connection to a peer who knows us, and whom we know.

        Raises:
          OSError, EOFError: it cannot be made.
        """
        if self.shares_memory([peer]):
            plain = socket.socket(socket.AF_UNIX)
            where: Any = address.local
        else:
            plain, where = socket.socket(socket.AF_INET), (address.host, address.port)
        try:
            plain.settimeout(PATIENCE)
            tuned(plain).connect(where)
            connection = self._secured(plain, server=False)
            greet(connection, self._access.key, self.address.local, address.local)
        except BaseException:
            plain.close()
            raise
        return connection

    def _secured(self, plain: socket.socket, server: bool) -> Any:
        """TLS where it is wanted; what stays on the machine needs none."""
        if not self._access.certificate or plain.family == socket.AF_UNIX:
            return plain
        return self._tls[server].wrap_socket(plain, server_side=server)

    # ---- receiving

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in (*self._listeners, self._woken):
                selector.register(listener, selectors.EVENT_READ)
            while not self._closed:
                for key, _ in selector.select():
                    if key.fileobj is not self._woken:
                        self._take(key.fileobj)
        for each in (*self._listeners, self._wake, self._woken):
            each.close()

    def _take(self, listener: Any) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # it has gone again
            return
        if not self._strangers.acquire(blocking=False):
            self.dropped["refused"] += 1
            connection.close()
            return
        threading.Thread(
            target=self._serve, args=(connection,), name="graphflow-receive", daemon=True
        ).start()

    def _serve(self, plain: socket.socket) -> None:
        with self._lock:
            self._incoming.add(plain)
        try:
            try:
                plain.settimeout(PATIENCE)
                connection = self._secured(tuned(plain), server=True)
                peer = welcome(connection, self._access.key, self.address.local)
            except (Refused, EOFError, OSError):
                self.dropped["refused"] += not self._closed
                return
            finally:
                self._strangers.release()
            with connection:
                self._read(peer, connection)
        finally:
            with self._lock:
                self._incoming.discard(plain)
            plain.close()

    def _read(self, peer: str, connection: Any) -> None:
        reader = Reader(connection, self._buffers)
        with self._lock:
            self._incoming.add(connection)
        try:
            while True:
                frame = reader.read()
                if frame.kind is Kind.FORGET:
                    reader.forget([int(n) for a in frame.arrays for n in a.view(np.uint32)])
                else:
                    self._deliver(frame)
                del frame  # it may hold a slot
        except (Malformed, MemoryError):
            self.dropped["malformed"] += 1
        except (EOFError, OSError):
            pass
        finally:
            reader.close()
            with self._lock:
                self._incoming.discard(connection)
            self._release(self._names.get(peer, peer))
            if not self._closed:
                self._lost(peer)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            outgoing, incoming = list(self._outgoing.values()), list(self._incoming)
            self._outgoing.clear()
        self._wake.send(b"x")
        for each in outgoing:
            each.close()
        for connection in incoming:
            _shut(connection)
        self.pool.close()


class Outgoing:
    """A connection to a peer, from the first frame on."""

    def __init__(self, connect: Callable[[], Any], ended: Callable[[], None]):
        """Args:
        connect: makes the connection; it is called on a thread of its own.
        ended: is told when there is none any more.
        """
        self._connect = connect
        self._ended = ended
        self._connection: Any = None
        self._known: set[int] = set()  # slots whose descriptors the peer has
        self._lock = threading.Condition()
        self._queue: deque[tuple[list[Any], list[int]]] = deque()
        self._busy = True  # the thread is sending, or not there yet
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="graphflow-send", daemon=True)
        self._thread.start()

    def send(self, kind: Kind, head: bytes, arrays: Sequence[Buffer | Lent], flag: int) -> bool:
        """Send a frame now, as far as the connection takes it, and let the thread do the rest;
        False: the connection has ended."""
        parts = pack(kind, head, arrays, flag)
        lent = [a.slot for a in arrays if isinstance(a, Lent)]
        with self._lock:
            if self._closed:
                return False
            fresh = [os.dup(s.descriptor) for s in lent if s.number not in self._known]
            self._known.update(s.number for s in lent)
            if not self._busy and not self._queue:
                parts, fresh = self._try(parts, fresh)
            if parts:
                self._queue.append((parts, fresh))
                self._lock.notify()
            return True

    def _try(self, parts: list[Any], fresh: list[int]) -> tuple[list[Any], list[int]]:
        """Send what goes without waiting; what is left."""
        if isinstance(self._connection, ssl.SSLSocket):
            return parts, fresh
        beside = _beside(fresh)
        try:
            done = self._connection.sendmsg(parts[:_IOV], beside, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return parts, fresh
        except OSError:  # the thread will find out, too
            return parts, fresh
        _close(fresh)
        return _rest(parts, done), []

    def _run(self) -> None:
        try:
            self._connection = self._connect()
            while self._next():
                pass
        except (OSError, EOFError):
            pass  # the peer is gone; the driver has its own way to learn of it
        finally:
            with self._lock:
                self._closed = True
                queue, self._queue = self._queue, deque()
            for _, fresh in queue:
                _close(fresh)
            if self._connection is not None:
                self._connection.close()
            self._ended()

    def _next(self) -> bool:
        """Send what waits; was it not closed?"""
        with self._lock:
            self._busy = False
            while not self._queue and not self._closed:
                self._lock.wait()
            if self._closed:
                return False
            self._busy = True
            parts, fresh = self._queue.popleft()
        if fresh:
            try:
                done = self._connection.sendmsg(parts[:1], _beside(fresh))
            finally:
                _close(fresh)
            parts = _rest(parts, done)
        for part in parts:
            self._connection.sendall(part)
        return True

    def close(self) -> None:
        """Send nothing more."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        if self._connection is not None:
            _shut(self._connection)
        if threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE)


_IOV = 512  # parts of one call; the kernel takes 1024


def _listen(family: int, where: Any) -> socket.socket:
    listener = socket.socket(family)
    listener.bind(where)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _beside(descriptors: Sequence[int]) -> list[Any]:
    if not descriptors:
        return []
    packed = np.array(descriptors, np.intc).tobytes()
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)]


def _rest(parts: Sequence[Any], done: int) -> list[Any]:
    """What is left of the parts after so many bytes."""
    left = []
    for part in parts:
        view = memoryview(part).cast("B")
        if done < len(view):
            left.append(view[done:])
        done = max(0, done - len(view))
    return left


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _shut(connection: Any) -> None:
    """Wake who waits on a socket; closing it would not."""
    with suppress(OSError):  # it is not connected any more
        connection.shutdown(socket.SHUT_RDWR)
