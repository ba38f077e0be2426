"""Steps, boundaries and sums over replicas, beside Ray's actor calls, TensorFlow and PyTorch.

What is compared takes turns in one run; a ratio is the median over the rounds of what one round
has measured.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measure import interleaved, median_ratio, seconds_per_call
from processes import Asked, Group

from graphflow.distribute.addresses import refusal

MB = 1 << 20
FOLDER = Path(__file__).parent
SIZES, WORLDS = (4, 64), (2, 4)  # megabytes, workers
FREE = {"cpus_per_worker": 0, "start_deadline": 200}  # as many as one likes
ROUNDS = int(os.environ.get("GRAPHFLOW_ROUNDS", "7"))

BOUNDS = {
    "step_us_2": 150,
    "step_us_32": 2000,
    "boundary_to_ray": 0.1,
    "step_to_tf1": 1.0,
    **{f"sum_sockets_to_gloo_{mb}mb_{n}": 1.2 for mb in SIZES for n in WORLDS},
    **{f"sum_shared_to_gloo_{mb}mb_{n}": 0.25 for mb in SIZES for n in WORLDS},
}
MEANING = {
    "step_us_2": "a step of nothing, 2 workers bound to processors, us",
    "step_us_32": "a step of nothing, 32 workers bound to processors, no ASLR if permitted, us",
    "step_us_32_free": "a step of nothing, 32 workers, us",
    "step_us_2_free": "a step of nothing, 2 workers, us",
    "step_us_2_by_ray": 'the same, 2 workers, transport="ray", us',
    "calls_us_2": "one Ray call to each of 2 actors, us",
    "calls_us_32": "one Ray call to each of 32 actors, us",
    "message_us_2": "a message to each of 2 workers and back, us",
    "message_us_32": "a message to each of 32 workers and back, us",
    "bare_us_2": "the same, by the system's calls alone, 2 processes, us",
    "bare_us_32": "the same, by the system's calls alone, 32 processes, us",
    "boundary_ms": "a step of two stages, 4 MB between them, ms",
    "boundary_ms_by_sockets": "the same, without shared memory, ms",
    "boundary_ms_ray": "4 MB as an object reference between two actor calls, ms",
    "boundary_to_ray": "step / actor calls with 4 MB between two stages",
    "step_ms_tf1": "TensorFlow: a scalar step of a worker and a parameter server, ms",
    "step_ms_ps": "the same of graphflow, ms",
    "step_to_tf1": "graphflow / TensorFlow, worker and parameter server",
    **{
        f"sum_{how}_to_gloo_{mb}mb_{n}": f"sum of {mb} MB over {n} workers, {how} / gloo"
        for how in ("shared", "sockets")
        for mb in SIZES
        for n in WORLDS
    },
    **{
        f"sum_ms_{how}_{mb}mb_{n}": f"sum of {mb} MB over {n} workers, {how}, ms"
        for how in ("shared", "sockets", "gloo")
        for mb in SIZES
        for n in WORLDS
    },
}


def numbers() -> dict[str, Any]:
    found = _sums()
    with _ray():
        found |= _two() | _many() | _messages() | _boundaries()
    return found


# ---- steps


@contextmanager
def _ray() -> Iterator[None]:
    """A Ray with more CPUs than there are, for what costs none."""
    from graphflow.distribute.cluster import _ray as transport

    ray = transport()
    ray.connect("local", cpus=8, gpus=0, object_store_memory=300 << 20)
    try:
        yield
    finally:
        ray.disconnect()


def _devices(count: int) -> list[str]:
    return [f"/job:worker/task:{i}" for i in range(count)]


@contextmanager
def _step(
    count: int, transport: str, **options: bool
) -> Iterator[tuple[Callable[[], Any], Callable[[], Any]]]:
    """Runs a step of nothing on so many workers, of which each reads a variable of its own; and
    makes a call of Ray's to the actor of each, which does nothing."""
    import ray

    import graphflow as tf

    with (
        tf.Cluster(count, transport=transport, **options, **FREE) as cluster,
        tf.Graph().as_default(),
    ):
        actors = list(cluster._actors.values())
        reads = []
        for device in _devices(count):
            with tf.device(device):
                reads.append(tf.identity(tf.Variable(1.0)).op)
        with tf.Session(cluster=cluster) as session:
            session.run(tf.global_variables_initializer())
            yield lambda: session.run(reads), lambda: ray.get([a.ping.remote() for a in actors])


def _two() -> dict[str, float]:
    with _step(2, "fast", bind_cpus=True) as (step, calls):
        found = _middle("step_us_2", step, 1000) | _middle("calls_us_2", calls, 100)
    with _step(2, "fast") as (step, _):
        found |= _middle("step_us_2_free", step, 1000)
    with _step(2, "ray") as (step, _):
        return found | _middle("step_us_2_by_ray", step, 100)


def _many() -> dict[str, float]:
    options = {"bind_cpus": True, "disable_aslr": refusal() is None}
    with _step(32, "fast", **options) as (step, calls):
        found = _middle("step_us_32", step, 100) | _middle("calls_us_32", calls, 20)
    with _step(32, "fast") as (step, _):
        return found | _middle("step_us_32_free", step, 100)


