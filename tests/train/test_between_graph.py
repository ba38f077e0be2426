"""Between-graph replication: programs of several clients, with servers of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.waiting import telling
from graphflow.ops.accumulator_state import AccumulatorState
from graphflow.ops.gate import Gate
from graphflow.train.device_setter import GreedyLoadBalancingStrategy, byte_size_load_fn

WORKERS = 3
SPEC = tf.train.ClusterSpec(
    {"ps": ["ps0:1", "ps1:1"], "worker": [f"worker{i}:1" for i in range(WORKERS)]}
)


@pytest.fixture
def servers() -> Iterator[list[tf.train.Server]]:
    """The workers' servers, with two parameter servers beside them."""
    ps = [tf.train.Server(SPEC, "ps", i) for i in range(2)]
    workers = [tf.train.Server(SPEC, "worker", i) for i in range(WORKERS)]
    yield workers
    for server in ps + workers:
        server.stop()


def data(worker: int, step: int) -> Any:
    rng = np.random.default_rng([worker, step])
    return rng.normal(size=(8, 5)).astype(np.float32)


def model(x: Any) -> Any:
    w = tf.get_variable("w", [5, 3], initializer=tf.constant_initializer(0.1))
    b = tf.get_variable("b", [3], initializer=tf.zeros_initializer())
    return tf.reduce_mean(tf.square(tf.tanh(tf.matmul(x, w) + b) - 0.3))


def in_one_process(workers: int, steps: int) -> list[Any]:
    """The same training in one graph: gradients add up in the order of the workers."""
    with tf.Graph().as_default():
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        inputs, pairs = [], []
        for i in range(workers):
            with tf.variable_scope("", reuse=i > 0):
                x = tf.placeholder(tf.float32, [None, 5])
                pairs.append(optimizer.compute_gradients(model(x)))
            inputs.append(x)
        mean = [
            (tf.add_n([g for g, _ in same]) / float(workers), same[0][1])
            for same in zip(*pairs, strict=True)
        ]
        train = optimizer.apply_gradients(mean)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for step in range(steps):
                feeds = {x: data(i, step) for i, x in enumerate(inputs)}
                session.run(train, feeds)
            return session.run(tf.trainable_variables())


def synchronous(aggregate: int, total: int, tokens: int) -> tuple[Any, ...]:
    x = tf.placeholder(tf.float32, [None, 5])
    loss = model(x)
    step = tf.train.get_or_create_global_step()
    optimizer = tf.train.SyncReplicasOptimizer(
        tf.train.MomentumOptimizer(0.1, 0.9), aggregate, total
    )
    return x, optimizer.minimize(loss, step), optimizer


def train(server: tf.train.Server, worker: int, steps: int, wait: Callable[[int], None]) -> Any:
    """A worker's program: the weights at its end, as the chief sees them."""
    chief = worker == 0
    setter = tf.train.replica_device_setter(
        worker_device=f"/job:worker/task:{worker}", cluster=SPEC
    )
    with tf.Graph().as_default():
        with tf.device(setter):
            x, train, optimizer = synchronous(WORKERS, WORKERS, 0)
        hooks = [
            optimizer.make_session_run_hook(chief, num_tokens=0),
            tf.train.StopAtStepHook(last_step=steps),
        ]
        count = 0
        with tf.train.MonitoredTrainingSession(server.target, chief, hooks=hooks) as session:
            while not session.should_stop():
                wait(worker)
                session.run(train, {x: data(worker, count)})
                count += 1
            if chief:
                weights = session.raw_session.run(tf.trainable_variables())
        assert count == steps
        return weights if chief else None


