"""What a session tells of its plans, measures, and learns from traced runs."""

import json

import numpy as np
import pytest

import graphflow as tf
from graphflow.place.devices import Device, Topology
from graphflow.session import calibrate


@pytest.fixture
def session():
    config = tf.ConfigProto(device_count={"CPU": 2})
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        yield session


def traced(session, fetches):
    told = tf.RunMetadata()
    session.run(fetches, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
                run_metadata=told)  # fmt: skip
    return told.step_stats


def test_explains_fetches(session):
    with tf.device("/cpu:1"):
        y = tf.matmul(tf.ones([300, 300]), tf.ones([300, 300]))
    told = session.explain_placement(y)
    assert "it asks for /device:CPU:1" in str(told)
    assert told.predicted >= told.lower_bound > 0
    assert "<svg" in told.svg()
    assert json.loads(told.chrome_trace())["traceEvents"]


def test_calibration_is_measured_once_and_read_again(session, tmp_path, monkeypatch):
    for name, small in (("SIDE", 64), ("LARGE", 1 << 16), ("CHAIN", 50), ("RUNS", 2)):
        monkeypatch.setattr(calibrate, name, small)
    path = tmp_path / "c.json"
    assumed = session.target.topology
    found = session.calibrate(path)
    assert [d.name for d in found.devices] == [d.name for d in assumed.devices]
    assert all(d.flops != assumed[d.name].flops and d.launch > 0 for d in found.devices)
    assert len(found.links) == 2
    assert found.starts.step > 0
    monkeypatch.setattr(calibrate, "measure", None)  # not called again
    again = session.calibrate(path)
    assert (again.devices, dict(again.links)) == (found.devices, dict(found.links))
    y = tf.reduce_sum(tf.ones([3]))
    assert session.placement(y).topology.devices == found.devices
    assert session.run(y) == 3.0


def test_the_cache_folder_can_be_given(session, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path))
    monkeypatch.setattr(calibrate, "measure", lambda open_session, topology: topology)
    session.calibrate()
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("calibration-")


def test_traced_runs_plan_anew_where_a_device_was_misjudged(session):
    """A device that is thought ten thousand times faster than it is gets everything at first."""
    ends = [tf.matmul(tf.random.normal([500, 500], seed=i), tf.ones([500, 500])) for i in range(6)]
    names = session.list_devices()
    session._planner.topology = Topology(
        (Device(names[0], flops=2e15, bandwidth=1e15), Device(names[1]))
    )
    assert session.placement(ends).used == (names[0],)
    for _ in range(3):
        assert traced(session, ends)
    assert names[1] in session.placement(ends).used
    assert all(np.shape(value) == (500, 500) for value in session.run(ends))
