"""A program of several tasks as one Ray job: starts them, and waits for what they give.

    ps 0 … ps M-1          an actor each: the task's server, and the program beside it
    worker 0 … worker N-1

Ray finds room for the tasks, they find each other through Ray, and they end with the job.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ray

from graphflow.base.errors import InvalidArgumentError, UnavailableError
from graphflow.distribute import ray_transport
from graphflow.distribute.ray_tasks import start_task
from graphflow.distribute.servers import JOB, task_name

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
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
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
            "_node_ip_address": ray_transport.LOOPBACK,
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
                None, None, f"the tasks need {needed:g} {name}s, but Ray has {have.get(name, 0):g}"
            )


def run(
    shape: Shape, program: Callable[..., int], arguments: Callable[[str, int], Sequence[Any]]
) -> int:
    """Run a program in each task, until all workers have ended.

    Args:
      shape: the tasks.
      program: called in each task's process; returns its exit status.
      arguments: job and number of a task -> the program's arguments.

    Returns:
      0, or the status of the first program that failed; the others are ended then.

    Raises:
      UnavailableError: a task was lost.
    """
    space = f"graphflow-{uuid.uuid4().hex[:12]}"
    actors: dict[Any, tuple[str, int]] = {}
    results: dict[Any, tuple[str, int]] = {}
    try:
        for job, number in shape.tasks():
            serves = job == "ps"
            actor = start_task(
                task_name(job, number), space, 1 if serves else shape.cpus,
                0 if serves else shape.gpus, _variables(shape, space, job, number),
            )  # fmt: skip
            actors[actor] = job, number
        for actor, (job, number) in actors.items():
            reference = actor.program.remote(program, *arguments(job, number))
            results[reference] = job, number
        return _wait(results)
    finally:
        time.sleep(LAST_WORDS)
        for actor in actors:
            ray_transport.end_worker(actor)


def _variables(shape: Shape, space: str, job: str, number: int) -> Mapping[str, str]:
    told = {"cluster": shape.addresses(), "task": {"type": job, "index": number}}
    return {JOB: space, "TF_CONFIG": json.dumps(told)}


def _wait(results: dict[Any, tuple[str, int]]) -> int:
    """The status of the job: servers may serve for ever, workers end."""
    left = dict(results)
    while any(job != "ps" for job, _ in left.values()):
        done, _ = ray.wait(list(left), num_returns=1)
        for reference in done:
            job, number = left.pop(reference)
            try:
                status: int = ray.get(reference)
            except ray.exceptions.RayError as error:
                raise UnavailableError(
                    None, None, f"{task_name(job, number)} failed: {ray_transport.reason(error)}"
                ) from error
            if status:
                return status
    return 0
