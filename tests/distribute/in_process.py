"""Workers in threads of this process: everything but Ray, with faults at will."""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from graphflow.distribute import channel
from graphflow.distribute.buddies import buddies
from graphflow.distribute.channel import Gone
from graphflow.distribute.cluster import OVERLAPPING
from graphflow.distribute.conductor import Conductor
from graphflow.distribute.host import Host
from graphflow.distribute.messages import Message, Step
from graphflow.distribute.moves import move
from graphflow.distribute.portable import portable
from graphflow.distribute.target import ClusterTarget
from graphflow.execute.numerics import numerics
from graphflow.execute.tiers import Tiers
from graphflow.execute.whereabouts import whereabouts
from graphflow.place import topology_of


class InProcess:
    """Stands in for a `Cluster`.  What it carries it pickles, as a real one would.

    Attributes:
      names: of the workers.
      log: (worker, message) of all that the coordinators sent.
      deliver_later: takes the call that hands a value to a peer, instead of making it.
      every: runs from cut to cut; None: lost workers are not replaced.
      backup_every: cuts from one to the next of which the driver gets the copies.
      before: called with (worker, message) of what is sent, before it is.
      threads: of the products of workers that are opened from now on, as they say.
      available: how many workers there are to replace lost ones.
      stands_in: called with the name of one for whom there is none; does something stand in?
    """

    def __init__(
        self,
        workers: int,
        deadline: float = 20.0,
        every: int | None = None,
        backup_every: int = 4,
    ):
        self.names = [f"/job:worker/replica:0/task:{i}" for i in range(workers)]
        self.topology = topology_of([f"{name}/device:CPU:0" for name in self.names])
        self.deadline = deadline
        self.slots = deque([None] * OVERLAPPING)
        self.log: list[tuple[str, Message]] = []
        self.links: list[Link] = []
        self.targets: list[ClusterTarget] = []
        self.dead: set[str] = set()
        self.frozen: set[str] = set()
        self.deliver_later: Callable[[Callable[[], None]], None] | None = None
        self.every = every
        self.backup_every = backup_every
        self.before: Callable[[str, Any], None] = lambda worker, message: None
        self.available = 1000
        self.stands_in: Callable[[str], bool] = lambda worker: False
        self.threads = 1
        self.pool = ThreadPoolExecutor(64)

    def open(self, config: Any = None, seed: int = 0, tier: str = "auto") -> ClusterTarget:
        target = ClusterTarget(self.topology, self._conductor(seed, tier))
        self.targets.append(target)
        return target

    def _conductor(self, seed: int, tier: str) -> Conductor:
        link = Link(self)
        self.links.append(link)
        conductor = Conductor(
            link, self.names, self.deadline, self.slots, every=self.every, start_deadline=10.0,
            buddies=buddies(self.names, {}), backup_every=self.backup_every,
        )  # fmt: skip
        conductor.open(seed, tier)
        return conductor

    def resize(self, workers: int) -> None:
        """Have another number of workers."""
        self.go_to([self.name(i) for i in range(workers)])

    def go_to(self, names: Sequence[str]) -> None:
        """Have workers of these names."""
        before = self.names
        self.names = list(names)
        topology = topology_of([f"{name}/device:CPU:0" for name in self.names])
        try:
            open_ones = [t for t in self.targets if not t.conductor.closed]
            move(open_ones, topology, self._conductor)
        except BaseException:
            self.names = before
            raise
        self.topology = topology

    def sent(self, kind: type) -> int:
        """How many messages of a kind the coordinators have sent."""
        return sum(isinstance(message, kind) for _, message in list(self.log))

    def kill(self, worker: int) -> None:
        """End a worker: nothing comes back from it, and its callers are told."""
        self.dead.add(self.name(worker))
        for link in self.links:
            link.died(self.name(worker))

    def freeze(self, worker: int) -> None:
        """Stop a worker: nothing comes back from it, and nobody is told."""
        self.frozen.add(self.name(worker))

    def name(self, worker: int) -> str:
        """Of a worker, which may be about to join or to leave."""
        return f"/job:worker/replica:0/task:{worker}"

    def host(self, worker: int, session: int = -1) -> Host:
        return self.links[session].hosts[self.names[worker]]

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        for link in self.links:
            for host in (*link.hosts.values(), *link.former):
                host.close()
        self.pool.shutdown(wait=True)


