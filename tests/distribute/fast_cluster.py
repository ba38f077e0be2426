"""A cluster of workers in this process that talk by the fast transport, without Ray."""

from __future__ import annotations

import uuid
from collections import deque
from typing import Any

from graphflow.distribute.channel import Gone
from graphflow.distribute.conductor import Conductor
from graphflow.distribute.fast.channel import FastChannel, opened, place_of
from graphflow.distribute.fast.exchange import Exchange
from graphflow.distribute.fast.link import FastLink
from graphflow.distribute.fast.peers import Access, Peers
from graphflow.distribute.fast.service import Service
from graphflow.distribute.host import Host
from graphflow.distribute.portable import portable
from graphflow.distribute.target import ClusterTarget
from graphflow.execute.numerics import numerics
from graphflow.place import topology_of
from tests.until import PATIENCE


class Worker:
    """What the actor of a worker is."""

    def __init__(self, name: str, invitation: Any, access: Access):
        self.hosts: dict[str, Host] = {}
        self.service = Service(invitation, lambda session: self.hosts.get(session.hex()))
        self.peers = Peers(name, access, self._take, place_of, self.service.report)

    def _take(self, frame: Any) -> None:
        session, ticket, key, value = opened(frame)
        host = self.hosts.get(session)
        if host is not None:
            host.deliver(ticket, key, value)

    def call(self, session: str, method: str, *arguments: Any) -> Any:
        if method == "open":
            seed, deadline, plans, _ = arguments
            channel = FastChannel(session, self.peers, None)  # type: ignore[arg-type]
            self.hosts[session] = Host(seed, channel, deadline, plans)
            return numerics("reference", 1)
        if method == "load":
            return self.hosts[session].load(*arguments)
        return None

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()
        self.service.close()
        self.peers.close()


class FastCluster:
    """Stands in for a `Cluster`.

    Attributes:
      workers: name -> the one that has it now.
      replaced: how many took the place of lost ones.
    """

    def __init__(self, count: int, shared_memory: bool = True, every: int | None = 4):
        self.names = [f"/job:worker/replica:0/task:{i}" for i in range(count)]
        self.exchange = Exchange("127.0.0.1", local=shared_memory)
        self.workers: dict[str, Worker] = {}
        self.replaced = 0
        self._access = Access("test", b"k" * 32, "127.0.0.1", shared_memory)
        self._former: list[Worker] = []
        self._every = every
        self._topology = topology_of([f"{name}/device:CPU:0" for name in self.names])
        for name in self.names:
            self._join(name)

    def _join(self, name: str) -> None:
        invitation = self.exchange.invite(name)
        self.workers[name] = Worker(name, invitation, self._access)
        addresses = {n: w.peers.address for n, w in self.workers.items()}
        for worker in self.workers.values():
            worker.peers.meet(addresses)
        self.exchange.settle(invitation, addresses[name].local)
        self.exchange.greet(name, PATIENCE)

    def open(self, config: Any = None, seed: int = 0, tier: str = "") -> ClusterTarget:
        session = uuid.uuid4().hex
        slots = deque([None] * 16)
        link = FastLink(session, self, _Slow(session, self), {})  # type: ignore[arg-type]
        conductor = Conductor(
            link, self.names, PATIENCE, slots, every=self._every, start_deadline=PATIENCE
        )
        conductor.open(seed)
        return ClusterTarget(self._topology, conductor)

    def join(self, actors: Any, names: list[str]) -> None:
        """Put workers in the place of lost ones, as `Network.join`."""
        for name in names:
            self.exchange.lose(name, "another one has taken its place")
            self._former.append(self.workers.pop(name))
            self._former[-1].close()
            self._join(name)
            self.replaced += 1

    def __enter__(self) -> FastCluster:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.close()
        self.exchange.close()


class _Slow:
    """Ray's calls."""

    def __init__(self, session: str, cluster: FastCluster):
        self._session = session
        self._cluster = cluster

    def call(self, worker: str, method: str, *arguments: Any, hear: Any) -> None:
        try:
            hear(self._cluster.workers[worker].call(self._session, method, *arguments))
        except Exception as error:
            hear(portable(error))

    def send(self, worker: str, message: Any, hear: Any) -> None:
        """What is no plain data: a `Rebuild`, which may hold a snapshot."""
        host = self._cluster.workers[worker].hosts.get(self._session)
        hear(host.notice(message) if host is not None else Gone("it has no such session"))

    def collect(self, worker: str, serial: int, hear: Any) -> None:
        hear(self._cluster.workers[worker].service.collect(serial))

    def replace(self, worker: str, hear: Any) -> None:
        hear(None)
