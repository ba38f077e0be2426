"""Servers of one process: state that sessions share, by server, container and name."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute import repeatable, servers, task
from graphflow.distribute.host import Host
from tests.distribute.four_tasks import client, four_tasks
from tests.until import PATIENCE


@pytest.fixture
def cluster() -> Iterator[dict[str, tf.train.Server]]:
    with four_tasks() as found:
        yield found


def test_a_variable_is_the_same_for_the_sessions_of_all_clients(cluster):
    a, v, up, init = client(cluster["worker0"])
    b, w, up_b, _ = client(cluster["worker1"])
    a.run(init)
    a.run(up)
    np.testing.assert_array_equal(b.run(w), np.ones(4))  # at once: a's run is over
    b.run(up_b)
    b.close()
    np.testing.assert_array_equal(a.run(v), np.full(4, 2))
    c, again, _, _ = client(cluster["worker1"])  # state outlives sessions
    np.testing.assert_array_equal(c.run(again), np.full(4, 2))
    other, elsewhere, _, _ = client(cluster["worker1"], ps=1)
    with pytest.raises(errors.FailedPreconditionError):
        other.run(elsewhere)
    for session in (a, c, other):
        session.close()


def test_no_update_of_many_clients_is_lost(cluster):
    a, v, up, init = client(cluster["worker0"])
    b, _, up_b, _ = client(cluster["worker1"])
    a.run(init)
    with ThreadPoolExecutor(4) as pool:
        runs = [
            pool.submit(lambda s=s, u=u: [s.run(u) for _ in range(25)])
            for s, u in ((a, up), (b, up_b), (a, up), (b, up_b))
        ]
        for each in runs:
            each.result(PATIENCE)
    np.testing.assert_array_equal(a.run(v), np.full(4, 100))
    a.close()
    b.close()


def test_a_part_that_lost_a_race_runs_again_alone(cluster):
    """The gradient is computed once, from an old value, and is applied to the newest one."""
    started, go = threading.Event(), threading.Event()
    calls: list[float] = []

    def slow(value: Any) -> Any:
        calls.append(float(value))
        started.set()
        assert go.wait(PATIENCE)
        return np.float32(10)

    a, v, up, init = client(cluster["worker0"])
    a.run(init)
    with tf.Graph().as_default() as graph:
        with tf.device("/job:ps/task:0"):
            w = tf.Variable(np.zeros(4, np.float32), name="v")
        with tf.device("/job:worker/task:1"):
            gradient = tf.py_func(slow, [w[0]], tf.float32)
        update = w.assign_sub(tf.fill([4], tf.reshape(gradient, []))).op
    b = tf.Session(cluster["worker1"].target, graph=graph)
    thread = threading.Thread(target=b.run, args=(update,))
    thread.start()
    assert started.wait(PATIENCE)
    a.run(up)
    go.set()
    thread.join(PATIENCE)
    np.testing.assert_array_equal(a.run(v), np.full(4, 1 - 10))
    assert calls == [0.0]
    a.close()
    b.close()


def test_a_run_on_one_server_alone_that_lost_a_race_runs_again(cluster):
    started, go = threading.Event(), threading.Event()

    def slow(value: Any) -> Any:
        started.set()
        assert go.wait(PATIENCE)
        return value

    a, v, up, init = client(cluster["worker0"])
    a.run(init)
    with tf.Graph().as_default() as graph, tf.device("/job:ps/task:0"):
        w = tf.Variable(np.zeros(4, np.float32), name="v")
        ten = tf.py_func(slow, [tf.fill([4], 10.0)], tf.float32)
        update = w.assign_add(ten).op
    b = tf.Session(cluster["worker1"].target, graph=graph)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(b.run, update)
        assert started.wait(PATIENCE)
        a.run(up)
        go.set()
        running.result(PATIENCE)
    np.testing.assert_array_equal(a.run(v), np.full(4, 11))
    b.run(update)  # what was executed again is not committed twice
    np.testing.assert_array_equal(a.run(v), np.full(4, 21))
    a.close()
    b.close()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_function_on_a_server_sees_the_newest_value_after_a_lost_race(cluster, elsewhere):
    """Where its run has a part elsewhere, too, it is committed in two phases."""
    started, go = threading.Event(), threading.Event()
    calls: list[float] = []

    def slow(value: Any) -> Any:
        calls.append(float(value[0]))
        started.set()
        assert go.wait(PATIENCE)
        return value + np.float32(10)

    a, v, up, init = client(cluster["worker0"])
    a.run(init)
    with tf.Graph().as_default() as graph, tf.device("/job:ps/task:0"):
        w = tf.Variable(np.zeros(4, np.float32), name="v")
        update = w.assign(tf.reshape(tf.py_func(slow, [w], tf.float32), [4])).op
        with tf.device("/job:ps/task:1"):
            u = tf.Variable(0, name="u")
            both = tf.group(update, u.assign_add(1))
    b = tf.Session(cluster["worker1"].target, graph=graph)
    b.run(u.initializer)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(b.run, both if elsewhere else update)
        assert started.wait(PATIENCE)
        a.run(up)
        go.set()
        running.result(PATIENCE)
    np.testing.assert_array_equal(a.run(v), np.full(4, 11))
    assert calls == [0.0, 1.0]
    assert b.run(u) == int(elsewhere)
    a.close()
    b.close()


def test_a_server_goes_on_after_a_run_that_failed_while_another_one_had_written(
    cluster, monkeypatch
):
    """The order to undo it is not held back until a write is visible that will never be."""
    monkeypatch.setattr(servers, "DEADLINE", 10.0)
    session, v, up, init = client(cluster["worker0"])
    with session.graph.as_default(), tf.device("/job:ps/task:1"):
        w = tf.constant([1.0, 2.0])
        row = tf.placeholder(tf.int32, [])
        taken = tf.gather(tf.py_func(lambda x: x, [w], tf.float32), row)
    session.run(init)
    with pytest.raises(errors.InvalidArgumentError):
        session.run([up, taken], {row: 7})
    session.run(up)  # alone: the other server is told that the one before has failed
    assert session.run(taken, {row: 1}) == 2
    np.testing.assert_array_equal(session.run(v), np.ones(4))
    assert not session._target.conductor._link._writers
    session.close()


def test_operations_without_a_device_run_with_the_sessions_own_server(cluster):
    with tf.Graph().as_default():
        with tf.device("/job:ps/task:1"):
            v = tf.Variable(1.0)
        y = v * 2.0 + 1.0
        with tf.Session(cluster["worker1"].target) as session:
            session.run(v.initializer)
            assert session.run(y) == 3.0
            devices = {o.type: d for o, d in session.placement(y).devices.items()}
    assert devices["ReadVariable"].startswith("/job:ps/replica:0/task:1")
    assert devices["Mul"].startswith("/job:worker/replica:0/task:1")


def test_device_filters_leave_tasks_out(cluster):
    cluster["ps1"].stop()
    config = tf.ConfigProto(device_filters=["/job:ps/task:0"])
    with tf.Graph().as_default(), tf.Session(cluster["worker0"].target, config=config) as session:
        names = {name.rpartition("/device")[0] for name in session.list_devices()}
    assert names == {"/job:ps/replica:0/task:0", "/job:worker/replica:0/task:0"}


def test_random_counters_are_a_sessions_own(cluster):
    def draw(server: tf.train.Server) -> Any:
        with tf.Graph().as_default():
            with tf.device("/job:ps/task:0"):
                x = tf.random_uniform([3], seed=5)
            with tf.Session(server.target) as session:
                return [session.run(x).tolist() for _ in range(2)]

    first = draw(cluster["worker0"])
    assert draw(cluster["worker1"]) == first
    assert first[0] != first[1]
    state = cluster["ps0"]._serving._member.task.state
    assert not list(state.store)  # gone with their sessions


def test_a_queue_on_a_server_hands_values_from_client_to_client(cluster):
    def graph() -> Any:
        with tf.device("/job:ps/task:0"):
            return tf.FIFOQueue(8, [tf.float32], shapes=[[]], shared_name="q")

    with tf.Graph().as_default() as one:
        put = graph().enqueue(7.0)
    with tf.Graph().as_default() as two:
        get = graph().dequeue()
    with ThreadPoolExecutor(1) as pool, tf.Session(cluster["worker1"].target, graph=two) as b:
        got = pool.submit(b.run, get)
        with tf.Session(cluster["worker0"].target, graph=one) as a:
            a.run(put)
        assert got.result(PATIENCE) == 7.0


def test_reset_forgets(cluster):
    a, v, _, init = client(cluster["worker0"])
    a.run(init)
    tf.Session.reset(cluster["worker0"].target, ["other"])
    a.run(v)
    tf.Session.reset(cluster["worker0"].target)
    with pytest.raises(errors.FailedPreconditionError):
        a.run(v)
    a.close()


def test_containers_keep_state_apart_and_are_reset_alone(cluster):
    """As in TensorFlow: one name in two containers is two variables, queues, accumulators."""

    def program(container: str) -> Any:
        with tf.Graph().as_default() as graph, tf.device("/job:ps/task:0"):
            with graph.container(container):
                v = tf.Variable(1.0, name="v")
                queue = tf.FIFOQueue(9, [tf.int32], shapes=[[]], shared_name="q")
                sums = tf.ConditionalAccumulator(tf.float32, [], shared_name="a")
                give = [queue.enqueue(1), sums.apply_grad(1.0), v.assign_add(1.0)]
                seen = [queue.size(), sums.num_accumulated(), v]
            session = tf.Session(cluster["worker0"].target, graph=graph)
            session.run(v.initializer)
            session.run(give)
        return session, seen, v

    sessions = {name: program(name) for name in ("", "mine")}
    for session, seen, _ in sessions.values():
        assert session.run(seen) == [1, 1, 2.0]
    target = cluster["worker0"].target
    for named, cleared in ((["other"], []), (["mine"], ["mine"]), (["localhost"], [""])):
        tf.Session.reset(target.encode(), named)
        for name, (session, seen, v) in sessions.items():
            if name in cleared:
                assert session.run(seen[:2]) == [0, 0]
                with pytest.raises(errors.FailedPreconditionError):
                    session.run(v)
                session.run([v.initializer])
            elif not cleared:
                assert session.run(seen) == [1, 1, 2.0]
    for session, _, _ in sessions.values():
        session.close()


def test_a_run_of_one_server_is_one_message_and_visible_at_its_answer(cluster):
    a, _, up, init = client(cluster["worker0"])
    b, w, _, _ = client(cluster["worker1"])
    a.run(init)
    a.run(up)
    before = a.target.statistics()["/job:ps/replica:0/task:0"]
    for turn in range(2, 6):
        a.run(up)
        np.testing.assert_array_equal(b.run(w), np.full(4, turn))
    after = a.target.statistics()["/job:ps/replica:0/task:0"]
    assert after["steps"] - before["steps"] == 4
    assert after.get("notices", 0) == before.get("notices", 0)
    a.close()
    b.close()


def test_output_is_released_when_all_servers_have_the_writes(cluster, monkeypatch):
    """A step is announced on one server; what it wrote on the other one is there by then."""
    with tf.Graph().as_default() as one:
        with tf.device("/job:ps/task:0"):
            queue = tf.FIFOQueue(8, [tf.int32], shapes=[[]], shared_name="steps")
        with tf.device("/job:ps/task:1"):
            v = tf.Variable(0, name="v")
            write = v.assign_add(1)
        with tf.control_dependencies([write]):
            both = queue.enqueue(1)
    with tf.Graph().as_default() as two:
        with tf.device("/job:ps/task:0"):
            step = tf.FIFOQueue(8, [tf.int32], shapes=[[]], shared_name="steps").dequeue()
        with tf.device("/job:ps/task:1"):
            seen = tf.Variable(0, name="v")
    slow = cluster["ps1"]._serving._member.task
    usual = slow.notice
    monkeypatch.setattr(slow, "notice", lambda *a: time.sleep(0.05) or usual(*a))
    a = tf.Session(cluster["worker0"].target, graph=one)
    b = tf.Session(cluster["worker1"].target, graph=two)
    a.run(v.initializer)
    with ThreadPoolExecutor(1) as pool:
        for turn in range(1, 4):
            written = pool.submit(a.run, both)
            b.run(step)
            assert b.run(seen) == turn
            written.result(PATIENCE)
    a.close()
    b.close()


def test_a_session_that_is_closed_while_a_run_of_its_commits_lets_it(cluster, monkeypatch):
    """The order to close would overtake the decision on both servers."""
    with tf.Graph().as_default() as graph:
        variables = []
        for ps in (0, 1):
            with tf.device(f"/job:ps/task:{ps}"):
                variables.append(tf.Variable(0, name=f"v{ps}"))
        both = tf.group(*[v.assign_add(1) for v in variables])
    a = tf.Session(cluster["worker0"].target, graph=graph)
    b = tf.Session(cluster["worker1"].target, graph=graph)
    a.run([v.initializer for v in variables])
    told = threading.Semaphore(0)
    for slow in (cluster[f"ps{i}"]._serving._member.task for i in (0, 1)):

        def late(*notice: Any, usual: Any = slow.notice) -> Any:
            told.release()
            time.sleep(0.05)
            return usual(*notice)

        monkeypatch.setattr(slow, "notice", late)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(a.run, both)
        assert told.acquire(timeout=PATIENCE)
        assert told.acquire(timeout=PATIENCE)
        a.close()
        running.result(PATIENCE)
    assert b.run(variables) == [1, 1]
    b.close()


def test_what_a_part_received_is_free_when_it_is_decided(cluster):
    """At once, and not when Python's collector comes: it may be memory that a peer has lent."""
    with tf.Graph().as_default():
        with tf.device("/job:ps/task:0"):
            v = tf.Variable(np.zeros(4, np.float32), name="v")
        with tf.device("/job:worker/task:0"):
            gradient = v * 2.0 + 1.0
        up = v.assign_add(gradient).op
        with tf.Session(cluster["worker0"].target) as session:
            session.run(v.initializer)
            gc.collect()
            gc.disable()
            try:
                for _ in range(5):
                    session.run(up)
                held = [o for o in gc.get_objects() if isinstance(o, repeatable.RepeatableMailbox)]
            finally:
                gc.enable()
    assert len(held) == 1  # the last one's on the worker: the next message decides on it


