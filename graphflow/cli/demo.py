"""`graphflow demo`: the same program on this process and on Ray workers, with the same bits.

The program is plain TensorFlow 1: two replicas of a network, each on its own device, whose
gradients are averaged.  Where there is one device, both run there.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import graphflow as tf
from graphflow.datasets import mnist
from graphflow.datasets.minibatch import batches

REPLICAS = 2
BATCH = 100
HIDDEN = 128
RATE, MOMENTUM = 0.05, 0.9
WANTED = 0.93


class Model(NamedTuple):
    """What training needs of the graph."""

    images: tf.Tensor
    labels: tf.Tensor
    loss: tf.Tensor
    accuracy: tf.Tensor
    train: tf.Operation
    init: tf.Operation


class Result(NamedTuple):
    """What a training run shows."""

    accuracy: float
    losses: list[float]
    step_ms: float
    placement: dict[str, Counter[str]]


def build() -> Model:
    """The graph: images [n, 784] -> ten classes."""
    tf.set_random_seed(1)
    images = tf.placeholder(tf.float32, [None, 784], name="images")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    optimizer = tf.train.MomentumOptimizer(RATE, MOMENTUM)
    parts = zip(tf.split(images, REPLICAS), tf.split(labels, REPLICAS), strict=True)
    losses, grads = [], []
    for i, (x, y) in enumerate(parts):
        with tf.device(f"/job:worker/task:{i}"), tf.variable_scope("net", reuse=i > 0):
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=network(x))
            )
            losses.append(loss)
            grads.append(optimizer.compute_gradients(loss))
    averaged = [
        (tf.add_n([g for g, _ in same]) / float(REPLICAS), same[0][1])
        for same in zip(*grads, strict=True)
    ]
    with tf.variable_scope("net", reuse=True):
        right = tf.equal(tf.argmax(network(images), 1, output_type=tf.int32), labels)
    return Model(
        images,
        labels,
        tf.add_n(losses) / float(REPLICAS),
        tf.reduce_mean(tf.cast(right, tf.float32)),
        optimizer.apply_gradients(averaged),
        tf.global_variables_initializer(),
    )


def network(x: tf.Tensor) -> tf.Tensor:
    """x [n, 784] -> logits [n, 10]."""
    w1 = tf.get_variable("w1", [784, HIDDEN])
    b1 = tf.get_variable("b1", [HIDDEN], initializer=tf.zeros_initializer())
    w2 = tf.get_variable("w2", [HIDDEN, 10])
    b2 = tf.get_variable("b2", [10], initializer=tf.zeros_initializer())
    return tf.matmul(tf.nn.relu(tf.matmul(x, w1) + b1), w2) + b2


def train(session: Any, model: Model, epochs: int, console: Console, where: str) -> Result:
    """Train in a session and test."""
    (digits, y), (test_digits, y_test) = mnist.load_data()
    x, x_test = (_rows(d) for d in (digits, test_digits))
    session.run(model.init)
    losses: list[float] = []
    columns = (
        TextColumn(where),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    seconds: list[float] = []
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task(where, total=epochs * (len(x) // BATCH), loss="")
        for epoch in range(epochs):
            for images, labels in batches(x, y, size=BATCH, seed=epoch):
                start = time.perf_counter()
                feeds = {model.images: images, model.labels: labels}
                loss, _ = session.run([model.loss, model.train], feeds)
                seconds.append(time.perf_counter() - start)
                losses.append(float(loss))
                progress.update(bar, advance=1, loss=f"loss {loss:.3f}")
    test = {model.images: x_test, model.labels: y_test}
    placement = session.placement([model.loss, model.train], dict.fromkeys(feeds, None))
    where_what: dict[str, Counter[str]] = {}
    for operation, device in placement.devices.items():
        where_what.setdefault(device, Counter())[operation.type] += 1
    return Result(
        float(session.run(model.accuracy, test)),
        losses,
        float(np.median(seconds)) * 1e3,
        where_what,
    )


def _rows(digits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """uint8 [n, 28, 28] -> float32 [n, 784] in [0, 1]."""
    return digits.reshape(-1, 784).astype(np.float32) / np.float32(255)


def show(console: Console, title: str, result: Result) -> None:
    """Placement, accuracy and time as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("device", no_wrap=True)
    table.add_column("operations", justify="right")
    table.add_column("among them")
    for device, kinds in sorted(result.placement.items()):
        common = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(4))
        table.add_row(device, str(kinds.total()), common)
    console.print(table)
    console.print(
        f"test accuracy {result.accuracy:.1%}, {result.step_ms:.2f} ms per step (median), "
        f"last loss {result.losses[-1]:.4f}\n"
    )


def main(epochs: int, workers: int) -> int:
    """Train here, then on Ray workers, and compare; the exit status."""
    console = Console()
    with tf.Graph().as_default():
        model = build()
        # The last bits are those of a tier and of how products are split: the same ones, then,
        # here and on the workers.
        config = tf.ConfigProto(
            allow_soft_placement=True, intra_op_parallelism_threads=1, deterministic=True
        )
        with tf.Session(config=config) as session:
            local = train(session, model, epochs, console, "this process")
        show(console, "In this process", local)
        results = [local]
        if workers:
            console.print(f"Starting Ray with {workers} workers ...")
            with (
                closing(tf.Cluster(workers=workers)) as cluster,
                tf.Session(config=config, cluster=cluster) as session,
            ):
                remote = train(session, model, epochs, console, f"{workers} Ray workers")
            show(console, f"On {workers} Ray workers", remote)
            results.append(remote)
            same = remote.losses == local.losses
            console.print(f"the losses of all {len(local.losses)} steps agree bit for bit: {same}")
            if not same:
                return 1
    if min(r.accuracy for r in results) < WANTED:
        print(f"the accuracy is below {WANTED:.0%}", file=sys.stderr)
        return 1
    return 0
