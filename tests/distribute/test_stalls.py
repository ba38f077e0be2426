"""What is told of runs that wait for long."""

from __future__ import annotations

import logging
import threading

import pytest

import graphflow as tf
from graphflow.distribute.stalls import Stalls, report_of
from graphflow.execute.whereabouts import Doing, Whereabouts
from tests.distribute.in_process import InProcess
from tests.distribute.programs import impatient
from tests.until import PATIENCE

W0, W1 = (f"/job:worker/replica:0/task:{i}" for i in range(2))
STEP = Doing(f"{W1}/device:CPU:0", "y", "MatMul", "model.py:12: y = tf.matmul(a, b)")


def test_a_report_names_worker_operation_and_line():
    assert report_of(3, 12.4, {W0: Whereabouts(()), W1: Whereabouts((STEP,))}).splitlines() == [
        "run 3 has waited for 12 s:",
        f"  {W0} executes no step",
        f"  {W1}/device:CPU:0 is in MatMul 'y', built at model.py:12: y = tf.matmul(a, b)",
    ]
    assert f"{W0} has not told" in report_of(3, 1, {W0: None})
    assert report_of(3, 1, {}, "it rests") == "run 3 has waited for 1 s: it rests"


def test_reports_come_again_and_again_until_the_run_ends(caplog):
    stalls = Stalls(5.0)
    stalls.told(W1, Whereabouts((STEP,)))
    with caplog.at_level(logging.WARNING, "graphflow"):
        found = [stalls.look(1, [W1], "", float(t)) for t in range(16)]
    assert [t for t, report in enumerate(found) if report] == [5, 10, 15]
    assert len(caplog.records) == 3
    assert "model.py:12" in (stalls.ended(1) or "")
    assert stalls.ended(1) is None
    assert stalls.look(2, [W1], "", 100.0) is None  # another run has its own time


def test_a_run_that_expires_tells_where_it_was_stuck():
    inside, go = threading.Event(), threading.Event()

    def slow() -> float:
        inside.set()
        go.wait(PATIENCE)
        return 1.0

    with (
        tf.Graph().as_default(),
        InProcess(2) as cluster,
        tf.Session(cluster=cluster) as session,
    ):
        with tf.device("/job:worker/task:1"):
            y = tf.random_normal([], name="y") + 1.0
        # Workers of this process pickle what they get: the function is put in afterwards.
        session.run(y)
        impatient(session, 1.0)
        host = cluster.host(1)
        for loaded in host._loaded.values():
            for program in loaded.programs:
                program._calls = [
                    c._replace(function=lambda *a, f=c.function: (slow(), f(*a))[1])
                    for c in program._calls
                ]
        with pytest.raises(tf.errors.DeadlineExceededError) as caught:
            session.run(y, options=tf.RunOptions(timeout_in_ms=1500))
        go.set()
    notes = "\n".join(caught.value.__notes__)
    assert "has waited for" in notes
    assert "task:1/device:CPU:0 is in" in notes
    assert "tf.random_normal" in notes
