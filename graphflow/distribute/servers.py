"""The servers of this process, and sessions on them: what `tf.train.Server` stands on.

Servers find each other within the process, or through Ray: the job's namespace tells which tasks
belong together, and Ray which of them are there.  Addresses are names and nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from graphflow.base.devices import DeviceSpec, parse
from graphflow.base.errors import (
    AlreadyExistsError,
    NotFoundError,
    UnavailableError,
    UnimplementedError,
)
from graphflow.distribute.conductor import Conductor
from graphflow.distribute.decision_log import decided
from graphflow.distribute.fast.member import TaskNetwork
from graphflow.distribute.members import Member, MemberLink, Opener, incarnations
from graphflow.distribute.target import ClusterTarget
from graphflow.distribute.task import Found, LocalMember, Task
from graphflow.place import Topology, assumed_device

START = 120.0  # seconds that the other tasks may take to come up
DEADLINE = 30.0  # seconds without a sign of life after which a task is given up
OVERLAPPING = 128  # runs at once
JOB = "GRAPHFLOW_JOB"  # environment variable: Ray's namespace of the job, set by `graphflow run`
PREFIX = "grpc://"
NOT_HERE = (
    "the server's actor may have sessions before this program begins: give the folder to "
    "`graphflow run` as --record-decisions or --replay-decisions"
)

_ANY = ":0"
_ports = itertools.count(20001)  # which `_ANY` stands for
_servers: dict[str, list[Serving]] = {}  # by address; the last one counts
_lock = threading.Lock()


class Serving:
    """One task that this process serves.

    Attributes:
      name: "/job:worker/replica:0/task:1".
      address: what its target is called.
      tasks: the names of all tasks of its cluster.
      given: the addresses of these, as the user gives them.
      addresses: the same with ports, which servers of this process have in common that meet.
      opener: as whom its sessions are known.
    """

    def __init__(
        self,
        job: str,
        task: int,
        cluster: Mapping[str, str],
        protocol: str = "grpc",
        decisions: tuple[str | None, str | None] = (None, None),
    ):
        """Start to serve.

        Args:
          job, task: which one.
          cluster: names of all tasks, and their addresses; port 0 stands for any.
          protocol: "ray": the messages and values of its sessions go by Ray's calls; otherwise
            past them, where the tasks are other processes.
          decisions: folders of a log to write, and of one to follow.

        Raises:
          UnimplementedError: decisions are asked for, and this process is not the server's.
          UnavailableError: Ray cannot be reached.
        """
        self.name = task_name(job, task)
        self.tasks = tuple(cluster)
        self.opener = Opener(self.name, incarnations().get(self.name, 0))
        self.given = cluster
        self.stopped = threading.Event()
        self._slots = deque([None] * OVERLAPPING)
        self._space = os.environ.get(JOB, "")
        self._member: Any = None
        self._beside = False  # its actor was started for it
        self._by_ray = protocol == "ray" or os.environ.get("RAY_ADDRESS", "").startswith("ray://")
        self._network: TaskNetwork | None = None
        self._connecting = threading.Lock()
        here = not self._space and not os.environ.get("RAY_ADDRESS")
        if any(decisions) and not (here or len(self.tasks) == 1):
            raise UnimplementedError(None, None, NOT_HERE)
        if self._space:
            self._member = _own_task(self.name, self._space)
        elif os.environ.get("RAY_ADDRESS") and len(self.tasks) > 1:
            self._space = _space_of(self.tasks)
            self._member = _side_task(self.name, self._space)
            self._beside = True
        else:
            served = Task(self.name, lambda handle: handle)
            served.state.decisions = decided(self.name, *decisions)
            self._member = LocalMember(served)
        with _lock:
            self.addresses = _with_ports(cluster, self.name)
            self.address = self.addresses[self.name]
            _servers.setdefault(self.address, []).append(self)

    @property
    def target(self) -> str:
        return PREFIX + self.address

    def open(self, config: Any, seed: int) -> ServerTarget:
        """A session on this server and those that it may see.

        Raises:
          UnavailableError: some do not come up.
          UnimplementedError: its state is to be isolated.
        """
        if getattr(config, "isolate_session_state", False):
            raise UnimplementedError(
                None,
                None,
                "ConfigProto(isolate_session_state=True): sessions on servers share their state; "
                "build the graph within tf.container(NAME), with a name of its own",
            )
        names = _visible(self.tasks, getattr(config, "device_filters", ()) or (), self.name)
        members = self._find(names)
        bell, driver = None, ""
        if self._space and not self._by_ray:
            network = self._connected()
            own = {name: m for name, m in members.items() if isinstance(m, LocalMember)}
            others: Any = {name: m for name, m in members.items() if name not in own}
            members = {**own, **network.reach(others)}
            bell, driver = network.bell, network.job
        link = MemberLink(uuid.uuid4().hex, members, self.opener, bell, driver)
        conductor = Conductor(link, names, DEADLINE, self._slots)
        found = conductor._call("describe", dict.fromkeys(names, ()), START)
        try:
            conductor.open(seed)
        except BaseException:  # some tasks may know it by now
            conductor.close()
            raise
        return ServerTarget(_topology(found), conductor, self.name)

    def _connected(self) -> TaskNetwork:
        """What reaches the other tasks past Ray."""
        with self._connecting:
            if self._network is None:
                tasks = _ray_tasks()
                self._network = TaskNetwork(tasks, tasks.interface(), START)
                self._finalizer = weakref.finalize(self, self._network.close)
            return self._network

    def reset(self, containers: Sequence[str]) -> None:
        """Forget the variables of containers on all tasks."""
        members = self._find(self.tasks)
        conductor = Conductor(MemberLink("", members), self.tasks, DEADLINE, self._slots)
        conductor._call("reset", dict.fromkeys(self.tasks, (tuple(containers),)))

    def _find(self, names: Sequence[str]) -> dict[str, Member]:
        try:
            if self._space:
                found = _ray_tasks().find(names, self._space, START)
            else:
                found = _in_process({name: self.addresses[name] for name in names})
        except TimeoutError as missing:
            hint = "" if self._space else (
                "; no server of this process has that task, and neither RAY_ADDRESS nor "
                "`graphflow run --workers N` says where else to look"
            )  # fmt: skip
            raise UnavailableError(
                None, None, f"{missing} did not come up within {START:g} s{hint}"
            ) from missing
        return {name: found[name] for name in names}

    def stop(self) -> None:
        """End the task where it is this process's alone; wakes `join`."""
        self.stopped.set()
        with _lock:
            if self in _servers.get(self.address, ()):
                _servers[self.address].remove(self)
        with self._connecting:
            if self._network is not None:
                self._finalizer()
        if not self._space:
            self._member.close()
        elif self._beside:
            self._beside = False
            _end_side_task(self._member)


