"""A network in two stages on two devices, fed with micro-batches, in both orders.

    python examples/pipeline.py

What is learned is the same to the last bit, on one device and on two.
"""

import os
from collections.abc import Callable
from itertools import islice

import numpy as np

import graphflow as tf
from graphflow.datasets import batches, mnist

MICROBATCHES = 4


def layer(name: str, units: int, activation: Callable[[tf.Tensor], tf.Tensor]) -> Callable:
    """A stage: x [n, k] -> [n, units]."""

    def stage(x: tf.Tensor) -> tf.Tensor:
        with tf.variable_scope(name):
            w = tf.get_variable("w", [x.shape[1], units])
            b = tf.get_variable("b", [units], initializer=tf.zeros_initializer())
            return activation(tf.matmul(x, w) + b)

    return stage


def mean_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def train(devices: list[str], order: str, steps: int) -> list[float]:
    """The losses of the first steps."""
    (images, labels), _ = mnist.load_data()
    inputs = np.float32(images.reshape(-1, 784) / 255)
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        x = tf.placeholder(tf.float32, [None, 784])
        y = tf.placeholder(tf.int64, [None])
        stages = [layer("hidden", 128, tf.nn.relu), layer("output", 10, tf.identity)]
        optimizer = tf.train.MomentumOptimizer(0.05, momentum=0.9)
        pipeline = tf.distribute.Pipeline(optimizer, stages, MICROBATCHES, devices, order)
        step = pipeline.minimize(x, mean_loss, targets=[y])
        losses = []
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(tf.global_variables_initializer())
            for some, theirs in islice(batches(inputs, labels, size=100, seed=1), steps):
                loss, _ = session.run([pipeline.loss, step], {x: some, y: theirs})
                losses.append(float(loss))
    return losses


def main(steps: int = 50) -> dict[str, list[float]]:
    """Name of a run -> its losses."""
    one, two = ["/cpu:0", "/cpu:0"], ["/cpu:0", "/cpu:1"]
    runs = {"one device": (one, "gpipe"), "GPipe": (two, "gpipe"), "1F1B": (two, "1f1b")}
    found = {name: train(*run, steps) for name, run in runs.items()}
    for name, losses in found.items():
        print(f"{name:10} first loss {losses[0]:.4f}, last loss {losses[-1]:.4f}")
    return found


if __name__ == "__main__":
    os.environ.setdefault("GRAPHFLOW_TIER", "reference")  # native code rounds in its own way
    main()
