# ruff: noqa
"""PyTorch on CPU: eager and torch.compile (its LSTM also unrolled by hand)."""

import harness  # first: it cleans the environment before NumPy loads

import torch
import torch.nn.functional as F

import workloads as w

MODES = ("eager", "compile", "eager-unroll", "compile-unroll")


def build(options):
    torch.set_num_threads(options.threads)
    wrap = torch.compile if options.mode.startswith("compile") else lambda f: f
    data = w.batch(options.workload)
    if options.workload == "W1":
        return chain_step(wrap, data)
    if options.workload == "W5":
        return fused_step(wrap, data)
    p = {k: leaf(torch.from_numpy(v.copy())) for k, v in w.parameters(options.workload).items()}
    loss, parameters = loss_of(options, p)
    return training_step(wrap(loss), optimizer(options.workload, parameters), *data)


def leaf(tensor):
    return torch.nn.Parameter(tensor)


def chain_step(wrap, data):
    """W1: x [8] -> [8]."""
    function = wrap(lambda x: w.chain(x, torch.tanh, torch.clamp_min))

    def step():
        with torch.no_grad():
            return function(torch.from_numpy(data)).numpy()

    return step


def fused_step(wrap, data):
    """W5: x [n] -> sum, gradient [n]."""
    x = leaf(torch.from_numpy(data))
    function = wrap(
        lambda x, a, b: (torch.sigmoid(a * x + b) * torch.tanh(x) - torch.exp(-x * x)).sum()
    )

    def step():
        x.grad = None
        total = function(x, torch.tensor(w.FUSED_A), torch.tensor(w.FUSED_B))
        total.backward()
        return total.item(), x.grad.numpy()

    return step


def training_step(loss_function, optimizer, x, y):
    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(torch.from_numpy(x), torch.from_numpy(y).long())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def optimizer(workload, parameters):
    if workload in w.BLOCKS:
        return torch.optim.SGD(parameters, lr=w.SGD_RATE, fused=True)
    betas = (w.ADAM.beta1, w.ADAM.beta2)
    return torch.optim.Adam(parameters, lr=w.ADAM.rate, betas=betas, eps=w.ADAM.epsilon, fused=True)


def loss_of(options, p):
    """(loss function of x and labels, parameters to train)."""
    if options.workload in w.MLPS:
        return mlp_loss(p, len(w.MLPS[options.workload].sizes) - 1), list(p.values())
    if options.workload in w.CNNS:
        use_channels_last(p, ("conv1", "conv2"))
        return cnn_loss(p, options.dropout), list(p.values())
    if options.workload == "W4" and options.mode.endswith("unroll"):
        return unrolled_lstm_loss(p), list(p.values())
    if options.workload == "W4":
        return library_lstm_loss(p)
    if options.workload == "W7":
        use_channels_last(p, ("conv0", "conv1"))
        return normed_cnn_loss(p), list(p.values())
    if options.workload == "W8" and options.mode.endswith("unroll"):
        return unrolled_gru_loss(p), list(p.values())
    if options.workload == "W8":
        return library_gru_loss(p)
    return block_loss(p), list(p.values())


def mlp_loss(p, layers):
    """x [batch, 784], y [batch] -> []."""

    def loss(x, y):
        for i in range(layers):
            x = torch.addmm(p[f"b{i}"], x, p[f"w{i}"])
            if i < layers - 1:
                x = F.relu(x)
        return F.cross_entropy(x, y)

    return loss


def use_channels_last(p, names):
    """Store conv weights as [out, in, h, w] in channels_last memory, oneDNN's favourite."""
    for name in names:
        weight = p[name].detach().permute(3, 2, 0, 1)
        p[name] = leaf(weight.contiguous(memory_format=torch.channels_last))


