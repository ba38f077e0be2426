"""Native code on workers: the same bits whoever computes them, and whoever is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.distribute.messages import Step
from graphflow.execute import tiers
from graphflow.execute.tiered import TieredProgram
from graphflow.ops.collectives import all_reduce
from graphflow.session import probes
from tests.distribute.in_process import Channel, InProcess
from tests.distribute.programs import train
from tests.distribute.test_recovery import Killer, same
from tests.distribute.test_series import builds, told

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
STEPS = 12
CLUSTER = {"every": 4}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")  # the same network is compiled again and again


@pytest.fixture(autouse=True)
def native(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with tf.Graph().as_default():
        yield


def native_of(cluster: InProcess, worker: int) -> list[Any]:
    loaded = cluster.host(worker)._loaded.values()
    tiered = [p for each in loaded for p in each.programs if isinstance(p, TieredProgram)]
    return [n for p in tiered for n in p.native]


def test_workers_run_native_code_from_the_first_step_that_counts(cluster):
    w = tf.Variable(np.ones([8, 8], np.float32))
    x = tf.placeholder(tf.float32, [None, 8])
    with tf.device(T1):
        h = tf.tanh(tf.matmul(x, w))
    with tf.device(T0):
        step = tf.assign_sub(w, 0.1 * tf.matmul(x, h * h, transpose_a=True))
    with tf.Session(cluster=cluster) as session:
        session.run(w.initializer)
        before = len(cluster.log)
        session.run(step, {x: np.eye(8)})
        sent = [m for _, m in cluster.log[before:] if isinstance(m, Step)]
        assert len(sent) == 4  # a rehearsal, and the step, on both
        assert native_of(cluster, 0)
        assert native_of(cluster, 1)
        session.run(step, {x: np.eye(8)})
        assert len([m for _, m in cluster.log[before:] if isinstance(m, Step)]) == 6
        got = session.run(w)
    with tf.Session(cluster=cluster) as session:
        session.run(w.initializer)
        for _ in range(2):
            session.run(step, {x: np.eye(8)})
        np.testing.assert_array_equal(session.run(w), got)


def test_what_only_initialises_is_not_compiled(cluster):
    w = tf.Variable(tf.ones([64, 64]) * 3.0 + tf.range(64.0))
    with tf.Session(cluster=cluster) as session:
        session.run(w.initializer)
        assert not native_of(cluster, 0)


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[Any], list[Any]]:
    with InProcess(2, every=4) as cluster, tf.Graph().as_default():
        return train(cluster, STEPS, scopes=(T0, T1), tier="native")


def test_one_worker_and_two_and_none_give_the_same_bits(undisturbed):
    with InProcess(1) as cluster:
        same(train(cluster, STEPS, tier="native"), undisturbed)
    with tf.Graph().as_default():
        same(train(None, STEPS, tier="auto"), undisturbed)


def test_many_shapes_are_not_compiled_one_after_the_other(cluster, monkeypatch):
    """The first two are; a worker that takes the place of a lost one knows which these were."""
    monkeypatch.setattr(tiers, "MOST_SHAPES", 2)

    def run(lost: int) -> Any:
        cluster.available = 10
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float32, [None])
            with tf.device(T1):
                total = tf.Variable(0.25)
                step = tf.assign_add(total, tf.reduce_sum(tf.exp(x * total) * 0.1))
            with tf.Session(cluster=cluster) as session:
                session.run(total.initializer)
                for i, n in enumerate((3, 4, 5, 3, 6, 4, 5, 3)):
                    if i == lost:
                        cluster.kill(1)
                    session.run(step, {x: np.linspace(-1, 1, n)})
                return session.run(total), len(native_of(cluster, 1))

    undisturbed = run(-1)
    assert undisturbed[1] == 2
    for lost in (2, 4, 7):
        assert run(lost) == undisturbed


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("step", [2, 3, 7, 13])
def test_a_worker_that_takes_the_place_of_a_lost_one_goes_on_bit_for_bit(
    cluster, undisturbed, victim, step
):
    """Also where it is lost in the rehearsal, or between it and the step."""
    killer = Killer(cluster, victim, Step, step, to=0)
    found = []

    def on_step(session: Any) -> None:
        found.append(native_of(cluster, victim))

    trained = train(cluster, STEPS, scopes=(T0, T1), tier="native", on_step=on_step)
    same(trained, undisturbed)
    assert killer.count <= 0
    assert all(found)


def test_other_shapes_than_before_are_left_to_the_reference_tier(cluster):
    """The second worker is fed nothing: what it receives has another shape all at once.  What it
    wrote and gave out before it met that does not count twice, nor is anything sent twice."""
    x = tf.placeholder(tf.float32, [None, 300])
    with tf.device(T0):
        far = tf.exp(x) * 0.5
    with tf.device(T1):
        count = tf.Variable(np.zeros(300, np.float32))
        queue = tf.FIFOQueue(20, [tf.float32], shapes=[[]])
        first = tf.assign_add(count, tf.tanh(count) + 1.0)
        with tf.control_dependencies([queue.enqueue([tf.reduce_sum(first)])]):
            back = tf.reduce_sum(tf.tanh(far) + first, axis=1)
    with tf.device(T0):
        result = back * 2.0
    wanted = np.zeros(300, np.float32)
    with tf.Session(cluster=cluster) as session:
        session.run(count.initializer)
        for rows in (4, 4, 3, 4, 5):
            wanted += np.tanh(wanted) + 1
            value = np.full((rows, 300), 0.25, np.float32)
            got = session.run(result, {x: value})
            expected = 2 * (np.tanh(0.5 * np.exp(value)) + wanted).sum(axis=1)
            np.testing.assert_allclose(got, expected, rtol=1e-5)
        np.testing.assert_allclose(session.run(count), wanted, rtol=1e-5)
        assert session.run(queue.size()) == 5
        assert native_of(cluster, 1)


def test_what_is_only_sent_is_made_where_its_receiver_reads_it(cluster, monkeypatch):
    """Not what a variable takes, too, or the user gets: they hold it for longer."""
    places, sent = [], []
    send = Channel.send

    def place(channel, worker, size):
        places.append(np.zeros(size, np.uint8))
        return places[-1]

    def watched(channel, worker, ticket, key, value):
        sent.append(any(np.shares_memory(value, memory) for memory in places))
        send(channel, worker, ticket, key, value)

    monkeypatch.setattr(Channel, "place", place)
    monkeypatch.setattr(Channel, "send", watched)
    x = tf.placeholder(tf.float32, [None, 600])
    with tf.device(T0):
        kept = tf.Variable(np.zeros([3, 600], np.float32))
        only, shown, stored = tf.exp(x), tf.sin(x), tf.assign(kept, tf.cos(x) + kept)
    with tf.device(T1):
        ends = [tf.reduce_sum(value * 2.0) for value in (only, shown, stored)]
    with tf.Session(cluster=cluster) as session:
        session.run(kept.initializer)
        value = np.linspace(0, 1, 1800, dtype=np.float32).reshape(3, 600)
        found = []
        for target in ([ends[0]], [ends[1], shown], [ends[2]]):
            for step in range(2):  # the first one's rehearsal knows no places
                places.clear(), sent.clear()
                got = session.run(target, {x: value})
                if step:
                    found.append(sent[-1])
            if target == [ends[0]]:
                np.testing.assert_allclose(got, [2 * np.exp(value).sum()], rtol=1e-5)
        assert found == [True, False, False]


def test_sums_over_replicas_are_those_of_the_op(cluster):
    x = tf.placeholder(tf.float32, [None, 400])
    halves = []
    for i, worker in enumerate((T0, T1)):
        with tf.device(worker):
            halves.append(tf.reduce_sum(tf.tanh(x * (i + 0.3)), axis=0))
    sums = all_reduce(halves)
    value = np.linspace(-1, 1, 1200, dtype=np.float32).reshape(3, 400)
    with tf.Session(cluster=cluster) as session:
        for _ in range(3):
            first, second, *parts = session.run([*sums, *halves], {x: value})
            np.testing.assert_array_equal(first, parts[0] + parts[1])
            np.testing.assert_array_equal(second, first)
        assert native_of(cluster, 0)
        assert native_of(cluster, 1)


def test_a_trace_tells_of_native_calls_and_of_transfers(cluster):
    with tf.device(T0):
        x = tf.placeholder(tf.float32, [4])
        a = tf.exp(x, name="a")
    with tf.device(T1):
        b = tf.tanh(a + 1.0, name="b")
    told = tf.RunMetadata()
    with tf.Session(cluster=cluster) as session:
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        session.run(b, {x: np.ones(4)}, options, told)
        spans = {(s.op, s.device[-18:]) for s in told.step_stats}
        report = str(session.explain(b, {x: np.ones(4)}))
    assert spans == {
        ("Native", "task:0/device:CPU:0"[-18:]), ("Send", "task:0/device:CPU:0"[-18:]),
        ("Native", "task:1/device:CPU:0"[-18:]), ("Recv", "task:1/device:CPU:0"[-18:]),
    }  # fmt: skip
    assert {s.name for s in told.step_stats if s.op == "Native"} == {"a", "add, b"}
    assert "native code, on /job:worker/replica:0/task:1/device:CPU:0" in report
    assert "Tanh 'b' " in report


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_ray_workers_give_these_bits_too(ray_is_up, undisturbed):
    """One is killed on the way."""
    with tf.Cluster(workers=2, snapshot_every=5, deadline=20.0, start_deadline=80) as cluster:
        steps = iter(range(STEPS))

        def on_step(session: Any) -> None:
            if next(steps) == 6:
                os.kill(list(cluster.workers.values())[1].pid, signal.SIGKILL)

        same(train(cluster, STEPS, scopes=(T0, T1), tier="auto", on_step=on_step), undisturbed)


def test_a_series_of_steps_has_the_bits_of_a_loop(cluster):
    """Steps that began beside the rehearsal begin anew with it."""
    found = []

    def body(session: Any, model: Any, i: int) -> None:
        found.append(native_of(cluster, 0))

    assert told(cluster, 4, body) == told(cluster, 1, body)
    assert builds(cluster)
    assert all(found)


def test_speeds_are_those_of_operations_one_by_one(cluster):
    with tf.Session(cluster=cluster) as session:
        device = session._target.topology.devices[1].name
        speeds = probes.speeds(session._planner.open_session, device)
        assert all(1e-9 < speed < 1e15 for speed in speeds)
        assert not session._planner.traces
