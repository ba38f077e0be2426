"""Tasks of a job that are killed: they are started again, and training goes on to the same bits."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.cli import run
from tests.distribute.evidence import ended
from tests.until import PATIENCE, until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_is_up")]

# A program for TensorFlow 1 whose input is a function of the global step.  It ends when
# the test lets it: 40 steps take less time than Ray needs to notice that a task is lost.
PROGRAM = """
import os, sys, time
import numpy as np
import tensorflow as tf

flags = tf.app.flags
flags.DEFINE_string("job_name", "worker", "")
flags.DEFINE_integer("task_index", 0, "")
flags.DEFINE_string("ps_hosts", "", "")
flags.DEFINE_string("worker_hosts", "", "")
FLAGS = flags.FLAGS
OUT, STEPS, PROTOCOL = "{out}", {steps}, "{protocol}"


def note(name, text):
    with open(os.path.join(OUT, name + ".new"), "w") as file:
        file.write(text)
    os.replace(file.name, os.path.join(OUT, name))


def main(_):
    me = f"{{FLAGS.job_name}}{{FLAGS.task_index}}"
    note(me + ".pid", str(os.getpid()))
    spec = tf.train.ClusterSpec(
        {{"ps": FLAGS.ps_hosts.split(","), "worker": FLAGS.worker_hosts.split(",")}}
    )
    server = tf.train.Server(spec, FLAGS.job_name, FLAGS.task_index, protocol=PROTOCOL)
    if FLAGS.job_name == "ps":
        server.join()
    worker, count = FLAGS.task_index, spec.num_tasks("worker")
    with tf.device(tf.train.replica_device_setter(
        worker_device=f"/job:worker/task:{{worker}}", cluster=spec
    )):
        w = tf.get_variable("w", [3, 1], initializer=tf.zeros_initializer())
        b = tf.get_variable("b", [1], initializer=tf.zeros_initializer())
        step = tf.train.get_or_create_global_step()
        data = np.random.default_rng(worker).normal(size=(STEPS + 1, 8, 3)).astype(np.float32)
        x = tf.gather(tf.constant(data), step)
        loss = tf.reduce_mean(tf.square(tf.matmul(x, w) + b - tf.reduce_sum(x, 1, keepdims=True)))
        optimizer = tf.train.SyncReplicasOptimizer(
            tf.train.MomentumOptimizer(0.05, 0.9), count, count
        )
        train = optimizer.minimize(loss, step)
    hooks = [
        optimizer.make_session_run_hook(worker == 0, num_tokens=0),
        tf.train.StopAtStepHook(last_step=STEPS),
    ]
    with tf.train.MonitoredTrainingSession(
        server.target, worker == 0, OUT + "/saved", hooks=hooks, save_checkpoint_steps=10,
        log_step_count_steps=None,
    ) as session:
        while not session.should_stop():
            now, _ = session.run([step, train])
            note(me + ".step", str(now))
            while now == STEPS - 2 and not os.path.exists(OUT + "/may_end"):
                time.sleep(0.01)
        if worker == 0:
            note("weights", str([v.tolist() for v in session.raw_session.run([w, b])]))


