# ruff: noqa
"""JAX on CPU: one jitted training step with donated state.

Modes besides ``jit`` change one thing each: ``scan`` rolls the LSTM loop,
``reshape-pool`` pools by reshape instead of reduce_window, ``rbg`` uses the fast
random generator for dropout.
"""

import harness  # first: it cleans the environment before NumPy loads

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import workloads as w

MODES = ("jit", "scan", "reshape-pool", "rbg")


def build(options):
    if options.threads == 1:
        raise SystemExit("JAX sizes its pool from the affinity mask: use taskset for one thread")
    data = w.batch(options.workload)
    if options.workload == "W1":
        return chain_step(data)
    if options.workload == "W5":
        return fused_step(data)
    return training_step(options, *data)


def chain_step(data):
    """W1: x [8] -> [8]."""
    function = jax.jit(lambda x: w.chain(x, jnp.tanh, jnp.maximum))
    return lambda: np.asarray(function(data))


def fused_step(data):
    """W5: x [n] -> sum, gradient [n]."""

    def total(x, a, b):
        return jnp.sum(jax.nn.sigmoid(a * x + b) * jnp.tanh(x) - jnp.exp(-x * x))

    function = jax.jit(jax.value_and_grad(total))
    x = jnp.asarray(data)

    def step():
        value, gradient = function(x, np.float32(w.FUSED_A), np.float32(w.FUSED_B))
        return float(value), np.asarray(gradient)

    return step


def training_step(options, x, y):
    loss = loss_of(options)
    update = sgd if options.workload in w.BLOCKS else adam
    has_moments = options.workload == "W7"

    def train(state, x, y):
        p, slots, key, averages = state
        key, used = jax.random.split(key) if options.workload in w.CNNS else (key, key)
        result, gradients = jax.value_and_grad(loss, has_aux=has_moments)(p, x, y, used)
        value, moments = result if has_moments else (result, averages)
        p, slots = update(p, slots, gradients)
        averages = jax.tree.map(
            lambda old, new: old - (old - new) * (1 - w.BATCH_MOMENTUM), averages, moments
        )
        return (p, slots, key, averages), value

    train = jax.jit(train, donate_argnums=0)
    state = initial_state(options)

    def step():
        nonlocal state
        state, value = train(state, x, y)
        return float(value)

    return step


def initial_state(options):
    """(parameters, optimizer slots, random key, moving averages)."""
    p = {k: jnp.asarray(v) for k, v in w.parameters(options.workload).items()}
    key = jax.random.key(0, impl="rbg" if options.mode == "rbg" else None)
    if options.workload in w.BLOCKS:
        return p, (), key, ()
    m = jax.tree.map(jnp.zeros_like, p)
    v = jax.tree.map(jnp.zeros_like, p)
    averages = ()
    if options.workload == "W7":
        averages = [(jnp.zeros(n), jnp.ones(n)) for n in w.NORMED.channels[1:]]
    return p, (m, v, jnp.zeros((), jnp.float32)), key, averages


def sgd(p, slots, gradients):
    return jax.tree.map(lambda p, g: p - w.SGD_RATE * g, p, gradients), slots


def adam(p, slots, gradients):
    a = w.ADAM
    m, v, t = slots
    t = t + 1
    rate = a.rate * jnp.sqrt(1 - a.beta2**t) / (1 - a.beta1**t)
    m = jax.tree.map(lambda m, g: a.beta1 * m + (1 - a.beta1) * g, m, gradients)
    v = jax.tree.map(lambda v, g: a.beta2 * v + (1 - a.beta2) * g * g, v, gradients)
    p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + a.epsilon), p, m, v)
    return p, (m, v, t)


def loss_of(options):
    """The loss function (parameters, x, labels, key) -> []."""
    if options.workload in w.MLPS:
        return mlp_loss(len(w.MLPS[options.workload].sizes) - 1)
    if options.workload in w.CNNS:
        return cnn_loss(options.mode, options.dropout)
    if options.workload == "W4":
        return lstm_loss(options.mode)
    if options.workload == "W7":
        return normed_cnn_loss(options.mode)
    if options.workload == "W8":
        return gru_loss(options.mode)
    return block_loss


