"""Servers in processes of their own: how a session's messages and values travel between them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from graphflow.distribute.servers import JOB

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_is_up")]

SPEC = {"ps": ["ps:1"], "worker": ["worker:1"]}


@pytest.fixture
def tasks() -> Iterator[dict[str, Any]]:
    """The actors of a parameter server and a worker, by job."""
    import ray

    from graphflow.distribute.ray_tasks import start_task

    space = f"test-{uuid.uuid4().hex}"
    found = {
        job: start_task(f"/job:{job}/replica:0/task:0", space, 0, 0, {JOB: space}) for job in SPEC
    }
    yield found
    for actor in found.values():
        ray.kill(actor)


def call(actor: Any, function: Any, *arguments: Any) -> Any:
    """What a function of a test gives in a task's process."""
    import ray

    return ray.get(actor.program.remote(function, *arguments), timeout=100)


def test_a_session_past_rays_calls_has_the_bits_of_these(tasks):
    """Messages and values past Ray, shared memory included; what is to be printed here by
    Ray."""

    def program(spec: Any, protocol: str) -> Any:
        import numpy as np

        import graphflow as tf

        server = tf.train.Server(spec, "worker", 0, protocol=protocol)
        with tf.Graph().as_default():
            with tf.device(tf.train.replica_device_setter(cluster=spec)):
                x = tf.placeholder(tf.float32, [None, 64])
                y = x
                for i in range(2):
                    start = tf.random_normal_initializer(stddev=0.1, seed=i)
                    shape = [64 + 64 * i, 128 - 64 * i]
                    w = tf.get_variable(f"{protocol}{i}", shape, initializer=start)
                    y = tf.tanh(tf.matmul(y, w))
                loss = tf.reduce_mean(tf.square(y - 0.5))
                train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
            with tf.device("/job:ps/task:0"):
                odd = tf.Print(tf.constant([7.0]), ["handed on to be printed"])
            losses = []
            with tf.Session(server.target) as session:
                session.run(tf.global_variables_initializer())
                for step in range(5):
                    feed = np.random.default_rng(step).normal(size=(8, 64)).astype(np.float32)
                    losses.append(session.run([loss, train], {x: feed})[0])
                weights = session.run(tf.trainable_variables())
                members = session._target.conductor._link._members.values()
                unusual = session.run(odd).tolist()
                sent = {w: s["sent"] for w, s in session._target.statistics().items()}
        server.stop()
        return losses, weights, sorted(type(m).__name__ for m in members), unusual, sent

    past, by_ray = (call(tasks["worker"], program, SPEC, protocol) for protocol in ("grpc", "ray"))
    assert past[2] == ["FastMember", "LocalMember"]
    assert by_ray[2] == ["LocalMember", "RayMember"]
    assert past[0] == by_ray[0]
    for a, b in zip(past[1], by_ray[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert past[3] == by_ray[3]
    assert past[4] == by_ray[4]
    assert min(past[4].values()) > 0
