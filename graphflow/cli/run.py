"""`graphflow run`: a TensorFlow 1 program, unmodified, in this process or as a Ray job."""

from __future__ import annotations

import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from graphflow.base.errors import OpError
from graphflow.compat import install

# What tells that a program has one process per task.
_SERVES = re.compile(r"\btrain\.Server\b|\bClusterSpec\b|\bTF_CONFIG\b|\bjob_name\b")
# Flags of such programs, given where their text has them and the command line has not.
_FLAGS = ("job_name", "task_index", "task_id", "ps_hosts", "worker_hosts")


class Layout(NamedTuple):
    """Where a program runs.

    Attributes:
      workers: how many; None: in this process.
      servers: parameter servers beside them; None: as many as the program needs: one where it
        has tasks.
      address: of the Ray to use; None: one of its own.
      cpus, gpus: what Ray reserves for each worker.
      record, replay: folders of what chance decides on parameter servers.
      restarts: how often each task may be lost, and is started again; None: three times.
      tls: encrypt values between machines, too.
      heartbeat: seconds without a sign of life after which a task or worker is lost; None: 20,
        or 30 of a worker.
    """

    workers: int | None = None
    servers: int | None = None
    address: str | None = None
    cpus: float = 1
    gpus: int = 0
    record: str | None = None
    replay: str | None = None
    restarts: int | None = None
    tls: bool = False
    heartbeat: float | None = None


class InTasks(NamedTuple):
    """What is done in the tasks of a program that has some.

    Attributes:
      program: script and command line -> anything, in the process of each task.
      ended: name of a task, and what that has given -> its exit status.
    """

    program: Callable[[str, Sequence[str]], Any]
    ended: Callable[[str, Any], int] = lambda task, given: given


def main(
    script: str,
    arguments: Sequence[str],
    layout: Layout | None = None,
    tasks: InTasks | None = None,
) -> int:
    """Run the script as the main program, with graphflow standing in for tensorflow.

    A program with a server per task runs once in each task; any other one runs once, and its
    sessions compute on the workers.

    Args:
      script: path of the program.
      arguments: its command line; "{job}", "{task}", "{ps_hosts}" and "{worker_hosts}" in it
        stand for those of the task.
      layout: where to run it; None: in this process.
      tasks: what the tasks do; None: they run the program.

    Returns:
      The exit status.
    """
    path = Path(script)
    if not path.is_file():
        print(f"graphflow run: there is no file {script}", file=sys.stderr)
        return 2
    if layout is None or layout.workers is None:
        return _here(script, arguments)
    text = path.read_text()
    try:
        if has_tasks(script, layout):
            return _in_tasks(script, text, arguments, layout, tasks or InTasks(in_task))
        return _on_workers(script, arguments, layout)
    except OpError as error:
        print(f"graphflow run: {error.message}", file=sys.stderr)
        return 1


def has_tasks(script: str, layout: Layout | None) -> bool:
    """Does the program run in each task of a job?"""
    if layout is None or layout.workers is None or not Path(script).is_file():
        return False
    return layout.servers is not None or bool(_SERVES.search(Path(script).read_text()))


def to_its_end(script: str, arguments: Sequence[str]) -> int:
    """As `main` in this process, for who looks at what was run: leaving by `sys.exit`, as programs
    do at their end, is none of its failures, and is told where it says that something was."""
    try:
        return main(script, arguments)
    except SystemExit as left:
        if left.code not in (None, 0):
            print(f"the program ended with {left.code}", file=sys.stderr)
        return 0


def _here(script: str, arguments: Sequence[str]) -> int:
    install()
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")
    return 0


def _on_workers(script: str, arguments: Sequence[str], layout: Layout) -> int:
    """One program, whose sessions run on a cluster."""
    from graphflow.distribute import Cluster
    from graphflow.distribute.servers import DEADLINE
    from graphflow.session import session

    assert layout.workers is not None
    with Cluster(
        layout.workers,
        address=layout.address,
        cpus_per_worker=layout.cpus,
        gpus_per_worker=layout.gpus,
        deadline=DEADLINE if layout.heartbeat is None else layout.heartbeat,
        tls=layout.tls,
    ) as cluster:
        session.default_cluster = cluster
        try:
            return _here(script, arguments)
        finally:
            session.default_cluster = None


def _in_tasks(
    script: str, text: str, arguments: Sequence[str], layout: Layout, tasks: InTasks
) -> int:
    """The program in each task of a job."""
    from graphflow.distribute.cluster import _ray

    # Ray reads it when it is imported: what one task prints is no repetition of another's words.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    ray = _ray()
    from graphflow.distribute import jobs

    assert layout.workers is not None
    servers = 1 if layout.servers is None else layout.servers
    shape = jobs.Shape(layout.workers, servers, layout.cpus, layout.gpus)
    where = script if jobs.IN_JOB in os.environ else str(Path(script).resolve())
    jobs.connect(layout.address, shape)
    try:
        return jobs.run(
            shape,
            tasks.program,
            lambda job, task: (where, command_line(text, arguments, shape.addresses(), job, task)),
            record=layout.record,
            replay=layout.replay,
            restarts=layout.restarts,
            tls=layout.tls,
            heartbeat=layout.heartbeat,
            ended=tasks.ended,
        )
    finally:
        ray.disconnect()


def command_line(
    text: str, arguments: Sequence[str], hosts: dict[str, list[str]], job: str, task: int
) -> list[str]:
    """A task's command line: what stands for its values is replaced, and flags are added.

    Args:
      text: of the program, which tells the flags that it knows.
      arguments: as given.
      hosts: job -> addresses.
      job, task: which task.
    """
    values = {
        "job_name": job,
        "task_index": str(task),
        "task_id": str(task),
        "ps_hosts": ",".join(hosts.get("ps", ())),
        "worker_hosts": ",".join(hosts.get("worker", ())),
    }
    short = {"{job}": job, "{task}": str(task)} | {
        f"{{{name}}}": values[name] for name in ("ps_hosts", "worker_hosts")
    }
    given = []
    for argument in arguments:
        for mark, value in short.items():
            argument = argument.replace(mark, value)
        given.append(argument)
    known = {a.lstrip("-").partition("=")[0] for a in given if a.startswith("-")}
    for flag in _FLAGS:
        if flag not in known and re.search(rf"\b{flag}\b", text):
            given.append(f"--{flag}={values[flag]}")
    return given


def in_task(script: str, arguments: Sequence[str]) -> int:
    """Run the program in a task's process; its exit status."""
    try:
        return _here(script, arguments)
    except SystemExit as left:
        code: Any = left.code
        if isinstance(code, int) or code is None:
            return code or 0
        print(code, file=sys.stderr)
        return 1
    except Exception:
        # Of an exception Ray would hand on one line, without the notes that name the user's.
        traceback.print_exc()
        return 1
