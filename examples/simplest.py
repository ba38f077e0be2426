"""The simplest program: a graph is built, then run.

python examples/simplest.py
"""

import graphflow as tf


def main() -> int:
    a = tf.Variable(1, name="a")
    b = tf.Variable(2, name="b")
    f = a + b  # nothing is computed here: f is a node of the graph
    init = tf.global_variables_initializer()
    with tf.Session():
        init.run()
        return f.eval()


if __name__ == "__main__":
    print(main())
