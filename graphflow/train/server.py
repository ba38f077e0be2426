"""TensorFlow 1's clusters: which tasks there are, and the server of each.

A program starts one process per task, which makes a `Server` and either joins it (a parameter
server) or opens a session on its target (a worker).  `graphflow run --workers N --ps M` starts
the processes, as one Ray job; servers then find each other through Ray, and the addresses of a
`ClusterSpec` are only names.  Without Ray, the servers of one process form a cluster, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphflow.base.devices import DeviceSpec
from graphflow.base.errors import GraphError


@dataclass
class JobDef:
    """A job: its name, and addresses by number of the task."""

    name: str = ""
    tasks: dict[int, str] = field(default_factory=dict)


@dataclass
class ClusterDef:
    """A cluster as a message."""

    job: list[JobDef] = field(default_factory=list)


@dataclass
class ServerDef:
    """A server as a message."""

    cluster: ClusterDef = field(default_factory=ClusterDef)
    job_name: str = ""
    task_index: int = 0
    default_session_config: Any = None
    protocol: str = "grpc"
    replica: int = 0
    port: int = 0  # with the next one accepted: addresses are only names, filters a session's
    cluster_device_filters: Any = None


class ClusterSpec:
    """The jobs of a cluster, and their tasks.

    Two are equal where they have the same tasks at the same addresses; one without any is false.
    """

    def __init__(self, cluster: Any):
        """Args:
        cluster: a mapping from job to its addresses, a list or a mapping from numbers; or a
          `ClusterDef`, or a `ClusterSpec`.

        Raises:
          TypeError: it is none of these.
          ValueError: a number of a task is negative, or given twice.
        """
        if isinstance(cluster, ClusterSpec):
            cluster = cluster.as_cluster_def()
        if isinstance(cluster, ClusterDef):
            cluster = {job.name: job.tasks for job in cluster.job}
        if not isinstance(cluster, Mapping):
            raise TypeError(
                f"a cluster is a mapping from jobs to lists of addresses, not {cluster!r}"
            )
        self._jobs = {_text(job): _tasks(job, cluster[job]) for job in sorted(cluster)}

    @property
    def jobs(self) -> list[str]:
        """Names of the jobs."""
        return list(self._jobs)

    def num_tasks(self, job_name: str) -> int:
        """How many tasks a job has.

        Raises:
          ValueError: there is no such job; of all methods.
        """
        return len(self._job(job_name))

    def task_indices(self, job_name: str) -> list[int]:
        """The numbers of a job's tasks, ascending."""
        return sorted(self._job(job_name))

    def task_address(self, job_name: str, task_index: int) -> str:
        """The address of a task."""
        tasks = self._job(job_name)
        if task_index not in tasks:
            raise GraphError(f"job {job_name!r} has no task {task_index}, only {sorted(tasks)}")
        return tasks[task_index]

    def job_tasks(self, job_name: str) -> list[str | None]:
        """The addresses of a job's tasks by number, None where there is a gap."""
        tasks = self._job(job_name)
        return [tasks.get(i) for i in range(max(tasks, default=-1) + 1)]

    def as_dict(self) -> dict[str, Any]:
        """Job -> its addresses: a list, or a mapping where numbers are left out."""
        return {
            job: list(tasks.values()) if sorted(tasks) == list(range(len(tasks))) else dict(tasks)
            for job, tasks in self._jobs.items()
        }

    def as_cluster_def(self) -> ClusterDef:
        return ClusterDef([JobDef(job, dict(tasks)) for job, tasks in self._jobs.items()])

    def _job(self, name: str) -> dict[int, str]:
        if name not in self._jobs:
            raise GraphError(f"the cluster has no job {name!r}, only {self.jobs}")
        return self._jobs[name]

    def _addresses(self) -> dict[str, str]:
        """By the names of tasks."""
        return {
            str(DeviceSpec(job, 0, task)): address
            for job, tasks in self._jobs.items()
            for task, address in tasks.items()
        }

    def __bool__(self) -> bool:
        return bool(self._jobs)

    __nonzero__ = __bool__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClusterSpec) and self._jobs == other._jobs

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ClusterSpec({self.as_dict()})"


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _tasks(job: Any, tasks: Any) -> dict[int, str]:
    if isinstance(tasks, (list, tuple)):
        pairs = list(enumerate(tasks))
    elif isinstance(tasks, Mapping):
        pairs = sorted(tasks.items())
    else:
        raise TypeError(f"the tasks of job {job!r} are a list or a mapping, not {tasks!r}")
    number: Any
    for number, address in pairs:
        if not isinstance(number, int) or number < 0:
            raise GraphError(f"tasks are numbered from 0, not {number!r}, in job {job!r}")
        if not isinstance(address, (str, bytes)):
            raise TypeError(f"an address is text, not {address!r}, in job {job!r}")
    return {number: _text(address) for number, address in pairs}


