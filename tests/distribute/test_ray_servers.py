"""Servers in processes of their own: how a session's messages and values travel between them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from graphflow.distribute import servers
from graphflow.distribute.servers import JOB
from tests.until import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_is_up")]

SPEC = {"ps": ["ps:1"], "worker": ["worker:1"]}


@pytest.fixture
def tasks() -> Iterator[dict[str, Any]]:
    """The actors of a parameter server and a worker, by job."""
    import ray

    from graphflow.distribute.ray_tasks import start_task

    space = f"test-{uuid.uuid4().hex}"
    found = {
        job: start_task(f"/job:{job}/replica:0/task:0", space, 0, 0, {JOB: space}) for job in SPEC
    }
    yield found
    for actor in found.values():
        ray.kill(actor)


def call(actor: Any, function: Any, *arguments: Any) -> Any:
    """What a function of a test gives in a task's process."""
    import ray

    return ray.get(actor.program.remote(function, *arguments), timeout=200)


def test_a_session_past_rays_calls_has_the_bits_of_these(tasks):
    """Messages and values past Ray, shared memory included; what is to be printed here by
    Ray."""

    def program(spec: Any, protocol: str) -> Any:
        import numpy as np

        import graphflow as tf

        server = tf.train.Server(spec, "worker", 0, protocol=protocol)
        with tf.Graph().as_default():
            with tf.device(tf.train.replica_device_setter(cluster=spec)):
                x = tf.placeholder(tf.float32, [None, 64])
                y = x
                for i in range(2):
                    start = tf.random_normal_initializer(stddev=0.1, seed=i)
                    shape = [64 + 64 * i, 128 - 64 * i]
                    w = tf.get_variable(f"{protocol}{i}", shape, initializer=start)
                    y = tf.tanh(tf.matmul(y, w))
                loss = tf.reduce_mean(tf.square(y - 0.5))
                train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
            with tf.device("/job:ps/task:0"):
                odd = tf.Print(tf.constant([7.0]), ["handed on to be printed"])
            losses = []
            with tf.Session(server.target) as session:
                session.run(tf.global_variables_initializer())
                for step in range(5):
                    feed = np.random.default_rng(step).normal(size=(8, 64)).astype(np.float32)
                    losses.append(session.run([loss, train], {x: feed})[0])
                weights = session.run(tf.trainable_variables())
                members = session._target.conductor._link._members.values()
                unusual = session.run(odd).tolist()
                sent = {w: s["sent"] for w, s in session._target.statistics().items()}
        server.stop()
        return losses, weights, sorted(type(m).__name__ for m in members), unusual, sent

    past, by_ray = (call(tasks["worker"], program, SPEC, protocol) for protocol in ("grpc", "ray"))
    assert past[2] == ["FastMember", "LocalMember"]
    assert by_ray[2] == ["LocalMember", "RayMember"]
    assert past[0] == by_ray[0]
    for a, b in zip(past[1], by_ray[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert past[3] == by_ray[3]
    assert past[4] == by_ray[4]
    assert min(past[4].values()) > 0


def test_a_server_ends_the_sessions_of_a_client_that_has_died(tasks):
    """Nobody but the end of its connection tells, where no job has started it; what it had
    reserved is free."""
    import ray

    def program(spec: Any) -> None:
        import time

        import graphflow as tf
        from graphflow.distribute import failpoints

        server = tf.train.Server(spec, "worker", 0)
        with tf.Graph().as_default():
            with tf.device("/job:ps/task:0"):
                put = tf.FIFOQueue(1, [tf.int32], shapes=[[]], shared_name="room").enqueue(7)
            with tf.device("/job:worker/task:0"):
                v = tf.Variable(0)
                up = v.assign_add(1)
            session = tf.Session(server.target)
            session.run(v.initializer)
            kill = failpoints.FAULTS["kill"]
            failpoints.arm("decided", 1, lambda: time.sleep(0.2) or kill(0))
            session.run([put, up])

    def left() -> tuple[int, int]:
        from graphflow.distribute import ray_tasks

        task = ray_tasks.here.task
        (queue,) = task.state.resources._objects.values()
        return len(task._hosts), queue._reserved

    with pytest.raises(ray.exceptions.RayActorError):
        call(tasks["worker"], program, SPEC)
    until(lambda: call(tasks["ps"], left) == (0, 0), state=lambda: call(tasks["ps"], left))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "ray"])
