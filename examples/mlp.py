"""A network with one hidden layer on handwritten digits.

    python examples/mlp.py

`examples/mlp_on_ray.py` runs the same graph on the workers of a Ray cluster.
"""

from typing import NamedTuple

import numpy as np

import graphflow as tf
from graphflow.datasets import batches, mnist


class Model(NamedTuple):
    """The ends of the graph that training and testing use."""

    x: tf.Tensor
    y: tf.Tensor
    loss: tf.Tensor
    accuracy: tf.Tensor
    step: tf.Operation


def build(
    hidden: str | None = None,
    output: str | None = None,
    optimizer: tf.train.Optimizer | None = None,
) -> Model:
    """Add the network, its loss and its training step to the default graph.

    The two layers may ask for devices.
    """
    tf.set_random_seed(1)
    x = tf.placeholder(tf.float32, [None, 784], name="x")
    y = tf.placeholder(tf.int64, [None], name="y")
    with tf.device(hidden), tf.variable_scope("hidden"):
        h = tf.nn.relu(dense(x, 128))
    with tf.device(output), tf.variable_scope("output"):
        logits = dense(h, 10)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
    right = tf.equal(tf.argmax(logits, 1), y)
    step = (optimizer or tf.train.MomentumOptimizer(0.05, momentum=0.9)).minimize(loss)
    return Model(x, y, loss, tf.reduce_mean(tf.cast(right, tf.float32)), step)


def dense(x: tf.Tensor, units: int) -> tf.Tensor:
    """x [n, k] -> [n, units]; the variables are those of the enclosing scope."""
    w = tf.get_variable("w", [x.shape[1], units])
    b = tf.get_variable("b", [units], initializer=tf.zeros_initializer())
    return tf.matmul(x, w) + b


def train(session: tf.Session, model: Model, epochs: int) -> float:
    """Train; the accuracy on digits that were not trained on."""
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    x_train, x_test = (np.float32(a.reshape(-1, 784) / 255) for a in (x_train, x_test))
    session.run(tf.global_variables_initializer())
    for epoch in range(epochs):
        for images, labels in batches(x_train, y_train, size=100, seed=epoch):
            loss, _ = session.run([model.loss, model.step], {model.x: images, model.y: labels})
        tested = session.run(model.accuracy, {model.x: x_test, model.y: y_test})
        print(f"epoch {epoch + 1}: last loss {loss:.3f}, test accuracy {tested:.1%}")
    return float(tested)


def main(epochs: int = 8) -> float:
    """The accuracy on digits that were not trained on."""
    model = build()
    with tf.Session() as session:
        return train(session, model, epochs)


if __name__ == "__main__":
    main()
