"""Cluster: workers on Ray, on which sessions run."""

from __future__ import annotations

import os
import sys
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from graphflow.base.devices import DeviceSpec
from graphflow.base.errors import UnavailableError
from graphflow.base.forks import own
from graphflow.distribute.buddies import buddies
from graphflow.distribute.conductor import Conductor
from graphflow.distribute.demands import (
    check_numbers,
    check_resources,
    chosen_transport,
    topology_of,
)
from graphflow.distribute.elastic import Membership
from graphflow.distribute.fast.link import FastLink
from graphflow.distribute.fast.network import Network
from graphflow.distribute.moves import move
from graphflow.distribute.target import ClusterTarget
from graphflow.place import Topology

_CLOSED = (
    "the cluster is closed: use it before `close`, or within its `with` block, in the process that "
    "has started it"
)
OVERLAPPING = 128  # runs at once; a worker has a thread for each


class Cluster:
    """Workers that Ray runs, one actor each.

    Each worker is a task of the job "worker": its devices are
    "/job:worker/task:0/device:CPU:0" and so on, and it computes in as many threads as it has
    CPUs.  Several sessions may share a cluster; each has its own variables.

    As a context manager it is closed at the end.

    Attributes:
      topology: the devices of all workers.
      deadline: seconds without a sign of life after which a worker is given up.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        min_workers: int | None = None,
        address: str | None = None,
        transport: str | None = None,
        tls: bool = False,
        cpus_per_worker: float = 1,
        gpus_per_worker: int = 0,
        bind_cpus: bool = False,
        disable_aslr: bool = False,
        spares: int = 0,
        recover: bool = True,
        snapshot_every: int = 100,
        backup_every: int = 10,
        deadline: float = 30.0,
        start_deadline: float = 60.0,
        object_store_memory: int = 256 << 20,
    ):
        """Start workers.

        Args:
          workers: how many.
          min_workers: go on with fewer, but at least so many, while lost ones cannot be replaced,
            and with all again when Ray has the resources.  None: a worker that cannot be replaced
            ends the sessions.
          address: of the Ray cluster to use: "auto", "host:port", "ray://host:port"; "local": a
            Ray of its own, on this machine's loopback; None: the Ray that this process is
            connected to, else one of its own.  What it starts it also ends.
          transport: how messages and values travel; "fast": past Ray, by channels of their own,
            authenticated with keys that Ray hands out, and by shared memory between workers of
            one machine; "sockets": the same without shared memory; "ray": by actor calls, which
            needs no further port.  The results are the same, bit for bit.  None: "fast", unless
            the address begins with "ray://": such a driver cannot be reached by the workers.
          tls: encrypt values between machines, too; messages always are.
          cpus_per_worker, gpus_per_worker: what Ray reserves for each.
          bind_cpus: bind each worker to as many processors, shared with as few other workers as can
            be.  Steps take less time where nothing else needs these processors, and more where
            something does.
          disable_aslr: start workers without address space layout randomization, so that all have
            the same addresses.  Many workers on few cores meet less code anew then, and steps take
            a fraction of the time.  It makes attacks on workers, and on what they start, easier.
          spares: further workers that take the place of lost ones at once; each that does is
            replaced by a new one.
          recover: replace lost workers, by spares or new ones, and get back what they held, so
            that sessions go on as if nothing had been; otherwise a loss ends them.
          snapshot_every: steps from one copy of all state to the next.  A recovery goes back to
            the last copy, and does again what was committed since.
          backup_every: each worker keeps the copies of another one, on another machine where there
            is one; every so many copies come to this process instead.  Where a worker and the one
            with its copies are lost at once, a recovery goes back to these.
          deadline: seconds without a sign of life after which a worker is given up.
          start_deadline: seconds that the workers may take to start.
          object_store_memory: bytes for values under way, where it starts a Ray of its own.

        Raises:
          TypeError, ValueError: an argument is not what it must be, or out of range.
          RuntimeError: address="local", and this process is connected to a Ray already.
          InvalidArgumentError: Ray has not what the workers need, or their GPUs cannot be used.
          UnavailableError: Ray or the workers did not start.
        """
        transport = chosen_transport(transport, address, tls)
        check_numbers(
            workers=workers, min_workers=workers if min_workers is None else min_workers,
            spares=spares, cpus_per_worker=cpus_per_worker, gpus_per_worker=gpus_per_worker,
            snapshot_every=snapshot_every, backup_every=backup_every, deadline=deadline,
            start_deadline=start_deadline, object_store_memory=object_store_memory,
        )  # fmt: skip
        if min_workers is not None and min_workers > workers:
            raise ValueError(f"min_workers={min_workers}: it must be at most workers={workers}")
        if bind_cpus and transport == "ray":
            raise ValueError('bind_cpus=True: workers are bound where transport is not "ray"')
        self._backup_every = backup_every
        self._every = snapshot_every if recover else None
        self._start_deadline = start_deadline
        self._resources = cpus_per_worker, gpus_per_worker
        self._placing = {"bind": bind_cpus, "disable_aslr": disable_aslr}
        self.deadline = deadline
        self._lock = threading.Lock()
        self._slots = deque([None] * OVERLAPPING)
        self._sessions: weakref.WeakSet[ClusterTarget] = weakref.WeakSet()
        names = [str(DeviceSpec("worker", 0, task)) for task in range(workers)]
        ray = _ray()
        count = workers + spares
        cpus, gpus = count * cpus_per_worker, count * gpus_per_worker
        ray.connect(address, cpus, gpus, object_store_memory)
        self._actors: dict[str, Any] = {}
        self._spares: list[Any] = []
        self._wanted_spares = spares
        self._networks: list[Network] = []  # one, where messages do not go by Ray
        self._changing = threading.RLock()  # who the workers are
        self._membership: Membership | None = None
        self._finalizer = weakref.finalize(
            self, _end, ray, self._actors, self._spares, self._networks
        )
        own(self)
        try:
            check_resources(ray.resources(), cpus, gpus)
            for name in names:
                self._actors[name] = self._start()
            self._spares += [self._spare() for _ in range(spares)]
            self.workers = self._describe(ray, start_deadline)
            if transport != "ray":
                interface = ray.interface(self.workers.values())
                network = Network(ray, interface, transport == "fast", tls, start_deadline)
                self._networks.append(network)
                network.join(self._actors, list(self._actors))
            carrier = f"{transport}, encrypted" if tls else transport
            self._carrier = carrier
            self.topology = self._topology(self.workers)
            if min_workers is not None:
                self._membership = Membership(weakref.proxy(self), names, min_workers)
        except BaseException:
            self.close()
            raise

    def _describe(self, ray: Any, patience: float) -> dict[str, Any]:
        try:
            found: dict[str, Any] = ray.describe(self._actors, patience)
        except TimeoutError as error:
            raise UnavailableError(
                None,
                None,
                f"worker {error} did not start within {patience:g} s; does Ray have the CPUs and "
                f"GPUs for {len(self._actors)} workers beside what runs there already?  Where it "
                "starts slowly, give Cluster(start_deadline=...)",
            ) from error
        except ray.RayError as error:
            raise UnavailableError(
                None, None, f"a worker did not start: {ray.reason(error)}"
            ) from error
        return found

    def _start(self) -> Any:
        return _ray().start_worker(*self._resources, **self._placing)

    def _spare(self) -> Any:
        actor = self._start()
        _ray().warm(actor, self._actors)
        return actor

    def resize(self, workers: int) -> None:
        """Have another number of workers from now on.

        Sessions go on with them: their variables and queues move off those that leave, and their
        next runs are planned anew.  Those that join get the highest task numbers, those that have
        these leave.  What a program asks for by the name of a task that is not there any more
        needs `allow_soft_placement`.  Runs that are under way are waited for.

        Args:
          workers: how many.

        Raises:
          TypeError, ValueError: that is no number, or there would be none.
          RuntimeError: the cluster is closed.
          DeadlineExceededError: a run of some session does not end.
          OpError: new workers do not start, or others are lost; all sessions are as they were.
        """
        check_numbers(workers=workers)
        if not self._finalizer.alive:
            raise RuntimeError(_CLOSED)
        names = [str(DeviceSpec("worker", 0, task)) for task in range(workers)]
        self.go_to(names)
        if self._membership is not None:
            self._membership.want(names)

    @property
    def names(self) -> list[str]:
        """Of the workers."""
        return list(self._actors)

    def room(self) -> int:
        """For how many more workers Ray has the resources now."""
        return int(_ray().room(*self._resources))

    def go_to(self, names: Sequence[str]) -> None:
        """Have workers of these names from now on; see `resize`."""
        with self._changing:
            self._go_to(names)

    def _go_to(self, names: Sequence[str]) -> None:
        self._mend()
        before = dict(self._actors)
        joining = {name: self._start() for name in names if name not in before}
        try:
            self._actors |= joining
            self.workers = self._describe(_ray(), self._start_deadline)
            for network in self._networks:
                network.join(self._actors, list(self._actors))
            found = {name: self.workers[name] for name in names}
            topology = self._topology(found)
            with self._lock:
                sessions = [s for s in self._sessions if not s.conductor.closed]
            move(sessions, topology, partial(self._conductor, names))
        except BaseException:
            for name, actor in joining.items():
                del self._actors[name]
                self.workers.pop(name, None)
                _ray().end_worker(actor)
            raise
        self.topology, self.workers = topology, found
        for name in before:
            if name not in names:
                _ray().end_worker(self._actors.pop(name))

    def _mend(self) -> None:
        """Replace workers that have died without any session's having noticed."""
        with self._lock:
            sessions = [s for s in self._sessions if not s.conductor.closed]
        for name, actor in _ray().ended(dict(self._actors), self.deadline).items():
            for session in sessions:
                session.conductor.lose(name, "its process has ended")
            self.replacement(name, actor)  # where there is no session

    def _conductor(self, names: Sequence[str], seed: int, tier: str) -> Conductor:
        """A new session on some workers."""
        session = uuid.uuid4().hex
        actors = {name: self._actors[name] for name in names}
        link = _ray().RayLink(session, actors, self)
        for network in self._networks:
            link = FastLink(session, network, link, self._actors)
        conductor = Conductor(
            link,
            names,
            self.deadline,
            self._slots,
            every=self._every,
            start_deadline=self._start_deadline,
            buddies=self._buddies(names),
            backup_every=self._backup_every,
        )
        try:
            conductor.open(seed, tier)
        except BaseException:  # some workers may know it by now
            conductor.close()
            raise
        return conductor

    def _buddies(self, names: Sequence[str]) -> dict[str, str]:
        return buddies(names, {name: found.node for name, found in self.workers.items()})

    def _topology(self, workers: Mapping[str, Any]) -> Topology:
        """The devices of workers, as these have described them."""
        keepers = {}
        if self._every is not None:
            keepers = dict.fromkeys(workers, "") | self._buddies(list(workers))
        return topology_of(workers, *self._resources, self._carrier, keepers)

    def replacement(self, worker: str, lost: Any) -> Any:
        """The actor that takes the place of one that was lost, a spare or a new one; each session
        that has noticed calls this."""
        with self._lock:
            if self._actors[worker] is lost:
                _ray().end_worker(lost)
                self._actors[worker] = self._spares.pop(0) if self._spares else self._other(worker)
            return self._actors[worker]

    def _other(self, worker: str) -> Any:
        members, (cpus, gpus) = self._membership, self._resources
        if members is not None and not gpus and members.stands_in(worker):
            return _ray().start_worker(cpus, gpus, reserve=False, **self._placing)
        return self._start()

    def replaced(self, worker: str, found: Any) -> None:
        """A worker that has taken the place of a lost one is up."""
        self.workers[worker] = found
        if self._membership is not None:
            self._membership.replaced(worker)
        with self._lock:  # not before, for starting takes what the recovery needs
            if self._finalizer.alive and len(self._spares) < self._wanted_spares:
                self._spares.append(self._spare())

    def open(self, config: Any = None, seed: int = 0, tier: str = "auto") -> ClusterTarget:
        """A session's place on the workers; what `Session(cluster=…)` calls.

        Args:
          config: the session's `ConfigProto`; which devices there are, and how many threads a
            kernel may use, the cluster says.
          seed: seed of its random ops that have none.
          tier: which tier executes, see `Settings`; "auto" is "native" where all workers have a
            compiler.

        Raises:
          RuntimeError: the cluster is closed.
          UnavailableError: a worker is lost.
        """
        if not self._finalizer.alive:
            raise RuntimeError(_CLOSED)
        target = ClusterTarget(self.topology, self._conductor(list(self._actors), seed, tier))
        with self._lock:
            self._sessions.add(target)
        return target

    @property
    def dropped(self) -> dict[str, int]:
        """Connections to the driver that were "refused", and frames that were dropped because
        they were "malformed" or "replayed"; those of workers are in a session's statistics."""
        return {k: n for network in self._networks for k, n in network.dropped.items()}

    def close(self) -> None:
        """End all sessions on the cluster, its workers, and Ray if it was started for it."""
        with self._lock:
            sessions = list(self._sessions)
            self._sessions.clear()
        for session in sessions:
            session.conductor.abandon()
        if self._membership is not None:
            self._membership.close()
        self._finalizer()

    def disown(self) -> None:
        """See `forks.Owned`: workers and Ray are the other process's."""
        self._finalizer.detach()
        self._lock, self._membership = threading.Lock(), None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", closed"
        return f"<graphflow.Cluster of {len(self._actors)} workers{state}>"


def _ray() -> Any:
    if "ray" not in sys.modules:
        # Without this, Ray replaces loopback by the address of a network interface.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from graphflow.distribute import ray_transport

    return ray_transport


def _end(ray: Any, actors: dict[str, Any], spares: list[Any], networks: list[Network]) -> None:
    for network in networks:
        network.close()
    for actor in (*actors.values(), *spares):
        ray.end_worker(actor)
    ray.disconnect()
