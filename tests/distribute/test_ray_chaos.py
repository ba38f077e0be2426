"""Ray workers that are killed or stopped: typed errors in time, never a hang."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

import graphflow as tf
from graphflow.base import errors
from tests.distribute.programs import impatient
from tests.until import PATIENCE, until

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"


@pytest.fixture
def mortal(ray_is_up):
    with tf.Cluster(workers=2, recover=False, deadline=60, start_deadline=200) as cluster:
        yield cluster
        for worker in cluster.workers.values():  # what a test has stopped
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGCONT)


@pytest.fixture
def waiting(graph):
    """A variable on worker 0, and an update of it that waits for input on worker 1."""
    with tf.device(T0):
        a = tf.Variable(1.0, name="a")
    with tf.device(T1):
        queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
        value = queue.dequeue()
    with tf.device(T0):
        take = a.assign_add(value)
    return a, take


def pid(cluster, task):
    return list(cluster.workers.values())[task].pid


def submitted(pool, session, fetch):
    """A run that both workers have by now."""
    before = steps(session)
    running = pool.submit(session.run, fetch)
    until(lambda: all(now > then for now, then in zip(steps(session), before, strict=True)))
    return running


def steps(session):
    return [counts.get("steps", 0) for counts in session._target.statistics().values()]


def signalled(cluster, task, number, session, fetch):
    """Run, while a worker gets a signal; the error and the seconds from the signal to it."""
    with ThreadPoolExecutor(1) as pool:
        running = submitted(pool, session, fetch)
        assert not running.done()
        start = time.monotonic()
        os.kill(pid(cluster, task), number)
        error = running.exception(timeout=PATIENCE)
    return error, time.monotonic() - start


def test_kill_9_wakes_the_peer_and_names_worker_and_run(mortal, waiting):
    a, take = waiting
    with tf.Session(cluster=mortal) as session:
        session.run(a.initializer)
        error, seconds = signalled(mortal, 1, signal.SIGKILL, session, take)
        assert isinstance(error, errors.UnavailableError)
        assert "task:1 was lost in run 2" in str(error)
        assert "variables that it held are lost" in str(error)
        assert seconds < mortal.deadline / 2
        start = time.monotonic()
        with pytest.raises(errors.UnavailableError, match="task:1 was lost in run 2"):
            session.run(a)
        assert time.monotonic() - start < mortal.deadline / 2
    with pytest.raises(errors.UnavailableError, match="task:1"):
        tf.Session(cluster=mortal)


def test_a_stopped_worker_is_a_deadline(mortal, waiting):
    a, take = waiting
    session = tf.Session(cluster=mortal)
    session.run(a.initializer)
    impatient(session, 3.0)
    error, seconds = signalled(mortal, 1, signal.SIGSTOP, session, take)
    assert isinstance(error, errors.DeadlineExceededError)
    assert "task:1 was lost in run 2: it gave no sign of life for 3 s" in str(error)
    assert seconds > 1.5
    with pytest.raises(errors.DeadlineExceededError):
        session.run(a)
    session.close()


def test_closing_the_cluster_wakes_a_run_and_returns_though_a_worker_is_stopped(mortal, waiting):
    a, take = waiting
    session = tf.Session(cluster=mortal)
    session.run(a.initializer)
    with ThreadPoolExecutor(1) as pool:
        running = submitted(pool, session, take)
        os.kill(pid(mortal, 0), signal.SIGSTOP)
        closing = threading.Thread(target=mortal.close)
        closing.start()
        closing.join(PATIENCE)
        assert not closing.is_alive()
        assert isinstance(running.exception(timeout=PATIENCE), errors.OpError)


def test_killed_between_runs(mortal, waiting):
    a, _ = waiting
    with tf.Session(cluster=mortal) as session:
        session.run(a.initializer)
        os.kill(pid(mortal, 0), signal.SIGKILL)
        with pytest.raises(errors.UnavailableError, match="task:0 was lost"):
            session.run(a)
