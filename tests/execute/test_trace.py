"""Traces: what a device did, on one clock for all workers; and what it does right now."""

from __future__ import annotations

import json
import threading

import graphflow as tf
from graphflow.execute.trace import Share, Span, Trace, aligned, chrome_trace, kind_of, shares
from graphflow.execute.whereabouts import whereabouts

A, B = "/job:worker/replica:0/task:0/device:CPU:0", "/job:worker/replica:0/task:1/device:CPU:0"
SPANS = [
    Span("x", "MatMul", A, 100.0, 2.0),
    Span("x/_send_0_B", "Send", A, 102.0, 0.5),
    Span("x/_recv_0_B", "Recv", B, 100.5, 2.0),
    Span("y", "Add", B, 102.5, 1.5),
]


def test_spans_of_several_workers_begin_with_the_first():
    assert [s.start for s in aligned(SPANS)] == [0.0, 2.0, 0.5, 2.5]
    assert aligned([]) == []


def test_dated_spans_are_of_the_wall_clock():
    trace = Trace()
    trace.spans.append(Span("x", "Add", A, 0.25, 0.1))
    import time

    assert abs(trace.dated()[0].start - time.time() - 0.25) < 5


def test_a_device_computes_hands_over_waits_or_idles():
    assert [kind_of(s) for s in SPANS] == ["compute", "transfer", "wait", "compute"]
    assert shares(SPANS) == {A: Share(2.0, 0.5, 0.0, 1.5), B: Share(1.5, 0.0, 2.0, 0.5)}
    assert shares([]) == {}


def test_chrome_trace_has_a_process_per_worker_and_arrows_from_sender_to_receiver():
    events = json.loads(chrome_trace(aligned(SPANS)))["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert sorted(names.values()) == [A.partition("/device")[0], B.partition("/device")[0]]
    bars = {e["args"]["name"]: e for e in events if e["ph"] == "X"}
    assert bars["x"]["cat"] == "compute"
    assert bars["x/_recv_0_B"]["cat"] == "wait"
    assert bars["y"]["ts"] == 2.5e6
    start, end = (next(e for e in events if e["ph"] == ph) for ph in "sf")
    assert (start["pid"], start["ts"]) == (bars["x"]["pid"], 2.5e6)
    assert (end["pid"], end["ts"]) == (bars["y"]["pid"], 2.5e6)
    assert start["id"] == end["id"]


def test_whereabouts_name_the_step_and_the_users_line():
    inside, go = threading.Event(), threading.Event()

    def slow(x: object) -> object:
        inside.set()
        go.wait(20)
        return x

    with tf.Graph().as_default():
        with tf.device("/cpu:1"):
            y = tf.py_func(slow, [tf.constant(1.0)], tf.float32, name="slow")
        z = tf.add(y, 1.0, name="after")
        config = tf.ConfigProto(device_count={"CPU": 2})
        with tf.Session(config=config) as session:
            thread = threading.Thread(target=session.run, args=(z,))
            thread.start()
            assert inside.wait(20)
            steps = {doing.op: doing for doing in whereabouts().steps}
            go.set()
            thread.join(20)
    assert steps["PyFunc"].device.endswith("CPU:1")
    assert "tf.py_func(slow" in steps["PyFunc"].where
    assert "is in PyFunc 'slow', built at" in str(steps["PyFunc"])
    assert whereabouts().steps == ()
