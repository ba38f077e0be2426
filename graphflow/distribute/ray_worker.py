"""Ray's actor that a worker is: it holds the sessions, and does what is asked of it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import ray

from graphflow.distribute import addresses, failpoints
from graphflow.distribute.channel import Channel
from graphflow.distribute.fast.channel import FastChannel, opened, place_of
from graphflow.distribute.fast.exchange import Invitation
from graphflow.distribute.fast.parcels import Frame
from graphflow.distribute.fast.peers import Access, Address, Peers
from graphflow.distribute.fast.service import Service
from graphflow.distribute.host import Host
from graphflow.distribute.messages import (
    Broken,
    Notice,
    Prepared,
    Rebuild,
    Refused,
    Reply,
    Save,
    Step,
    Ticket,
)
from graphflow.distribute.portable import portable
from graphflow.distribute.processors import BIND, Processors, bound
from graphflow.distribute.ray_calls import hand
from graphflow.execute.devices import gpu_memory
from graphflow.execute.numerics import Numerics, numerics
from graphflow.execute.tiers import Tiers
from graphflow.execute.whereabouts import Whereabouts, whereabouts
from graphflow.place.devices import machine_memory

# Threads of a worker, by what they do.  A step that waits for input keeps its thread; decisions,
# values and signs of life must come through nevertheless.  There are more threads for steps than
# a cluster has runs: of those that were cancelled, some may still compute.
GROUPS = {"steps": 160, "values": 4, "control": 4, "life": 1}
LOOPBACK = "127.0.0.1"

F = TypeVar("F", bound=Callable[..., Any])


class Description(NamedTuple):
    """What a worker tells about itself.

    Attributes:
      node: identifies the machine.
      pid: its process.
      gpus: ids of the GPUs that Ray gave it.
      gpu_memory: bytes of each GPU that CuPy can use.
      threads: of its kernels.
      memory: bytes that the processes of its machine, or of its container, may have.
    """

    node: str
    pid: int
    gpus: tuple[str, ...]
    gpu_memory: tuple[int, ...]
    threads: int
    memory: int


class RayChannel(Channel):
    """Values go to peers as arguments of actor calls, by value."""

    def __init__(self, session: str, peers: Mapping[str, Any]):
        self.counts: Counter[str] = Counter()
        self._session = session
        self._peers = peers

    def send(self, worker: str, ticket: Ticket, key: str, value: Any) -> None:
        self.counts["sent"] += 1
        self.counts["bytes"] += getattr(value, "nbytes", 0)
        hand(self._peers[worker], self._session, ticket, key, value)


def group(name: str) -> Callable[[F], F]:
    """Have a method of the actor run on the threads of a group."""
    decorate: Callable[[F], F] = ray.method(concurrency_group=name)
    return decorate


class Executor:
    """The actor that a worker is: it holds the sessions."""

    def __init__(self) -> None:
        if addresses.FIXED in os.environ:
            addresses.check()
        self._peers: dict[str, Any] = {}
        self._hosts: dict[str, Host] = {}
        self._channels: dict[str, Any] = {}
        self._service: Service | None = None
        self._values: Peers | None = None  # past Ray
        self._processors: Processors | None = None

    @group("control")
    def arm(self, point: str, count: int, fault: str, seconds: float = 0.0) -> None:
        """Have one of `failpoints.FAULTS` at a moment."""
        failpoints.arm(point, count, lambda: failpoints.FAULTS[fault](seconds))

    @group("control")
    def meet(self, peers: Mapping[str, Any]) -> None:
        """Take the addresses of workers, some of which may have changed."""
        self._peers.update(peers)

    @group("control")
    def describe(self, peers: Mapping[str, Any]) -> Description:
        """Take the addresses of all workers, and tell what this one has."""
        self._peers.update(peers)
        gpus = tuple(str(i) for i in ray.get_gpu_ids())
        return Description(
            ray.get_runtime_context().get_node_id(),
            os.getpid(),
            gpus,
            gpu_memory() if gpus else (),
            int(os.environ.get("OMP_NUM_THREADS", "0")),
            machine_memory(),
        )

    @group("control")
    def join(self, name: str, invitation: Invitation, access: Access) -> Address:
        """Take messages and values past Ray, too; where values are taken."""
        if count := os.environ.get(BIND):  # before threads are started for steps
            self._processors = bound(int(count))
        service = self._service = Service(invitation, self._find)
        if access.interface != LOOPBACK:  # the driver's; here it is this node's
            access = access._replace(interface=ray.util.get_node_ip_address())
        self._values = Peers(name, access, self._take, place_of, service.report)
        return self._values.address

    @group("control")
    def locate(self, addresses: Mapping[str, Address]) -> None:
        """Learn where the peers take values."""
        if self._values is not None:
            self._values.meet(addresses)

    @group("control")
    def collect(self, serial: int) -> Any:
        """See `Service.collect`."""
        assert self._service is not None
        return self._service.collect(serial)

    def _take(self, frame: Frame) -> None:
        session, ticket, key, value = opened(frame)
        host = self._hosts.get(session)
        if host is not None:  # else it was closed
            host.deliver(ticket, key, value)

    def _find(self, session: bytes) -> Host | None:
        return self._hosts.get(session.hex())

    @group("life")
    def live(self) -> None:
        """Never returns: who waits for it learns of the end of this worker."""
        threading.Event().wait()  # no deadline: it is the worker's life

    @group("control")
    def call(self, session: str, method: str, arguments: tuple[Any, ...]) -> Any:
        """Open, load, close, statistics; an error is returned, not raised."""
        try:
            return getattr(self, f"_{method}")(session, *arguments)
        except Exception as error:
            return portable(error)

    def _open(self, session: str, seed: int, deadline: float, plans: Any, tier: str) -> Numerics:
        channel: Any = RayChannel(session, self._peers)
        if self._values is not None:
            channel = FastChannel(session, self._values, channel)
        self._channels[session] = channel
        threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        tiers = Tiers(tier, threads, fixed=True)
        self._hosts[session] = Host(seed, channel, deadline, plans, tiers)
        return numerics(tiers.tier, tiers.threads if tiers.tier == "native" else threads)

    def _load(self, session: str, plan: int, shipment: Any) -> None:
        self._hosts[session].load(plan, shipment)

    def _whereabouts(self, session: str) -> Whereabouts:
        return whereabouts()

    def _statistics(self, session: str) -> dict[str, int]:
        counts = self._channels[session].counts
        found = {"sent": counts["sent"], "bytes": counts["bytes"]}
        for part in (self._service, self._values, self._hosts[session]):
            for reason, count in (+part.dropped).items() if part is not None else ():
                found[reason] = found.get(reason, 0) + count
        return found

    def _close(self, session: str) -> None:
        self._channels.pop(session, None)
        host = self._hosts.pop(session, None)
        if host is not None:
            host.close()

    @group("control")
    def notice(self, session: str, notice: Notice | Save | Rebuild) -> Reply | Broken | None:
        """See `Host.notice`."""
        host = self._hosts.get(session)
        return host.notice(notice) if host else None

    @group("control")
    def ping(self) -> None:
        """Give a sign of life."""

    @group("values")
    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None:
        """See `Host.deliver`."""
        host = self._hosts.get(session)
        if host is not None:  # else it was closed
            host.deliver(ticket, key, value)

    @group("values")
    def undelivered(self, session: str, ticket: Ticket, key: str, why: str) -> None:
        """See `Host.undelivered`."""
        host = self._hosts.get(session)
        if host is not None:  # else it was closed
            host.undelivered(ticket, key, why)

    @group("steps")
    def step(self, session: str, step: Step) -> Prepared | Refused | Broken:
        """See `Host.step`."""
        return self._hosts[session].step(step)
