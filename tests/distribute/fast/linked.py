"""Workers of a job, linked by values as in the fast transport, within one process."""

from __future__ import annotations

import gc
from contextlib import contextmanager

import numpy as np

from graphflow.distribute.fast import certificates, codec
from graphflow.distribute.fast.channel import FastChannel, opened, place_of
from graphflow.distribute.fast.codec import Parcel
from graphflow.distribute.fast.peers import Access, Peers
from graphflow.distribute.messages import Ticket
from tests import until as waiting
from tests.until import PATIENCE

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
    """As that of all tests; the workers take up what comes, and let go of what nobody has."""

    def there():
        for worker in workers_now if not condition() else ():
            worker.hears_nothing()
        gc.collect()
        return condition()

    waiting.until(there)
