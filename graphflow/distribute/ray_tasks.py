"""Tasks as Ray actors: found by name, so that membership is Ray's and no list of hosts is needed.

A task's actor carries its server, and, where `graphflow run` started it, the program itself: the
part of a step that belongs to the task is then a call within the process.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from graphflow.distribute import ray_transport
from graphflow.distribute.channel import Channel, Hear
from graphflow.distribute.decision_log import decided
from graphflow.distribute.fast.channel import FastChannel, opened, place_of
from graphflow.distribute.fast.exchange import Invitation
from graphflow.distribute.fast.parcels import Frame
from graphflow.distribute.fast.peers import Access, Address, Peers
from graphflow.distribute.fast.service import Service
from graphflow.distribute.members import Member, incarnations
from graphflow.distribute.messages import Message, Step, Ticket
from graphflow.distribute.ray_calls import call, hand
from graphflow.distribute.ray_worker import group
from graphflow.distribute.stops import TICK
from graphflow.distribute.task import THREADS, LocalMember, Task

_GROUPS = {"steps": THREADS, "values": 4, "control": 4, "program": 1, "life": 64, "signs": 1}
# Environment variables of a task: folders of decisions to write, and to follow.
RECORD, REPLAY = "GRAPHFLOW_RECORD_DECISIONS", "GRAPHFLOW_REPLAY_DECISIONS"
_LOOK = 0.05  # seconds between looks for a task that has not come up

_audiences: dict[Any, weakref.WeakSet[Any]] = {}  # who listens for the end of an actor
_listening = threading.Lock()

here: LocalMember | None = None  # the task that this process is the actor of
served: TaskActor | None = None  # that actor


class RayMember:
    """A task that is the actor of another process."""

    def __init__(self, actor: Any):
        self._actor = actor

    @property
    def handle(self) -> Any:
        return self._actor

    def send(self, session: str, message: Message, hear: Hear) -> None:
        method = self._actor.step if isinstance(message, Step) else self._actor.notice
        call(method, (session, message), hear)

    def call(self, session: str, method: str, arguments: tuple[Any, ...], hear: Hear) -> None:
        # Tasks that wait for each other's outcomes do that on the threads of control.
        asked = self._actor.outcome if method == "outcome" else self._actor.call
        call(asked, (session, method, arguments), hear)

    def ping(self, hear: Hear) -> None:
        call(self._actor.ping, (), hear)

    def collect(self, driver: str, serial: int, hear: Hear) -> None:
        """Ask for an answer that the task keeps for a driver, see `Service.collect`."""
        call(self._actor.collect, (driver, serial), hear)

    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None:
        hand(self._actor, session, ticket, key, value)

    def outlive(self, name: str, listener: Any) -> None:
        """One call that never returns for all who listen: the task has 64 threads for these."""
        with _listening:
            first = self._actor._actor_id not in _audiences
            _audiences.setdefault(self._actor._actor_id, weakref.WeakSet()).add(listener)
        if first:
            outlive(self, lambda reason: _tell(self._actor._actor_id, name, reason))


def _tell(actor: Any, name: str, reason: str) -> None:
    with _listening:
        audience = list(_audiences.pop(actor, ()))
    for listener in audience:
        listener.lost(name, reason)


class TaskActor:
    """The actor of a task."""

    def __init__(self, name: str, certificate: str = "", private_key: str = ""):
        """Args:
        name: the task's.
        certificate, private_key: in PEM, for TLS between machines; empty: it is not wanted.
        """
        global here, served
        context = ray.get_runtime_context()
        me = context.current_actor
        ours = me._actor_id

        def reach(handle: Any) -> Member:
            return here if here and handle._actor_id == ours else RayMember(handle)

        self._task = Task(name, reach, context.get_node_id(), self._past)
        self._task.incarnations.update(incarnations())
        environment = os.environ.get
        self._task.state.decisions = decided(name, environment(RECORD), environment(REPLAY))
        self._services: dict[str, Service] = {}  # by driver
        self._invited: dict[str, Invitation] = {}  # by driver
        self._known: dict[str, Address] = {}  # where the tasks take values
        self._locating = threading.Lock()
        access = Access(
            f"task-{os.getpid()}", secrets.token_bytes(32), interface(), True,
            certificate, private_key,
        )  # fmt: skip
        self._values = Peers(name, access, self._take, place_of, self._missed)
        self.address = self._values.address._replace(key=access.key, born=time.time())
        here, served = LocalMember(self._task, me), self
        self._task.state.stops.start()
        threading.Thread(target=self._look, name="graphflow-stops", daemon=True).start()

    def __repr__(self) -> str:
        """What Ray writes before each line that the task prints."""
        return self._task.name

    def _look(self) -> None:
        """Tells time in which this process ran from time in which it was stopped."""
        while True:
            time.sleep(TICK)
            self._task.look()

    @group("control")
    def call(self, session: str, method: str, arguments: tuple[Any, ...]) -> Any:
        """See `Task.call`."""
        return self._task.call(session, method, arguments)

    @group("values")
    def outcome(self, session: str, method: str, arguments: tuple[Any, ...]) -> Any:
        """See `Task.call`."""
        return self._task.call(session, method, arguments)

    @group("control")
    def notice(self, session: str, notice: Any) -> Any:
        """See `Task.notice`."""
        return self._task.notice(session, notice)

    @group("signs")  # of its own: control may wait for what was sent before
    def ping(self) -> None:
        """Give a sign of life."""

    @group("control")
    def forget(self, opener: str, incarnation: int) -> None:
        """See `Task.forget`."""
        self._task.forget(opener, incarnation)

    # ---- past Ray

    @group("control")
    def join(self, name: str, invitation: Invitation, access: Access) -> Address:
        """Take messages from one more driver past Ray; where this task takes values."""
        before = self._services.pop(access.job, None)
        if before is not None:
            before.close()
            self._task.left(access.job)

        self._invited[access.job] = invitation

        def ended() -> None:
            if self._invited[access.job] is invitation:  # else it has joined again
                self._task.left(access.job)

        self._services[access.job] = Service(invitation, lambda s: self._task.host(s.hex()), ended)
        return self.address

    @group("control")
    def locate(self, addresses: Mapping[str, Address]) -> None:
        """Learn where tasks take values: of what several drivers tell, the newest."""
        with self._locating:
            for name, address in addresses.items():
                if name not in self._known or self._known[name].born <= address.born:
                    self._known[name] = address
            self._values.meet(self._known)

    @group("control")
    def collect(self, driver: str, serial: int) -> Any:
        """See `Service.collect`."""
        return self._services[driver].collect(serial)

    @group("life")
    def live(self) -> None:
        """Never returns: who waits for it learns of the end of this task."""
        threading.Event().wait()  # no deadline: it is the task's life

    def _past(self, session: str, slow: Channel) -> Channel:
        return FastChannel(session, self._values, slow)

    def _take(self, frame: Frame) -> None:
        session, ticket, key, value = opened(frame)
        self._task.deliver(session, ticket, key, value)

    def _missed(self, local: str) -> None:
        """A connection to another task has ended: each driver judges whether that is his."""
        for service in list(self._services.values()):
            service.report(local)

    @group("values")
    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None:
        """See `Task.deliver`."""
        self._task.deliver(session, ticket, key, value)

    @group("values")
    def undelivered(self, session: str, ticket: Ticket, key: str, why: str) -> None:
        """See `Task.undelivered`."""
        self._task.undelivered(session, ticket, key, why)

    @group("steps")
    def step(self, session: str, step: Step) -> Any:
        """See `Task.step`."""
        return self._task.step(session, step)

    @group("program")
    def program(self, run: Any, *arguments: Any) -> Any:
        """Call a function in the task's process: what runs the user's program there."""
        return run(*arguments)


def start_task(
    name: str,
    space: str,
    cpus: float = 1,
    gpus: float = 0,
    variables: Mapping[str, str] | None = None,
    certificate: tuple[str, str] = ("", ""),
) -> Any:
    """Start the actor of a task, which ends with this process; a handle, at once.

    Args:
      name: the task's.
      space: Ray's namespace, in which the tasks of one cluster find each other.
      cpus, gpus: what Ray reserves for it.
      variables: further environment variables.
      certificate: of the cluster, and its private key, both in PEM, for TLS between machines.
    """
    environment = ray_transport._environment(cpus)
    environment["env_vars"] |= variables or {}
    actor: Any = ray.remote(concurrency_groups=_GROUPS)(TaskActor)
    return actor.options(
        name=name,
        namespace=space,
        num_cpus=cpus,
        num_gpus=gpus,
        max_restarts=0,  # a restarted actor would answer on blank state
        max_task_retries=0,
        scheduling_strategy="SPREAD",
        runtime_env=environment,
    ).remote(name, *certificate)


def interface() -> str:
    """The address of this node, on which this process listens."""
    address: str = ray.util.get_node_ip_address()
    return address


# ---- what `fast.network.Network` calls


def join(
    members: Mapping[str, Any], given: Mapping[str, tuple[Any, ...]], patience: float
) -> dict[str, Address]:
    """See `fast.network.Calls`."""
    return ray_transport.join({name: members[name].handle for name in given}, given, patience)


def locate(
    members: Mapping[str, Any], addresses: Mapping[str, Address], patience: float
) -> dict[str, str]:
    """See `fast.network.Calls`; this process's own task learns of the others, too."""
    if served is not None:
        addresses = {**addresses, here.task.name: served.address}  # type: ignore[union-attr]
        served.locate(addresses)
    handles = {name: member.handle for name, member in members.items()}
    return ray_transport.locate(handles, addresses, patience)


def outlive(member: Any, ended: Callable[[str], None]) -> None:
    """See `fast.network.Calls`."""
    ray_transport.outlive(member.handle, ended)


def find(names: Sequence[str], space: str, patience: float) -> dict[str, Member]:
    """The tasks of those names, as Ray knows them.

    Raises:
      TimeoutError: names those that have not come up.
    """
    ends = time.monotonic() + patience
    found: dict[str, Member] = {}
    while True:
        for name in names:
            if name not in found:
                try:
                    found[name] = _member(name, space)
                except ValueError:  # not yet
                    continue
        missing = [name for name in names if name not in found]
        if not missing:
            return found
        if time.monotonic() > ends:
            raise TimeoutError(", ".join(missing))
        time.sleep(_LOOK)


def _member(name: str, space: str) -> Member:
    if here is not None and here.task.name == name:
        return here
    return RayMember(ray.get_actor(name, namespace=space))
