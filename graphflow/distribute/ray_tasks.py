"""Tasks as Ray actors: found by name, so that membership is Ray's and no list of hosts is needed.

A task's actor carries its server, and, where `graphflow run` started it, the program itself: the
part of a step that belongs to the task is then a call within the process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from graphflow.distribute import ray_transport
from graphflow.distribute.channel import Hear
from graphflow.distribute.messages import Message, Step, Ticket
from graphflow.distribute.ray_transport import _call, _group
from graphflow.distribute.task import THREADS, LocalMember, Member, Task

_GROUPS = {"steps": THREADS, "values": 4, "control": 4, "program": 1}
_LOOK = 0.05  # seconds between looks for a task that has not come up

here: LocalMember | None = None  # the task that this process is the actor of


class RayMember:
    """A task that is the actor of another process."""

    def __init__(self, actor: Any):
        self._actor = actor

    @property
    def handle(self) -> Any:
        return self._actor

    def send(self, session: str, message: Message, hear: Hear) -> None:
        method = self._actor.step if isinstance(message, Step) else self._actor.notice
        _call(method, (session, message), hear)

    def call(self, session: str, method: str, arguments: tuple[Any, ...], hear: Hear) -> None:
        _call(self._actor.call, (session, method, arguments), hear)

    def ping(self, hear: Hear) -> None:
        _call(self._actor.ping, (), hear)

    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None:
        self._actor.deliver.remote(session, ticket, key, value)


class TaskActor:
    """The actor of a task."""

    def __init__(self, name: str):
        global here
        context = ray.get_runtime_context()
        me = context.current_actor
        ours = me._actor_id

        def reach(handle: Any) -> Member:
            return here if here and handle._actor_id == ours else RayMember(handle)

        self._task = Task(name, reach, context.get_node_id())
        here = LocalMember(self._task, me)

    def __repr__(self) -> str:
        """What Ray writes before each line that the task prints."""
        return self._task.name

    @_group("control")
    def call(self, session: str, method: str, arguments: tuple[Any, ...]) -> Any:
        """See `Task.call`."""
        return self._task.call(session, method, arguments)

    @_group("control")
    def notice(self, session: str, notice: Any) -> Any:
        """See `Task.notice`."""
        return self._task.notice(session, notice)

    @_group("control")
    def ping(self) -> None:
        """Give a sign of life."""

    @_group("values")
    def deliver(self, session: str, ticket: Ticket, key: str, value: Any) -> None:
        """See `Task.deliver`."""
        self._task.deliver(session, ticket, key, value)

    @_group("steps")
    def step(self, session: str, step: Step) -> Any:
        """See `Task.step`."""
        return self._task.step(session, step)

    @_group("program")
    def program(self, run: Any, *arguments: Any) -> Any:
        """Call a function in the task's process: what runs the user's program there."""
        return run(*arguments)


def start_task(
    name: str,
    space: str,
    cpus: float = 1,
    gpus: float = 0,
    variables: Mapping[str, str] | None = None,
) -> Any:
    """Start the actor of a task, which ends with this process; a handle, at once.

    Args:
      name: the task's.
      space: Ray's namespace, in which the tasks of one cluster find each other.
      cpus, gpus: what Ray reserves for it.
      variables: further environment variables.
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
    ).remote(name)


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
