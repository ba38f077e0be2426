"""Ways to train in parallel on two Ray workers that are killed, or joined by others: the bits of
one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import graphflow as tf
from tests.distribute import programs
from tests.train import test_data_parallel as replicas
from tests.train import test_pipeline as stages

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(300)]

WORKERS = [f"/job:worker/task:{i}" for i in range(2)]
ONE = ["/cpu:0"] * 3


@pytest.fixture
def cluster(ray_is_up: None) -> Iterator[tf.Cluster]:
    """Two workers, of which a test kills one."""
    options = {"deadline": 20.0, "start_deadline": 200.0, "snapshot_every": 3}
    with tf.Cluster(2, cpus_per_worker=0, spares=1, **options) as cluster:
        yield cluster


def killer(cluster: tf.Cluster, at: int, task: int) -> Callable[..., None]:
    """What kills a worker after a step."""
    steps = iter(range(100))

    def on_step(_: Any) -> None:
        if next(steps) == at:
            os.kill(list(cluster.workers.values())[task].pid, signal.SIGKILL)

    return on_step


@pytest.fixture(autouse=True)
def as_workers_compute(monkeypatch: Any) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")


@pytest.mark.parametrize("order", ["gpipe", "1f1b"])
def test_a_pipeline(cluster, order):
    devices = [*WORKERS, WORKERS[0]]
    found = stages.train(order, devices, cluster=cluster, on_step=killer(cluster, 1, task=1))
    programs.same(found, stages.train(order, ONE))


def test_in_graph_replication(cluster):
    by_hand = partial(replicas.ByHand, devices=WORKERS)
    kill = killer(cluster, 2, task=0)
    found = replicas.train(by_hand, replicas.plain, cluster=cluster, built=True, on_step=kill)
    programs.same(found, replicas.train(replicas.ByHand, replicas.plain, built=True))


def test_model_parallel(cluster):
    kill = killer(cluster, 5, task=1)
    with tf.Graph().as_default():
        found = programs.train(cluster, 10, scopes=tuple(WORKERS), on_step=kill)
    with tf.Graph().as_default():
        programs.same(found, programs.train(None, 10))


def test_data_parallel_while_workers_join_leave_and_die(cluster):
    """Four replicas on two workers, then three, one of which dies, then one."""
    sizes = {0: 3, 2: 1}
    kill = killer(cluster, 1, task=2)

    def change(step: int) -> None:
        kill(step)
        if step in sizes:
            cluster.resize(sizes[step])

    try:
        found = replicas.train(replicas.parallel(4), cluster=cluster, on_step=change)
    finally:
        cluster.resize(2)
    programs.same(found, replicas.train(replicas.parallel(4)))


def test_a_lost_data_parallel_worker_gets_its_state_from_another_one(cluster):
    """Nothing is done again, and the journal is not needed."""
    kill = killer(cluster, 2, task=1)
    counts: list[int] = []

    def on_step(step: int) -> None:
        kill(step)
        (session,) = [s for s in list(cluster._sessions) if not s.conductor.closed]
        counts.append(session.statistics()[cluster.names[1]].get("mirrored", 0))

    def mirrored(inner: Any) -> Any:
        return tf.distribute.DataParallel(inner, 4, 2, mirrored=True)

    found = replicas.train(mirrored, cluster=cluster, on_step=on_step)
    assert counts[0] == 0
    assert counts[-1] == 1
    programs.same(found, replicas.train(replicas.parallel(4)))