def test_synchronous_workers_train_to_the_bits_of_one_process(servers):
    with ThreadPoolExecutor(WORKERS) as pool:
        runs = [
            pool.submit(train, server, i, 6, lambda worker: None)
            for i, server in enumerate(servers)
        ]
        weights = runs[0].result(100)
        for run in runs:
            run.result(60)
    for got, expected in zip(weights, in_one_process(WORKERS, 6), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_server_that_is_started_again_comes_back_from_the_checkpoint(tmp_path, caplog):
    """Both workers meet its loss and go on by themselves, to the bits of one process."""
    spec = {"ps": ["ps0:1"], "worker": ["worker0:1", "worker1:1"]}
    ps = [tf.train.Server(spec, "ps", 0)]
    workers = [tf.train.Server(spec, "worker", i) for i in range(2)]
    steps, meet = 12, threading.Barrier(2)

    def program(worker: int) -> Any:
        setter = tf.train.replica_device_setter(
            worker_device=f"/job:worker/task:{worker}", cluster=spec
        )
        with tf.Graph().as_default():
            with tf.device(setter):
                step = tf.train.get_or_create_global_step()
                every = tf.constant(np.stack([data(worker, i) for i in range(steps + 1)]))
                loss = model(tf.gather(every, step))
                optimizer = tf.train.SyncReplicasOptimizer(
                    tf.train.MomentumOptimizer(0.1, 0.9), 2, 2
                )
                train = optimizer.minimize(loss, step)
            hooks = [
                optimizer.make_session_run_hook(worker == 0, num_tokens=0),
                tf.train.StopAtStepHook(last_step=steps),
            ]
            folder = str(tmp_path) if worker == 0 else None
            made = tf.train.MonitoredTrainingSession(
                workers[worker].target, worker == 0, folder, hooks=hooks, save_checkpoint_steps=4
            )
            told = False
            with made as session:
                while not session.should_stop():
                    now, _ = session.run([step, train])
                    if now == 6 and not told:
                        told = True
                        meet.wait(30)
                        if worker == 0:
                            ps.pop().stop()
                            ps.append(tf.train.Server(spec, "ps", 0))
                        meet.wait(30)
                return session.raw_session.run(tf.trainable_variables()) if worker == 0 else None

    try:
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(program, i) for i in range(2)]
            weights = runs[0].result(60)
            runs[1].result(60)
    finally:
        for server in ps + workers:
            server.stop()
    assert "/job:ps/replica:0/task:0" in caplog.text
    for got, expected in zip(weights, in_one_process(2, steps), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_backup_workers_are_not_waited_for(servers):
    """Two of three gradients make a step; the third worker is stuck in its first one."""
    stuck, go = threading.Event(), threading.Event()

    def program(worker: int) -> Any:
        def slow(value: Any) -> Any:
            if worker == 2:
                stuck.set()
                assert go.wait(60)
            return value

        setter = tf.train.replica_device_setter(
            worker_device=f"/job:worker/task:{worker}", cluster=SPEC
        )
        with tf.Graph().as_default():
            with tf.device(setter):
                x = tf.placeholder(tf.float32, [None, 5])
                fed = tf.py_func(slow, [x], tf.float32)
                fed.set_shape([None, 5])
                step = tf.train.get_or_create_global_step()
                optimizer = tf.train.SyncReplicasOptimizer(
                    tf.train.GradientDescentOptimizer(0.1), 2, WORKERS
                )
                train = optimizer.minimize(model(fed), step)
            hook = optimizer.make_session_run_hook(worker == 0, num_tokens=0)
            with tf.train.MonitoredTrainingSession(
                servers[worker].target, worker == 0, hooks=[hook]
            ) as session:
                # A third worker that began only after the two had gone would wait for them.
                assert worker == 2 or stuck.wait(60)
                reached = -1
                while reached < 4 and not session.should_stop():
                    session.run(train, {x: data(worker, 0)})
                    reached = session.raw_session.run(step)
                if worker < 2:
                    go.set()  # two went on without the third
            return reached

    with ThreadPoolExecutor(WORKERS) as pool:
        runs = [pool.submit(program, i) for i in range(WORKERS)]
        assert [run.result(60) >= 4 for run in runs] == [True] * WORKERS


def test_asynchronous_workers_with_a_supervisor(servers, tmp_path):
    """Each update is applied once, whichever was first; the chief initialises and saves."""

    def program(worker: int) -> Any:
        setter = tf.train.replica_device_setter(
            worker_device=f"/job:worker/task:{worker}", cluster=SPEC
        )
        with tf.Graph().as_default() as graph:
            with tf.device(setter):
                step = tf.train.get_or_create_global_step()
                w = tf.get_variable("w", [4], initializer=tf.zeros_initializer())
                train = tf.group(w.assign_add(tf.ones([4])), step.assign_add(1))
            supervisor = tf.train.Supervisor(
                graph, is_chief=worker == 0, logdir=str(tmp_path), global_step=step
            )
            with supervisor.managed_session(servers[worker].target) as session:
                for _ in range(10):
                    assert not supervisor.should_stop()
                    session.run(train)
                while session.run(step) < 10 * WORKERS:
                    pass
                return session.run(w)

    with ThreadPoolExecutor(WORKERS) as pool:
        for result in [pool.submit(program, i) for i in range(WORKERS)]:
            np.testing.assert_array_equal(result.result(60), np.full(4, 10 * WORKERS))
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith(f"-{10 * WORKERS}")


# ---- the parts


def test_cluster_spec():
    spec = tf.train.ClusterSpec({"worker": ["a:1", "b:1"], "ps": {2: "c:1", 0: "d:1"}})
    assert spec.jobs == ["ps", "worker"]
    assert spec.num_tasks("ps") == 2
    assert spec.task_indices("ps") == [0, 2]
    assert spec.task_address("ps", 2) == "c:1"
    assert spec.job_tasks("ps") == ["d:1", None, "c:1"]
    assert spec.as_dict() == {"ps": {0: "d:1", 2: "c:1"}, "worker": ["a:1", "b:1"]}
    assert tf.train.ClusterSpec(spec.as_cluster_def()) == spec == tf.train.ClusterSpec(spec)
    assert spec != tf.train.ClusterSpec({})
    assert not tf.train.ClusterSpec({})
    for wrong in (
        lambda: spec.num_tasks("chief"),
        lambda: spec.task_address("ps", 1),
        lambda: tf.train.ClusterSpec({"ps": {-1: "a:1"}}),
        lambda: tf.train.Server(spec, "ps"),
        lambda: tf.train.Server(spec),
    ):
        with pytest.raises(ValueError, match=r"[Jj]ob|numbered"):
            wrong()
    for wrong in ("a:1", {"ps": "a:1"}, {"ps": [1]}):
        with pytest.raises(TypeError):
            tf.train.ClusterSpec(wrong)


def devices_of(setter: Any, sizes: list[int], ask: str = "") -> list[str]:
    with tf.Graph().as_default(), tf.device(setter):
        with tf.device(ask) if ask else nullcontext():
            made = [tf.Variable(tf.zeros([n])) for n in sizes]
            inside = tf.constant(1.0)
        return [v.handle.op.device for v in made] + [inside.op.device]


def test_replica_device_setter():
    setter = tf.train.replica_device_setter
    assert setter() is None
    assert setter(cluster={"worker": ["a:1"]}) is None
    two = {"ps": ["a:1", "b:1"], "worker": ["c:1"]}
    assert devices_of(setter(cluster=two), [1, 1, 1]) == [
        "/job:ps/task:0", "/job:ps/task:1", "/job:ps/task:0", "/job:worker",
    ]  # fmt: skip
    greedy = GreedyLoadBalancingStrategy(2, byte_size_load_fn)
    assert devices_of(setter(2, ps_strategy=greedy), [10, 3, 4, 5])[:4] == [
        "/job:ps/task:0", "/job:ps/task:1", "/job:ps/task:1", "/job:ps/task:1",
    ]  # fmt: skip
    assert devices_of(setter(2, worker_device="/job:worker/task:7"), [1], "/cpu:0") == [
        "/job:ps/task:0/device:CPU:0", "/job:worker/task:7/device:CPU:0",
    ]  # fmt: skip
    assert devices_of(setter(2, merge_devices=False), [1], "/cpu:0") == ["/device:CPU:0"] * 2
    assert devices_of(setter(2, ps_ops=["MatMul"]), [1]) == ["/job:worker"] * 2
    with pytest.raises(TypeError, match="ps_strategy"):
        setter(2, ps_strategy=3)


def test_a_dense_accumulator_adds_in_the_order_of_ranks():
    numbers = [np.float32(x) for x in (1e8, -1e8, 3.0)]
    accumulator = tf.ConditionalAccumulator(tf.float32, [], reduction_type="SUM")
    given = [accumulator.apply_grad(g, 0, rank=rank) for rank, g in enumerate(numbers)]
    taken = accumulator.take_grad(3)
    with tf.Session() as session:
        for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
            session.run(accumulator.set_global_step(0))
            for i in order:
                session.run(given[i])
            assert session.run(accumulator.num_accumulated()) == 3
            assert session.run(taken) == (numbers[0] + numbers[1]) + numbers[2]
        session.run(given[0])  # of step 0: the accumulator is at 1
        assert session.run(accumulator.num_accumulated()) == 0


def test_what_a_worker_gave_before_it_was_lost_does_not_count():
    accumulator = tf.ConditionalAccumulator(tf.float32, [], reduction_type="SUM")
    given = [accumulator.apply_grad(np.float32(g), 0, rank=g) for g in (1, 2)]
    withdrawn = accumulator.withdraw(2)
    with tf.Session() as session:
        for run in (*given, withdrawn, given[1], withdrawn, given[1]):
            session.run(run)
        assert session.run(accumulator.num_accumulated()) == 2
        assert session.run(accumulator.take_grad(2)) == 3


@pytest.mark.parametrize("what", ["step", "gradient"])
def test_who_is_about_to_wait_says_so(what):
    """The thread may be the one that receives what it waits for."""
    gate, gradients = Gate("g"), AccumulatorState("a", mean=True)
    never, told = threading.Event(), threading.Event()

    def wait() -> Any:
        with telling(told.set):
            if what == "step":
                return gate.wait(0, 0, never).numbers[0]
            return gradients.take(1, never).value

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        assert told.wait(20)
        gate.open(1)
        gradients.give(np.float32(1), 0, 0)
        assert waiting.result(20) == 1


def test_a_sparse_accumulator_takes_means_row_by_row():
    accumulator = tf.SparseConditionalAccumulator(tf.float32, [6, 2])
    one = tf.IndexedSlices(tf.constant([[1.0, 2], [3, 4]]), tf.constant([4, 1]))
    two = tf.IndexedSlices(tf.constant([[5.0, 6]]), tf.constant([4]))
    taken = accumulator.take_indexed_slices_grad(2)
    with tf.Session() as session:
        for each in (one, two):
            session.run(accumulator.apply_indexed_slices_grad(each))
        indices, values = session.run([taken.indices, taken.values])
        np.testing.assert_array_equal(indices, [1, 4])
        np.testing.assert_array_equal(values, [[3, 4], [3, 4]])
        with pytest.raises(tf.errors.InvalidArgumentError, match="takes"):
            session.run(accumulator.apply_grad([0], [[1.0, 2, 3]]))
