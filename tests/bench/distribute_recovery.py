"""Recovery on real Ray workers: how long training stands still, and what a long run with many
kills leaves behind."""

from __future__ import annotations

import os
import signal
import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import graphflow as tf

BOUNDS = {
    "recovery_spare_s": 0.5,
    "recovery_fresh_s": 5.0,
    "recovery_frozen_s": 0.5,
    "soak_different_losses": 0,
    "soak_actors": 0,
    "soak_shared_memory": 0,
    "soak_descriptors": 4,
    "soak_megabytes": 32,
}
MEANING = {
    "recovery_spare_s": "a step with kill -9 of a worker, spare at hand, beyond a usual one: s",
    "recovery_fresh_s": "the same, with a new actor from Ray: s",
    "recovery_frozen_s": "the same after SIGSTOP, from the deadline on: s",
    "soak_steps": "steps with kills in between",
    "soak_kills": "kills",
    "soak_different_losses": "losses and weights that differ from an undisturbed run",
    "soak_worst_s": "longest step of the soak: s",
    "soak_megabytes": "growth of the driver from the first kills to the end: MB",
    "soak_descriptors": "growth of its open files",
    "soak_shared_memory": "growth of files in shared memory",
    "soak_actors": "growth of worker processes",
}
KILLS = 6
DEADLINE = 1.0
T0, T1 = "/job:worker/task:0", "/job:worker/task:1"


class Training:
    """A network over two workers, one step at a time."""

    def __init__(self, cluster: tf.Cluster | None, width: int = 64):
        self.cluster = cluster
        here = (T0, T1) if cluster is not None else ("", "")
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(100, 16, 20)).astype(np.float32)
        self.labels = rng.integers(0, 5, size=(100, 16)).astype(np.int32)
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(7)
            self.x = tf.placeholder(tf.float32, [16, 20])
            self.y = tf.placeholder(tf.int32, [16])
            with tf.device(here[0]):
                w1 = tf.Variable(rng.normal(size=(20, width)).astype(np.float32))
                hidden = tf.nn.dropout(tf.nn.relu(tf.matmul(self.x, w1)), keep_prob=0.8, seed=3)
            with tf.device(here[1]):
                w2 = tf.Variable(rng.normal(size=(width, 5)).astype(np.float32))
                logits = tf.matmul(hidden, w2)
                self.loss = tf.reduce_mean(
                    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.y, logits=logits)
                )
            self.train = tf.train.AdamOptimizer(1e-3).minimize(self.loss)
            self.weights = [w1, w2]
            self.session = tf.Session(cluster=cluster, seed=11)
            self.session.run(tf.global_variables_initializer())
        self.steps = 0

    def step(self) -> Any:
        i = self.steps % len(self.images)
        self.steps += 1
        feed = {self.x: self.images[i], self.y: self.labels[i]}
        return self.session.run([self.loss, self.train], feed)[0]

    def timed(self) -> float:
        start = time.perf_counter()
        self.step()
        return time.perf_counter() - start


def pids(cluster: tf.Cluster) -> list[int]:
    return [worker.pid for worker in cluster.workers.values()]


def _stops(signal_number: int, spares: int, settle: float) -> list[float]:
    """Seconds that training stands still, one per signal to a worker."""
    with tf.Cluster(workers=2, spares=spares, deadline=DEADLINE) as cluster:
        training = Training(cluster)
        found = []
        for i in range(KILLS):
            usual = statistics.median(training.timed() for _ in range(60))
            victim = pids(cluster)[i % 2]
            os.kill(victim, signal_number)
            found.append(training.timed() - usual)
            time.sleep(settle)  # until the next spare is up
        training.session.close()
        return found


def _watched(actors: int) -> dict[str, float]:
    """What must not grow, once so many workers and spares are up."""
    end = time.monotonic() + 60
    while _actors() < actors and time.monotonic() < end:
        time.sleep(0.05)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return {
        "megabytes": resident / 1e6,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "shared_memory": len(os.listdir("/dev/shm")),
        "actors": _actors(),
    }


def _actors() -> int:
    """Processes of workers below this one: other Rays on the machine have theirs."""
    parents: dict[int, int] = {}
    workers = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit():
                pid = int(folder.name)
                parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if b"ray::Executor" in (folder / "cmdline").read_bytes():
                    workers.append(pid)
    return sum(_below(pid, parents) for pid in workers)


def _below(pid: int, parents: dict[int, int]) -> bool:
    while pid > 1 and pid != os.getpid():
        pid = parents.get(pid, 0)
    return pid == os.getpid()


def soak(steps: int, every: int) -> dict[str, float]:
    """Train while a worker is killed every so many steps, and compare with a run in one process."""
    os.environ["GRAPHFLOW_TIER"] = "reference"  # as workers compute
    alone = Training(None)
    wanted = [alone.step() for _ in range(steps)]
    with tf.Cluster(workers=2, spares=1, deadline=10.0) as cluster:
        training = Training(cluster)
        losses, worst, kills = [], 0.0, 0
        before: dict[str, float] = {}
        for i in range(steps):
            if i and i % every == 0:
                os.kill(pids(cluster)[kills % 2], signal.SIGKILL)
                kills += 1
            start = time.perf_counter()
            losses.append(training.step())
            worst = max(worst, time.perf_counter() - start)
            if kills == 3 and not before and i % every == every // 2:
                before = _watched(3)  # what is made once has been made
        growth = {name: value - before[name] for name, value in _watched(3).items()}
        pairs = zip(
            training.session.run(training.weights), alone.session.run(alone.weights), strict=True
        )
        different = sum(bool(a != b) for a, b in zip(losses, wanted, strict=True))
        different += sum(not np.array_equal(a, b) for a, b in pairs)
    return {
        "soak_steps": steps,
        "soak_kills": kills,
        "soak_different_losses": different,
        "soak_worst_s": worst,
        **{f"soak_{name}": value for name, value in growth.items()},
    }


def numbers(steps: int = 10_000, every: int = 500) -> dict[str, float]:
    return {
        "recovery_spare_s": statistics.median(_stops(signal.SIGKILL, spares=1, settle=2.5)),
        "recovery_fresh_s": statistics.median(_stops(signal.SIGKILL, spares=0, settle=0.5)),
        "recovery_frozen_s": statistics.median(_stops(signal.SIGSTOP, spares=1, settle=2.5))
        - DEADLINE,
        **soak(steps, every),
    }


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(numbers(*map(int, sys.argv[1:]))))