def test_a_run_that_waits_for_a_value_of_a_server_that_has_ended_is_told(cluster, monkeypatch):
    """That one owes no answer: its part was done, and what it had sent is lost with it."""
    sent = threading.Event()
    other, _, up, init = client(cluster["worker1"])
    other.run(init)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [])
        with tf.device("/job:ps/task:1"):
            y = x * 2.0
        with tf.device("/job:ps/task:0"):
            z = y + 1.0
    session = tf.Session(cluster["worker0"].target, graph=graph)
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patched:
        patched.setattr(task.MemberChannel, "send", lambda *_: sent.set())
        running = pool.submit(session.run, z, {x: 1.0})
        assert sent.wait(PATIENCE)
        cluster["ps1"].stop()
        with pytest.raises(errors.UnavailableError, match=r"job:ps.*task:1.*was stopped"):
            running.result(PATIENCE)
    other.run(up)  # a session that has had nothing to do with it goes on
    session.close()
    other.close()


def test_a_session_that_does_not_open_is_left_on_no_task(cluster, monkeypatch):
    tasks = {name: server._serving._member.task for name, server in cluster.items()}

    def refuse(*_: Any) -> None:
        raise errors.ResourceExhaustedError(None, None, "no room")

    monkeypatch.setattr(tasks["ps1"], "_reach", refuse)
    with pytest.raises(errors.ResourceExhaustedError, match="no room"):
        tf.Session(cluster["worker0"].target)
    assert [task._hosts for task in tasks.values()] == [{}] * 4


