"""Sessions on a stand-in for a GPU: same numbers as the CPU's, and every copy accounted for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.execute.devices import GpuDevice
from tests.golden.record import programs, values
from tests.golden.test_golden import CASES, agree
from tests.gpu.fake_cupy import FakeCupy, install
from tests.gpu.programs import PROGRAMS, run_on
from tests.ops.recorder import Finding
from tests.ops.registered import call, cases_of, entries

ENTRIES = entries()
STRINGS = ("AsString", "EncodeJpeg", "EncodePng")  # what they give stays on the host
RUNNABLE = [
    name
    for name, entry in ENTRIES.items()
    if name not in STRINGS
    and cases_of(entry)
    and not any(x.dtype == object for c in cases_of(entry) for x in c.inputs)
]
GPU = "/job:localhost/replica:0/task:0/device:GPU:0"


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    return install(monkeypatch)


@pytest.mark.parametrize("name", PROGRAMS)
def test_computes_what_the_cpu_computes(name: str, cupy: FakeCupy) -> None:
    wanted = run_on("/cpu:0", PROGRAMS[name])
    assert not cupy.puts
    got = run_on("/gpu:0", PROGRAMS[name])
    assert cupy.puts
    assert cupy.used
    assert cupy.depth == 0
    for a, b in zip(wanted, got, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)  # bitwise: NumPy computes both


def run_case(entry: Any, case: Any, device: str) -> list[Any]:
    """What a case gives in a session; what belongs to the host is a constant, the rest is fed."""
    with tf.Graph().as_default(), tf.device(device), tf.Session() as session:
        tensors = [
            tf.constant(x) if i in entry.host else tf.placeholder(x.dtype, x.shape)
            for i, x in enumerate(case.inputs)
        ]
        result = call(entry, case)(*tensors)
        fetches = result if isinstance(result, list) else [result]
        given = zip(tensors, case.inputs, strict=True)
        feeds = {t: x for t, x in given if t.op.type == "Placeholder"}
        return [np.asarray(y) for y in session.run(fetches, feeds)]


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_op_runs_on_the_device(name: str, cupy: FakeCupy) -> None:
    for case in cases_of(ENTRIES[name])[-2:]:  # test_conformance calls the kernels of all
        with np.errstate(all="ignore"):
            wanted = run_case(ENTRIES[name], case, "/cpu:0")
            got = run_case(ENTRIES[name], case, "/gpu:0")
        for a, b in zip(wanted, got, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("table", "name"), CASES, ids=lambda x: x)
def test_programs_give_tensorflows_values(table: str, name: str, cupy: FakeCupy) -> None:
    def on_the_device(library: Any) -> list[Any]:
        with library.device("/gpu:0"):
            return list(programs(table)[name](library))

    agree(table, name, values(tf, on_the_device, programs(table).runs))


def test_copies_what_is_fed_and_fetched_and_nothing_else(cupy: FakeCupy) -> None:
    with tf.Graph().as_default(), tf.device("/gpu:0"), tf.Session() as session:
        x = tf.placeholder(tf.float32, [4, 3])
        w = tf.Variable(np.ones((3, 5), np.float32))
        y = tf.reduce_sum(tf.nn.relu(tf.matmul(x, w)) * 2.0, axis=1)
        train = tf.assign_sub(w, tf.gradients(y, [w])[0])
        session.run(tf.global_variables_initializer())
        feeds = {x: np.ones((4, 3), np.float32)}
        session.run([y, train.op], feeds)
        cupy.forget()
        session.run([y, train.op], feeds)
    assert cupy.puts == [(4, 3)]
    assert cupy.gets == [(4,)]


def test_a_kernel_that_cupy_refuses_fails_at_its_line(
    cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(xp: Any, x: Any) -> Any:
        return np.tanh(x)  # NumPy's function on a device array

    tanh = tf.Graph.__module__ and __import__("graphflow.build", fromlist=["OPS"]).OPS["Tanh"]
    whole = tanh.kernel
    object.__setattr__(tanh, "kernel", wrong)
    try:
        with tf.Graph().as_default(), tf.device("/gpu:0"), tf.Session() as session:
            x = tf.placeholder(tf.float32, [2])
            with pytest.raises(tf.errors.OpError) as found:
                session.run(tf.tanh(x), {x: [1.0, 2.0]})
    finally:
        object.__setattr__(tanh, "kernel", whole)
    assert isinstance(found.value.__cause__, Finding)
    assert "test_fake_device.py" in "\n".join(found.value.__notes__)


def test_device_arrays_refuse_host_arrays(cupy: FakeCupy) -> None:
    device = GpuDevice(GPU, lambda: cupy)
    x = device.put(np.ones(3, np.float32))
    for mix in (lambda: x + np.ones(3), lambda: np.exp(x), lambda: cupy.add(x, np.ones(3))):
        with pytest.raises(Finding):
            mix()
    np.testing.assert_array_equal(device.get(x + x), [2, 2, 2])


def test_strings_stay_on_the_host(cupy: FakeCupy) -> None:
    device = GpuDevice(GPU, lambda: cupy)
    words = np.array([b"a", b"b"], object)
    assert device.put(words) is words
    assert device.get(words) is words


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = install(monkeypatch, count=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="has 1 GPU"):
        GpuDevice(GPU[:-1] + "1", lambda: cupy)
