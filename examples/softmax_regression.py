"""Softmax regression on handwritten digits: one layer of weights, no hidden units.

python examples/softmax_regression.py
"""

import numpy as np

import graphflow as tf
from graphflow.datasets import batches, mnist


def main(epochs: int = 10) -> float:
    """The accuracy on digits that were not trained on."""
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    x_train, x_test = (np.float32(a.reshape(-1, 784) / 255) for a in (x_train, x_test))

    x = tf.placeholder(tf.float32, [None, 784], name="x")
    y = tf.placeholder(tf.int64, [None], name="y")
    w = tf.Variable(tf.zeros([784, 10]), name="w")
    b = tf.Variable(tf.zeros([10]), name="b")
    logits = tf.matmul(x, w) + b

    loss = tf.reduce_mean(
        tf.nn.softmax_cross_entropy_with_logits(labels=tf.one_hot(y, 10), logits=logits)
    )
    step = tf.train.GradientDescentOptimizer(0.2).minimize(loss)
    right = tf.equal(tf.argmax(logits, 1), y)
    accuracy = tf.reduce_mean(tf.cast(right, tf.float32))

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for epoch in range(epochs):
            for images, labels in batches(x_train, y_train, size=50, seed=epoch):
                session.run(step, {x: images, y: labels})
            tested = session.run(accuracy, {x: x_test, y: y_test})
            print(f"epoch {epoch + 1}: test accuracy {tested:.1%}")
    return float(tested)


if __name__ == "__main__":
    main()
