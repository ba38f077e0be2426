"""Devices: what a missing GPU says, and programs on a stand-in for one."""

from __future__ import annotations

import contextlib
import json
import sys
import types
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.execute import devices
from tests.ops.record_cupy import TABLE
from tests.ops.recorder import Recorder

GPU = "/job:localhost/replica:0/task:0/device:GPU:0"


class CuPy:
    """NumPy that refuses what CuPy would, and what surrounds it."""

    def __init__(self, count: int = 1):
        self._xp = Recorder(json.loads(TABLE.read_text()))
        self.ndarray = self._xp._kind
        self.moves: list[tuple[str, tuple[int, ...]]] = []
        self.cuda = types.SimpleNamespace(
            Device=lambda index: contextlib.nullcontext(),
            runtime=types.SimpleNamespace(
                getDeviceCount=lambda: count,
                getDeviceProperties=lambda device: {"totalGlobalMem": (device + 1) << 30},
                CUDARuntimeError=RuntimeError,
            ),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._xp, name)

    def asarray(self, array: Any, *args: Any, **options: Any) -> Any:
        if type(array) is np.ndarray:
            self.moves.append(("put", array.shape))
        return self._xp.asarray(array, *args, **options)

    def asnumpy(self, array: Any) -> Any:
        self.moves.append(("get", array.shape))
        return np.array(np.ndarray.view(array, np.ndarray))


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> CuPy:
    found = CuPy()
    monkeypatch.setattr(devices, "_load_cupy", lambda: found)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", found._xp.special())
    return found


@pytest.fixture
def session(cupy: CuPy) -> Any:
    with tf.Graph().as_default(), tf.device("/gpu:0"), tf.Session() as session:
        yield session


def test_constants_and_feeds_go_to_the_device_and_results_come_back(session, cupy):
    x = tf.placeholder(tf.float32, [2, 3])
    y = tf.tanh(x @ tf.constant(np.eye(3, dtype=np.float32))) * 2.0
    got = session.run(y, {x: np.ones((2, 3))})
    assert type(got) is np.ndarray
    np.testing.assert_allclose(got, 2 * np.tanh(np.ones((2, 3))), rtol=1e-6)
    assert cupy.moves.count(("put", (2, 3))) == 1
    assert cupy.moves.count(("put", (3, 3))) == 1
    assert cupy.moves.count(("get", (2, 3))) == 1
    session.run(y, {x: np.ones((2, 3))})
    assert cupy.moves.count(("put", (3, 3))) == 1  # constants stay


def test_host_inputs_stay_on_the_host(session, cupy):
    x = tf.placeholder(tf.float32, [None])
    shape = tf.placeholder(tf.int32, [2])
    y = tf.reshape(x, shape)
    z = tf.slice(y, [0, 0], [1, -1])
    got = session.run(z, {x: np.arange(6), shape: [2, 3]})
    np.testing.assert_array_equal(got, [[0, 1, 2]])
    assert ("put", (2,)) not in cupy.moves


def test_a_shape_computed_on_the_device_serves_as_a_host_input(session):
    x = tf.placeholder(tf.float32, [None, 3])
    flat = tf.reshape(x, [tf.shape(x)[0] * 3])
    rows = tf.tile(flat, [tf.size(x)])
    assert session.run(rows, {x: np.ones((1, 3))}).shape == (9,)


def test_variables_live_on_the_device(session, cupy):
    v = tf.Variable(tf.ones([3]))
    session.run(v.initializer)
    (entry,) = session.target.store._entries.values()
    assert isinstance(entry.value, cupy.ndarray)
    assert session.run(v.assign_add([1.0, 2.0, 3.0])).tolist() == [2, 3, 4]
    assert session.run(v).tolist() == [2, 3, 4]


def test_loops_and_branches_run_on_the_device(session):
    x = tf.placeholder(tf.float32, [3])
    y = tf.while_loop(lambda i, a: i < 4, lambda i, a: (i + 1, a * x), [0, x])[1]
    z = tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.reshape(y, [3, 1]), lambda: tf.ones([3, 1]))
    g = tf.gradients(z, x)[0]
    values = session.run([z, g], {x: [1, 2, 3]})
    np.testing.assert_allclose(values[0][:, 0], [1, 32, 243])
    np.testing.assert_allclose(values[1], [5, 80, 405])


def test_training_runs_on_the_device(session):
    x = tf.placeholder(tf.float32, [None, 4])
    w = tf.get_variable("w", [4, 3])
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 1], logits=x @ w)
    )
    train = tf.train.AdamOptimizer(0.1).minimize(loss)
    session.run(tf.global_variables_initializer())
    batch = np.random.default_rng(0).standard_normal((2, 4))
    first = session.run(loss, {x: batch})
    for _ in range(20):
        session.run(train, {x: batch})
    assert session.run(loss, {x: batch}) < first / 2


def test_values_travel_between_the_devices(cupy):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [2])
        with tf.device("/cpu:0"):
            a = tf.exp(x)
        with tf.device("/gpu:0"):
            b = a * 2.0
        with tf.device("/cpu:0"):
            c = b + 1.0
        assert session.run(c, {x: [0, 0]}).tolist() == [3, 3]


# ---- what is missing


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(devices, "_load_cupy", lambda: CuPy(count=1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="this machine has 1 GPU"):
        devices.open_device(GPU[:-1] + "3")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"2 GPUs are asked for.* has 1"):
        tf.Session(config=tf.ConfigProto(device_count={"GPU": 2}))


def test_a_plan_knows_the_memory_of_each_gpu(monkeypatch):
    monkeypatch.setattr(devices, "_load_cupy", lambda: CuPy(count=2))
    with tf.Session(config=tf.ConfigProto(device_count={"GPU": 2})) as session:
        found = {d.name[-5:]: d.memory for d in session.target.topology.devices}
    assert found["GPU:0"] == 1 << 30
    assert found["GPU:1"] == 2 << 30


def test_cupy_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert devices.count_gpus() == 0
    assert devices.gpu_memory() == ()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"pip install graphflow\[gpu12\]"):
        devices.open_device(GPU)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"pip install graphflow\[gpu12\]"):
        tf.Session(config=tf.ConfigProto(device_count={"GPU": 1}))


def test_soft_placement_does_without_gpus(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    config = tf.ConfigProto(device_count={"GPU": 1}, allow_soft_placement=True)
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        with tf.device("/gpu:0"):
            x = tf.placeholder_with_default(1.0, []) + 1.0
        assert session.run(x) == 2
        assert len(session.list_devices()) == 1


def test_other_kinds_of_devices_are_unknown():
    with pytest.raises(tf.errors.InvalidArgumentError, match="CPU and GPU devices"):
        devices.open_device(GPU.replace("GPU", "TPU"))
