"""A cluster of Ray goes on with fewer workers, and takes in those that come back."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.distribute.programs import train
from tests.until import until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]
STEPS = 600


def test_a_worker_that_nothing_replaces_leaves_and_comes_back(ray_is_up, monkeypatch):
    from graphflow.distribute import ray_transport

    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")  # the clock may not decide on bits
    with tf.Graph().as_default():
        expected = train(None, STEPS)
    history: list[list[str]] = []
    with (
        tf.Cluster(2, min_workers=1, cpus_per_worker=0, deadline=20) as cluster,
        tf.Graph().as_default(),
    ):
        monkeypatch.setattr(cluster, "_start_deadline", 8.0)  # of the session
        start, room = cluster._start, cluster.room
        steps = iter(range(1, STEPS + 1))
        changed = 0

        def on_step(session: Any) -> None:
            nonlocal changed
            now = next(steps)
            names = cluster.names
            if not history or history[-1] != names:
                history.append(names)
                changed = now
            if now == 20:  # Ray has nothing: who is started waits for ever
                monkeypatch.setattr(cluster, "_start", lambda: ray_transport.start_worker(999, 0))
                monkeypatch.setattr(cluster, "room", lambda: 0)
                os.kill(cluster.workers[names[1]].pid, signal.SIGKILL)
            if len(history) == 2 and now == changed + 20:
                monkeypatch.setattr(cluster, "_start", start)
                monkeypatch.setattr(cluster, "room", room)
                monkeypatch.setattr(cluster, "_start_deadline", 60.0)
            if now > 20 and len(history) < 3:
                time.sleep(0.05)  # Ray takes its time
            if now == STEPS - 2 and len(history) < 3:  # on a busy machine more
                until(lambda: cluster.names != history[-1])

        found = train(cluster, STEPS, on_step=on_step)
    zero, one = ("/job:worker/replica:0/task:0", "/job:worker/replica:0/task:1")
    assert history == [[zero, one], [zero], [zero, one]]
    np.testing.assert_array_equal(found[0], expected[0])
    for mine, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_array_equal(mine, other)
