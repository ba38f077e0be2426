"""A step of a worker and a parameter server, beside TensorFlow's: two processes of one machine.

Each side runs its own steps and tells how long they took, as the programs of a job would.  A plain
task of Ray's that does nothing tells what a stateless step would cost as one.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from measure import median_ratio, seconds_per_call
from processes import Asked

FOLDER = Path(__file__).parent
ROUNDS = int(os.environ.get("GRAPHFLOW_ROUNDS", "7"))
STEPS = 100  # of each in a round
KINDS = ("scalar", "train")

BOUNDS = {"ps_scalar_to_tf1": 1.0}
MEANING = {
    "ps_scalar_ms": "a worker reads a scalar of a parameter server, two processes, ms",
    "ps_scalar_ms_by_ray": "the same by Ray's calls, ms",
    "ps_train_ms": "a worker updates 4 MB on a parameter server, ms",
    "ps_train_ms_by_ray": "the same by Ray's calls, ms",
    "ps_sync_ms": "a synchronous step of two workers and a parameter server, ms",
    "ps_sync_ms_by_ray": "the same by Ray's calls, ms",
    "ps_scalar_ms_tf1": "TensorFlow: the scalar step, ms",
    "ray_task_ms": "a plain Ray task that does nothing, and its answer, ms",
    "ps_scalar_to_tf1": "scalar step, graphflow / TensorFlow",
}


def numbers() -> dict[str, Any]:
    """All numbers."""
    from graphflow.distribute.cluster import _ray

    ray = _ray()
    ray.connect("local", cpus=8, gpus=0, object_store_memory=300 << 20)
    try:
        return _numbers()
    finally:
        ray.disconnect()


def _numbers() -> dict[str, Any]:
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        turns = dict(stack.enter_context(_job("grpc", "")))
        turns |= stack.enter_context(_job("ray", "_by_ray"))
        turns |= stack.enter_context(_tensorflow()) | {"ray_task_ms": _task}
        for _ in range(ROUNDS):
            for name, turn in turns.items():
                times.setdefault(name, []).append(turn())
    found = {name: statistics.median(each) * 1e3 for name, each in times.items()}
    if "ps_scalar_ms_tf1" in times:
        found["ps_scalar_to_tf1"] = median_ratio(times["ps_scalar_ms"], times["ps_scalar_ms_tf1"])
    return found


@contextmanager
def _job(protocol: str, suffix: str) -> Iterator[Mapping[str, Callable[[], float]]]:
    """Seconds of a step of each kind, as the workers of a job of three tasks measure them."""
    import ray

    from graphflow.distribute.ray_tasks import start_task
    from graphflow.distribute.servers import JOB

    spec = {"ps": ["ps:1"], "worker": ["worker0:1", "worker1:1"]}

    def worker(kind: str, steps: int) -> float:
        """In the worker's process."""
        import time

        import numpy as np

        import graphflow as tf

        held = tf.__dict__.setdefault("_bench", {})
        if not held:
            server = tf.train.Server(spec, "worker", 0, protocol=protocol)
            with tf.device("/job:ps/task:0"):
                scalar = tf.Variable(1.0)
                table = tf.Variable(np.ones([1 << 20], np.float32))
            with tf.device("/job:worker/task:0"):
                read = tf.identity(scalar + 1.0)
                gradient = table * 0.5
            train = table.assign_sub(gradient).op
            session = tf.Session(server.target)
            session.run(tf.global_variables_initializer())
            held |= {"scalar": read, "train": train, "session": session}
        session = held["session"]
        for _ in range(5):
            session.run(held[kind])
        start = time.perf_counter()
        for _ in range(steps):
            session.run(held[kind])
        return (time.perf_counter() - start) / steps

    def synchronous(task: int, steps: int) -> float:
        """In the process of each of two workers, at the same time."""
        import time

        import graphflow as tf

        held = tf.__dict__.setdefault("_synchronous", {})
        if not held:
            server = tf.train.Server(spec, "worker", task, protocol=protocol)
            setter = tf.train.replica_device_setter(1, worker_device=f"/job:worker/task:{task}")
            with tf.Graph().as_default():
                with tf.device(setter):
                    step = tf.train.get_or_create_global_step()
                    w = tf.get_variable("w", [64], initializer=tf.ones_initializer())
                    inner = tf.train.GradientDescentOptimizer(0.01)
                    optimizer = tf.train.SyncReplicasOptimizer(inner, 2, 2)
                    train = optimizer.minimize(tf.reduce_sum(tf.square(w)), step)
                hook = optimizer.make_session_run_hook(task == 0, num_tokens=0)
                session = tf.train.MonitoredTrainingSession(server.target, task == 0, hooks=[hook])
            held |= {"train": train, "session": session}
        for _ in range(10):
            held["session"].run(held["train"])
        start = time.perf_counter()
        for _ in range(steps):
            held["session"].run(held["train"])
        return (time.perf_counter() - start) / steps

    def both() -> float:
        return max(ray.get([t.program.remote(synchronous, i, STEPS) for i, t in enumerate(tasks)]))

    space = f"bench-{protocol}-{os.getpid()}"
    names = [f"/job:{job}/replica:0/task:{i}" for job, hosts in spec.items()
             for i in range(len(hosts))]  # fmt: skip
    _, *tasks = actors = [start_task(name, space, 0, 0, {JOB: space}) for name in names]
    yield {f"ps_sync_ms{suffix}": both} | {
        f"ps_{kind}_ms{suffix}": lambda kind=kind: ray.get(  # type: ignore[misc]
            tasks[0].program.remote(worker, kind, STEPS if kind == "scalar" else STEPS // 5)
        )
        for kind in KINDS
    }
    for actor in actors:
        ray.kill(actor)


def _task() -> float:
    """Seconds of a task and its answer, one after the other, on a worker that is warm."""
    import ray

    def nothing() -> None:
        pass

    task = ray.remote(num_cpus=1)(nothing)
    for _ in range(5):
        ray.get(task.remote())
    return seconds_per_call(lambda: ray.get(task.remote()), STEPS // 2)


@contextmanager
def _tensorflow() -> Iterator[Mapping[str, Callable[[], float]]]:
    """TensorFlow's worker and parameter server, where GRAPHFLOW_PEERS has it."""
    python = os.environ.get("GRAPHFLOW_PEERS")
    if not python:
        yield {}
        return
    with Asked([python, str(FOLDER / "peers" / "bench_tf1_ps.py")]) as peer:
        yield {"ps_scalar_ms_tf1": lambda: float(peer.ask(f"run {STEPS}")) / STEPS}
