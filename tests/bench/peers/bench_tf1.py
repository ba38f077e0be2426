# ruff: noqa
"""TensorFlow 1 graph mode (tf.compat.v1): Session.run, optionally XLA auto-clustering."""

import harness  # first: it cleans the environment before NumPy loads

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "xla" in sys.argv:  # read when TensorFlow loads, before the arguments are parsed
    os.environ["TF_XLA_FLAGS"] = "--tf_xla_cpu_global_jit --tf_xla_auto_jit=2"

import numpy as np
import tensorflow.compat.v1 as tf

import workloads as w

tf.disable_v2_behavior()


def build(options):
    data = w.batch(options.workload)
    if options.workload == "W1":
        fetches, feeds = chain(data)
    elif options.workload == "W5":
        fetches, feeds = fused(data)
    else:
        fetches, feeds = training(options, *data)
    session = tf.Session(config=_config(options.threads))
    session.run(tf.global_variables_initializer())
    if options.workload in ("W1", "W5"):
        return lambda: session.run(fetches, feeds)
    return lambda: float(session.run(fetches, feeds)[0])


def _config(threads):
    return tf.ConfigProto(
        intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
    )


def chain(data):
    """W1: x [8] -> [8]."""
    x = tf.placeholder(tf.float32, data.shape)
    return w.chain(x, tf.tanh, tf.maximum), {x: data}


def fused(data):
    """W5: x [n] -> sum [], gradient [n]."""
    x = tf.Variable(data)
    a = tf.placeholder(tf.float32, [])
    b = tf.placeholder(tf.float32, [])
    total = tf.reduce_sum(tf.sigmoid(a * x + b) * tf.tanh(x) - tf.exp(-x * x))
    feeds = {a: np.float32(w.FUSED_A), b: np.float32(w.FUSED_B)}
    return [total, tf.gradients(total, x)[0]], feeds


def training(options, x_data, y_data):
    """Loss and update of W2, W2s, W3, W4, W6, W7, W8."""
    p = {name: tf.Variable(value) for name, value in w.parameters(options.workload).items()}
    x = tf.placeholder(x_data.dtype, x_data.shape)
    y = tf.placeholder(tf.int32, y_data.shape)
    logits = logits_of(options, p, x)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(y, [-1]), logits=logits
    )
    loss = tf.reduce_mean(losses)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        update = optimizer(options.workload).minimize(loss)
    return [loss, update], {x: x_data, y: y_data}


def optimizer(workload):
    if workload in w.BLOCKS:
        return tf.train.GradientDescentOptimizer(w.SGD_RATE)
    a = w.ADAM
    return tf.train.AdamOptimizer(a.rate, a.beta1, a.beta2, a.epsilon)


def logits_of(options, p, x):
    if options.workload in w.MLPS:
        return mlp(p, x, len(w.MLPS[options.workload].sizes) - 1)
    if options.workload in w.CNNS:
        return cnn(p, x, options.dropout)
    if options.workload == "W4":
        return lstm(p, x)
    if options.workload == "W7":
        return normed_cnn(p, x)
    if options.workload == "W8":
        return gru(p, x)
    return block(p, x)


def dense(x, weight, bias):
    """x [n, in] -> [n, out]."""
    return tf.nn.bias_add(tf.matmul(x, weight), bias)


def mlp(p, x, layers):
    """x [batch, 784] -> [batch, 10]."""
    for i in range(layers):
        x = dense(x, p[f"w{i}"], p[f"b{i}"])
        if i < layers - 1:
            x = tf.nn.relu(x)
    return x


def cnn(p, x, dropout):
    """x [batch, 28, 28, 1] -> [batch, 10]."""
    for name in ("conv1", "conv2"):
        x = tf.nn.conv2d(x, p[name], strides=[1, 1, 1, 1], padding="SAME")
        x = tf.nn.relu(tf.nn.bias_add(x, p[f"{name}_bias"]))
        x = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    x = tf.reshape(x, [-1, int(p["dense1"].shape[0])])
    x = tf.nn.relu(tf.matmul(x, p["dense1"]) + p["dense1_bias"])
    x = tf.nn.dropout(x, rate=dropout)
    return tf.matmul(x, p["dense2"]) + p["dense2_bias"]


