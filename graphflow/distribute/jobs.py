"""A program of several tasks as one Ray job: starts them, and waits for what they give.

    ps 0 … ps M-1          an actor each: the task's server, and the program beside it
    worker 0 … worker N-1

Ray finds room for the tasks, they find each other through Ray, and they end with the job.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ray

from graphflow.base.errors import InvalidArgumentError, UnavailableError
from graphflow.distribute import ray_calls, ray_transport
from graphflow.distribute.fast import certificates
from graphflow.distribute.members import INCARNATIONS
from graphflow.distribute.ray_tasks import RECORD, REPLAY, start_task
from graphflow.distribute.ray_worker import LOOPBACK
from graphflow.distribute.servers import JOB, START, task_name
from graphflow.distribute.watch import Supervision

RESTARTS = 3  # of each task
# Seconds without a sign of life after which a task is ended.  Less than what a session gives its
# tasks (`servers.DEADLINE`), so that its clients learn that it is gone, and begin another one.
HEARTBEAT = 20.0
CHIEF = ("worker", 0)  # initialises and restores
FORGETTING = 30.0  # seconds for Ray and the tasks to forget one that is gone
LAST_WORDS = 0.5  # seconds for what tasks have printed to come here; Ray polls their files
PORT = 2222  # of all addresses, which are names and nothing else
IN_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in what was submitted to it


class Shape(NamedTuple):
    """How many tasks a job has, and what Ray reserves for each.

    Attributes:
      workers, servers: how many.
      cpus, gpus: for a worker; a parameter server gets a CPU and no GPU.
    """

    workers: int
    servers: int = 0
    cpus: float = 1
    gpus: int = 0

    def addresses(self) -> dict[str, list[str]]:
        """The cluster as TensorFlow's programs want to see it."""
        counts = {"ps": self.servers, "worker": self.workers}
        return {
            job: [f"{job}{i}.graphflow:{PORT}" for i in range(count)]
            for job, count in counts.items()
            if count
        }

    def tasks(self) -> list[tuple[str, int]]:
        """(job, number) of each task, servers first."""
        return [(job, i) for job, hosts in self.addresses().items() for i in range(len(hosts))]


def connect(address: str | None, shape: Shape) -> None:
    """Connect to Ray, or start one of its own; what the tasks print is printed here.

    Raises:
      InvalidArgumentError: Ray has not what the tasks need.
    """
    cpus = shape.workers * shape.cpus + shape.servers
    gpus = shape.workers * shape.gpus
    options: dict[str, Any] = {"log_to_driver": True, "logging_level": "ERROR"}
    if address in (None, "local"):
        options |= {
            "address": "local",
            "num_cpus": max(int(cpus), os.cpu_count() or 1),
            "num_gpus": gpus or None,
            "include_dashboard": False,
            "object_store_memory": 256 << 20,
            "_node_ip_address": LOOPBACK,
        }
    else:
        options["address"] = address
        package = ray_transport._source()
        if package and IN_JOB not in os.environ:
            options["runtime_env"] = {"py_modules": [str(package)]}
    ray_transport._connection.open(options)
    have = ray.cluster_resources()
    for name, needed in (("CPU", cpus), ("GPU", gpus)):
        if have.get(name, 0) < needed:
            raise InvalidArgumentError(
                None,
                None,
                f"the tasks need {needed:g} {name}s, but Ray has {have.get(name, 0):g}: ask for "
                "fewer tasks, or less for each",
            )


def run(
    shape: Shape,
    program: Callable[..., Any],
    arguments: Callable[[str, int], Sequence[Any]],
    restarts: int | None = None,
    record: str | None = None,
    replay: str | None = None,
    tls: bool = False,
    heartbeat: float | None = None,
    ended: Callable[[str, Any], int] = lambda task, given: given,
) -> int:
    """Run a program in each task, until all workers have ended.

    A task that is lost is started again, and its program from the top.  So is one that gives no
    sign of life, after it has been ended; code that keeps Python's global lock gives none.  What
    was on a lost server comes back as the program brings it back: from a checkpoint, or
    initialised.  So where a server is lost, or worker 0, which does that, all servers are started
    again: a part of the state would not fit the rest.

    Args:
      shape: the tasks.
      program: called in each task's process; returns its exit status, or what `ended` takes.
      arguments: job and number of a task -> the program's arguments.
      restarts: how often each task may be lost; RESTARTS by default.
      record, replay: folders of the servers' decisions, see `decision_log`.  After a loss these
        have another history: what they decide then goes to a folder in that one, and no log
        decides.
      tls: encrypt values between machines, too; messages always are.
      heartbeat: seconds without a sign of life after which a task is lost; HEARTBEAT by default.
      ended: name of a task, and what its program has given -> its exit status.

    Returns:
      0, or the status of the first program that failed; the others are ended then.

    Raises:
      UnavailableError: a task was lost for good.
    """
    running = _Running(shape, program, arguments, record, replay, tls, heartbeat)
    try:
        for task in shape.tasks():
            running.start(task)
        return running.wait(RESTARTS if restarts is None else restarts, ended)
    finally:
        time.sleep(LAST_WORDS)
        running.end()


