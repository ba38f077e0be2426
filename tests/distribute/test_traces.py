"""The trace of a step on several workers, and what is told of it before."""

from __future__ import annotations

import json

import pytest

import graphflow as tf
from graphflow.execute.trace import chrome_trace, shares

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"


def is_chrome_trace(events):
    """What chrome://tracing and Perfetto read (Trace Event Format, Google, 2016): complete events
    with times in us, metadata, and flows that begin before they end."""
    flows = {}
    for event in events:
        assert event["ph"] in "XMsf"
        assert isinstance(event["pid"], int)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)
            continue
        assert isinstance(event["tid"], int)
        assert isinstance(event["ts"], (int, float))
        assert event["cat"]
        if event["ph"] == "X":
            assert event["name"]
            assert event["dur"] >= 0
        else:
            flows.setdefault(event["id"], {})[event["ph"]] = event
    for ends in flows.values():
        assert set(ends) == {"s", "f"}
        assert ends["f"]["bp"] == "e"  # ends in the bar that is there, not in the next one


def test_what_workers_send_each_other_is_explained(cluster, graph):
    with tf.device(T0):
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        y = tf.tanh(tf.zeros([64, 64]), name="y") + tf.reduce_sum(x)
    with tf.device(T1):
        z = tf.reduce_sum(tf.matmul(y, y)) + tf.reduce_sum(x * 2.0)
        ready = tf.placeholder(tf.float32, [], name="ready")
    with tf.Session(cluster=cluster) as session:
        text = str(session.explain(z, {x: [[1.0, 2.0, 3.0]]}))
        with pytest.raises(tf.errors.InvalidArgumentError, match="feed") as caught:
            session.explain(ready + z)
    worker = "/job:worker/replica:0/task"
    assert f"on {worker}:0/device:CPU:0" in text
    assert f"on {worker}:1/device:CPU:0" in text
    _, sent = text.split("sent between workers:")
    assert f"{worker}:0 -> {worker}:1: " in sent
    assert "float32 (64, 64), 16384 bytes" in sent
    notes = "".join(caught.value.__notes__)
    assert "run at" in notes
    assert "session.explain(ready + z)" in notes


def test_a_distributed_step_shows_compute_transfer_and_wait_per_worker(cluster, graph):
    with tf.device(T0):
        x = tf.random_normal([64, 64], seed=1)
        y = tf.matmul(x, x)
    with tf.device(T1):
        z = tf.reduce_sum(tf.matmul(y, y))
    told = tf.RunMetadata()
    with tf.Session(cluster=cluster) as session:
        session.run(z, None, tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), told)
    first, second = sorted({span.device for span in told.step_stats})
    spent = shares(told.step_stats)
    assert spent[first].compute > 0
    assert spent[first].transfer > 0
    assert spent[second].wait > 0
    assert spent[second].compute > 0
    spans = {span.op: span for span in told.step_stats}
    assert min(span.start for span in told.step_stats) == 0
    # One clock: what is sent has been computed, and what is received has been sent.
    sent, got = spans["Send"], spans["Recv"]
    assert sent.start <= got.start + got.seconds
    events = json.loads(chrome_trace(told.step_stats))["traceEvents"]
    is_chrome_trace(events)
    assert len({e["pid"] for e in events if e["ph"] == "X"}) == 2
    assert [e["ph"] for e in events if e["name"] == "value"] == ["s", "f"]
