# ruff: noqa
"""The workloads: sizes, initial parameters and one synthetic batch each.

Every implementation computes the same step on the same numbers:

=====  ==========================================================  ===============
W1     chain of 50 elementwise operations on 8 floats              overhead
W2     MLP 784-512-512-10, batch 128, Adam                         GEMM + Adam
W2s    MLP 784-64-10, batch 32, Adam                               small kernels
W3     two 5x5 convolutions, pools, two dense layers, dropout,     convolution
       batch 64, Adam
W4     LSTM, 28 steps of 28 inputs, 128 units, batch 128, Adam     many small GEMMs
W5     value and gradient of sum(sigmoid(a*x+b)*tanh(x)-exp(-x*x)) fusion
       for 4 Mi floats
W6     one pre-norm transformer block with embedding and           mixed
       vocabulary head, batch 8 x 64 tokens, SGD
W7     two 3x3 convolutions with batch normalisation and moving    batch norm
       averages, pools, a dense layer, batch 64, Adam
W8     GRU, 28 steps of 28 inputs, 128 units, batch 128, Adam      many small GEMMs
=====  ==========================================================  ===============

The same models in other sizes, which have no hand-written reference:

=========  ======================================================================
W2-1       W2's MLP, batch 1
W2-1024    W2's MLP, batch 1024
MLP-small  MLP 16-32-32-4, batch 16
W3-256     W3, batch 256
CNN-3x3    3x3 convolutions of 28 x 28 images with 64, 128 and 256 channels, batch 16
W6-32      W6, batch 32 x 64 tokens
=========  ======================================================================

Images are [batch, height, width, channel], convolution weights
[height, width, in, out], dense weights [in, out] (``x @ W``).
"""

import environment  # noqa: F401  (unsets OpenBLAS variables before NumPy loads)

from types import SimpleNamespace

import numpy as np

NAMES = ("W1", "W2", "W2s", "W3", "W4", "W5", "W6", "W7", "W8")
OTHER_SIZES = ("W2-1", "W2-1024", "MLP-small", "W3-256", "CNN-3x3", "W6-32")

CHAIN_OPERATIONS = 50
CHAIN_SIZE = 8
MLPS = {
    "W2": SimpleNamespace(batch=128, sizes=(784, 512, 512, 10)),
    "W2s": SimpleNamespace(batch=32, sizes=(784, 64, 10)),
    "W2-1": SimpleNamespace(batch=1, sizes=(784, 512, 512, 10)),
    "W2-1024": SimpleNamespace(batch=1024, sizes=(784, 512, 512, 10)),
    "MLP-small": SimpleNamespace(batch=16, sizes=(16, 32, 32, 4)),
}
SIDE = 28  # of images; each of the two convolutions is followed by a pool that halves it
CNN = SimpleNamespace(batch=64, kernel=5, channels=(1, 32, 64), hidden=1024, classes=10)
WIDE_CNN = SimpleNamespace(batch=16, kernel=3, channels=(64, 128, 256), hidden=128, classes=10)
CNNS = {"W3": CNN, "W3-256": SimpleNamespace(**{**vars(CNN), "batch": 256}), "CNN-3x3": WIDE_CNN}
LSTM = SimpleNamespace(batch=128, steps=28, inputs=28, hidden=128, classes=10)
FUSED_SIZE = 4 * 1024 * 1024
FUSED_A, FUSED_B = 1.5, 0.25
NORMED = SimpleNamespace(batch=64, channels=(1, 32, 64), flat=3136, classes=10)
GRU = SimpleNamespace(batch=128, steps=28, inputs=28, hidden=128, classes=10)
BLOCK = SimpleNamespace(batch=8, steps=64, width=256, heads=4, ff=1024, vocab=1000)
BLOCKS = {"W6": BLOCK, "W6-32": SimpleNamespace(**{**vars(BLOCK), "batch": 32})}

ADAM = SimpleNamespace(rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8)
SGD_RATE = 0.1
NORM_EPSILON = 1e-5
BATCH_EPSILON, BATCH_MOMENTUM = 1e-3, 0.9
GELU_SCALE, GELU_CUBE = 0.7978845608, 0.044715


