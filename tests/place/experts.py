"""Networks with the placements that their authors, or common sense, gave them.

Each builder takes `device(i)`, a context manager for what its author put on device i; without
it, the placer has a free hand.
"""

from contextlib import nullcontext

import numpy as np

import graphflow as tf
from graphflow.place import Topology, assumed_device, place
from graphflow.place.devices import Link
from graphflow.rewrite import prune


def gpus(count):
    """GPUs of one machine."""
    names = [f"/gpu:{i}" for i in range(count)]
    devices = tuple([assumed_device(n, flops=10e12, bandwidth=5e11, memory=64e9) for n in names])
    link = Link(10e-6, 12e9)
    every = [d.name for d in devices]
    return Topology(devices, {(a, b): link for a in every for b in every if a != b})


def weight(name, *dims):
    return tf.get_variable(name, dims, initializer=tf.zeros_initializer())


def conv(x, name, size, out, stride=1):
    w = weight(name, size, size, x.shape.as_list()[3], out)
    return tf.nn.relu(tf.nn.conv2d(x, w, [1, stride, stride, 1], "SAME"))


def pool(x, size=3, stride=2):
    return tf.nn.max_pool(x, [1, size, size, 1], [1, stride, stride, 1], "SAME")


def dense(x, name, out, activation=tf.nn.relu):
    return activation(tf.matmul(x, weight(name, x.shape.as_list()[-1], out)))


def alexnet(device):
    """Krizhevsky et al., 2012: two towers that meet in the third layer and at the end."""
    x = tf.zeros([128, 224, 224, 3])
    towers = []
    for i in range(2):
        with device(i), tf.variable_scope(f"t{i}"):
            towers.append(pool(conv(pool(conv(x, "c1", 11, 48, 4)), "c2", 5, 128)))
    halves = []
    for i in range(2):
        with device(i), tf.variable_scope(f"t{i}"):
            both = tf.concat([towers[i], towers[1 - i]], 3)
            y = pool(conv(conv(conv(both, "c3", 3, 192), "c4", 3, 192), "c5", 3, 128))
            halves.append(tf.reshape(y, [128, -1]))
    for layer in ("f6", "f7"):
        wide = [None, None]
        for i in range(2):
            with device(i), tf.variable_scope(f"t{i}"):
                wide[i] = dense(tf.concat([halves[i], halves[1 - i]], 1), layer, 2048)
        halves = wide
    with device(0):
        return dense(tf.concat(halves, 1), "f8", 1000, tf.identity)


def inception(device):
    """Szegedy et al., 2014: the long branches of each module on two devices."""
    with device(0):
        x = pool(conv(tf.zeros([64, 112, 112, 3]), "stem", 7, 192, 2))
    for m in range(4):
        with tf.variable_scope(f"m{m}"):
            with device(0):
                a = conv(x, "a", 1, 64)
                b = conv(conv(x, "b1", 1, 96), "b2", 3, 128)
            with device(1):
                c = conv(conv(x, "c1", 1, 64), "c2", 5, 96)
                d = conv(pool(x, 3, 1), "d", 1, 32)
            with device(0):
                x = tf.concat([a, b, c, d], 3)
    with device(0):
        return tf.reduce_mean(x, [1, 2])


def cell(x, h, c, w):
    i, j, f, o = tf.split(tf.matmul(tf.concat([x, h], 1), w), 4, 1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
    return tf.sigmoid(o) * tf.tanh(c), c


def recurrent(device, xs, name, layers, size, first=0):
    """Unrolled layers, layer l on device first + l."""
    batch = xs[0].shape.as_list()[0]
    for layer in range(layers):
        with device(first + layer), tf.variable_scope(f"{name}{layer}"):
            w = tf.convert_to_tensor(weight("w", 2 * size, 4 * size))
            h = c = tf.zeros([batch, size])
            out = []
            for x in xs:
                h, c = cell(x, h, c, w)
                out.append(h)
            xs = out
    return xs


def lstm(device):
    """Sutskever et al., 2014: four layers, one per device."""
    with device(0):
        xs = [tf.zeros([256, 1024]) + float(t) for t in range(10)]
    out = recurrent(device, xs, "l", 4, 1024)
    with device(3):
        return tf.add_n(out)


def encoder_decoder(device):
    """An encoder on one pair of devices, its decoder on another, with attention."""
    with device(0):
        xs = [tf.zeros([256, 1024]) + float(t) for t in range(8)]
    memory = recurrent(device, xs, "e", 2, 1024)
    with device(2):
        ys = [tf.zeros([256, 1024]) + float(t) for t in range(8)]
    out = recurrent(device, ys, "d", 2, 1024, first=2)
    with device(3):
        keys = tf.stack(memory, 1)
        queries = tf.stack(out, 1)
        scores = tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True))
        mixed = tf.reshape(tf.matmul(scores, keys), [256 * 8, 1024])
        return dense(mixed, "out", 8000, tf.identity)


def block(x, batch, length, size, w):
    """One layer of a transformer; x is [batch * length, size]."""
    q, k, v = (tf.reshape(tf.matmul(x, w[n]), [batch, length, size]) for n in ("q", "k", "v"))
    scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * size**-0.5)
    x = x + tf.matmul(tf.reshape(tf.matmul(scores, v), [batch * length, size]), w["o"])
    return x + tf.matmul(tf.nn.relu(tf.matmul(x, w["up"])), w["down"])


def transformer(device, layers=24, microbatches=4, batch=8, length=128, size=1024):
    """24 layers in four stages of six; four microbatches (Huang et al., GPipe, 2019)."""
    weights = []
    for layer in range(layers):
        with device(layer * 4 // layers), tf.variable_scope(f"layer{layer}"):
            w = {n: weight(n, size, size) for n in ("q", "k", "v", "o")}
            w |= {"up": weight("up", size, 4 * size), "down": weight("down", 4 * size, size)}
            weights.append({n: tf.convert_to_tensor(each) for n, each in w.items()})
    out = []
    for m in range(microbatches):
        with device(0):
            x = tf.zeros([batch * length, size]) + float(m)
        for layer in range(layers):
            with device(layer * 4 // layers):
                x = block(x, batch, length, size, weights[layer])
        with device(3):
            out.append(tf.reduce_mean(x))
    with device(3):
        return tf.add_n(out)


EXPERTS = {
    "alexnet": (alexnet, 2, True),
    "inception": (inception, 2, True),
    "lstm": (lstm, 4, False),
    "encoder_decoder": (encoder_decoder, 4, False),
    "transformer": (transformer, 4, False),
}


def placed(name, expert):
    """The network, placed by its author or by graphflow.  Some are trained, some only run."""
    build, count, trained = EXPERTS[name]
    with tf.Graph().as_default() as graph:
        result = build((lambda i: tf.device(f"/gpu:{i}")) if expert else lambda i: nullcontext())
        fetches, targets = [result], []
        if trained:
            with tf.device("/gpu:0") if expert else nullcontext():
                loss = tf.reduce_sum(result)
                grads = tf.gradients(
                    loss, tf.trainable_variables(), colocate_gradients_with_ops=expert
                )
            fetches = [loss, *grads]
        view = prune(graph, fetches, targets, [])
        assert np.all([t.dims is not None for t in fetches])
        return place(view, gpus(count), soft=True)


def ratio(name):
    """Predicted step of graphflow's placement over that of the author's."""
    ours, theirs = placed(name, False), placed(name, True)
    return ours.makespan / theirs.makespan