def cross_entropy(logits, y):
    """logits [n, classes], y [n] -> []."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1))


def mlp_loss(layers):
    """x [batch, 784], y [batch] -> []."""

    def loss(p, x, y, key):
        for i in range(layers):
            x = x @ p[f"w{i}"] + p[f"b{i}"]
            if i < layers - 1:
                x = jax.nn.relu(x)
        return cross_entropy(x, y)

    return loss


def convolve(x, weight):
    """x [n, h, w, in] -> [n, h, w, out]."""
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=layout)


def pool(x, mode):
    """x [n, h, w, c] -> [n, h/2, w/2, c]."""
    if mode == "reshape-pool":
        n, height, width, c = x.shape
        return x.reshape(n, height // 2, 2, width // 2, 2, c).max((2, 4))
    window = (1, 2, 2, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def cnn_loss(mode, dropout):
    """x [batch, 28, 28, 1], y [batch] -> []."""

    def loss(p, x, y, key):
        for name in ("conv1", "conv2"):
            x = pool(jax.nn.relu(convolve(x, p[name]) + p[f"{name}_bias"]), mode)
        x = x.reshape(x.shape[0], -1)
        x = jax.nn.relu(x @ p["dense1"] + p["dense1_bias"])
        if dropout:
            keep = jax.random.bernoulli(key, 1 - dropout, x.shape)
            x = jnp.where(keep, x / (1 - dropout), 0.0)
        return cross_entropy(x @ p["dense2"] + p["dense2_bias"], y)

    return loss


def lstm_loss(mode):
    """x [batch, 28, 28], y [batch] -> []."""

    def loss(p, x, y, key):
        def cell(carry, z):
            h, c = carry
            i, f, g, o = jnp.split(z + h @ p["wh"], 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), None

        h = c = jnp.zeros((x.shape[0], w.LSTM.hidden), jnp.float32)
        gates = x.transpose(1, 0, 2) @ p["wx"] + p["b"]
        if mode == "scan":
            (h, c), _ = lax.scan(cell, (h, c), gates)
        else:
            for z in gates:
                (h, c), _ = cell((h, c), z)
        return cross_entropy(h @ p["out"] + p["out_bias"], y)

    return loss


def normed_cnn_loss(mode):
    """x [batch, 28, 28, 1], y [batch] -> [] and the moments for the moving averages."""

    def loss(p, x, y, key):
        moments = []
        for i in range(len(w.NORMED.channels) - 1):
            x = convolve(x, p[f"conv{i}"])
            mean = x.mean((0, 1, 2))
            variance = jnp.mean((x - mean) ** 2, (0, 1, 2))
            moments.append((mean, variance))
            x = (x - mean) * lax.rsqrt(variance + w.BATCH_EPSILON) * p[f"scale{i}"]
            x = pool(jax.nn.relu(x + p[f"shift{i}"]), mode)
        return cross_entropy(x.reshape(x.shape[0], -1) @ p["dense"] + p["dense_bias"], y), moments

    return loss


def gru_loss(mode):
    """x [batch, 28, 28], y [batch] -> []."""

    def loss(p, x, y, key):
        def cell(h, step):
            z = jnp.concatenate([step, h], 1) @ p["gates"] + p["gates_bias"]
            reset, keep = jnp.split(jax.nn.sigmoid(z), 2, axis=1)
            both = jnp.concatenate([step, reset * h], 1)
            candidate = jnp.tanh(both @ p["candidate"] + p["candidate_bias"])
            return keep * h + (1 - keep) * candidate, None

        h = jnp.zeros((x.shape[0], w.GRU.hidden), jnp.float32)
        steps = x.transpose(1, 0, 2)
        if mode == "scan":
            h, _ = lax.scan(cell, h, steps)
        else:
            for step in steps:
                h, _ = cell(h, step)
        return cross_entropy(h @ p["out"] + p["out_bias"], y)

    return loss


def layer_norm(x, scale, shift):
    """x [..., d] -> [..., d]."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.mean((x - mean) ** 2, -1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + w.NORM_EPSILON) * scale + shift


def attention(p, n):
    """n [batch, steps, width] -> the same shape."""
    size, steps, width = n.shape
    head = width // w.BLOCK.heads
    qkv = (n @ p["qkv"] + p["qkv_bias"]).reshape(size, steps, 3, w.BLOCK.heads, head)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    scores = jax.nn.softmax(q @ k.transpose(0, 1, 3, 2) * head**-0.5)
    mixed = (scores @ v).transpose(0, 2, 1, 3).reshape(size, steps, width)
    return mixed @ p["mix"] + p["mix_bias"]


def block_loss(p, x, y, key):
    """tokens [batch, steps], y [batch, steps] -> []."""
    e = p["embedding"][x] + p["position"]
    e = e + attention(p, layer_norm(e, p["norm1_scale"], p["norm1_shift"]))
    n = layer_norm(e, p["norm2_scale"], p["norm2_shift"])
    hidden = jax.nn.gelu(n @ p["ff1"] + p["ff1_bias"], approximate=True)
    e = e + hidden @ p["ff2"] + p["ff2_bias"]
    n = layer_norm(e, p["norm3_scale"], p["norm3_shift"])
    logits = n @ p["vocab"] + p["vocab_bias"]
    return cross_entropy(logits.reshape(x.size, -1), y.reshape(-1))


if __name__ == "__main__":
    harness.main("jax", build, modes=MODES)
