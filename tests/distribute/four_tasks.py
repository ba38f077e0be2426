"""A cluster of servers in this process, and its clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import graphflow as tf

SPEC = {"ps": ["ps0:1", "ps1:1"], "worker": ["worker0:1", "worker1:1"]}


@contextmanager
def four_tasks() -> Iterator[dict[str, tf.train.Server]]:
    """Two parameter servers and two workers."""
    found = {
        f"{job}{i}": tf.train.Server(SPEC, job, i) for job in SPEC for i in range(len(SPEC[job]))
    }
    try:
        yield found
    finally:
        for server in found.values():
            server.stop()


def client(server: tf.train.Server, ps: int = 0) -> Any:
    """A client's own graph and session: a variable of one name, and its increment."""
    graph = tf.Graph()
    with graph.as_default():
        with tf.device(f"/job:ps/task:{ps}"):
            v = tf.Variable(np.zeros(4, np.float32), name="v")
            up = v.assign_add(np.ones(4, np.float32)).op
        init = tf.global_variables_initializer()
    return tf.Session(server.target, graph=graph), v, up, init
