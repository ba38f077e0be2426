"""Small programs that a device must compute as the CPU does: name -> values of a few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphflow as tf

STEPS = 4


def _images(count: int = 6) -> Any:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((count, 8, 8, 1)).astype(np.float32)
    return x, rng.integers(0, 4, count).astype(np.int32)


def _train(session: Any, loss: Any, optimizer: Any, feeds: Any) -> list[Any]:
    step = optimizer.minimize(loss)
    session.run(tf.global_variables_initializer())
    values = [session.run([loss, step], feeds)[0] for _ in range(STEPS)]
    return values + session.run(tf.trainable_variables())


def mlp(session: Any) -> list[Any]:
    """Two dense layers, softmax cross-entropy, gradient descent."""
    images, labels = _images()
    x, y = tf.placeholder(tf.float32, [None, 64]), tf.placeholder(tf.int32, [None])
    w = tf.Variable(tf.random_normal([64, 16], seed=1, stddev=0.1))
    b = tf.Variable(tf.zeros([16]))
    v = tf.Variable(tf.random_normal([16, 4], seed=2, stddev=0.1))
    logits = tf.matmul(tf.nn.relu(tf.matmul(x, w) + b), v)
    rows = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    feeds = {x: images.reshape(len(images), -1), y: labels}
    return _train(session, tf.reduce_mean(rows), tf.train.GradientDescentOptimizer(0.5), feeds)


def cnn(session: Any) -> list[Any]:
    """Convolution, pooling, a dense layer, Adam."""
    images, labels = _images()
    x, y = tf.placeholder(tf.float32, [None, 8, 8, 1]), tf.placeholder(tf.int32, [None])
    filters = tf.Variable(tf.truncated_normal([3, 3, 1, 4], seed=3, stddev=0.3))
    w = tf.Variable(tf.truncated_normal([64, 4], seed=4, stddev=0.1))
    hidden = tf.nn.relu(tf.nn.conv2d(x, filters, strides=[1, 1, 1, 1], padding="SAME"))
    pooled = tf.nn.max_pool(hidden, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    logits = tf.matmul(tf.reshape(pooled, [-1, 64]), w)
    rows = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    feeds = {x: images, y: labels}
    return _train(session, tf.reduce_mean(rows), tf.train.AdamOptimizer(0.01), feeds)


def control_flow(session: Any) -> list[Any]:
    """A loop with a branch inside, and its gradient."""
    x = tf.placeholder(tf.float32, [3])

    def body(i: Any, a: Any) -> Any:
        return i + 1, tf.cond(tf.reduce_sum(a) > 0, lambda: tf.tanh(a), lambda: a * 0.5 - 1.0)

    _, last = tf.while_loop(lambda i, a: i < 5, body, [0, x])
    values = session.run([last, *tf.gradients(last, [x])], {x: np.float32([0.5, -0.3, 1.0])})
    return list(values)


def state(session: Any) -> list[Any]:
    """Variables that are assigned, added to and scattered to."""
    total = tf.Variable(np.zeros((4, 2), np.float32))
    session.run(tf.global_variables_initializer())
    session.run(tf.assign_add(total, np.ones((4, 2), np.float32)))
    session.run(tf.scatter_add(total, [1, 1, 3], np.full((3, 2), 2, np.float32)))
    return [session.run(total), session.run(tf.gather(total, [3, 0]))]


def shapes(session: Any) -> list[Any]:
    """Shapes computed at run time: they belong to the host."""
    x = tf.placeholder(tf.float32, [None, None])
    n = tf.shape(x)[0]
    y = tf.reshape(x, [n * 2, -1])
    z = tf.concat([tf.tile(y, [1, 2]), tf.fill([n * 2, 1], 7.0)], axis=1)
    w = tf.slice(z, [0, 0], tf.stack([n, 2]))
    return list(session.run([y, z, w], {x: np.arange(12, dtype=np.float32).reshape(2, 6)}))


PROGRAMS: dict[str, Callable[[Any], list[Any]]] = {
    f.__name__: f for f in (mlp, cnn, control_flow, state, shapes)
}


def run_on(device: str, program: Callable[[Any], list[Any]]) -> list[Any]:
    """A program's values, all its ops on one device where they may be."""
    config = tf.ConfigProto(allow_soft_placement=True)
    with tf.Graph().as_default(), tf.device(device), tf.Session(config=config) as session:
        return [np.asarray(v) for v in program(session)]