def chain(x, tanh, maximum):
    """W1 on any array type that has operators: x [8] -> [8]."""
    y = x
    for i in range(CHAIN_OPERATIONS // 5):
        y = y * (1.0 + 0.01 * i)
        y = y + 0.1
        y = tanh(y)
        y = maximum(y, -0.5)
        y = y - 0.05
    return y


def parameters(workload):
    """Initial parameters, in order: {name: float32 array}; W1 and W5 have none."""
    make = _PARAMETERS.get(workload)
    return make(np.random.default_rng(7)) if make else {}


def batch(workload):
    """What one step feeds: x for W1 and W5, otherwise (x, int32 labels)."""
    return _BATCHES[workload](np.random.default_rng(11))


# ---------------------------------------------------------------- parameters


def _glorot(rng, *shape):
    fan_in, fan_out = int(np.prod(shape[:-1])), shape[-1]
    scale = np.sqrt(2.0 / (fan_in + fan_out))
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def _normal(rng, *shape):
    return (rng.standard_normal(shape) * 0.05).astype(np.float32)


def _zeros(*shape):
    return np.zeros(shape, np.float32)


def _ones(*shape):
    return np.ones(shape, np.float32)


def _mlp_parameters(sizes):
    def make(rng):
        result = {}
        for i, (n_in, n_out) in enumerate(zip(sizes, sizes[1:])):
            result[f"w{i}"] = _glorot(rng, n_in, n_out)
            result[f"b{i}"] = _zeros(n_out)
        return result

    return make


def _cnn_parameters(cnn):
    def make(rng):
        k, (a, b, c) = cnn.kernel, cnn.channels
        return {
            "conv1": _glorot(rng, k, k, a, b),
            "conv1_bias": _zeros(b),
            "conv2": _glorot(rng, k, k, b, c),
            "conv2_bias": _zeros(c),
            "dense1": _glorot(rng, (SIDE // 4) ** 2 * c, cnn.hidden),
            "dense1_bias": _zeros(cnn.hidden),
            "dense2": _glorot(rng, cnn.hidden, cnn.classes),
            "dense2_bias": _zeros(cnn.classes),
        }

    return make


def _lstm_parameters(rng):
    """Gate order along the 4*hidden axis: input, forget, candidate, output."""
    return {
        "wx": _glorot(rng, LSTM.inputs, 4 * LSTM.hidden),
        "wh": _glorot(rng, LSTM.hidden, 4 * LSTM.hidden),
        "b": _zeros(4 * LSTM.hidden),
        "out": _glorot(rng, LSTM.hidden, LSTM.classes),
        "out_bias": _zeros(LSTM.classes),
    }


def _normed_parameters(rng):
    """No biases: the shifts of the normalisation are there."""
    result = {}
    for i, (n_in, n_out) in enumerate(zip(NORMED.channels, NORMED.channels[1:])):
        result[f"conv{i}"] = _glorot(rng, 3, 3, n_in, n_out)
        result[f"scale{i}"], result[f"shift{i}"] = _ones(n_out), _zeros(n_out)
    result["dense"] = _glorot(rng, NORMED.flat, NORMED.classes)
    result["dense_bias"] = _zeros(NORMED.classes)
    return result


def _gru_parameters(rng):
    """Rows of the kernels: inputs, then state.  The gates: reset, update."""
    rows = GRU.inputs + GRU.hidden
    return {
        "gates": _glorot(rng, rows, 2 * GRU.hidden),
        "gates_bias": _ones(2 * GRU.hidden),
        "candidate": _glorot(rng, rows, GRU.hidden),
        "candidate_bias": _zeros(GRU.hidden),
        "out": _glorot(rng, GRU.hidden, GRU.classes),
        "out_bias": _zeros(GRU.classes),
    }


def _block_parameters(rng):
    d, ff, vocab = BLOCK.width, BLOCK.ff, BLOCK.vocab
    return {
        "embedding": _normal(rng, vocab, d),
        "position": _normal(rng, BLOCK.steps, d),
        "norm1_scale": _ones(d),
        "norm1_shift": _zeros(d),
        "qkv": _glorot(rng, d, 3 * d),
        "qkv_bias": _zeros(3 * d),
        "mix": _glorot(rng, d, d),
        "mix_bias": _zeros(d),
        "norm2_scale": _ones(d),
        "norm2_shift": _zeros(d),
        "ff1": _glorot(rng, d, ff),
        "ff1_bias": _zeros(ff),
        "ff2": _glorot(rng, ff, d),
        "ff2_bias": _zeros(d),
        "norm3_scale": _ones(d),
        "norm3_shift": _zeros(d),
        "vocab": _glorot(rng, d, vocab),
        "vocab_bias": _zeros(vocab),
    }


_PARAMETERS = {
    **{name: _mlp_parameters(mlp.sizes) for name, mlp in MLPS.items()},
    **{name: _cnn_parameters(cnn) for name, cnn in CNNS.items()},
    "W4": _lstm_parameters,
    **dict.fromkeys(BLOCKS, _block_parameters),
    "W7": _normed_parameters,
    "W8": _gru_parameters,
}

# ---------------------------------------------------------------- batches


def _floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _integers(rng, high, *shape):
    return rng.integers(0, high, shape).astype(np.int32)


def _mlp_batch(mlp):
    def make(rng):
        x = _floats(rng, mlp.batch, mlp.sizes[0])
        return x, _integers(rng, mlp.sizes[-1], mlp.batch)

    return make


def _cnn_batch(cnn):
    def make(rng):
        x = _floats(rng, cnn.batch, SIDE, SIDE, cnn.channels[0])
        return x, _integers(rng, cnn.classes, cnn.batch)

    return make


def _lstm_batch(rng):
    x = _floats(rng, LSTM.batch, LSTM.steps, LSTM.inputs)
    return x, _integers(rng, LSTM.classes, LSTM.batch)


def _block_batch(block):
    def make(rng):
        tokens = _integers(rng, block.vocab, block.batch, block.steps)
        return tokens, _integers(rng, block.vocab, block.batch, block.steps)

    return make


_BATCHES = {
    "W1": lambda rng: _floats(rng, CHAIN_SIZE),
    **{name: _mlp_batch(mlp) for name, mlp in MLPS.items()},
    **{name: _cnn_batch(cnn) for name, cnn in CNNS.items()},
    "W4": _lstm_batch,
    "W5": lambda rng: _floats(rng, FUSED_SIZE),
    **{name: _block_batch(block) for name, block in BLOCKS.items()},
    "W7": _cnn_batch(CNN),
    "W8": _lstm_batch,
}
