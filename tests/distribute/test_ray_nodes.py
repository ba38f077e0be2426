"""A node of a Ray cluster is lost while a session trains on it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import graphflow as tf

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(180)]

PROGRAM = """
    import os, sys, time, warnings
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    warnings.simplefilter("ignore")
    import numpy as np
    from ray.cluster_utils import Cluster
    import graphflow as tf
    from graphflow.distribute.ray_transport import TUNED
    from tests.distribute.evidence import ended
    from tests.distribute.programs import train
    from tests.until import until

    memory = {"object_store_memory": 100 << 20}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": TUNED, **memory}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    others = [nodes.add_node(num_cpus=1, **memory) for _ in range(3)]
    STEPS = 400
    steps, ends, back = iter(range(1, 1000)), [], []
    with tf.Graph().as_default():
        wanted = train(None, STEPS)
    with tf.Cluster(workers=2, address=nodes.address, deadline=60, snapshot_every=5) as cluster:
        name, victim = list(cluster.workers.items())[1]
        def lose(session):
            global start
            now = next(steps)
            if now == 8:
                (node,) = [n for n in others if n.node_id == victim.node]
                (raylet,) = node.all_processes["raylet"]
                start = time.monotonic()
                raylet.process.kill()
                raylet.process.wait()  # else its workers take it for alive, and live on
            if now >= 8:
                ends.append(time.monotonic())
                if not back and cluster.workers[name].node != victim.node:
                    back.append(ends[-1] - start)
                if not back:
                    time.sleep(0.02)  # its worker lives a little longer
                if now == STEPS - 2:  # on a busy machine much longer
                    until(lambda: ended(victim.pid))
        scopes = ("/job:worker/task:0", "/job:worker/task:1")
        with tf.Graph().as_default():
            found = train(cluster, STEPS, scopes=scopes, on_step=lose)
    nodes.shutdown()
    same = all(np.array_equal(a, b) for x, y in zip(found, wanted) for a, b in zip(x, y))
    print("same", same)
    print("longest", max(b - a for a, b in zip(ends, ends[1:])), "s")
    print("back after", *back, "s")
    """


def test_a_raylet_is_killed(tmp_path):
    root = Path(tf.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True,
        timeout=150, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False,
    )  # fmt: skip
    assert "same True" in done.stdout, done.stdout + done.stderr
    # From the kill to the end of the first step with a worker on another machine: that Ray and the
    # worker itself notice, the start of the other one, the state of the last cut, the steps since.
    # Here 2 s; the deadline has not passed.
    assert float(done.stdout.split("back after ")[1].split()[0]) < 60


JOB = """
    import os, signal, sys, time, warnings
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    warnings.simplefilter("ignore")
    from pathlib import Path
    from ray.cluster_utils import Cluster
    from graphflow.distribute.ray_transport import TUNED
    from tests.distribute.test_ray_servers_lost import Job, undisturbed

    memory = {"object_store_memory": 100 << 20}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": TUNED, **memory}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        nodes.add_node(num_cpus=1, **memory)
    STEPS = 400  # more than are done before Ray notices: who lives on is in the midst of them
    job = Job(Path(sys.argv[1]), STEPS, address=nodes.address)
    job.reach(20)
    server = int(job.read("ps0.pid"))
    raylet = int(Path(f"/proc/{server}/stat").read_text().rsplit(")", 1)[1].split()[1])
    start = time.monotonic()
    os.kill(raylet, signal.SIGKILL)
    job.comes_back("ps0", server)
    print("back after", time.monotonic() - start, "s")
    assert job.end() == 0
    undisturbed(job, STEPS)
    print("same True")
    nodes.shutdown()
    """


def test_the_raylet_of_a_server_is_killed(tmp_path):
    """With it the workers on that machine, if there are some: all begin again on the other one.

    Nobody asks for the end of that raylet: so its processes take it for alive, and live on beside
    those in their place, as on a machine that Ray does not reach any more.
    """
    root = Path(tf.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(JOB), str(tmp_path)], capture_output=True,
        text=True, timeout=150, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False,
    )  # fmt: skip
    assert "same True" in done.stdout, done.stdout + done.stderr
