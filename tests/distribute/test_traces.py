"""The trace of a step on several workers."""

from __future__ import annotations

import json

import graphflow as tf
from graphflow.execute.trace import chrome_trace, shares

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"


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
    assert len({e["pid"] for e in events if e["ph"] == "X"}) == 2
    assert [e["ph"] for e in events if e["name"] == "value"] == ["s", "f"]
