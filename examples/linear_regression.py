"""Fit a line to noisy points by gradient descent.

python examples/linear_regression.py
"""

import numpy as np

import graphflow as tf

W, B = 3.0, -2.0  # the truth


def main(steps: int = 200) -> tuple[float, float]:
    """The learned slope and offset."""
    random = np.random.default_rng(0)
    points = random.uniform(-1, 1, size=500).astype(np.float32)
    values = W * points + B + 0.1 * random.standard_normal(500).astype(np.float32)

    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    w = tf.Variable(0.0, name="w")
    b = tf.Variable(0.0, name="b")
    loss = tf.reduce_mean(tf.square(w * x + b - y))

    # The same as tf.train.GradientDescentOptimizer(0.3).minimize(loss), by hand.
    dw, db = tf.gradients(loss, [w, b])
    step = tf.group(tf.assign_sub(w, 0.3 * dw), tf.assign_sub(b, 0.3 * db))

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for i in range(steps):
            value, _ = session.run([loss, step], {x: points, y: values})
            if i % 20 == 0:
                print(f"step {i:3}: loss {value:.4f}")
        learned = session.run((w, b))
    print(f"learned y = {learned[0]:.3f} x + {learned[1]:.3f}; the truth is {W} x + {B}")
    return learned


if __name__ == "__main__":
    main()
