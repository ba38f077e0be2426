"""Ray workers that are killed or stopped in the middle of training, which goes on bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.distribute.programs import train

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.timeout(90)]

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
STEPS = 16


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[Any], list[Any]]:
    with tf.Graph().as_default():
        return train(None, STEPS)


def same(found: tuple[list[Any], list[Any]], wanted: tuple[list[Any], list[Any]]) -> None:
    np.testing.assert_array_equal(found[0], wanted[0])
    for one, other in zip(found[1], wanted[1], strict=True):
        np.testing.assert_array_equal(one, other)


def pids(cluster: tf.Cluster) -> list[int]:
    return [worker.pid for worker in cluster.workers.values()]


def signals(cluster: tf.Cluster, plan: dict[int, tuple[int, int]]) -> Any:
    """Sends signals after some steps: step -> (task, signal)."""
    steps = iter(range(1, 1000))

    def on_step(session: Any) -> None:
        number = next(steps)
        if number in plan:
            task, signal_number = plan[number]
            os.kill(pids(cluster)[task], signal_number)

    return on_step


@pytest.fixture
def cluster(ray_is_up: None, request: Any) -> Iterator[tf.Cluster]:
    options = {"deadline": 1.0, "start_deadline": 30, "snapshot_every": 5}
    with tf.Cluster(workers=2, **options | request.param) as cluster:
        first = pids(cluster)
        yield cluster
        for pid in first:  # what a test has stopped
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("cluster", [{}, {"spares": 1}], indirect=True)
def test_kill_9_of_one_worker_and_then_of_the_other(cluster, graph, undisturbed):
    before = pids(cluster)
    on_step = signals(cluster, {4: (1, signal.SIGKILL), 9: (0, signal.SIGKILL)})
    same(train(cluster, STEPS, scopes=(T0, T1), on_step=on_step), undisturbed)
    assert not set(before) & set(pids(cluster))


@pytest.mark.parametrize("cluster", [{"spares": 1}], indirect=True)
def test_a_stopped_worker_is_replaced_and_ended(cluster, graph, undisturbed):
    stopped = pids(cluster)[1]
    on_step = signals(cluster, {6: (1, signal.SIGSTOP)})
    same(train(cluster, STEPS, scopes=(T0, T1), on_step=on_step), undisturbed)
    assert stopped not in pids(cluster)
