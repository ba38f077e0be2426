"""Values and gradients of a random graph, by graphflow and by jax, and how far they may differ."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphflow as tf
from tests.peers.graphs import Program

TOLERANCE = 1e-9
NUDGE = 1e-10
WORST = 1e5  # graphs of a worse condition say nothing


class Graph:
    """A program built by graphflow; its scalar is a weighted sum of the outputs."""

    def __init__(self, program: Program):
        with tf.Graph().as_default() as self.graph:
            self.inputs = [tf.placeholder(tf.float64, x.shape) for x in program.inputs]
            outputs = program.run(tf, "graphflow", self.inputs)
            pairs = zip(outputs, weights(program), strict=True)
            total = tf.add_n([tf.reduce_sum(y * w) for y, w in pairs])
            found = tf.gradients(total, self.inputs)
            slopes = [None if g is None else tf.convert_to_tensor(g) for g in found]
        self.results = [*outputs, total]
        self.slopes = slopes

    def run(self, inputs: Any) -> list[Any]:
        """The outputs, the sum, and its gradients."""
        feeds = dict(zip(self.inputs, inputs, strict=True))
        with tf.Session(graph=self.graph) as session:
            wanted = [*self.results, *[s for s in self.slopes if s is not None]]
            values = iter(session.run(wanted, feeds))
        results = [next(values) for _ in self.results]
        return results + [
            np.zeros_like(x) if s is None else next(values)
            for s, x in zip(self.slopes, inputs, strict=True)
        ]


def weights(program: Program) -> list[Any]:
    shapes = {i + len(program.inputs): s.shape for i, s in enumerate(program.steps)}
    return [
        np.cos(np.arange(1.0, np.prod(shapes[i], dtype=int) + 1)).reshape(shapes[i])
        for i in program.outputs
    ]


def by_jax(jax: Any, program: Program) -> list[Any]:
    """What `Graph.run` gives, by jax in float64; compiled as a whole, which costs less."""

    def total(*inputs: Any) -> Any:
        outputs = program.run(jax, "jax", inputs)
        return sum((y * w).sum() for y, w in zip(outputs, weights(program), strict=True)), outputs

    every = tuple(range(len(program.inputs)))
    function = jax.jit(jax.value_and_grad(total, argnums=every, has_aux=True))
    (value, outputs), slopes = function(*program.inputs)
    return [np.asarray(v) for v in (*outputs, value, *slopes)]


def condition(graph: Graph, program: Program, values: Any) -> float:
    """By how much relative changes of the inputs grow on their way to any result."""
    rng = np.random.default_rng(11)
    signs = [rng.choice([-1.0, 1.0], x.shape) for x in program.inputs]
    moved = graph.run([x * (1 + NUDGE * s) for x, s in zip(program.inputs, signs, strict=True)])
    return max(
        float(np.abs(b - a).max() / max(np.abs(a).max(), 1e-300)) / NUDGE if a.any() else 0.0
        for a, b in zip(values, moved, strict=True)
    )


def compare(program: Program, theirs: list[Any]) -> float | None:
    """The largest error over what is allowed; None: the graph is too badly conditioned."""
    graph = Graph(program)
    ours = graph.run(program.inputs)
    growth = condition(graph, program, ours)
    if not growth < WORST:
        return None
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape, (a.shape, b.shape)
        scale = max(float(np.abs(b).max()), 1e-12)
        worst = max(worst, float(np.abs(a - b).max()) / (TOLERANCE * scale * max(growth, 1.0)))
    return worst