def test_a_frozen_server_is_named_in_time_and_does_nothing_late(tasks, protocol):
    """Where no job supervises it, it may go on.  What was sent to it by then is void, also where
    one message is enough for a commit: the client has been told that it failed."""

    def program(spec: Any, protocol: str, pid: int) -> Any:
        import os
        import signal
        import time

        import graphflow as tf
        from graphflow.distribute import servers

        servers.DEADLINE = 6.0  # more than a busy machine stops a process for; servers are told
        server = tf.train.Server(spec, "worker", 0, protocol=protocol)
        with tf.Graph().as_default():
            with tf.device("/job:ps/task:0"):
                v = tf.Variable(0)
                up = v.assign_add(1)
            with tf.Session(server.target) as session:
                session.run(v.initializer)
                session.run(up)
                os.kill(pid, signal.SIGSTOP)
                began = time.monotonic()
                try:
                    session.run(up)
                except tf.errors.UnavailableError as error:
                    told = str(error), time.monotonic() - began
                finally:
                    os.kill(pid, signal.SIGCONT)
            with tf.Session(server.target) as session:
                found = [int(session.run(each)) for each in (v, up)]
        server.stop()
        return *told, found

    pid = call(tasks["ps"], os.getpid)
    message, seconds, found = call(tasks["worker"], program, SPEC, protocol, pid)
    assert "/job:ps/replica:0/task:0" in message
    assert "no sign of life for 6 s" in message
    assert 6 <= seconds < servers.DEADLINE, "it is that of the session"
    assert found == [1, 2]


@pytest.mark.slow
def test_training_goes_on_when_a_frozen_server_does_and_no_update_counts_twice(tasks):
    def program(spec: Any, pid: int) -> Any:
        import os
        import signal
        import threading

        import graphflow as tf
        from graphflow.distribute import servers

        servers.DEADLINE = 3.0  # more than a busy machine stops a process for
        server = tf.train.Server(spec, "worker", 0)
        with tf.Graph().as_default():
            with tf.device(tf.train.replica_device_setter(cluster=spec)):
                tf.train.get_or_create_global_step()
                v = tf.get_variable("v", [], initializer=tf.zeros_initializer())
                up = v.assign_add(1.0)
            with tf.Session(server.target) as session:
                session.run(tf.global_variables_initializer())
            # Not the chief, which would initialise them again without a checkpoint.
            with tf.train.MonitoredTrainingSession(server.target, is_chief=False) as session:
                first = session.raw_session
                for step in range(20):
                    if step in (5, 12):
                        os.kill(pid, signal.SIGSTOP)
                        threading.Timer(6.0, os.kill, (pid, signal.SIGCONT)).start()
                    session.run(up)
                found = float(session.run(v)), session.raw_session is not first
        server.stop()
        return found

    assert call(tasks["worker"], program, SPEC, call(tasks["ps"], os.getpid)) == (20.0, True)


def test_a_jobs_certificate_comes_to_its_tasks_only_if_wanted(monkeypatch):
    """What two workers of a machine need none for; tests/distribute/fast has TLS itself."""
    from graphflow.distribute import jobs

    told: list[Any] = []
    monkeypatch.setattr(jobs, "start_task", lambda *given: told.append(given[-1]) or Asked())

    class Asked:
        def __getattr__(self, name: str) -> Any:
            return self

        def remote(self, *_: Any) -> object:
            return object()

    for tls in (False, True):
        running = jobs._Running(jobs.Shape(1, 1), None, lambda *_: (), tls=tls)
        for task in jobs.Shape(1, 1).tasks():
            running.start(task)
    plain, also_plain, one, other = told
    assert plain == also_plain == ("", "")
    assert one == other
    assert one[0].startswith("-----BEGIN CERTIFICATE")
    assert "PRIVATE KEY" in one[1]


def test_tasks_take_values_under_tls_with_a_certificate(monkeypatch):
    import ray

    from graphflow.distribute.fast import certificates
    from graphflow.distribute.ray_tasks import start_task

    def access() -> Any:
        from graphflow.distribute import ray_tasks

        assert ray_tasks.served is not None
        return ray_tasks.served._values._access

    made = certificates.make("test")
    space = f"test-{uuid.uuid4().hex}"
    actor = start_task("/job:ps/replica:0/task:0", space, 0, 0, {JOB: space}, made)
    found = call(actor, access)
    ray.kill(actor)
    assert (found.certificate, found.private_key) == made


