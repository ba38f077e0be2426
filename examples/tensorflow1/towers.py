"""A program for TensorFlow 1 with a copy of its network per worker, in one graph.

    graphflow run --workers 2 examples/tensorflow1/towers.py --steps 100

Each tower has its share of the batch, and its variables are those of the first one; the program
averages the gradients.  Without `--workers` all towers are in one process, with the same bits.
"""

import argparse
import hashlib

import numpy as np
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--towers", type=int, default=2)
FLAGS = parser.parse_args()

TRUTH = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def batch(step):
    """x [64, 8], and the number of the largest of three sums [64]."""
    x = np.random.default_rng(step).normal(size=(64, 8)).astype(np.float32)
    return x, np.argmax(x @ TRUTH, axis=1)


def network(x, y):
    """The mean loss of a tower's share."""
    w1 = tf.get_variable("w1", [8, 16], initializer=tf.glorot_uniform_initializer(seed=1))
    w2 = tf.get_variable("w2", [16, 3], initializer=tf.glorot_uniform_initializer(seed=2))
    logits = tf.matmul(tf.nn.relu(tf.matmul(x, w1)), w2)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))


x_ = tf.placeholder(tf.float32, [64, 8])
y_ = tf.placeholder(tf.int64, [64])
optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
xs, ys = tf.split(x_, FLAGS.towers), tf.split(y_, FLAGS.towers)
losses, towers = [], []
for number in range(FLAGS.towers):
    device, scope = f"/job:worker/task:{number}", tf.variable_scope("network", reuse=number > 0)
    with tf.device(device), scope:
        losses.append(network(xs[number], ys[number]))
        towers.append(optimizer.compute_gradients(losses[-1]))
means = []
for i, (_, variable) in enumerate(towers[0]):
    gradients = [pairs[i][0] for pairs in towers]
    means.append((tf.add_n(gradients) / FLAGS.towers, variable))
train = optimizer.apply_gradients(means)
loss = tf.add_n(losses) / FLAGS.towers

with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as session:
    session.run(tf.global_variables_initializer())
    for step in range(FLAGS.steps):
        inputs, labels = batch(step)
        last, _ = session.run([loss, train], {x_: inputs, y_: labels})
    weights = b"".join(w.tobytes() for w in session.run(tf.trainable_variables()))
    digest = hashlib.sha256(weights).hexdigest()[:16]
    print(f"loss {last:.4f}, weights {digest}")