def _middle(name: str, work: Callable[[], Any], calls: int) -> dict[str, float]:
    """Microseconds of one call, over some seconds: what else the host does comes and goes.  Each
    work is by itself: workers that wait take some of the processors' time, and after others have
    had these, the first hundred steps take up to twice their time."""
    times = []
    for _ in range(3 * ROUNDS):
        times.append(seconds_per_call(work, calls))
        time.sleep(0.2)
    return {name: statistics.median(times) * 1e6}


def _messages() -> dict[str, float]:
    """The control channel alone, between processes that do nothing else; and what it stands on."""
    found = {}
    for count in (2, 32):
        with Group("control", count) as control, Group("bare", count) as bare:
            for name, group in (("message", control), ("bare", bare)):
                found[f"{name}_us_{count}"] = group.ask("run", 100)[0] * 1e6
    return found


# ---- boundaries


@contextmanager
def _stages(transport: str) -> Iterator[tuple[Callable[[], Any], Callable[[], Any]]]:
    """Runs a step of two stages, of which the first one makes 4 MB and the second one uses an
    element, so that nearly all of it is the boundary; and a scalar step, the second device reading
    what the first one has."""
    import graphflow as tf

    first, second = _devices(2)
    options = {"transport": transport, "bind_cpus": transport == "fast", **FREE}
    with tf.Cluster(2, **options) as cluster, tf.Graph().as_default():
        with tf.device(first):
            big = tf.Variable(np.ones(MB, np.float32)) * 2.0
            scalar = tf.Variable(1.0)
        with tf.device(second):
            end = tf.identity(big[0]).op
            seen = tf.identity(scalar + 1.0)
        with tf.Session(cluster=cluster) as session:
            session.run(tf.global_variables_initializer())
            yield lambda: session.run(end), lambda: session.run(seen)


@contextmanager
def _references() -> Iterator[Callable[[], Any]]:
    """The same by object references.  The first stage makes it in memory of its own, which it
    has: to take that from the system each time would cost as much as the rest."""
    import ray

    class Stage:
        def __init__(self) -> None:
            self.value = np.ones(MB, np.float32)
            self.made = np.zeros_like(self.value)

        def first(self) -> Any:
            return np.multiply(self.value, np.float32(2.0), out=self.made)

        def second(self, value: Any) -> float:
            return float(value[0])

    one, two = [ray.remote(Stage).options(num_cpus=0).remote() for _ in range(2)]
    yield lambda: ray.get(two.second.remote(one.first.remote()))
    for actor in (one, two):
        ray.kill(actor)


def _boundaries() -> dict[str, float]:
    """What is compared takes turns, long ones, and with nobody else about: see `_middle`."""
    with _stages("fast") as (fast, _), _references() as references:
        works = {"boundary_ms": fast, "boundary_ms_ray": references}
        times = interleaved(works, calls=300, rounds=ROUNDS, settling=200)
        ratios = {"boundary_to_ray": median_ratio(*times.values())}
    with _stages("sockets") as (sockets, _):
        times |= interleaved({"boundary_ms_by_sockets": sockets}, calls=100, rounds=ROUNDS)
    with _stages("fast") as (_, seen), _tensorflow() as tensorflow:
        works = {"step_ms_ps": seen} | tensorflow
        both = interleaved(works, calls=300, rounds=ROUNDS, settling=200)
        if tensorflow:
            ratios["step_to_tf1"] = median_ratio(*both.values())
    return {name: statistics.median(t) * 1e3 for name, t in (times | both).items()} | ratios


@contextmanager
def _tensorflow() -> Iterator[Mapping[str, Callable[[], Any]]]:
    """TensorFlow's worker and parameter server, where GRAPHFLOW_PEERS has it."""
    python = os.environ.get("GRAPHFLOW_PEERS")
    if not python:
        yield {}
        return
    with Asked([python, str(FOLDER / "peers" / "bench_tf1_ps.py")]) as peer:
        yield {"step_ms_tf1": lambda: peer.ask("run 1")}


# ---- sums over replicas


def _sums() -> dict[str, float]:
    found: dict[str, float] = {}
    for world in WORLDS:
        for size in SIZES:
            times = _sum(size, world)
            name = f"{size}mb_{world}"
            for how, each in times.items():
                found[f"sum_ms_{how}_{name}"] = statistics.median(each) * 1e3
            if "gloo" in times:
                for how in ("shared", "sockets"):
                    found[f"sum_{how}_to_gloo_{name}"] = median_ratio(times[how], times["gloo"])
    return found


def _sum(size: int, world: int) -> dict[str, list[float]]:
    """Seconds of a sum, by way, one entry per round: the median of what its first worker sees."""
    count = 20 if size * world <= 16 else 4
    times: dict[str, list[float]] = {}
    python = os.environ.get("GRAPHFLOW_PEERS")
    with Group("sums", world, size * MB) as group:
        turns: dict[str, Callable[[], float]] = {
            how: lambda how=how: group.ask("run", how, count)[0]  # type: ignore[misc]
            for how in ("shared", "sockets")
        }
        script = str(FOLDER / "peers" / "bench_gloo.py")
        gloo = [python or sys.executable, script, str(world), str(size * MB)]
        with Asked(gloo) if python else _nothing() as peer:
            if peer is not None:
                turns["gloo"] = lambda: float(peer.ask(f"run {count}"))
            for turn in turns.values():
                turn()
            for _ in range(ROUNDS):
                for how, turn in turns.items():
                    times.setdefault(how, []).append(turn())
                    time.sleep(0.05)
    return times


@contextmanager
def _nothing() -> Iterator[None]:
    yield None
