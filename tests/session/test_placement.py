"""What a session tells of its plans, measures, and learns from traced runs."""

import json
from dataclasses import replace

import numpy as np
import pytest

import graphflow as tf
from graphflow.place.devices import Device, Host, Topology, assumed_device
from graphflow.session import calibrate, planner, probes


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


@pytest.fixture
def quick(monkeypatch):
    """Probes that take little time, and say little."""
    for name, small in (("SIDE", 64), ("LARGE", 1 << 16), ("CHAIN", 50), ("RUNS", 2)):
        monkeypatch.setattr(probes, name, small)


def test_calibration_is_measured_once_and_read_again(session, tmp_path, monkeypatch, quick):
    path = tmp_path / "c.json"
    assumed = session.target.topology
    found = session.calibrate(path)
    assert [d.name for d in found.devices] == [d.name for d in assumed.devices]
    assert all(d.flops != assumed[d.name].flops and d.launch > 0 for d in found.devices)
    assert len(found.links) == 2
    for link in found.links.values():
        assert all(0 <= share <= 1 for share in (link.hold, link.source_load, link.target_load))
    assert found.starts.step > 0
    ((machine, host),) = found.hosts.items()
    assert machine == found.machine(found.devices[0].name)
    assert all(1 <= share <= 2 or share == float("inf") for share in host)
    monkeypatch.setattr(calibrate, "measure", None)  # not called again
    again = session.calibrate(path)
    assert (again.devices, dict(again.links)) == (found.devices, dict(found.links))
    y = tf.reduce_sum(tf.ones([3]))
    assert session.placement(y).topology.devices == found.devices
    assert session.run(y) == 3.0


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Topologies that were measured, instead of measuring."""
    found = []
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_LEARN", "1")
    monkeypatch.setattr(calibrate, "measure", lambda _, t: found.append(t) or t)
    return found


def long_steps(count=2):
    return [tf.matmul(tf.fill([1200, 1200], float(i)), tf.ones([1200, 1200])) for i in range(count)]


def two_devices():
    return tf.Session(config=tf.ConfigProto(device_count={"CPU": 2}))


def test_devices_are_measured_before_the_first_step_that_is_long_enough(measured):
    with tf.Graph().as_default(), two_devices() as session:
        session.run(tf.ones([3]) + 1.0)  # not worth it
        with tf.device("/cpu:0"):
            pinned = long_steps()
        session.placement(pinned)  # nothing to choose
        assert not measured
        ends = long_steps()
        assert session.placement(ends).predicted > planner.MATTERS
        assert len(measured) == 1
        session.placement(long_steps())
        assert len(measured) == 1
    with tf.Graph().as_default(), two_devices() as session:
        session.placement(long_steps())
        assert len(measured) == 1  # read from the disk


def test_what_was_measured_holds_for_the_same_devices_and_the_same_transport(measured, tmp_path):
    names = [f"/job:worker/task:{i}/cpu:0" for i in range(2)]

    def cluster(node, transport="fast", nodes=1):
        devices = [assumed_device(n, host=f"{node}{i % nodes}") for i, n in enumerate(names)]
        return Topology(tuple(devices), transport=transport)

    def found(topology):
        return calibrate.calibrated(lambda graph: None, topology, None)[0]

    found(replace(cluster("a"), hosts={"a0": Host(1.5, 1.0)}))
    again = found(cluster("b"))
    assert len(measured) == 1
    assert dict(again.hosts) == {"b0": Host(1.5, 1.0)}
    assert {d.host for d in again.devices} == {"b0"}
    small = [replace(d, memory=99.0) for d in again.devices]
    kept = found(replace(again, devices=tuple(small), keepers={"a": "b"}))
    assert {d.memory for d in kept.devices} == {99.0}, "which is not measured"
    assert dict(kept.keepers) == {"a": "b"}
    found(cluster("b", "ray"))
    assert len(measured) == 2
    found(cluster("b", nodes=2))
    found(cluster("c", nodes=2))
    assert len(measured) == 4


def test_a_single_device_is_never_measured(measured):
    with tf.Graph().as_default(), tf.Session() as session:
        session.placement(long_steps(4))
    assert not measured


def test_learning_can_be_forbidden(measured, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_LEARN", "0")
    with tf.Graph().as_default(), two_devices() as session:
        session.placement(long_steps())
    assert not measured
    monkeypatch.setenv("GRAPHFLOW_LEARN", "maybe")
    with pytest.raises(ValueError, match="GRAPHFLOW_LEARN='maybe': it must be 0 or 1"):
        tf.Session()


def test_a_calibration_that_cannot_be_stored_holds_for_the_session(measured, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path / "file"))
    with tf.Graph().as_default(), two_devices() as session:
        with pytest.warns(UserWarning, match="was not stored"):
            session.placement(long_steps())
        session.placement(long_steps())
    assert len(measured) == 1


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


def test_the_first_steps_of_a_long_plan_are_traced_without_being_asked(measured, monkeypatch):
    # A busy machine misjudges its devices, and then each new plan's first steps are traced, too.
    monkeypatch.setattr(planner, "worth_replanning", lambda *seconds: False)
    with tf.Graph().as_default(), two_devices() as session:
        ends = [tf.reduce_sum(end) for end in long_steps()]
        small = tf.ones([3]) + 1.0
        for _ in range(planner.SEEN + 2):
            session.run(small)
        assert not session._planner.profile.means
        seen = []
        usual = planner.Planner.observe
        monkeypatch.setattr(
            planner.Planner, "observe", lambda *a: seen.append(len(a[2])) or usual(*a)
        )
        for _ in range(planner.SEEN + 2):
            session.run(ends)
        assert len(seen) == planner.SEEN
        assert all(seen)
        assert any(
            "MatMul" in key for key in session._planner.profile.means[session.list_devices()[0]]
        )