# Asynchronous training; a worker that starts late changes what comes out.
ASYNCHRONOUS = """
import os, sys, time
import numpy as np
import tensorflow as tf
# job_name task_index ps_hosts worker_hosts
given = dict(a.lstrip("-").split("=") for a in sys.argv[1:])
job, task = given["job_name"], int(given["task_index"])
spec = tf.train.ClusterSpec({"ps": given["ps_hosts"].split(","),
                             "worker": given["worker_hosts"].split(",")})
server = tf.train.Server(spec, job, task)
if job == "ps":
    server.join()
with tf.device(tf.train.replica_device_setter(worker_device=f"/job:worker/task:{task}",
                                              cluster=spec)):
    step = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [4], initializer=tf.constant_initializer(0.2))
    x = tf.constant(np.random.default_rng(task).normal(size=(40, 4)).astype(np.float32))
    loss = tf.reduce_sum(tf.square(tf.tanh(w * tf.gather(x, step)) - 0.5))
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, step)
hooks = [tf.train.StopAtStepHook(last_step=30)]
with tf.train.MonitoredTrainingSession(server.target, task == 0, hooks=hooks) as session:
    while not session.should_stop():
        session.run(train)
        time.sleep(0.02 if task == int(given["late"]) else 0.001)
    if task == 0:
        while session.raw_session.run(step) < 30:
            time.sleep(0.01)
        text = str(session.raw_session.run(w).tolist())
        with open(given["out"], "w") as file:
            file.write(text)
"""


@pytest.mark.slow
def test_a_job_is_replayed_from_the_log_of_its_servers(tmp_path):
    from graphflow.cli import run

    script, out, log = tmp_path / "program.py", tmp_path / "out", str(tmp_path / "log")
    script.write_text(ASYNCHRONOUS)

    def train(late: int, **options: Any) -> str:
        layout = run.Layout(workers=2, servers=1, cpus=0, **options)
        assert run.main(str(script), [f"--late={late}", f"--out={out}"], layout) == 0
        return out.read_text()

    weights = train(1, record=log)
    assert os.listdir(log) == ["jobps-replica0-task0.decisions"]
    assert train(0) != weights
    assert train(0, replay=log) == weights


def test_after_a_loss_servers_log_elsewhere_and_follow_nothing(tmp_path):
    from graphflow.distribute import jobs
    from graphflow.distribute.ray_tasks import RECORD, REPLAY

    running = jobs._Running(jobs.Shape(1, 1), None, None, str(tmp_path), str(tmp_path / "old"))
    told = running._variables("ps", 0)
    assert (told[RECORD], told[REPLAY]) == (f"{tmp_path}/", f"{tmp_path}/old")
    assert RECORD not in running._variables("worker", 0)
    running._losses["ps", 0] += 1
    told = running._variables("ps", 0)
    assert told[RECORD] == f"{tmp_path}/after-loss-1"
    assert REPLAY not in told


def test_tasks_know_which_incarnations_of_lost_ones_count(monkeypatch):
    """Those that stay, and those that are started afterwards."""
    from graphflow.distribute import jobs
    from graphflow.distribute.members import INCARNATIONS

    started: list[Any] = []
    forgotten: list[Any] = []

    class Actor:
        def __init__(self, name: str):
            self.name = name

        def __getattr__(self, method: str) -> Any:
            return SimpleNamespace(remote=lambda *given: self.asked(method, given))

        def asked(self, method: str, given: Any) -> object:
            if method == "forget":
                forgotten.append((self.name, *given))
            return object()

    def start(name: str, space: str, cpus: float, gpus: float, variables: Any, *_: Any) -> Any:
        started.append((name, json.loads(variables[INCARNATIONS])))
        return Actor(name)

    monkeypatch.setattr(jobs, "start_task", start)
    monkeypatch.setattr(jobs, "_freed", lambda name, space: None)
    monkeypatch.setattr(jobs.ray_transport, "end_worker", lambda actor: None)
    monkeypatch.setattr(jobs.ray, "wait", lambda *_, **__: ([], []))
    running = jobs._Running(jobs.Shape(2, 1), None, lambda *_: ())
    for task in jobs.Shape(2, 1).tasks():
        running.start(task)
    running._restart([("worker", 0), ("ps", 0)])
    ps, chief, other = [name for name, _ in started[:3]]
    assert [lives for _, lives in started] == [{}] * 3 + [{chief: 1, ps: 1}] * 2
    assert forgotten == [(other, chief, 1), (other, ps, 1)]
