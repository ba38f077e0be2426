"""Workers with GPUs of their own: Ray counts two that do not exist; a stand-in computes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.distribute.ray_transport import _results
from tests.until import until

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
# As many devices as the process may see, as with CUDA.
CUPY = """
import os, sys
from tests.gpu.fake_cupy import FakeCupy
seen = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
stand_in = FakeCupy(len(seen))
sys.modules["cupyx.scipy.special"] = stand_in.special()
def __getattr__(name):
    return getattr(stand_in, name)
"""


@pytest.fixture
def cupy(ray_is_up: None, tmp_path: Path, monkeypatch: Any) -> None:
    """What workers import of that name."""
    (tmp_path / "cupy.py").write_text(CUPY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))


def visible() -> Any:
    return np.int32(int(os.environ["CUDA_VISIBLE_DEVICES"]))  # one alone


def held(*actors: Any) -> list[tuple[str, ...]]:
    """The GPUs that Ray has given to actors."""
    calls = {str(i): actor.describe.remote({}) for i, actor in enumerate(actors)}
    return [found.gpus for found in _results(calls, 60).values()]


class Training:
    """A variable on the GPU of a worker, and what that one sees."""

    def __init__(self, cluster: tf.Cluster, task: int = 0):
        worker = f"/job:worker/task:{task}"
        with tf.device(f"{worker}/gpu:0"):
            v = tf.Variable(np.float32([1, 2]))
            self.step = v.assign_add(tf.tanh(v) * 0.5)
        with tf.device(f"{worker}/cpu:0"):
            self.seen = tf.py_func(visible, [], tf.int32)
        self.session = tf.Session(cluster=cluster)
        self.session.run(tf.global_variables_initializer())
        self.wanted = np.float32([1, 2])

    def goes_on(self) -> str:
        """Some steps, to the bits of NumPy; the GPU on which they were."""
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        for _ in range(3):
            told = tf.RunMetadata()
            found = self.session.run(self.step, options=options, run_metadata=told)
            self.wanted = self.wanted + np.tanh(self.wanted) * np.float32(0.5)
            np.testing.assert_array_equal(found, self.wanted)
        devices = {span.device for span in told.step_stats if span.name == self.step.op.name}
        assert [device[-5:] for device in devices] == ["GPU:0"]
        return str(self.session.run(self.seen))


def test_a_spare_holds_a_gpu_and_so_does_the_one_after_it(cupy):
    options = {"cpus_per_worker": 0, "gpus_per_worker": 1, "deadline": 20.0, "start_deadline": 80}
    with tf.Cluster(1, spares=1, **options) as cluster, tf.Graph().as_default():
        training = Training(cluster)
        first = training.goes_on()
        ((spare,),) = held(*cluster._spares)
        assert {first, spare} == {"0", "1"}
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        assert training.goes_on() == spare
        until(lambda: cluster._spares)
        assert held(*cluster._spares) == [(first,)]
        training.session.close()


def test_those_who_join_and_replace_have_gpus_of_their_own(cupy):
    options = {"cpus_per_worker": 0, "gpus_per_worker": 1, "deadline": 20.0, "start_deadline": 80}
    with tf.Cluster(1, **options) as cluster, tf.Graph().as_default():
        assert cluster.room() == 1
        cluster.resize(2)
        assert cluster.room() == 0
        one, other = Training(cluster, 0), Training(cluster, 1)
        before = one.goes_on(), other.goes_on()
        assert set(before) == {"0", "1"}
        os.kill(cluster.workers[cluster.names[1]].pid, signal.SIGKILL)
        assert (one.goes_on(), other.goes_on()) == before
        for training in (one, other):
            training.session.close()
        cluster.resize(1)
        until(lambda: cluster.room() == 1)