tf.app.run()
"""


def alone(steps: int, workers: int = 2) -> list[Any]:
    """The same training in one process, undisturbed."""
    with tf.Graph().as_default():
        w = tf.get_variable("w", [3, 1], initializer=tf.zeros_initializer())
        b = tf.get_variable("b", [1], initializer=tf.zeros_initializer())
        optimizer = tf.train.MomentumOptimizer(0.05, 0.9)
        fed, pairs = [], []
        for _ in range(workers):
            x = tf.placeholder(tf.float32, [8, 3])
            y = tf.reduce_sum(x, 1, keepdims=True)
            loss = tf.reduce_mean(tf.square(tf.matmul(x, w) + b - y))
            pairs.append(optimizer.compute_gradients(loss, [w, b]))
            fed.append(x)
        means = [(tf.add_n([g for g, _ in same]) / float(workers), same[0][1])
                 for same in zip(*pairs, strict=True)]  # fmt: skip
        train = optimizer.apply_gradients(means)
        data = [np.random.default_rng(i).normal(size=(steps + 1, 8, 3)) for i in range(workers)]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for step in range(steps):
                session.run(train, {x: d[step] for x, d in zip(fed, data, strict=True)})
            return session.run([w, b])


class Job:
    """A job whose tasks a test kills."""

    def __init__(
        self,
        folder: Path,
        steps: int,
        servers: int = 1,
        protocol: str = "grpc",
        restarts: int | None = None,
        heartbeat: float | None = None,
        address: str | None = None,
    ):
        self.folder = folder
        script = folder / "program.py"
        script.write_text(PROGRAM.format(out=folder, steps=steps, protocol=protocol))
        self._pool = ThreadPoolExecutor(1)
        layout = run.Layout(workers=2, servers=servers, cpus=0, restarts=restarts)
        layout = layout._replace(heartbeat=heartbeat, address=address)
        self.status = self._pool.submit(run.main, str(script), [], layout)

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def reach(self, step: int, worker: int = 1) -> None:
        """Wait until a worker has done a step."""
        done = self.status.done
        until(lambda: done() or self.step(worker) >= step, state=lambda: self.step(worker))
        assert not self.status.done(), "the job has ended"

    def step(self, worker: int) -> int:
        """The last one that a worker has done; -1: none."""
        return int(self.read(f"worker{worker}.step") or -1)

    def kill(self, task: str, number: int = signal.SIGKILL) -> int:
        """Send a task a signal; its process."""
        pid = int(self.read(f"{task}.pid"))
        os.kill(pid, number)
        return pid

    def comes_back(self, task: str, pid: int) -> None:
        """Wait until a task that had that process has another one."""
        until(lambda: int(self.read(f"{task}.pid")) != pid)

    def end(self) -> int:
        """Let it come to its end; the status."""
        (self.folder / "may_end").touch()
        status: int = self.status.result(2 * PATIENCE)
        self._pool.shutdown()
        return status


def undisturbed(job: Job, steps: int) -> None:
    """The job has ended with the weights of one process."""
    weights = json.loads(job.read("weights"))
    for got, expected in zip(weights, alone(steps), strict=True):
        np.testing.assert_array_equal(np.float32(got), expected)


@pytest.mark.slow
def test_of_two_servers_both_begin_anew_when_one_is_killed(tmp_path, capfd):
    """What the other one has is of a later step than the checkpoint."""
    job = Job(tmp_path, 60, servers=2)
    job.reach(27)
    before = job.read("ps0.pid")
    job.kill("ps1")
    assert job.end() == 0
    assert job.read("ps0.pid") != before
    told = capfd.readouterr().err
    assert "started again: /job:ps/replica:0/task:0, /job:ps/replica:0/task:1" in told
    undisturbed(job, 60)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "ray"])
def test_killed_servers_and_workers_change_no_bit(tmp_path, capfd, protocol):
    """The server comes back from the checkpoint; of a worker only what it had begun is missing."""
    steps = 120
    job = Job(tmp_path, steps, protocol=protocol)
    for task, step in (("ps0", 13), ("worker1", 35), ("worker0", 60)):
        job.reach(step)
        job.comes_back(task, job.kill(task))
    assert job.end() == 0
    told = capfd.readouterr().err
    for task in ("job:ps/replica:0/task:0", "job:worker/replica:0/task:1", "task:0 was lost"):
        assert task in told
    undisturbed(job, steps)


@pytest.mark.slow
def test_frozen_servers_and_workers_are_ended_and_change_no_bit(tmp_path, capfd):
    """As killed ones, once they have given no sign of life for the heartbeat."""
    job = Job(tmp_path, 60, heartbeat=4.0)
    for task, step in (("ps0", 13), ("worker1", 35)):
        job.reach(step)
        stopped = job.kill(task, signal.SIGSTOP)
        job.comes_back(task, stopped)
        assert ended(stopped)
    assert job.end() == 0
    told = capfd.readouterr().err
    for task in ("ps/replica:0/task:0", "worker/replica:0/task:1"):
        assert f"/job:{task} was lost (it gave no sign of life for 4 s" in told
    undisturbed(job, 60)


# Worker 1 ends when it tells the servers of a run for the {moment}-th time.
BETWEEN = """
import os, sys, time
import tensorflow as tf
from graphflow.distribute import failpoints

OUT = "{out}"
job, task, servers, workers = sys.argv[1:]
spec = tf.train.ClusterSpec({{"ps": servers.split(","), "worker": workers.split(",")}})
server = tf.train.Server(spec, job, int(task))
if job == "ps":
    server.join()
values = []
for i in (0, 1):
    with tf.device(f"/job:ps/task:{{i}}"):
        values.append(tf.Variable(0, name=f"v{{i}}"))
both = tf.group(*[v.assign_add(1) for v in values])


def there(name):
    return os.path.exists(os.path.join(OUT, name))


def note(name, text=""):
    with open(os.path.join(OUT, name), "w") as file:
        file.write(text)


def until(name):
    while not there(name):
        time.sleep(0.01)


with tf.Session(server.target) as session:
    if task == "0":
        session.run(tf.global_variables_initializer())
        note("ready")
        until("seen")
    else:
        until("ready")
        if not there("died"):
            note("died")
            for _ in range(5):
                session.run(both)
            end = failpoints.FAULTS["kill"]
            # After a while, in which what was sent before is carried out.
            failpoints.arm("decided", {moment}, lambda: time.sleep(0.2) or end(0))
            session.run(both)
        before = session.run(values)
        session.run(both)
        note("seen", str([[int(v) for v in each] for each in (before, session.run(values))]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "updates"), [(1, 5), (2, 6)])
def test_a_client_that_is_killed_between_two_servers_leaves_no_half_of_an_update(
    tmp_path, capfd, moment, updates
):
    script = tmp_path / "program.py"
    script.write_text(BETWEEN.format(out=tmp_path, moment=moment))
    layout = run.Layout(workers=2, servers=2, cpus=0)
    hosts = ["{job}", "{task}", "{ps_hosts}", "{worker_hosts}"]
    status, told = run.main(str(script), hosts, layout), capfd.readouterr()
    assert status == 0, told
    assert "/job:worker/replica:0/task:1 was lost" in told.err
    seen = json.loads((tmp_path / "seen").read_text())
    assert seen == [[updates] * 2, [updates + 1] * 2]


@pytest.mark.slow
def test_a_task_that_is_lost_again_and_again_ends_the_job(tmp_path, capfd):
    job = Job(tmp_path, 100_000, restarts=1)
    job.reach(3)
    job.comes_back("worker1", job.kill("worker1"))
    job.kill("worker1")
    assert job.end() == 1
    assert "/job:worker/replica:0/task:1 was lost 2 times" in capfd.readouterr().err
