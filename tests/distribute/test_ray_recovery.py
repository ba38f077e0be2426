"""Ray workers that are killed or stopped in the middle of training, which goes on bit for bit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import graphflow as tf
from graphflow.distribute import failpoints
from tests.distribute.evidence import arm
from tests.distribute.programs import impatient, same, train

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.timeout(600)]

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
STEPS = 40


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
    options = {"deadline": 60.0, "start_deadline": 200, "snapshot_every": 5}
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
    stop = signals(cluster, {6: (1, signal.SIGSTOP)})

    def on_step(session: Any) -> None:
        impatient(session, 3.0)
        stop(session)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=on_step), undisturbed)
    assert stopped not in pids(cluster)


@pytest.mark.parametrize("cluster", [{"spares": 1}], indirect=True)
def test_kill_9_at_every_named_moment(cluster, graph, undisturbed):
    """One after the other, in one training: each when the driver knows that the last one died."""
    points = [p for p in failpoints.POINTS if p not in ("sum", "load")]
    victims: list[int] = []

    def on_step(session: Any) -> None:
        conductor = session.target.conductor
        conductor._until(lambda: not conductor._machine.saving)  # copies are made beside the steps
        if victims and victims[-1] in pids(cluster):
            return  # it comes to its moment in a later step: there is a cut at each fifth
        if len(victims) < len(points):
            point, task = points[len(victims)], len(victims) % 2
            victims.append(arm(cluster, task, point, 1, "kill"))
            if point == "rebuild":
                os.kill(pids(cluster)[1 - task], signal.SIGKILL)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=on_step), undisturbed)
    assert len(set(victims)) == len(points)
    assert not set(victims) & set(pids(cluster))


@pytest.mark.parametrize("cluster", [{}], indirect=True)
def test_both_workers_killed_at_once(cluster, graph, undisturbed):
    on_step = iter(range(1, 1000))

    def both(session: Any) -> None:
        if next(on_step) == 7:
            for pid in pids(cluster):
                os.kill(pid, signal.SIGKILL)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=both), undisturbed)


@pytest.mark.parametrize("cluster", [{}], indirect=True)
def test_workers_join_and_leave(cluster, graph, undisturbed):
    steps = iter(range(1, 1000))

    def resize(session: Any) -> None:
        now = next(steps)
        if now in (5, 20):
            cluster.resize(3 if now == 5 else 1)
        if now in (10, 25):
            os.kill(pids(cluster)[-1], signal.SIGKILL)

    same(train(cluster, STEPS, on_step=resize), undisturbed)
    assert len(pids(cluster)) == 1


@pytest.mark.parametrize("cluster", [{}], indirect=True)
def test_a_worker_joins_beside_one_that_has_just_died(cluster, graph, undisturbed):
    steps = iter(range(1, 1000))

    def resize(session: Any) -> None:
        if next(steps) == 8:
            os.kill(pids(cluster)[1], signal.SIGKILL)
            time.sleep(0.2)  # so that Ray knows, and no session of ours
            cluster.resize(3)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=resize), undisturbed)
    assert len(pids(cluster)) == 3
