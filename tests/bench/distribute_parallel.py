"""Ways to train in parallel, in numbers: replicas, parameter servers, pipelines.

The reference tier runs on both sides of each ratio, but where the native one is compared with it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from measure import interleaved, median_ratio

import graphflow as tf
from graphflow.execute.trace import shares
from graphflow.place.schedules import ring_all_reduce

CURVE = (2, 8, 64, 1000)
SERIES = (1, 2, 4)  # runs under way
BOUNDS = {
    "dp_cost_2": 1 / 0.9,
    "ps_table_100x": 1.25,
    "table_100x": 1.1,
    "native_mlp": 0.8,
    "native_cnn": 0.8,
}
MEANING = {
    "dp_cost_2": "step of 2 data-parallel replicas / of 2 independent ones at once",
    "dp_cost_4": "the same with 4, which share two cores",
    "dp_mirrored_2": "step of 2 data-parallel replicas that all keep all variables / none twice",
    "dp_mirrored_4": "the same with 4",
    "dp_step_ms_2": "step of 2 data-parallel replicas on 2 workers, ms",
    "dp_step_ms_4": "of 4 on 4, ms",
    "dp_simulated_2": "that step as simulated / as measured",
    "dp_simulated_4": "the same with 4",
    "native_mlp": "MLP 784-512-512-10, batch 256, Adam, on 2 workers: native / reference",
    "native_cnn": "CNN on MNIST images, batch 128, Adam, on 2 workers: native / reference",
    "native_mlp_ms": "native step of that MLP, ms",
    "native_cnn_ms": "native step of that CNN, ms",
    "native_mlp_first_s": "its first step, which compiles, s",
    "native_cnn_first_s": "that of the CNN, s",
    "ps_table_100x": "step with a table of 128 MB / of 1.28 MB, on a parameter server",
    "table_100x": "the same on a worker of a cluster",
    "table_step_ms": "step there with the table of 128 MB, ms",
    **{
        f"steps_per_s_{n}": f"scalar training steps of 2 workers a second, {n} under way"
        for n in SERIES
    },
    "series_gain": "steps a second, 4 under way / 1",
    "series_gain_feeding": "the same, where the driver waits half a millisecond for each batch",
    "ps_step_ms": "step with the table of 128 MB, ms",
    "ps_null_ms": "empty step of a worker and a parameter server of one process, ms",
    "bubble": "idle share of 2 stages with 4 micro-batches, measured",
    "bubble_formula": "(K - 1) / (M + K - 1)",
    **{f"curve_{n}": f"simulated efficiency of {n} workers with a core each" for n in CURVE},
}
WIDTH, LAYERS, BATCH = 1024, 3, 1024
TABLES = {"small": 20_000, "large": 2_000_000}  # rows


def numbers() -> dict[str, Any]:
    """All numbers."""
    before = os.environ.get("GRAPHFLOW_TIER")
    os.environ["GRAPHFLOW_TIER"] = "reference"
    try:
        trained = data_parallel() | native_workers()
        return trained | parameter_servers() | tables() | series() | pipeline()
    finally:
        del os.environ["GRAPHFLOW_TIER"]
        if before is not None:
            os.environ["GRAPHFLOW_TIER"] = before


def _network(x: Any) -> Any:
    for i in range(LAYERS):
        w = tf.get_variable(
            f"w{i}", [WIDTH, WIDTH], initializer=tf.random_normal_initializer(stddev=0.03, seed=i)
        )
        x = tf.nn.relu(tf.matmul(x, w))
    return tf.reduce_mean(tf.square(x))


def data_parallel() -> dict[str, Any]:
    """Replicas of a compute-bound network, against as many that share nothing.

    What the replicas exchange is simulated with the link that calibration measures; the same
    model, with the compute time of two, gives the curve to a thousand workers.
    """
    found: dict[str, Any] = {}
    link: Any = None
    for workers in (2, 4):  # four share two cores: the independent ones do, too
        with ExitStack() as stack:
            cluster = stack.enter_context(tf.Cluster(workers=workers))
            together = stack.enter_context(_session(cluster, partial(_replicas, workers)))
            apart = stack.enter_context(_session(cluster, partial(_independent, workers)))
            copies = partial(_replicas, workers, mirrored=True)
            mirrored = stack.enter_context(_session(cluster, copies))
            works = {"dp": together.step, "own": apart.step, "mirrored": mirrored.step}
            times = interleaved(works, calls=2, rounds=7)
            link = link or _measured_link(together.session)
        alone, step = statistics.median(times["own"]), statistics.median(times["dp"])
        found[f"dp_cost_{workers}"] = median_ratio(times["dp"], times["own"])
        found[f"dp_mirrored_{workers}"] = median_ratio(times["mirrored"], times["dp"])
        found[f"dp_step_ms_{workers}"] = step * 1e3
        found[f"dp_simulated_{workers}"] = _simulated(alone, workers, link) / step
    alone = found["dp_step_ms_2"] / found["dp_cost_2"] / 1e3
    for n in CURVE:
        found[f"curve_{n}"] = alone / _simulated(alone, n, link)
    return found


def _simulated(alone: float, workers: int, link: Any) -> float:
    """Seconds of a step: what a replica computes, and the exchange of all gradients and weights."""
    size = LAYERS * WIDTH * WIDTH * 4
    return float(ring_all_reduce(size, link, [alone] * workers).max())


def _measured_link(session: Any) -> Any:
    """The link between two workers, as calibration measures it."""
    topology = session.calibrate()
    first, second = (d.name for d in topology.devices[:2])
    return topology.link(first, second)


class _session:
    """A session that runs one operation again and again."""

    def __init__(self, cluster: Any, build: Callable[[], Any]):
        with tf.Graph().as_default():
            self.fetch = build()
            self.session = tf.Session(cluster=cluster)
            self.session.run(tf.global_variables_initializer())

    def step(self) -> None:
        self.session.run(self.fetch)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()


def _replicas(workers: int, mirrored: bool = False) -> Any:
    inner = tf.train.GradientDescentOptimizer(0.01)
    optimizer = tf.distribute.DataParallel(inner, workers, mirrored=mirrored)
    # Each replica makes its examples: feeding them is the same work for all.
    size = tf.constant(np.zeros((workers * BATCH, 1), np.float32))
    return optimizer.minimize(
        lambda part: _network(tf.ones([tf.shape(part)[0], WIDTH])), inputs=[size]
    )


def _independent(workers: int) -> Any:
    trains = []
    for i in range(workers):
        with tf.device(f"/job:worker/task:{i}"), tf.variable_scope(f"own{i}"):
            x = tf.ones([BATCH, WIDTH])
            loss = _network(x)
            mine = tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES, f"own{i}/")
            trains.append(tf.train.GradientDescentOptimizer(0.01).minimize(loss, var_list=mine))
    return tf.group(*trains)


def _step_on_rows(rows: int) -> Any:
    """Trains 256 rows of a table."""
    table = tf.get_variable("table", [rows, 16], initializer=tf.constant_initializer(0.1))
    ids = tf.constant(np.random.default_rng(0).integers(0, rows, 256))
    loss = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(table, ids)))
    return tf.train.GradientDescentOptimizer(0.01).minimize(loss)


def tables() -> dict[str, Any]:
    """Steps on rows of a table that lies on a worker of a cluster; between copies of its state,
    which are further apart than these steps."""
    with ExitStack() as stack:
        cluster = stack.enter_context(tf.Cluster(workers=2, snapshot_every=100_000))
        sessions = {
            name: stack.enter_context(_session(cluster, partial(_step_on_rows, rows)))
            for name, rows in TABLES.items()
        }
        times = interleaved({n: s.step for n, s in sessions.items()}, calls=30, rounds=9)
    return {
        "table_100x": median_ratio(times["large"], times["small"]),
        "table_step_ms": statistics.median(times["large"]) * 1e3,
    }


def series(steps: int = 100) -> dict[str, Any]:
    """Steps of two workers that hand each other a scalar, the next ones begun ahead or not."""

    def build() -> Any:
        with tf.device("/job:worker/task:0"):
            v = tf.get_variable("v", [], initializer=tf.constant_initializer(1.0))
        with tf.device("/job:worker/task:1"):
            w = tf.get_variable("w", [], initializer=tf.constant_initializer(1.0))
            loss = tf.square(v * w)
        return tf.train.GradientDescentOptimizer(0.01).minimize(loss)

    with ExitStack() as stack:
        cluster = stack.enter_context(tf.Cluster(workers=2))
        own = stack.enter_context(_session(cluster, build))

        def run(in_flight: int, wait: float = 0.0) -> None:
            for _ in own.session.run_steps(own.fetch, steps, in_flight=in_flight):
                time.sleep(wait)

        works = {f"{n}": partial(run, n) for n in SERIES}
        works |= {f"feeding {n}": partial(run, n, 0.0005) for n in (1, 4)}
        times = interleaved(works, calls=1, rounds=9)
    found = {f"steps_per_s_{n}": steps / statistics.median(times[f"{n}"]) for n in SERIES}
    return found | {
        "series_gain": median_ratio(times["1"], times["4"]),
        "series_gain_feeding": median_ratio(times["feeding 1"], times["feeding 4"]),
    }


def native_workers() -> dict[str, Any]:
    """Both tiers on two workers, which train one network each way by turns."""
    found: dict[str, Any] = {}
    with tf.Cluster(workers=2) as cluster:
        for name, build in (("mlp", _mlp), ("cnn", _cnn)):
            with ExitStack() as stack:
                works = {}
                for tier in ("reference", "native"):
                    os.environ["GRAPHFLOW_TIER"] = tier
                    session = stack.enter_context(_session(cluster, partial(_trained, build)))
                    start = time.perf_counter()
                    session.step()
                    works[tier] = session.step
                    found[f"native_{name}_first_s"] = time.perf_counter() - start
                times = interleaved(works, calls=10, rounds=9)
            found[f"native_{name}"] = median_ratio(times["native"], times["reference"])
            found[f"native_{name}_ms"] = statistics.median(times["native"]) * 1e3
    os.environ["GRAPHFLOW_TIER"] = "reference"
    return found


def _trained(build: Callable[[Any], tuple[Any, int]]) -> Any:
    """A step of Adam in two replicas, on images that each makes."""
    optimizer = tf.distribute.DataParallel(tf.train.AdamOptimizer(1e-3), 2)

    def loss(part: Any) -> Any:
        x = tf.random_uniform([BATCHES[build], 784], seed=1)
        y = tf.cast(tf.argmax(x[:, :10], 1), tf.int32)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=build(x))
        )

    return optimizer.minimize(loss, inputs=[tf.zeros([2, 1])])


def _weights(name: str, shape: Sequence[int]) -> Any:
    return tf.get_variable(name, shape, initializer=tf.random_normal_initializer(stddev=0.05))


def _dense(name: str, x: Any, size: int) -> Any:
    return tf.nn.bias_add(tf.matmul(x, _weights(f"{name}_w", [x.shape[1], size])),
                          _weights(f"{name}_b", [size]))  # fmt: skip


def _mlp(x: Any) -> Any:
    for i in range(2):
        x = tf.nn.relu(_dense(f"hidden{i}", x, 512))
    return _dense("logits", x, 10)


def _cnn(x: Any) -> Any:
    x = tf.reshape(x, [-1, 28, 28, 1])
    for i, (before, after) in enumerate(((1, 32), (32, 64))):
        kernel = _weights(f"conv{i}", [5, 5, before, after])
        x = tf.nn.conv2d(x, kernel, strides=[1, 1, 1, 1], padding="SAME")
        x = tf.nn.relu(tf.nn.bias_add(x, _weights(f"conv{i}_b", [after])))
        x = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    x = tf.nn.relu(_dense("hidden", tf.reshape(x, [-1, 7 * 7 * 64]), 256))
    return _dense("logits", x, 10)


BATCHES = {_mlp: 128, _cnn: 64}  # of a replica, as in the native tier's benchmarks


def parameter_servers() -> dict[str, Any]:
    """Steps on rows of a table that lies on a server."""
    spec = {"ps": ["ps:1"], "worker": ["worker:1"]}
    servers = [tf.train.Server(spec, job, 0) for job in spec]
    works: dict[str, Any] = {}
    sessions = []
    for name, rows in TABLES.items():
        with tf.Graph().as_default():
            with tf.device("/job:ps/task:0"):
                step = _step_on_rows(rows)
            session = tf.Session(servers[1].target)
            session.run(tf.global_variables_initializer())
        sessions.append(session)
        works[name] = lambda session=session, step=step: session.run(step)
    with tf.Graph().as_default():
        with tf.device("/job:ps/task:0"):
            v = tf.Variable(0.0, name="null")
        add = v.assign_add(1.0).op
        session = tf.Session(servers[1].target)
        session.run(v.initializer)
        sessions.append(session)
        works["null"] = lambda: session.run(add)
    times = interleaved(works, calls=30, rounds=9)
    for each in sessions:
        each.close()
    for server in servers:
        server.stop()
    return {
        "ps_table_100x": median_ratio(times["large"], times["small"]),
        "ps_step_ms": statistics.median(times["large"]) * 1e3,
        "ps_null_ms": statistics.median(times["null"]) * 1e3,
    }


def pipeline(microbatches: int = 4) -> dict[str, Any]:
    """Two equal stages on two devices of this process."""

    def stage(name: str) -> Callable[[Any], Any]:
        def build(x: Any) -> Any:
            with tf.variable_scope(name):
                return _layers(x)

        return build

    with tf.Graph().as_default():
        x = tf.constant(np.ones((4 * BATCH, WIDTH), np.float32))
        made = tf.distribute.Pipeline(
            tf.train.GradientDescentOptimizer(0.01), [stage("one"), stage("two")], microbatches,
            ["/cpu:0", "/cpu:1"],
        )  # fmt: skip
        step = made.minimize(x, lambda h: tf.reduce_mean(tf.square(h)))
        config = tf.ConfigProto(device_count={"CPU": 2}, intra_op_parallelism_threads=1)
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        idle = []
        with tf.Session(config=config) as session:
            session.run(tf.global_variables_initializer())
            for _ in range(2):
                session.run(step)
            for _ in range(5):
                told = tf.RunMetadata()
                session.run(step, None, options, told)
                spent = shares(told.step_stats).values()
                whole = sum(s.compute + s.transfer + s.wait + s.idle for s in spent)
                idle.append(sum(s.wait + s.idle for s in spent) / whole)
    return {"bubble": statistics.median(idle), "bubble_formula": 1 / (microbatches + 1)}


def _layers(x: Any) -> Any:
    for i in range(2):
        w = tf.get_variable(
            f"w{i}", [WIDTH, WIDTH], initializer=tf.random_normal_initializer(stddev=0.03, seed=i)
        )
        x = tf.nn.relu(tf.matmul(x, w))
    return x


if __name__ == "__main__":
    began = time.perf_counter()
    print(numbers(), time.perf_counter() - began)
