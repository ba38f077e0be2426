# ruff: noqa
"""NumPy baseline: straight-line calls into preallocated buffers (W1, W2, W2s, W5).

This is what generated Python can reach without native code: no allocation, one
NumPy call per operation, no interpreter work besides the calls.
"""

import harness  # first: it cleans the environment before NumPy loads

import numpy as np

import workloads as w

f32 = np.float32


def build(options):
    builders = {"W1": chain_step, "W2": mlp_step, "W2s": mlp_step, "W5": fused_step}
    if options.workload not in builders:
        raise SystemExit(f"the NumPy baseline has no {options.workload}")
    return builders[options.workload](options.workload)


def chain_step(workload):
    """W1: 50 calls on 8 floats, written out as one straight function."""
    names = {"x": w.batch(workload), "y": np.empty(w.CHAIN_SIZE, f32)}
    names |= {"multiply": np.multiply, "add": np.add, "subtract": np.subtract}
    names |= {"tanh": np.tanh, "maximum": np.maximum}
    names |= {"tenth": f32(0.1), "floor": f32(-0.5), "shift": f32(0.05)}
    lines = ["def step():"]
    for i in range(w.CHAIN_OPERATIONS // 5):
        names[f"scale{i}"] = np.full((), 1 + 0.01 * i, f32)
        lines += [
            f"    multiply({'y' if i else 'x'}, scale{i}, y)",
            "    add(y, tenth, y)",
            "    tanh(y, y)",
            "    maximum(y, floor, out=y)",
            "    subtract(y, shift, y)",
        ]
    lines.append("    return y.copy()")
    exec("\n".join(lines), names)
    return names["step"]


def mlp_step(workload):
    """W2, W2s: forward, backward and Adam on buffers made once."""
    x, labels = w.batch(workload)
    layers = _Mlp(x, labels, w.parameters(workload), w.MLPS[workload].sizes)
    return layers.step


class _Mlp:
    def __init__(self, x, labels, parameters, sizes):
        self.x, self.labels = x, labels
        self.count = len(sizes) - 1
        self.rows = np.arange(len(x))
        self.weights = [parameters[f"w{i}"] for i in range(self.count)]
        self.biases = [parameters[f"b{i}"] for i in range(self.count)]
        self.h = [x] + [np.empty((len(x), n), f32) for n in sizes[1:]]
        self.dh = [None] + [np.empty((len(x), n), f32) for n in sizes[1:]]
        self.positive = [None] + [np.empty((len(x), n), bool) for n in sizes[1:]]
        self.column = np.empty((len(x), 1), f32)
        self.weight_grads = [np.empty_like(v) for v in self.weights]
        self.bias_grads = [np.empty_like(v) for v in self.biases]
        values = self.weights + self.biases
        grads = self.weight_grads + self.bias_grads
        self.state = [(p, g, *(np.zeros_like(p) for _ in range(3))) for p, g in zip(values, grads)]
        self.t = 0

    def step(self):
        self.forward()
        loss = self.softmax_cross_entropy()
        self.backward()
        self.adam()
        return loss

    def forward(self):
        """h[i] [batch, n_i] -> h[i+1] [batch, n_i+1]."""
        for i in range(self.count):
            y = self.h[i + 1]
            np.dot(self.h[i], self.weights[i], y)
            np.add(y, self.biases[i], y)
            if i < self.count - 1:
                np.maximum(y, 0, out=y)

    def softmax_cross_entropy(self):
        """Mean loss; turns the logits into their gradient, in place."""
        z, column = self.h[-1], self.column
        np.max(z, 1, column, True)
        np.subtract(z, column, z)
        picked = z[self.rows, self.labels]
        np.exp(z, z)
        np.sum(z, 1, None, column, True)
        loss = float(np.mean(np.log(column[:, 0]) - picked))
        np.divide(z, column, z)
        z[self.rows, self.labels] -= 1
        np.multiply(z, f32(1 / len(z)), z)
        self.dh[-1] = z
        return loss

    def backward(self):
        for i in range(self.count - 1, -1, -1):
            if i:
                np.dot(self.dh[i + 1], self.weights[i].T, self.dh[i])
                np.greater(self.h[i], 0, self.positive[i])
                np.multiply(self.dh[i], self.positive[i], self.dh[i])
            np.dot(self.h[i].T, self.dh[i + 1], self.weight_grads[i])
            np.sum(self.dh[i + 1], 0, None, self.bias_grads[i])

    def adam(self):
        self.t += 1
        a = w.ADAM
        rate = f32(a.rate * np.sqrt(1 - a.beta2**self.t) / (1 - a.beta1**self.t))
        for p, g, m, v, u in self.state:
            np.multiply(m, f32(a.beta1), m)
            np.multiply(g, f32(1 - a.beta1), u)
            np.add(m, u, m)
            np.multiply(g, g, u)
            np.multiply(u, f32(1 - a.beta2), u)
            np.multiply(v, f32(a.beta2), v)
            np.add(v, u, v)
            np.sqrt(v, u)
            np.add(u, f32(a.epsilon), u)
            np.divide(m, u, u)
            np.multiply(u, rate, u)
            np.subtract(p, u, p)


def fused_step(workload, block=16384):
    """W5 in blocks that stay in the cache: 24 NumPy calls per block."""
    x = w.batch(workload)
    gradient = np.empty_like(x)
    buffers = [np.empty(block, f32) for _ in range(4)]

    def step():
        total = 0.0
        for i in range(0, x.size, block):
            total += _fused_block(x[i : i + block], gradient[i : i + block], *buffers)
        return total, gradient

    return step


def _fused_block(x, gradient, s, t, e, u):
    a, b = f32(w.FUSED_A), f32(w.FUSED_B)
    np.multiply(x, a, out=s)
    np.add(s, b, out=s)
    np.negative(s, out=s)
    np.exp(s, out=s)
    np.add(s, 1, out=s)
    np.reciprocal(s, out=s)  # s = sigmoid(a*x+b)
    np.tanh(x, out=t)
    np.multiply(x, x, out=e)
    np.negative(e, out=e)
    np.exp(e, out=e)  # e = exp(-x*x)
    np.multiply(s, t, out=u)
    np.subtract(u, e, out=u)
    total = float(u.sum())
    np.subtract(1, s, out=u)
    np.multiply(u, s, out=u)
    np.multiply(u, a, out=u)
    np.multiply(u, t, out=u)
    np.multiply(t, t, out=t)
    np.subtract(1, t, out=t)
    np.multiply(t, s, out=t)
    np.add(u, t, out=u)
    np.multiply(e, x, out=e)
    np.multiply(e, 2, out=e)
    np.add(u, e, out=gradient)
    return total


if __name__ == "__main__":
    harness.main("numpy", build)
