"""A worker's connections to its peers, for values.

Each goes one way and is made when first needed: a Unix socket within a machine, through which
slots of shared memory are lent, and TCP between machines.  What a connection cannot take at once
is sent by a thread of its own, so that no kernel waits for a peer.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphflow.distribute.fast.certificates import contexts
from graphflow.distribute.fast.desk import Desk
from graphflow.distribute.fast.doorway import Doorway
from graphflow.distribute.fast.greeting import PATIENCE, greet, tuned
from graphflow.distribute.fast.parcels import Frame, Kind, Lent, Reader, pack
from graphflow.distribute.fast.sender import Sender
from graphflow.distribute.fast.slots import OWN, Buffers, Pool, Slot
from graphflow.distribute.fast.values import Buffer, Malformed
from graphflow.distribute.messages import Ticket

_EXPECTED = 4096  # values at once that have their place already


class Address(NamedTuple):
    """Where a worker takes values.

    Attributes:
      machine: same for workers that can share memory.
      local: name of a Unix socket, without a file.
      host, port: for the other machines.
      key: by which whoever connects proves that it may; empty: the job's.  Secret, then.
      born: when it began to take values, in seconds: of two addresses, the later one counts.
    """

    machine: str
    local: str
    host: str
    port: int
    key: bytes = b""
    born: float = 0.0


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
      buffers: memory that it receives into.
      desk: who waits there for values brings in those from workers of this machine.
      dropped: counts "refused" connections and "malformed" frames.
    """

    def __init__(
        self,
        name: str,
        access: Access,
        deliver: Callable[[Frame], None],
        place_of: Callable[[Ticket, bytes], Any],
        lost: Callable[[str], None],
    ):
        """Args:
        name: of this worker.
        access: to the job.
        deliver: gets each frame that comes, on a thread of the connection.
        place_of: tells from the attempt and the head of a frame what it is, see `expect`.
        lost: gets the local address of a peer whose connection has ended, or to whom there is
          none to be had: its name may be another one's by now.
        """
        self.name = name
        self.pool = Pool(f"graphflow-{access.job}")
        self._access = access
        self._deliver = deliver
        self._place_of = place_of
        self._lost = lost
        self.buffers = Buffers()
        self.desk = Desk()
        self._reading: set[Future[None]] = set()  # connections that are read by turns
        self._expected: dict[Any, Any] = {}  # what will come -> where to put it
        self._addresses: Mapping[str, Address] = {}
        self._near: frozenset[str] = frozenset()  # to whom slots can be lent
        self._lock = threading.Lock()
        self._outgoing: dict[str, _Outgoing] = {}
        self._readers: dict[str, int] = {}  # local address of a peer -> its flag in our slots
        self._flags_given = itertools.count()
        self._closed = False
        self._tls = contexts(access.certificate, access.private_key) if access.certificate else ()
        local = f"\0graphflow-{access.job}-{os.urandom(8).hex()}"
        self._doorway = Doorway(
            local, access.interface, access.key, partial(self._secured, server=True), self._read
        )
        self.dropped = self._doorway.dropped
        self.address = Address(machine(), local, self._doorway.host, self._doorway.port)

    def meet(self, addresses: Mapping[str, Address]) -> None:
        """Learn where the peers are; those at a new address are new."""
        with self._lock:
            moved = {p: a.local for p, a in self._addresses.items() if addresses.get(p) != a}
            self._addresses = dict(addresses)
            shared = self._access.shared_memory and len(addresses) <= OWN + 1
            here = [p for p, a in addresses.items() if a.machine == self.address.machine]
            self._near = frozenset(here if shared else ())
            for local in moved.values():
                if local in self._readers:
                    self.pool.release(self._readers.pop(local))
            gone = [self._outgoing.pop(p) for p in moved if p in self._outgoing]
        for outgoing in gone:
            outgoing.close()

    def shares_memory(self, peers: Iterable[str]) -> bool:
        """Can slots be lent to all of these?  All of them answer alike."""
        return self._near.issuperset(peers)

    def slot(self, size: int, peers: Iterable[str], own: bool = False) -> Slot | None:
        """A slot of at least that size, lent to these, and to ourselves; None: there is no room."""
        slot = self.pool.take(size, [*self._flags(peers), *([OWN] if own else [])])
        if self.pool.dropped:
            with self._lock:
                dropped, self.pool.dropped = self.pool.dropped, []
                everyone = list(self._outgoing.values())
            for outgoing in everyone:
                outgoing.send(pack(Kind.FORGET, b"", [np.array(dropped, np.uint32)]))
        return slot

    def lend(self, slot: Slot, peer: str) -> bool:
        """Lend a slot that the caller holds to one more peer; False: it has that already."""
        (flag,) = self._flags([peer])
        return self.pool.lend(slot, flag)

    def _flags(self, peers: Iterable[str]) -> list[int]:
        """Their flags in our slots."""
        with self._lock:
            return [self._flag(peer) for peer in peers]

    def _flag(self, peer: str) -> int:
        """One for each process: who takes the place of a lost peer must not lose what is lent to
        it when the end of that one is noticed.  The lock is held."""
        address = self._addresses.get(peer)
        name = address.local if address is not None else peer
        if name not in self._readers:
            taken = set(self._readers.values())
            if len(taken) == OWN:  # too many to lend to any
                return 0
            numbers = (n % OWN for n in self._flags_given)
            self._readers[name] = next(n for n in numbers if n not in taken)
        return self._readers[name]

    # ---- sending

    def send(
        self,
        peer: str,
        ticket: Ticket,
        head: bytes,
        arrays: Sequence[Buffer | Lent],
        kind: Kind = Kind.VALUE,
    ) -> None:
        """Send a frame.  Does not wait for the peer, and does not fail when it is gone; arrays
        that are not lent must not change before the peer has them."""
        (flag,) = self._flags([peer])
        outgoing = self._outgoing.get(peer) or self._open(peer)
        lent = [a.slot for a in arrays if isinstance(a, Lent)]
        if outgoing is None or not outgoing.lend(pack(kind, head, arrays, flag, ticket), lent):
            for slot in lent:  # nobody will read it
                slot.give_back(flag)

    def _open(self, peer: str) -> _Outgoing | None:
        with self._lock:
            address = self._addresses.get(peer)
            if address is None or self._closed:
                return None
            if peer not in self._outgoing:
                self._outgoing[peer] = _Outgoing(
                    lambda: self._reach(peer, address), lambda: self._release(address.local)
                )
            return self._outgoing[peer]

    def _release(self, local: str) -> None:
        """A peer is gone, with what it has borrowed."""
        with self._lock:
            flag = self._readers.get(local)
        if flag is not None:
            self.pool.release(flag)

    def _reach(self, peer: str, address: Address) -> Any:
        """As `_connect`.  That it fails is told: the peer does not know, and waits for values."""
        try:
            return self._connect(peer, address)
        except BaseException:
            if not self._closed and self._addresses.get(peer) == address:
                self._lost(address.local)
            raise

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
            key = address.key or self._access.key
            greet(connection, key, self.address.local, address.local)
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

    def expect(self, what: Any, memory: Any) -> None:
        """Receive a value into that memory, if it has not come before; `place_of` names it."""
        with self._lock:
            while len(self._expected) >= _EXPECTED:  # of attempts that came to nothing
                self._expected.pop(next(iter(self._expected)))
            self._expected[what] = memory

    def _planned(self, ticket: Ticket, head: bytes, size: int) -> Any:
        if not self._expected:
            return None
        what = self._place_of(ticket, head)
        with self._lock:
            memory = self._expected.pop(what, None)
        return memory if memory is not None and len(memory) == size else None

    def _read(self, peer: str, connection: Any) -> None:
        reader = Reader(connection, self.buffers, self._planned)
        try:
            if connection.family == socket.AF_UNIX:
                self._read_by_turns(reader, connection)
            else:
                while True:
                    self._read_some(reader)
        except (Malformed, MemoryError):
            self.dropped["malformed"] += 1
        except (EOFError, OSError):
            pass
        finally:
            reader.close()
            self._release(peer)
            if not self._closed:
                self._lost(peer)

    def _read_some(self, reader: Reader) -> None:
        for frame in reader.read():
            if frame.kind is Kind.FORGET:
                reader.forget(frame)
            else:
                self._deliver(frame)

    def _read_by_turns(self, reader: Reader, connection: socket.socket) -> None:
        """Let those who wait for values read: most frames are small, for slots hold the rest.

        Raises:
          Exception: why no more can be read.
        """
        ended: Future[None] = Future()

        def read() -> None:
            try:
                self._read_some(reader)
            except Exception as error:
                self.desk.forget(descriptor)
                with suppress(InvalidStateError):  # it was closed in the same moment
                    ended.set_exception(error)

        descriptor = connection.fileno()
        with self._lock:
            self._reading.add(ended)
        self.desk.watch(descriptor, read)
        try:
            # no deadline: a peer may have nothing to send; runs that wait for it have theirs
            ended.result()
        finally:
            self.desk.forget(descriptor)
            with self._lock:
                self._reading.discard(ended)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            outgoing = list(self._outgoing.values())
            self._outgoing.clear()
            reading = list(self._reading)
        for ended in reading:
            with suppress(InvalidStateError):  # it has just ended by itself
                ended.set_exception(EOFError("closed"))
        self._doorway.close()
        self.desk.close()
        for each in outgoing:
            each.close()
            each.join()  # no deadline: its socket is shut, so it neither sends nor waits
        self.pool.close()


class _Outgoing(Sender):
    """A connection to a peer, which knows the slots that were lent there."""

    def __init__(self, connect: Callable[[], Any], ended: Callable[[], None]):
        super().__init__(ended, connect=connect)
        self._known: set[int] = set()  # slots whose descriptors the peer has
        self._order = threading.Lock()

    def lend(self, parts: list[Any], slots: Sequence[Slot]) -> bool:
        """Send a frame that names slots, see `send`."""
        with self._order:  # a descriptor goes with the first frame that names it
            fresh = [slot for slot in slots if slot.number not in self._known]
            self._known.update(slot.number for slot in fresh)
            return self.send(parts, [slot.descriptor for slot in fresh])
