"""What the report of a failed test tells of its cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import graphflow as tf
from graphflow.distribute import failpoints
from tests.distribute import evidence
from tests.until import PATIENCE, asleep, until


def test_it_names_those_who_are_lost_and_waited_for_and_what_nobody_came_to(cluster, graph):
    with tf.device("/job:worker/task:1"):
        queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
        value, put = queue.dequeue(), queue.enqueue(3.0)
    failpoints.arm("copy", 1, lambda: None)
    with tf.Session(cluster=cluster) as session, ThreadPoolExecutor(1) as pool:
        session.run(put)
        session.run(value)
        running = pool.submit(session.run, value)
        until(lambda: asleep(session._target.conductor._bell))
        cluster.frozen.add(cluster.names[0])
        told = evidence.standing(cluster)
        cluster.frozen.clear()
        session.run(put)
        assert running.result(PATIENCE) == 3.0
    for part in ("armed here: 'copy'", "frozen: ['/job:worker/replica:0/task:0']", "run 3 waits"):
        assert part in told
    assert "answers to come {'/job:worker/replica:0/task:1'}" in told
    assert "_wait < conductor.py" in told


def test_it_tells_running_and_ended_processes_apart():
    assert evidence.process(os.getpid()) == f"{os.getpid()} R"
    assert not evidence.ended(os.getpid())
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    until(lambda: evidence.ended(child.pid))
    assert evidence.process(child.pid) == f"{child.pid} Z"
    child.wait()
    assert evidence.process(child.pid) == f"{child.pid} is gone"
    assert evidence.ended(child.pid)