class Server:
    """The server of one task, in this process.

    Sessions with its target run on all tasks of the cluster.  A variable belongs to the task
    that it is placed on, and is there for every session; operations that ask for no device run
    on this task.
    """

    def __init__(
        self,
        server_or_cluster_def: Any,
        job_name: str | None = None,
        task_index: int | None = None,
        protocol: str | None = None,
        config: Any = None,
        start: bool = True,
        record_decisions: str | None = None,
        replay_decisions: str | None = None,
    ):
        """Args:
        server_or_cluster_def: a `ServerDef`, `ClusterDef`, `ClusterSpec`, or a mapping.
        job_name, task_index: which task this is; may be left out where there is one.
        protocol: "ray": the sessions with this target reach other tasks by Ray's calls, which
          needs no further port; any other: past these, by channels of their own, authenticated
          with keys that Ray hands out.  The results are the same, bit for bit.
        config: a `ConfigProto` for sessions that bring none.
        start: serve at once.
        record_decisions: a folder, for a log of what chance decides on this server: the order in
          which updates of several workers are applied, and which gradients a step leaves out.
        replay_decisions: such a folder: all is decided as that log says, so that the same program
          gives the same bits.

        Raises:
          ValueError: the cluster has no such task, or several and none is named.
          UnavailableError: this process was started for another task, or Ray cannot be reached.
        """
        told = server_or_cluster_def
        if isinstance(told, ServerDef):
            spec = ClusterSpec(told.cluster)
            job_name = told.job_name if job_name is None else job_name
            task_index = told.task_index if task_index is None else task_index
            config = config or told.default_session_config
        else:
            spec = ClusterSpec(told)
        self._spec = spec
        self._job, self._task = _own(spec, job_name, task_index)
        self._config = config
        self._protocol = protocol or "grpc"
        self._decisions = record_decisions, replay_decisions
        if all(self._decisions):
            raise GraphError("record_decisions and replay_decisions exclude each other")
        self._serving: Any = None
        if start:
            self.start()

    def start(self) -> None:
        """Serve; a second call does nothing."""
        if self._serving is None:
            from graphflow.distribute.servers import Serving

            self._serving = Serving(
                self._job, self._task, self._spec._addresses(), self._protocol, self._decisions
            )

    @property
    def target(self) -> str:
        """What a session is given to run on this server.

        Raises:
          RuntimeError: it was not started.
        """
        if self._serving is None:
            raise RuntimeError("the server was not started: call start()")
        return self._serving.target

    @property
    def server_def(self) -> ServerDef:
        return ServerDef(
            self._spec.as_cluster_def(), self._job, self._task, self._config, self._protocol
        )

    def join(self) -> None:
        """Serve until the job ends, or `stop` is called in another thread."""
        if self._serving is not None:
            self._serving.stopped.wait()  # no deadline: a server serves for as long as its job

    def stop(self) -> None:
        """End the server, and its state where nothing else keeps that.  (Not of TensorFlow.)"""
        if self._serving is not None:
            self._serving.stop()

    @staticmethod
    def create_local_server(config: Any = None, start: bool = True) -> Server:
        """A cluster of one task, in this process."""
        return Server({"local": ["localhost:0"]}, config=config, start=start)


def _own(spec: ClusterSpec, job: str | None, task: int | None) -> tuple[str, int]:
    if job is None:
        if len(spec.jobs) != 1:
            raise GraphError(f"which job is this? The cluster has {spec.jobs}: give job_name")
        job = spec.jobs[0]
    if task is None:
        indices = spec.task_indices(job)
        if len(indices) != 1:
            raise GraphError(f"which task is this? Job {job!r} has {indices}: give task_index")
        task = indices[0]
    spec.task_address(job, task)
    return job, task
