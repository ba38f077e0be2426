"""A program for TensorFlow 1, as people wrote them: nothing in it knows of graphflow.

graphflow run examples/tensorflow1/xor.py --steps 500
"""

import argparse

import numpy as np
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=500)
FLAGS = parser.parse_args()

x_ = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
y_ = np.array([[0], [1], [1], [0]], dtype=np.float32)

tf.set_random_seed(4)
x = tf.placeholder(tf.float32, shape=[None, 2], name="x")
y = tf.placeholder(tf.float32, shape=[None, 1], name="y")

with tf.name_scope("hidden"):
    w1 = tf.Variable(tf.truncated_normal([2, 8], stddev=1.0), name="w")
    b1 = tf.Variable(tf.zeros([8]), name="b")
    hidden = tf.nn.tanh(tf.matmul(x, w1) + b1)
with tf.name_scope("output"):
    w2 = tf.Variable(tf.truncated_normal([8, 1], stddev=1.0), name="w")
    b2 = tf.Variable(tf.zeros([1]), name="b")
    logits = tf.add(tf.matmul(hidden, w2), b2, name="logits")

cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=logits)
loss = tf.reduce_mean(cross_entropy, keep_dims=False)
global_step = tf.Variable(0, trainable=False, name="global_step")
train_op = tf.train.AdamOptimizer(0.05).minimize(loss, global_step=global_step)

sess = tf.Session()
sess.run(tf.initialize_all_variables())
for i in range(FLAGS.steps):
    _, loss_value = sess.run([train_op, loss], feed_dict={x: x_, y: y_})
    if i % 100 == 0:
        print("step", i, "loss", round(float(loss_value), 3))
answers = sess.run(tf.sigmoid(logits), feed_dict={x: x_})
print("after", sess.run("global_step:0"), "steps:", np.round(answers.ravel(), 1))
sess.close()