class ServerTarget(ClusterTarget):
    """A session on servers.

    Attributes:
      default: the task of operations that ask for none: the server that the session is with.
    """

    begins_ahead = False  # others share the state, and would see what is not committed

    def __init__(self, topology: Topology, conductor: Conductor, default: str):
        super().__init__(topology, conductor)
        self.default = default


def task_name(job: str, task: int) -> str:
    """A task's full name."""
    return str(DeviceSpec(job, 0, task))


def serving(target: str) -> Serving:
    """The server of this process that a target names.

    Raises:
      NotFoundError: there is none.
    """
    address = target.removeprefix(PREFIX)
    with _lock:
        found = _servers.get(address)
        if found:
            return found[-1]
        known = [PREFIX + a for a, servers in _servers.items() if servers]
    raise NotFoundError(
        None,
        None,
        f"no server of this process has the target {target!r}; it has {known or 'none'}. Give "
        "the session the `target` of a tf.train.Server",
    )


def _all() -> list[Serving]:
    """The servers of this process.  The lock is held."""
    return [serving for servers in _servers.values() for serving in servers]


def _with_ports(cluster: Mapping[str, str], name: str) -> Mapping[str, str]:
    """The addresses of a cluster of which a task is about to be served; where that is at any port,
    this is the last such cluster in which nobody serves it, or one more.  The lock is held."""
    if not any(address.endswith(_ANY) for address in cluster.values()):
        return cluster
    alike = [serving for serving in _all() if serving.given == cluster]
    served = [serving.addresses for serving in alike if serving.name == name]
    for serving in reversed(alike):
        if serving.addresses not in served:
            return serving.addresses
    return {
        task: f"{address.removesuffix(_ANY)}:{next(_ports)}" if address.endswith(_ANY) else address
        for task, address in cluster.items()
    }


def _visible(tasks: Sequence[str], filters: Sequence[str], own: str) -> tuple[str, ...]:
    """The tasks that a session sees; its own one always."""
    if not filters:
        return tuple(tasks)
    wanted = [parse(f) for f in filters]
    return tuple(t for t in tasks if t == own or any(w.matches(parse(t)) for w in wanted))


def _in_process(cluster: Mapping[str, str]) -> dict[str, Member]:
    """The tasks of a cluster.  Another one may have tasks of the same names elsewhere."""
    ends = time.monotonic() + START
    while True:
        with _lock:
            found: dict[str, Member] = {
                s.name: s._member for s in _all() if cluster.get(s.name) == s.address
            }
        missing = [name for name in cluster if name not in found]
        if not missing:
            return found
        if time.monotonic() > ends:
            raise TimeoutError(", ".join(missing))
        time.sleep(0.02)


def _ray_tasks() -> Any:
    from graphflow.distribute.cluster import _ray

    _ray()  # sets what Ray reads when it is imported
    from graphflow.distribute import ray_tasks

    return ray_tasks


def _own_task(name: str, space: str) -> Any:
    """This process's task, where it is the actor that `graphflow run` has started for it."""
    here = _ray_tasks().here
    if here is None or here.task.name != name:
        has = "no task" if here is None else here.task.name
        raise UnavailableError(
            None, None, f"this process runs {has}, not {name}: does the program use its flags?"
        )
    return here


def _side_task(name: str, space: str) -> Any:
    """An actor beside this process, which was started by hand."""
    tasks = _ray_tasks()
    tasks.ray_transport.connect(os.environ["RAY_ADDRESS"], 0, 0, 0)
    try:
        return tasks.RayMember(tasks.start_task(name, space))
    except ValueError as error:  # the name is taken
        tasks.ray_transport.disconnect()
        raise AlreadyExistsError(
            None, None, f"{name} of a cluster with the same tasks is served on this Ray already"
        ) from error


def _end_side_task(member: Any) -> None:
    transport = _ray_tasks().ray_transport
    transport.end_worker(member.handle)
    transport.disconnect()


def _space_of(tasks: Sequence[str]) -> str:
    """The namespace in which processes that were started by hand find each other."""
    return "graphflow-" + hashlib.sha256(" ".join(sorted(tasks)).encode()).hexdigest()[:12]


def _topology(found: Mapping[str, Found]) -> Topology:
    devices = []
    for name, task in found.items():
        devices.append(
            assumed_device(
                f"{name}/device:CPU:0",
                flops=200e9 * task.cpus,
                host=task.node,
                memory=task.memory,
            )
        )
        devices += [
            assumed_device(f"{name}/device:GPU:{i}", host=task.node, memory=memory)
            for i, memory in enumerate(task.gpus)
        ]
    return Topology(tuple(devices))