def lstm(p, x):
    """x [batch, 28, 28] -> [batch, 10]; the input product runs once for all steps."""
    size, hidden = w.LSTM.batch, w.LSTM.hidden
    h = c = tf.zeros([size, hidden])
    rows = tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, w.LSTM.inputs])
    gates = tf.reshape(tf.matmul(rows, p["wx"]) + p["b"], [w.LSTM.steps, size, 4 * hidden])
    for z in tf.unstack(gates):
        i, f, g, o = tf.split(z + tf.matmul(h, p["wh"]), 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
    return tf.matmul(h, p["out"]) + p["out_bias"]


def normed_cnn(p, x):
    """x [batch, 28, 28, 1] -> [batch, 10]."""
    for i in range(len(w.NORMED.channels) - 1):
        x = tf.nn.conv2d(x, p[f"conv{i}"], strides=[1, 1, 1, 1], padding="SAME")
        x = tf.nn.relu(batch_norm(x, p[f"scale{i}"], p[f"shift{i}"]))
        x = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    return dense(tf.reshape(x, [-1, w.NORMED.flat]), p["dense"], p["dense_bias"])


def batch_norm(x, scale, shift):
    """x [n, h, w, c] -> the same shape; the updates of the moving averages are collected."""
    y, mean, variance = tf.nn.fused_batch_norm(x, scale, shift, epsilon=w.BATCH_EPSILON)
    for value, start in ((mean, 0.0), (variance, 1.0)):
        average = tf.Variable(np.full(scale.shape, start, np.float32), trainable=False)
        update = average.assign_sub((average - value) * (1 - w.BATCH_MOMENTUM))
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    return y


def gru(p, x):
    """x [batch, 28, 28] -> [batch, 10], as `tf.nn.rnn_cell.GRUCell` in `tf.nn.static_rnn`."""
    h = tf.zeros([w.GRU.batch, w.GRU.hidden])
    for step in tf.unstack(x, axis=1):
        gates = dense(tf.concat([step, h], 1), p["gates"], p["gates_bias"])
        reset, keep = tf.split(tf.sigmoid(gates), 2, axis=1)
        both = tf.concat([step, reset * h], 1)
        candidate = tf.tanh(dense(both, p["candidate"], p["candidate_bias"]))
        h = keep * h + (1 - keep) * candidate
    return dense(h, p["out"], p["out_bias"])


def layer_norm(x, scale, shift):
    """x [n, d] -> [n, d]."""
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, shift, scale, w.NORM_EPSILON)


def gelu(x):
    inner = w.GELU_SCALE * (x + w.GELU_CUBE * x * x * x)
    return 0.5 * x * (1.0 + tf.tanh(inner))


def block(p, x):
    """tokens [batch, steps] -> [batch * steps, vocab]."""
    rows = int(x.shape[0]) * w.BLOCK.steps
    e = tf.nn.embedding_lookup(p["embedding"], x) + p["position"]
    e = tf.reshape(e, [rows, w.BLOCK.width])
    e = e + attention(p, layer_norm(e, p["norm1_scale"], p["norm1_shift"]))
    n = layer_norm(e, p["norm2_scale"], p["norm2_shift"])
    e = e + dense(gelu(dense(n, p["ff1"], p["ff1_bias"])), p["ff2"], p["ff2_bias"])
    n = layer_norm(e, p["norm3_scale"], p["norm3_shift"])
    return dense(n, p["vocab"], p["vocab_bias"])


def attention(p, n):
    """n [batch * steps, width] -> the same shape."""
    steps, width, heads = w.BLOCK.steps, w.BLOCK.width, w.BLOCK.heads
    size = int(n.shape[0]) // steps
    head = width // heads
    qkv = tf.reshape(dense(n, p["qkv"], p["qkv_bias"]), [size, steps, 3, heads, head])
    q, k, v = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
    scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * head**-0.5)
    mixed = tf.transpose(tf.matmul(scores, v), [0, 2, 1, 3])
    return dense(tf.reshape(mixed, [size * steps, width]), p["mix"], p["mix_bias"])


if __name__ == "__main__":
    harness.main("tf1", build, modes=("graph", "xla"))
