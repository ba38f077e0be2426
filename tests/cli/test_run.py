"""`graphflow run --workers` and `graphflow submit`: the command lines of tasks, and real jobs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.cli import main, run, submit
from graphflow.compat import standin
from graphflow.distribute.cluster import _ray

EXAMPLES = Path(__file__).parents[2] / "examples"
HOSTS = {"ps": ["p0:1"], "worker": ["w0:1", "w1:1"]}


def test_flags_are_given_that_the_program_has():
    text = 'DEFINE_string("job_name"); DEFINE_integer("task_index"); DEFINE_string("ps_hosts")'
    assert run.command_line(text, ["--lr", "1"], HOSTS, "worker", 1) == [
        "--lr", "1", "--job_name=worker", "--task_index=1", "--ps_hosts=p0:1",
    ]  # fmt: skip
    given = ["--job_name={job}", "-task_index", "7", "--where={worker_hosts}/{task}"]
    assert run.command_line(text, given, HOSTS, "ps", 0) == [
        "--job_name=ps", "-task_index", "7", "--where=w0:1,w1:1/0", "--ps_hosts=p0:1",
    ]  # fmt: skip
    assert run.command_line("import tensorflow", [], HOSTS, "ps", 0) == []


def test_a_job_runs_the_same_command_on_the_cluster():
    layout = run.Layout(workers=4, servers=2, address="http://head:8265", cpus=2, gpus=1)
    words = shlex.split(submit.entrypoint("train.py", ["--name", "a b"], layout))
    assert words == [
        "python", "-m", "graphflow.cli", "run", "--address", "auto", "--workers", "4", "--ps", "2",
        "--cpus-per-worker", "2", "--gpus-per-worker", "1", "train.py", "--name", "a b",
    ]  # fmt: skip
    layout = layout._replace(restarts=0, heartbeat=9.5, record="/log", tls=True)
    words = shlex.split(submit.entrypoint("train.py", [], layout))
    assert words[14:] == [
        "--restarts", "0", "--heartbeat", "9.5", "--record-decisions", "/log", "--tls", "train.py",
    ]  # fmt: skip


def test_workers_have_the_heartbeat_as_their_deadline(monkeypatch, tmp_path):
    told: list[Any] = []

    def cluster(workers: int, deadline: float, **_: Any) -> Any:
        told.append(deadline)
        raise errors.UnavailableError(None, None, "there is none")

    monkeypatch.setattr("graphflow.distribute.Cluster", cluster)
    (tmp_path / "train.py").write_text("import tensorflow")
    for given in ([], ["--heartbeat", "7.5"]):
        assert main(["run", "--workers", "1", *given, str(tmp_path / "train.py")]) == 1
    assert told == [30.0, 7.5]


@pytest.mark.parametrize("text", ["0", "-1", "soon"])
def test_a_heartbeat_is_a_positive_number(text, capsys):
    with pytest.raises(SystemExit):
        main(["run", "--workers", "1", "--heartbeat", text, "train.py"])
    assert f"{text!r} is no positive number of seconds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--workers", "0"], "'0' is no whole number from 1 on"),
        (["--workers", "1", "--ps", "-1"], "'-1' is no whole number from 0 on"),
        (["--workers", "1", "--restarts", "often"], "'often' is no whole number from 0 on"),
        (["--workers", "1", "--cpus-per-worker", "nan"], "'nan' is no number from 0 on"),
        (["--ps", "2"], "--ps is about workers: say how many"),
        (["--cpus-per-worker", "2"], "--cpus-per-worker is about workers"),
        (["--tls"], "--tls is about workers"),
        (["--record-decisions", "there"], "--record-decisions is about workers"),
    ],
)
def test_so_many_workers_as_cannot_be_are_refused(options, told, capsys):
    """Rather than that nothing runs, or not there."""
    with pytest.raises(SystemExit):
        main(["run", *options, "train.py"])
    assert told in capsys.readouterr().err


def test_a_script_that_is_not_there_is_named(capsys):
    for command in (["run", "nowhere.py"], ["submit", "--workers", "1", "nowhere.py"]):
        assert main(command) == 2
        assert "there is no file nowhere.py" in capsys.readouterr().err


@pytest.fixture
def program(monkeypatch: Any) -> Iterator[None]:
    """What running a program leaves in this process is undone."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    standin.uninstall()