def cnn_loss(p, dropout):
    """x [batch, 28, 28, 1], y [batch] -> []."""

    def loss(x, y):
        x = x.permute(0, 3, 1, 2)
        for name in ("conv1", "conv2"):
            x = F.relu(F.conv2d(x, p[name], p[f"{name}_bias"], padding=p[name].shape[-1] // 2))
            x = F.max_pool2d(x, 2)
        x = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        x = F.relu(torch.addmm(p["dense1_bias"], x, p["dense1"]))
        x = F.dropout(x, dropout)
        return F.cross_entropy(torch.addmm(p["dense2_bias"], x, p["dense2"]), y)

    return loss


def normed_cnn_loss(p):
    """x [batch, 28, 28, 1], y [batch] -> []; keeps moving averages."""
    widths = w.NORMED.channels[1:]
    averages = [(torch.zeros(n), torch.ones(n)) for n in widths]

    def loss(x, y):
        x = x.permute(0, 3, 1, 2)
        for i, (mean, variance) in enumerate(averages):
            x = F.conv2d(x, p[f"conv{i}"], padding=1)
            x = F.batch_norm(x, mean, variance, p[f"scale{i}"], p[f"shift{i}"], True,
                             1 - w.BATCH_MOMENTUM, w.BATCH_EPSILON)  # fmt: skip
            x = F.max_pool2d(F.relu(x), 2)
        x = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        return F.cross_entropy(torch.addmm(p["dense_bias"], x, p["dense"]), y)

    return loss


def library_gru_loss(p):
    """x [batch, 28, 28], y [batch] -> [], through torch.nn.GRU, which resets after the product."""
    cell = torch.nn.GRU(w.GRU.inputs, w.GRU.hidden, batch_first=True)

    def loss(x, y):
        _, h = cell(x)
        return F.cross_entropy(torch.addmm(p["out_bias"], h[0], p["out"]), y)

    return loss, [*cell.parameters(), p["out"], p["out_bias"]]


def unrolled_gru_loss(p):
    """x [batch, 28, 28], y [batch] -> [], the same arithmetic as the other scripts."""

    def loss(x, y):
        h = x.new_zeros(x.shape[0], w.GRU.hidden)
        for step in x.unbind(1):
            z = torch.addmm(p["gates_bias"], torch.cat([step, h], 1), p["gates"])
            reset, keep = torch.sigmoid(z).chunk(2, 1)
            both = torch.cat([step, reset * h], 1)
            candidate = torch.tanh(torch.addmm(p["candidate_bias"], both, p["candidate"]))
            h = keep * h + (1 - keep) * candidate
        return F.cross_entropy(torch.addmm(p["out_bias"], h, p["out"]), y)

    return loss


def library_lstm_loss(p):
    """x [batch, 28, 28], y [batch] -> [], through torch.nn.LSTM."""
    cell = torch.nn.LSTM(w.LSTM.inputs, w.LSTM.hidden, batch_first=True)
    with torch.no_grad():
        cell.weight_ih_l0.copy_(p["wx"].T)
        cell.weight_hh_l0.copy_(p["wh"].T)
        cell.bias_ih_l0.zero_()
        cell.bias_hh_l0.zero_()

    def loss(x, y):
        _, (h, _) = cell(x)
        return F.cross_entropy(torch.addmm(p["out_bias"], h[0], p["out"]), y)

    return loss, [*cell.parameters(), p["out"], p["out_bias"]]


def unrolled_lstm_loss(p):
    """x [batch, 28, 28], y [batch] -> [], the same arithmetic as the other scripts."""

    def loss(x, y):
        size, steps, inputs = x.shape
        h = c = x.new_zeros(size, w.LSTM.hidden)
        rows = x.transpose(0, 1).reshape(-1, inputs)
        gates = torch.addmm(p["b"], rows, p["wx"]).view(steps, size, -1)
        for z in gates:
            i, f, g, o = torch.addmm(z, h, p["wh"]).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return F.cross_entropy(torch.addmm(p["out_bias"], h, p["out"]), y)

    return loss


def block_loss(p):
    """tokens [batch, steps], y [batch, steps] -> []."""

    def norm(e, i):
        scale, shift = p[f"norm{i}_scale"], p[f"norm{i}_shift"]
        return F.layer_norm(e, (w.BLOCK.width,), scale, shift, w.NORM_EPSILON)

    def attention(n):
        size, steps, width = n.shape
        qkv = n @ p["qkv"] + p["qkv_bias"]
        q, k, v = qkv.view(size, steps, 3, w.BLOCK.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return mixed.reshape(size, steps, width) @ p["mix"] + p["mix_bias"]

    def feed_forward(n):
        hidden = F.gelu(n @ p["ff1"] + p["ff1_bias"], approximate="tanh")
        return hidden @ p["ff2"] + p["ff2_bias"]

    def loss(x, y):
        e = F.embedding(x, p["embedding"]) + p["position"]
        e = e + attention(norm(e, 1))
        e = e + feed_forward(norm(e, 2))
        logits = norm(e, 3) @ p["vocab"] + p["vocab_bias"]
        return F.cross_entropy(logits.view(x.numel(), -1), y.reshape(-1))

    return loss


if __name__ == "__main__":
    harness.main("torch", build, modes=MODES)