def test_state_that_is_to_be_isolated_is_refused_with_what_to_do(cluster):
    config = tf.ConfigProto(isolate_session_state=True)
    with pytest.raises(errors.UnimplementedError, match=r"tf\.container\(NAME\)"):
        tf.Session(cluster["worker0"].target, config=config)


def test_a_target_that_no_server_has_is_named():
    with pytest.raises(errors.NotFoundError, match=r"grpc://nowhere:1.*it has none"):
        tf.Session("grpc://nowhere:1")


def test_tasks_that_do_not_come_up_are_named(monkeypatch):
    monkeypatch.setattr(servers, "START", 0.05)
    server = tf.train.Server({"ps": ["a:1"], "worker": ["b:1"]}, "worker", 0)
    try:
        with pytest.raises(errors.UnavailableError, match=r"job:ps.*graphflow run --workers"):
            tf.Session(server.target)
    finally:
        server.stop()


def test_a_local_server_is_a_cluster_of_its_own():
    server = tf.train.Server.create_local_server()
    try:
        with tf.Graph().as_default():
            v = tf.Variable(4.0)
            with tf.Session(server.target) as first, tf.Session(server.target) as second:
                first.run(v.initializer)
                assert second.run(v) == 4.0
    finally:
        server.stop()


def test_tasks_at_any_port_find_each_other():
    spec = {"ps": ["localhost:0"], "worker": ["localhost:0"]}
    ps, worker = [tf.train.Server(spec, job, 0) for job in spec]
    with tf.Graph().as_default(), tf.device("/job:ps/task:0"):
        v = tf.Variable(1.0)
        with tf.Session(worker.target) as session:
            session.run(v.initializer)
            assert session.run(v) == 1.0
    for server in (ps, worker):
        server.stop()