def test_a_task_that_fails_prints_its_traceback(program, tmp_path, capsys):
    script = tmp_path / "task.py"
    script.write_text("import tensorflow as tf\ntf.matmul(tf.zeros([2, 3]), tf.zeros([4, 2]))\n")
    assert run.in_task(str(script), []) == 1
    told = capsys.readouterr().err
    assert "ShapeError: inner sizes differ: 3 and 4" in told
    assert "task.py:2: tf.matmul(" in told


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """The Ray that other tests have started, or one of our own with two GPUs that do not exist."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Ray itself does at its start
        found = _ray()
        found.connect(None, cpus=8, gpus=2, object_store_memory=150 << 20)
    yield
    found.disconnect()


# The example in each task; what it prints goes to a file, with what Ray gave the task.
TASK = """
import builtins, json, os, runpy, sys
# job_name task_index ps_hosts worker_hosts
def told(*words):
    config = json.loads(os.environ["TF_CONFIG"])["task"]
    name = "{out}/%(type)s%(index)d" % config
    with open(name, "w") as file:
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        json.dump([*words, gpus, os.getpid()], file)
builtins.print = told
runpy.run_path("{example}", run_name="__main__")
"""


@pytest.mark.ray
def test_a_tensorflow1_program_of_three_tasks_runs_as_one_job(ray, tmp_path):
    """To the bits of one process; and each worker has a GPU of its own."""
    script = tmp_path / "task.py"
    example = EXAMPLES / "tensorflow1" / "replicas.py"
    script.write_text(TASK.replace("{out}", str(tmp_path)).replace("{example}", str(example)))
    steps = 12
    layout = run.Layout(workers=2, servers=1, gpus=1)
    assert run.main(str(script), [f"--steps={steps}"], layout) == 0
    told = [json.loads((tmp_path / f"worker{i}").read_text()) for i in range(2)]
    assert {each[-2] for each in told} == {"0", "1"}
    assert len({each[-1] for each in told}) == 2
    weights = np.float32(told[0][-3])
    np.testing.assert_array_equal(weights, alone(steps))


def alone(steps: int) -> Any:
    """The weights that the last of so many steps begins with, in one process."""
    import runpy

    standin.install()
    try:
        batch = runpy.run_path(str(EXAMPLES / "tensorflow1" / "replicas.py"))["batch"]
    finally:
        standin.uninstall()
    with tf.Graph().as_default():
        w = tf.get_variable("w", [3, 1], initializer=tf.zeros_initializer())
        optimizer = tf.train.MomentumOptimizer(0.02, 0.9)
        fed, grads = [], []
        for _ in range(2):
            x, y = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [None, 1])
            loss = tf.reduce_mean(tf.square(tf.matmul(x, w) - y))
            grads.append(optimizer.compute_gradients(loss)[0][0])
            fed.append((x, y))
        train = optimizer.apply_gradients([(tf.add_n(grads) / 2.0, w)])
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for step in range(steps - 1):
                feeds: dict[Any, Any] = {}
                for worker, pair in enumerate(fed):
                    feeds |= dict(zip(pair, batch(worker, step), strict=True))
                session.run(train, feeds)
            return session.run(w).ravel()


@pytest.mark.ray
def test_a_program_that_knows_no_tasks_computes_on_workers(ray, program, tmp_path, capsys):
    script = tmp_path / "plain.py"
    script.write_text(
        "import tensorflow as tf\n"
        "with tf.Session() as session:\n"
        "    print(len(session.list_devices()), session.run(tf.constant(2) * 3))\n"
    )
    assert main(["run", "--workers", "2", str(script)]) == 0
    assert capsys.readouterr().out == "2 6\n"


@pytest.mark.ray
def test_towers_on_two_workers_have_the_bits_of_one_process(ray, program, capsys):
    """In-graph replication, as the example has it."""
    script = str(EXAMPLES / "tensorflow1" / "towers.py")
    told = []
    for where in ([], ["--workers", "2"]):
        with tf.Graph().as_default():
            assert main(["run", *where, script, "--steps", "30"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert float(told[0].split()[1].rstrip(",")) < 0.5


@pytest.mark.ray
def test_a_step_on_workers_is_traced(ray, program, tmp_path, capsys):
    """Which worker computes, hands over and waits, and when."""
    script, saved = tmp_path / "stages.py", tmp_path / "trace.json"
    script.write_text(
        "import tensorflow as tf\n"
        "with tf.device('/job:worker/task:0'):\n"
        "    x = tf.matmul(tf.random_normal([99, 99], seed=1), tf.ones([99, 99]))\n"
        "with tf.device('/job:worker/task:1'):\n"
        "    y = tf.reduce_sum(tf.matmul(x, x))\n"
        "with tf.Session() as session:\n"
        "    for _ in range(5):\n"
        "        session.run(y)\n"
    )
    assert main(["trace", "--workers", "2", "--save", str(saved), str(script)]) == 0
    told = capsys.readouterr().out
    for word in ("task:0", "task:1", "compute", "transfer", "wait", "run 5 times"):
        assert word in told
    events = json.loads(saved.read_text())["traceEvents"]
    does = {(e["pid"], e["cat"]) for e in events if e["ph"] == "X"}
    assert {(0, "compute"), (0, "transfer"), (1, "wait"), (1, "compute")} <= does


SERVED = """
import sys
import tensorflow as tf
# job_name task_index ps_hosts worker_hosts
given = dict(a.lstrip("-").split("=") for a in sys.argv[1:])
spec = tf.train.ClusterSpec({"ps": [given["ps_hosts"]], "worker": [given["worker_hosts"]]})
server = tf.train.Server(spec, given["job_name"], int(given["task_index"]))
if given["job_name"] == "ps":
    server.join()