class Link(channel.Link):
    """Attributes:
    hosts: what each worker has of the session.
    former: the same of those that were lost.
    waiting: who hears an answer of each worker; another list for who takes a lost one's place.
    """

    def __init__(self, cluster: InProcess):
        self.cluster = cluster
        self.hosts: dict[str, Host] = {}
        self.former: list[Host] = []
        self.waiting: dict[str, list[Callable[[Any], None]]] = {n: [] for n in cluster.names}
        self.lock = threading.Lock()

    def send(self, worker: str, message: Message, hear: Callable[[Any], None]) -> None:
        self.cluster.log.append((worker, message))
        self.cluster.before(worker, message)
        method = "step" if isinstance(message, Step) else "notice"
        self._call(worker, hear, lambda m: getattr(self.hosts[worker], method)(m), message)

    def call(self, worker: str, method: str, *arguments: Any, hear: Callable[[Any], None]) -> None:
        function = partial(getattr(self, f"_{method}"), worker)
        if method == "open":
            function = partial(function, self.waiting[worker])
        self._call(worker, hear, function, *arguments)

    def ping(self, worker: str, hear: Callable[[Any], None]) -> None:
        self._call(worker, hear, lambda: None)

    def replace(self, worker: str, hear: Callable[[Any], None]) -> None:
        cluster = self.cluster
        with self.lock:
            self.waiting[worker] = []
        if worker in self.hosts:
            self.former.append(self.hosts.pop(worker))
            self.former[-1].close()
        cluster.dead.discard(worker)
        cluster.frozen.discard(worker)
        cluster.available -= 1
        found = cluster.available >= 0 or cluster.stands_in(worker)
        hear(None if found else Gone("there is none"))

    def died(self, worker: str) -> None:
        with self.lock:
            waiting, self.waiting[worker] = self.waiting.get(worker, []), []
        for hear in waiting:
            hear(Gone("killed by a test"))

    def _call(
        self, worker: str, hear: Callable[[Any], None], function: Any, *arguments: Any
    ) -> None:
        if worker in self.cluster.dead:
            hear(Gone("killed by a test"))
            return
        sent = pickle.dumps(arguments)
        with self.lock:
            self.waiting[worker].append(hear)
        if worker not in self.cluster.frozen:
            self.cluster.pool.submit(self._answer, worker, hear, function, sent)

    def _alive(self, worker: str) -> bool:
        return worker not in self.cluster.dead | self.cluster.frozen

    def _answer(self, worker: str, hear: Callable[[Any], None], function: Any, sent: bytes) -> None:
        with self.lock:
            if hear not in self.waiting[worker]:
                return  # it was killed before
        try:
            answer = function(*pickle.loads(sent))
        except Exception as error:
            answer = portable(error)
        with self.lock:
            if worker in self.cluster.frozen or hear not in self.waiting[worker]:
                return
            self.waiting[worker].remove(hear)
        hear(pickle.loads(pickle.dumps(answer)))

    def _open(
        self, worker: str, place: Any, seed: int, deadline: float, plans: Any, tier: str
    ) -> Any:
        tiers = Tiers(tier, self.cluster.threads, fixed=True)
        host = Host(seed, Channel(self), deadline, plans, tiers)
        with self.lock:
            here = self.waiting[worker] is place  # else it was killed, and another one may be
            if here:
                self.hosts[worker] = host
        if not here:
            self.former.append(host)
            host.close()
        return numerics(tiers.tier, self.cluster.threads)

    def _load(self, worker: str, plan: int, shipment: Any) -> None:
        self.hosts[worker].load(plan, shipment)

    def _close(self, worker: str) -> None:
        self.former.append(self.hosts.pop(worker))
        self.former[-1].close()

    def _whereabouts(self, worker: str) -> Any:
        return whereabouts()

    def _statistics(self, worker: str) -> dict[str, int]:
        return dict(+self.hosts[worker].dropped)


class Channel(channel.Channel):
    def __init__(self, link: Link):
        self.link = link

    def send(self, worker: str, ticket: Any, key: str, value: Any) -> None:
        cluster = self.link.cluster
        sent = pickle.dumps(value)

        def deliver() -> None:
            host = self.link.hosts.get(worker)
            if self.link._alive(worker) and host is not None:
                host.deliver(ticket, key, pickle.loads(sent))

        if cluster.deliver_later is not None:
            cluster.deliver_later(deliver)
        else:
            cluster.pool.submit(deliver)
