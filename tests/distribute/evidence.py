"""How things stand with a cluster, for the report of a test that has failed on it."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import graphflow as tf
from graphflow.distribute import failpoints
from tests.distribute.in_process import InProcess
from tests.until import PATIENCE

_MOST = 40  # threads
_armed: list[tuple[int, str, Any]] = []  # process, worker and fault


def arm(cluster: tf.Cluster, task: int, *fault: Any) -> int:
    """Arm a failpoint in a worker of Ray, see `Executor.arm`; the worker's process."""
    import ray

    name, found = list(cluster.workers.items())[task]
    ray.get(cluster._actors[name].arm.remote(*fault), timeout=PATIENCE)
    _armed.append((found.pid, name, fault))
    return found.pid


def forget() -> None:
    """What was armed is of no interest any more."""
    _armed.clear()


def standing(cluster: tf.Cluster | InProcess) -> str:
    """Of each worker whether it lives, of each session what it waits for, where threads are, and
    which failpoints nobody has come to."""
    lines = [f"armed: {fault} in {name}, process {process(pid)}" for pid, name, fault in _armed]
    lines += [f"armed here: {point!r}" for point in failpoints._armed]
    if isinstance(cluster, InProcess):
        lines += [f"killed: {sorted(cluster.dead)}; frozen: {sorted(cluster.frozen)}"]
        conductors = [target.conductor for target in cluster.targets]
    else:
        lines += [f"{name}: {process(found.pid)}" for name, found in cluster.workers.items()]
        lines += [f"{len(cluster._spares)} spares"]
        conductors = [target.conductor for target in list(cluster._sessions)]
    for number, conductor in enumerate(conductors):
        lines += [f"session {number}: {line}" for line in session(conductor)]
    return "\n".join([*lines, *threads()])


def process(pid: int) -> str:
    """Its number and the kernel's letter for what it does: R, S, D, T for stopped, Z for ended."""
    try:
        return f"{pid} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]}"
    except OSError:
        return f"{pid} is gone"


def ended(pid: int) -> bool:
    """Has a process, though its parent may not have asked for its end yet?"""
    return process(pid).split()[-1] in ("Z", "gone")


def session(conductor: Any) -> Iterator[str]:
    """What a session waits for, and what it has done."""
    machine = conductor._machine
    yield f"{machine.phase}, generation {machine.generation}, closed {conductor.closed}"
    yield f"lost {machine.lost}, failure {machine.failure}, answers to come {machine.awaited()}"
    for number in list(conductor._outcomes):
        yield f"run {number} waits for {machine.waits_for(number)}"
    for worker, counts in conductor._counts.items():
        yield f"{worker}: {dict(counts)}"


def threads() -> Iterator[str]:
    """Where the threads of this process are, the innermost line first."""
    frames = sys._current_frames()
    for thread in threading.enumerate()[:_MOST]:
        stack = traceback.extract_stack(frames.get(thread.ident or 0))[-4:]
        at = [f"{Path(s.filename).name}:{s.lineno} {s.name}" for s in reversed(stack)]
        yield f"thread {thread.name}: {' < '.join(at)}"