class _Running:
    """The tasks of a job."""

    def __init__(
        self,
        shape: Shape,
        program: Any,
        arguments: Any,
        record: str | None = None,
        replay: str | None = None,
        tls: bool = False,
        heartbeat: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._shape = shape
        self._program = program
        self._arguments = arguments
        self._record = record
        self._replay = replay
        self._space = f"graphflow-{uuid.uuid4().hex[:12]}"
        self._certificate = certificates.make(self._space) if tls else ("", "")
        self._actors: dict[tuple[str, int], Any] = {}
        self._results: dict[Any, tuple[str, int]] = {}  # of programs that have not ended
        self._losses: Counter[tuple[str, int]] = Counter()
        self._incarnations: Counter[str] = Counter()  # by name: how often it was started again
        self._clock = clock
        self._supervision = Supervision(HEARTBEAT if heartbeat is None else heartbeat, START)
        self._signs: dict[Any, tuple[str, int]] = {}  # of life, asked for

    def start(self, task: tuple[str, int]) -> None:
        """Start a task and its program."""
        job, number = task
        serves = job == "ps"
        actor = self._actors[task] = start_task(
            task_name(job, number), self._space, 1 if serves else self._shape.cpus,
            0 if serves else self._shape.gpus, self._variables(job, number),
            self._certificate,
        )  # fmt: skip
        reference = actor.program.remote(self._program, *self._arguments(job, number))
        self._results[reference] = task
        self._signs[actor.ping.remote()] = task
        self._supervision.started(task_name(*task), self._clock())

    def _variables(self, job: str, number: int) -> Mapping[str, str]:
        told = {"cluster": self._shape.addresses(), "task": {"type": job, "index": number}}
        variables = {JOB: self._space, "TF_CONFIG": json.dumps(told)}
        variables[INCARNATIONS] = json.dumps(self._incarnations)
        losses = self._losses.total()
        if job == "ps" and self._record:
            again = f"after-loss-{losses}" if losses else ""
            variables[RECORD] = os.path.join(os.path.abspath(self._record), again)
        if job == "ps" and self._replay and not losses:
            variables[REPLAY] = os.path.abspath(self._replay)
        return variables

    def wait(self, restarts: int, ended: Callable[[str, Any], int]) -> int:
        """The status of the job: servers may serve for ever, workers end."""
        while any(job != "ps" for job, _ in self._results.values()):
            pause = self._supervision.pause(self._clock())
            ready, _ = ray.wait(list(self._results), num_returns=1, timeout=pause)
            if not ready:
                self._look(restarts)
                continue
            task = self._results.pop(ready[0])
            try:
                status = ended(task_name(*task), ray.get(ready[0]))
            except ray.exceptions.RayError as error:
                self._lost(task, error, restarts)
            else:
                if status:
                    return status
        return 0

    def _look(self, restarts: int) -> None:
        """Ask tasks for signs of life; who has given none for long is started again."""
        given, _ = ray.wait(list(self._signs), num_returns=len(self._signs) or 1, timeout=0)
        now = self._clock()
        for reference in given:  # of a task that has ended, too: its result tells that
            self._supervision.heard(task_name(*self._signs.pop(reference)), now)
        running = {task_name(*task): task for task in self._results.values()}
        silent, lost = self._supervision.look(running, now)
        for name in silent:
            self._signs[self._actors[running[name]].ping.remote()] = running[name]
        before = dict(self._actors)
        for task, why in [(running[name], why) for name, why in lost.items()]:
            if self._actors[task] is before[task]:  # it was not started again with another one
                self._lost(task, UnavailableError(None, None, why), restarts)

    def _lost(self, task: tuple[str, int], error: Exception, restarts: int) -> None:
        """Start a task again, with those whose state does not fit any more.

        Raises:
          UnavailableError: that makes no sense.
        """
        name, why = task_name(*task), ray_calls.reason(error)
        self._losses[task] += 1
        if not isinstance(error, (*ray_calls.LOST, UnavailableError)):
            raise UnavailableError(None, None, f"{name} failed: {why}") from error
        if self._losses[task] == 1 and getattr(error, "actor_init_failed", False):
            # What kept it from its work, as a log that is not there, is there the next time, too;
            # but then it would be passed over.
            raise UnavailableError(None, None, f"{name} cannot start: {why}") from error
        if self._losses[task] > restarts:
            raise UnavailableError(
                None, None, f"{name} was lost {self._losses[task]} times; at last: {why}"
            ) from error
        again = [task]
        if task == CHIEF or task[0] == "ps":
            if task != CHIEF and CHIEF not in self._results.values():
                raise UnavailableError(
                    None, None, f"{name} was lost after worker 0, which would restore it: {why}"
                ) from error
            again = [t for t in self._actors if t == task or t[0] == "ps"]
        names = ", ".join(task_name(*t) for t in again)
        print(f"graphflow: {name} was lost ({why}); started again: {names}", file=sys.stderr)
        self._restart(again)

    def _restart(self, tasks: Sequence[tuple[str, int]]) -> None:
        gone = [self._actors.pop(task) for task in tasks]
        self._results = {r: task for r, task in self._results.items() if task not in tasks}
        self._signs = {r: task for r, task in self._signs.items() if task not in tasks}
        for actor in gone:
            ray_transport.end_worker(actor)
        # What a lost task has begun must not go on beside what it begins now; its process may,
        # on a machine that Ray does not reach, or for a while where Ray has ended.
        names = [task_name(*task) for task in tasks]
        self._incarnations.update(names)
        forgotten = [
            actor.forget.remote(name, self._incarnations[name])
            for name in names
            for actor in self._actors.values()
        ]
        ray.wait(forgotten, num_returns=len(forgotten), timeout=FORGETTING)
        for task in tasks:
            _freed(task_name(*task), self._space)
            self.start(task)

    def end(self) -> None:
        """End all tasks."""
        for actor in self._actors.values():
            ray_transport.end_worker(actor)


def _freed(name: str, space: str) -> None:
    """Wait until Ray has forgotten who had a name.

    Raises:
      UnavailableError: it does not.
    """
    ends = time.monotonic() + FORGETTING
    while time.monotonic() < ends:
        try:
            ray.get_actor(name, namespace=space)
        except ValueError:
            return
        time.sleep(0.02)
    raise UnavailableError(None, None, f"Ray does not end {name}")
