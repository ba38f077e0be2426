"""A convolutional network on handwritten digits, with dropout and Adam.

python examples/cnn.py
"""

import numpy as np

import graphflow as tf
from graphflow.datasets import batches, mnist


def convolved(x: tf.Tensor, channels: int) -> tf.Tensor:
    """x [n, h, w, c] -> [n, h/2, w/2, channels]: convolution 5 x 5, ReLU, pooling 2 x 2."""
    filters = tf.get_variable("filters", [5, 5, x.shape[3], channels])
    b = tf.get_variable("b", [channels], initializer=tf.zeros_initializer())
    y = tf.nn.conv2d(x, filters, strides=[1, 1, 1, 1], padding="SAME")
    y = tf.nn.relu(tf.nn.bias_add(y, b))
    return tf.nn.max_pool(y, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")


def dense(x: tf.Tensor, units: int) -> tf.Tensor:
    """x [n, k] -> [n, units]."""
    w = tf.get_variable("w", [x.shape[1], units])
    b = tf.get_variable("b", [units], initializer=tf.zeros_initializer())
    return tf.matmul(x, w) + b


def main(epochs: int = 3, digits: int = 5000) -> float:
    """The accuracy on digits that were not trained on.

    Args:
      epochs: passes over the training digits.
      digits: how many to train on.
    """
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    x_train, x_test = (np.float32(a / 255)[..., np.newaxis] for a in (x_train, x_test))

    tf.set_random_seed(1)
    x = tf.placeholder(tf.float32, [None, 28, 28, 1], name="x")
    y = tf.placeholder(tf.int64, [None], name="y")
    keep = tf.placeholder_with_default(1.0, [], name="keep")  # 1 when testing
    with tf.variable_scope("conv1"):
        h = convolved(x, 8)
    with tf.variable_scope("conv2"):
        h = convolved(h, 16)
    h = tf.reshape(h, [-1, 7 * 7 * 16])
    with tf.variable_scope("dense"):
        h = tf.nn.dropout(tf.nn.relu(dense(h, 64)), keep_prob=keep)
    with tf.variable_scope("output"):
        logits = dense(h, 10)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
    step = tf.train.AdamOptimizer(2e-3).minimize(loss)
    accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), y), tf.float32))

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for epoch in range(epochs):
            for images, labels in batches(x_train[:digits], y_train[:digits], size=50, seed=epoch):
                value, _ = session.run([loss, step], {x: images, y: labels, keep: 0.7})
            right = session.run(accuracy, {x: x_test, y: y_test})
            print(f"epoch {epoch + 1}: last loss {value:.3f}, test accuracy {right:.1%}")
    return float(right)


if __name__ == "__main__":
    main()
