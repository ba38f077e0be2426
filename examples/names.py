"""A recurrent network that learns to spell: an LSTM written with `tf.scan`, letter by letter.

python examples/names.py
"""

import numpy as np

import graphflow as tf

NAMES = [
    "ada",
    "alan",
    "barbara",
    "claude",
    "donald",
    "edsger",
    "grace",
    "john",
    "leslie",
    "maurice",
]
LETTERS = ".abcdefghijklmnopqrstuvwxyz"  # "." begins and ends a name
UNITS = 48


def cell(state: tuple[tf.Tensor, tf.Tensor], x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of an LSTM: (h, c) [n, units] and x [n, k] -> the next (h, c)."""
    h, c = state
    with tf.variable_scope("lstm", reuse=tf.AUTO_REUSE):
        w = tf.get_variable("w", [len(LETTERS) + UNITS, 4 * UNITS])
        b = tf.get_variable("b", [4 * UNITS], initializer=tf.zeros_initializer())
    i, j, f, o = tf.split(tf.matmul(tf.concat([x, h], 1), w) + b, 4, axis=1)
    c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
    return tf.tanh(c) * tf.sigmoid(o), c


def main(steps: int = 150) -> list[str]:
    """The names as the network spells them, each from its first two letters."""
    tf.set_random_seed(3)
    length = max(map(len, NAMES)) + 1
    rows = [[LETTERS.index(c) for c in f".{name}".ljust(length + 1, ".")] for name in NAMES]
    letters = tf.placeholder(tf.int32, [None, None], name="letters")  # [names, time]
    x = tf.transpose(tf.one_hot(letters, len(LETTERS)), [1, 0, 2])  # time first
    zero = tf.zeros([tf.shape(letters)[0], UNITS])
    hs, _ = tf.scan(cell, x, initializer=(zero, zero))
    w = tf.get_variable("w", [UNITS, len(LETTERS)])
    logits = tf.tensordot(hs, w, axes=1)

    wanted = tf.placeholder(tf.int32, [None, None], name="wanted")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.transpose(wanted), logits=logits
    )
    loss = tf.reduce_mean(losses)
    step = tf.train.AdamOptimizer(0.02).minimize(loss)
    likely = tf.argmax(logits[-1], 1)  # the letter that comes next

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        table = np.array(rows)
        for i in range(steps):
            value, _ = session.run([loss, step], {letters: table[:, :-1], wanted: table[:, 1:]})
            if i % 25 == 0:
                print(f"step {i:3}: loss {value:.3f}")
        text = table[:, :3]
        while text.shape[1] <= length:
            following = session.run(likely, {letters: text})
            text = np.concatenate([text, following[:, np.newaxis]], axis=1)
    spelled = ["".join(LETTERS[i] for i in row).strip(".") for row in text]
    print(" ".join(spelled))
    return spelled


if __name__ == "__main__":
    main()
