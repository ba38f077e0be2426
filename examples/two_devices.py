"""One step on two devices of this process: what graphflow places where, why, and what happened.

    python examples/two_devices.py [trace.json]

The trace can be looked at in https://ui.perfetto.dev or chrome://tracing.
"""

import sys
from pathlib import Path

import numpy as np

import graphflow as tf
from graphflow.execute.trace import chrome_trace
from graphflow.place import Placement


def build() -> tuple[tf.Tensor, tf.Tensor]:
    """Two halves of a batch [512, 512] go through the same two layers; no device is asked for."""
    tf.set_random_seed(1)
    x = tf.placeholder(tf.float32, [512, 512], name="x")
    halves = []
    for i, half in enumerate(tf.split(x, 2)):
        with tf.variable_scope("net", reuse=i > 0):
            w1 = tf.get_variable("w1", [512, 512])
            w2 = tf.get_variable("w2", [512, 512])
            y = tf.tanh(tf.matmul(tf.tanh(tf.matmul(half, w1)), w2))
        halves.append(tf.reduce_mean(y))
    return x, tf.add_n(halves) / 2.0


def main(trace: str | None = None) -> tuple[float, Placement]:
    """The result of one step, and its placement."""
    x, y = build()
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
        session.run(tf.global_variables_initializer())
        placement = session.placement(y, {x: None})
        print(placement.explain())
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        told = tf.RunMetadata()
        value = session.run(y, {x: np.ones([512, 512])}, options, told)
    if trace:
        Path(trace).write_text(chrome_trace(told.step_stats))
    return float(value), placement


if __name__ == "__main__":
    main(*sys.argv[1:2])
