"""Loops and branches in the graph: Newton's method, and the derivative of what it finds.

python examples/newton.py
"""

import graphflow as tf


def root(a: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The square root of a scalar, and how many steps Newton's method took; NaN below zero."""

    def wrong(x: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        return tf.logical_and(tf.abs(x * x - a) > 1e-12 * a, steps < 50)

    def better(x: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return (x + a / x) / 2.0, steps + 1

    def positive() -> tuple[tf.Tensor, tf.Tensor]:
        start = tf.maximum(a, 1.0)
        x, steps = tf.while_loop(wrong, better, (start, tf.constant(0)))
        return x, steps

    def negative() -> tuple[tf.Tensor, tf.Tensor]:
        return a * float("nan"), tf.constant(0)

    return tf.cond(a >= 0.0, positive, negative)


def main() -> dict[float, tuple[float, int, float]]:
    """Number -> its root, the steps taken, and the derivative there."""
    a = tf.placeholder(tf.float64, [], name="a")
    x, steps = root(a)
    (slope,) = tf.gradients(x, a)  # of the loop, step by step; not of a formula for the root
    found = {}
    with tf.Session() as session:
        for number in (2.0, 100.0, 0.25, -1.0):
            found[number] = session.run((x, steps, slope), {a: number})
            print(
                "root of {:6}: {:.6f} after {} steps, derivative {:.6f}".format(
                    number, *found[number]
                )
            )
    return found


if __name__ == "__main__":
    main()