@pytest.mark.parametrize("ports", ["", "1234", "0000"], ids=["local", "named", "any"])
def test_clusters_with_tasks_of_the_same_names_are_apart(ports):
    def start(ports: str) -> list[tf.train.Server]:
        if not ports:
            return [tf.train.Server.create_local_server()]
        spec = {"local": [f"h:{ports[0]}"], "other": [f"h:{ports[1]}"]}
        return [tf.train.Server(spec, job, 0) for job in spec]

    (one, *others), (two, *more) = start(ports[:2]), start(ports[2:])
    with tf.Graph().as_default(), tf.device("/job:other/task:0" if ports else ""):
        v = tf.Variable(1.0, name="v")
        with tf.Session(one.target) as a, tf.Session(two.target) as b:
            a.run(v.initializer)
            with pytest.raises(errors.FailedPreconditionError):
                b.run(v)
    for server in (one, two, *others, *more):
        server.stop()


def test_a_task_at_any_port_that_is_started_again_takes_its_place():
    spec = {"ps": ["h:0"], "worker": ["h:0"]}
    clusters = [{job: tf.train.Server(spec, job, 0) for job in spec} for _ in range(3)]
    clusters[1]["ps"].stop()
    clusters[1]["ps"] = tf.train.Server(spec, "ps", 0)
    with tf.Graph().as_default(), tf.device("/job:ps/task:0"):
        v = tf.Variable(0.0)
        for number, cluster in enumerate(clusters):
            with tf.Session(cluster["worker"].target) as session:
                session.run(v.initializer)
                session.run(v.assign(number))
        for number, cluster in enumerate(clusters):
            with tf.Session(cluster["ps"].target) as session:
                assert session.run(v) == number
    for cluster in clusters:
        for server in cluster.values():
            server.stop()


def test_threads_for_further_devices_are_had_while_a_decision_is_carried_out():
    """A run that is committed anew needs them, and holds the store; who carries out a decision
    waits for that, and holds the lock of the session."""
    host = Host(0, channel=None)
    with ThreadPoolExecutor(1) as pool, host._lock:
        had = pool.submit(host._threads)
        had.result(PATIENCE)
    host.close()