with tf.device("/job:ps/task:0"):
    w = tf.get_variable("w", [99, 99])
with tf.device("/job:worker/task:0"):
    y = tf.matmul(tf.matmul(w, w), w)
with tf.device("/job:ps/task:0"):
    train = w.assign_add(1e-9 * y)
with tf.Session(server.target) as session:
    session.run(w.initializer)
    for _ in range(9):
        session.run(train)
"""


@pytest.mark.ray
def test_the_steps_of_tasks_are_traced(ray, tmp_path, capsys):
    """By the tasks themselves; a parameter server is seen by the sessions of workers."""
    script, saved = tmp_path / "served.py", tmp_path / "trace.json"
    script.write_text(SERVED)
    asked = ["--workers", "1", "--ps", "1", "--save", str(saved), str(script)]
    assert main(["trace", *asked]) == 0
    told = capsys.readouterr().out
    assert "/job:worker/replica:0/task:0: a step of" in told
    assert "run 9 times" in told
    events = json.loads(saved.read_text())["traceEvents"]
    rows = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert rows == ["/job:ps/replica:0/task:0", "/job:worker/replica:0/task:0"]
    does = {(e["pid"], e["cat"]) for e in events if e["ph"] == "X"}
    assert does >= {(i, what) for i in (0, 1) for what in ("compute", "transfer", "wait")}


@pytest.mark.ray
def test_a_task_that_fails_ends_the_job(ray, tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(
        "import sys, time\n"
        "# job_name task_index\n"
        "if '--task_index=1' in sys.argv: sys.exit(3)\n"
        "time.sleep(60)\n"
    )
    assert run.main(str(script), [], run.Layout(workers=2, servers=0)) == 3


@pytest.mark.ray
def test_where_there_is_nothing_to_replay_nothing_is_run(ray, tmp_path, capsys):
    """A server that was started again would do without the log."""
    script = tmp_path / "waits.py"
    script.write_text("import time\ntime.sleep(60)\n")
    layout = run.Layout(workers=1, servers=1, replay=str(tmp_path / "none"))
    assert run.main(str(script), [], layout) == 1
    assert "ps/replica:0/task:0 cannot start" in (told := capsys.readouterr().err)
    assert "there are no decisions to replay in" in told


HEAD = """
import os, sys
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
from ray.cluster_utils import Cluster
head = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 4, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": 0,
    "node_ip_address": "127.0.0.1", "object_store_memory": 150 << 20,
    "dashboard_agent_listen_port": 0,  # another Ray of this machine may have the usual one
})
print(f"http://{head.head_node.webui_url}", flush=True)
sys.stdin.read()
head.shutdown()
"""


@pytest.mark.ray
def test_servers_that_were_started_by_hand_meet_through_ray(ray, monkeypatch):
    """As processes would whose RAY_ADDRESS is set: each has an actor beside it."""
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    spec = {"ps": ["by-hand-0:1"], "worker": ["by-hand-1:1"]}
    servers = [tf.train.Server(spec, job, 0) for job in spec]
    try:
        with tf.Graph().as_default(), pytest.raises(tf.errors.AlreadyExistsError, match="task:0"):
            tf.train.Server(spec, "ps", 0)
        with tf.Graph().as_default():
            with tf.device("/job:ps/task:0"):
                v = tf.Variable(2.0, name="by_hand")
            y = v * 3.0
            for _ in range(2):  # the second session finds what the first has made
                with tf.Session(servers[1].target) as session:
                    if not session.run(tf.is_variable_initialized(v)):
                        session.run(v.initializer)
                    assert session.run(y) == 6.0
                    session.run(v.assign(2.0))
    finally:
        for server in servers:
            server.stop()


@pytest.mark.slow
@pytest.mark.ray
def test_what_each_task_prints_is_printed(tmp_path):
    """Though others print the same; in a process that has not imported Ray before."""
    script = tmp_path / "says.py"
    script.write_text("import sys\n# job_name task_index\nprint('done', 1 + 1)\n")
    command = [sys.executable, "-m", "graphflow", "run", "--workers", "3", "--ps", "0", str(script)]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_DEDUP_LOGS"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=True
    )
    assert len(re.findall(r"task:\d.*\bdone 2$", done.stdout, re.M)) == 3, done.stdout


@pytest.mark.slow
@pytest.mark.ray
def test_a_job_is_submitted_with_a_token_and_refused_with_another():
    """A Ray of its own, with a dashboard that wants a token.  Needs the extra `jobs`."""
    pytest.importorskip("aiohttp_cors", reason="the extra `jobs` is not installed")
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 3}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HEAD], env=environment, text=True, stdin=pipe, stdout=pipe,
        stderr=subprocess.DEVNULL,
    ) as head:  # fmt: skip
        try:
            address = head.stdout.readline().strip()
            script = str(EXAMPLES / "tensorflow1" / "replicas.py")
            command = [sys.executable, "-m", "graphflow.cli", "submit", "--workers", "2", "--ps"]
            command += ["1", "--address", address, script, "--steps", "5"]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=200, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "worker 0 after 5 steps" in done.stdout
            environment["RAY_AUTH_TOKEN"] = "another" * 7
            refused = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=200, check=False
            )
            assert refused.returncode == 1
            assert "graphflow submit: Authentication failed" in refused.stderr
        finally:
            head.stdin.close()


def test_python_dash_m_graphflow_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "graphflow", "run", "--help"], capture_output=True, text=True,
        timeout=200, check=True,
    )  # fmt: skip
    told = " ".join(done.stdout.split())
    for flag, text in (
        ("--cpus-per-worker", "CPUs of each; 1"),
        ("--gpus-per-worker", "GPUs of each; 0"),
        ("--record-decisions", "log the order"),
        ("--restarts", "started again; 3"),
        ("--heartbeat", "of silence after which a task is started again; 20"),
        ("--tls", "encrypt values between machines"),
    ):
        assert flag in told
        assert text in told
