"""Values and gradients of a random graph, by graphflow and by jax, and how far they may differ."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphflow as tf
from tests.peers.graphs import Program

TOLERANCE = 1e-9
NUDGE = 1e-10
WORST = 1e5  # graphs whose results move more than that say nothing


class Graph:
    """A program built by graphflow; its scalar is a weighted sum of the outputs.

    Args:
      nudge: by how much, relatively, what each step gives is moved up or down.
    """

    def __init__(self, program: Program, nudge: float = 0.0):
        def moved(y: Any) -> Any:
            """Equal numbers alike: ties stay ties.  Divided: nearly every graph multiplies, and a
            wrong gradient of that must not pass for bad conditioning."""
            return y / (1.0 + nudge * tf.stop_gradient(tf.sin(y * 1e5))) if nudge else y

        with tf.Graph().as_default() as self.graph:
            self.inputs = [tf.placeholder(tf.float64, x.shape) for x in program.inputs]
            outputs = program.run(tf, "graphflow", self.inputs, moved)
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


def reach(program: Program, values: Any) -> list[float]:
    """By how much each result moves when inputs and steps do, over how much those do.

    Rounding moves every step, so that a result that is zero by cancellation has a reach, too.
    """
    rng = np.random.default_rng(11)
    signs = [rng.choice([-1.0, 1.0], x.shape) for x in program.inputs]
    inputs = [x * (1 + NUDGE * s) for x, s in zip(program.inputs, signs, strict=True)]
    moved = Graph(program, NUDGE).run(inputs)
    return [float(np.abs(b - a).max()) / NUDGE for a, b in zip(values, moved, strict=True)]


def compare(program: Program, theirs: list[Any]) -> float | None:
    """The largest error over what is allowed; None: the graph is too badly conditioned."""
    ours = Graph(program).run(program.inputs)
    scales = [float(np.abs(b).max()) for b in theirs]
    reaches = reach(program, ours)
    if not max(reaches) < WORST * max(scales):
        return None
    worst = 0.0
    for a, b, scale, moves in zip(ours, theirs, scales, reaches, strict=True):
        assert a.shape == b.shape, (a.shape, b.shape)
        error = float(np.abs(a - b).max())
        worst = max(worst, error / (TOLERANCE * max(scale, moves)) if error else 0.0)
    return worst
