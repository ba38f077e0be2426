"""Random graphs that two libraries can build: a list of steps, drawn from a seed.

A step names an op of the table and the values it takes.  Domains are guarded by the ops
themselves (a logarithm is taken of x * x + 0.5), so that values stay of moderate size and away from
poles; ties, where libraries may differ in the sub-gradient, do not happen to random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SHAPES = ((), (3,), (2, 3), (2, 1), (1, 3), (3, 2), (2, 3, 2), (2, 2, 3))
MOST = 64  # elements of a value


@dataclass(frozen=True)
class Step:
    """One op of a graph.

    Attributes:
      name: of the op, for messages.
      inputs: numbers of earlier values.
      graphflow: (tf, *values) -> value.
      jax: (jax, *values) -> value.
      shape: of the result.
    """

    name: str
    inputs: tuple[int, ...]
    graphflow: Callable[..., Any]
    jax: Callable[..., Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Inputs, steps, and the values whose weighted sum is differentiated."""

    inputs: tuple[Any, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def run(
        self, library: Any, which: str, inputs: Any, change: Callable[[Any], Any] = lambda y: y
    ) -> list[Any]:
        """The outputs by one library; `change` is applied to what each step gives."""
        values = list(inputs)
        for step in self.steps:
            result = getattr(step, which)(library, *[values[i] for i in step.inputs])
            values.append(change(result))
        return [values[i] for i in self.outputs]

    def __str__(self) -> str:
        return "; ".join(f"{s.name}{list(s.inputs)}" for s in self.steps)


UNARY: dict[str, tuple[Any, Any]] = {
    "neg": (lambda tf, x: -x, lambda j, x: -x),
    "square": (lambda tf, x: tf.square(tf.tanh(x)), lambda j, x: j.numpy.tanh(x) ** 2),
    "abs": (lambda tf, x: tf.abs(x), lambda j, x: j.numpy.abs(x)),
    "tanh": (lambda tf, x: tf.tanh(x), lambda j, x: j.numpy.tanh(x)),
    "sigmoid": (lambda tf, x: tf.sigmoid(x), lambda j, x: j.nn.sigmoid(x)),
    "sin": (lambda tf, x: tf.sin(x), lambda j, x: j.numpy.sin(x)),
    "cos": (lambda tf, x: tf.cos(x), lambda j, x: j.numpy.cos(x)),
    "exp": (lambda tf, x: tf.exp(tf.tanh(x)), lambda j, x: j.numpy.exp(j.numpy.tanh(x))),
    "expm1": (lambda tf, x: tf.expm1(tf.tanh(x)), lambda j, x: j.numpy.expm1(j.numpy.tanh(x))),
    "log": (lambda tf, x: tf.log(x * x + 0.5), lambda j, x: j.numpy.log(x * x + 0.5)),
    "log1p": (lambda tf, x: tf.log1p(x * x), lambda j, x: j.numpy.log1p(x * x)),
    "sqrt": (lambda tf, x: tf.sqrt(x * x + 1.0), lambda j, x: j.numpy.sqrt(x * x + 1.0)),
    "rsqrt": (lambda tf, x: tf.rsqrt(x * x + 1.0), lambda j, x: j.lax.rsqrt(x * x + 1.0)),
    "reciprocal": (lambda tf, x: tf.reciprocal(x * x + 1.0), lambda j, x: 1.0 / (x * x + 1.0)),
    "atan": (lambda tf, x: tf.atan(x), lambda j, x: j.numpy.arctan(x)),
    "asinh": (lambda tf, x: tf.asinh(x), lambda j, x: j.numpy.arcsinh(x)),
    "erf": (lambda tf, x: tf.erf(x), lambda j, x: j.scipy.special.erf(x)),
    "lgamma": (
        lambda tf, x: tf.lgamma(x * x + 1.0),
        lambda j, x: j.scipy.special.gammaln(x * x + 1.0),
    ),
    "digamma": (
        lambda tf, x: tf.digamma(x * x + 1.0),
        lambda j, x: j.scipy.special.digamma(x * x + 1.0),
    ),
    "relu": (lambda tf, x: tf.nn.relu(x), lambda j, x: j.nn.relu(x)),
    "elu": (lambda tf, x: tf.nn.elu(x), lambda j, x: j.nn.elu(x)),
    "selu": (lambda tf, x: tf.nn.selu(x), lambda j, x: j.nn.selu(x)),
    "softplus": (lambda tf, x: tf.nn.softplus(x), lambda j, x: j.nn.softplus(x)),
    "softsign": (lambda tf, x: tf.nn.softsign(x), lambda j, x: j.nn.soft_sign(x)),
}
BINARY: dict[str, tuple[Any, Any]] = {
    "add": (lambda tf, x, y: x + y, lambda j, x, y: x + y),
    "sub": (lambda tf, x, y: x - y, lambda j, x, y: x - y),
    "mul": (lambda tf, x, y: x * y, lambda j, x, y: x * y),
    "div": (lambda tf, x, y: x / (y * y + 1.0), lambda j, x, y: x / (y * y + 1.0)),
    "maximum": (lambda tf, x, y: tf.maximum(x, y), lambda j, x, y: j.numpy.maximum(x, y)),
    "minimum": (lambda tf, x, y: tf.minimum(x, y), lambda j, x, y: j.numpy.minimum(x, y)),
    "where": (
        lambda tf, x, y: tf.where_v2(x > 0.1, x + 0.0 * y, y + 0.0 * x),
        lambda j, x, y: j.numpy.where(x > 0.1, x + 0.0 * y, y + 0.0 * x),
    ),
    "squared_difference": (
        lambda tf, x, y: tf.squared_difference(x, y),
        lambda j, x, y: (x - y) ** 2,
    ),
    "pow": (
        lambda tf, x, y: tf.pow(x * x + 0.5, tf.tanh(y)),
        lambda j, x, y: j.numpy.power(x * x + 0.5, j.numpy.tanh(y)),
    ),
    "atan2": (
        lambda tf, x, y: tf.atan2(x, y * y + 1.0),
        lambda j, x, y: j.numpy.arctan2(x, y * y + 1.0),
    ),
}
REDUCTIONS: dict[str, tuple[Any, Any]] = {
    "reduce_sum": (lambda tf: tf.reduce_sum, lambda j: j.numpy.sum),
    "reduce_mean": (lambda tf: tf.reduce_mean, lambda j: j.numpy.mean),
    "reduce_max": (lambda tf: tf.reduce_max, lambda j: j.numpy.max),
    "reduce_min": (lambda tf: tf.reduce_min, lambda j: j.numpy.min),
    "reduce_prod": (lambda tf: tf.reduce_prod, lambda j: j.numpy.prod),
    "reduce_logsumexp": (lambda tf: tf.reduce_logsumexp, lambda j: j.scipy.special.logsumexp),
}


class Builder:
    """Draws steps one by one."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.inputs = [self.rng.standard_normal(self.pick(SHAPES)) for _ in range(3)]
        self.shapes = [x.shape for x in self.inputs]
        self.steps: list[Step] = []

    def pick(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def value(self, least: int = 0) -> int | None:
        """The number of a value of at least that rank; late ones are likelier."""
        found = [i for i, s in enumerate(self.shapes) if len(s) >= least]
        if not found:
            return None
        weights = np.arange(1, len(found) + 1)
        return int(self.rng.choice(found, p=weights / weights.sum()))

    def add(self, name: str, inputs: Any, graphflow: Any, jax: Any) -> None:
        """Enter a step, unless it gives too many elements; NumPy tells its shape."""
        shape = jax(Shapes, *[np.zeros(self.shapes[i]) for i in inputs]).shape
        if 0 < int(np.prod(shape, dtype=int)) <= MOST and len(shape) < 5:
            self.steps.append(Step(name, tuple(inputs), graphflow, jax, shape))
            self.shapes.append(shape)

    def step(self) -> None:
        kinds = (self.unary, self.binary, self.binary, self.reduction, self.product, self.array)
        self.pick(kinds)()

    def unary(self) -> None:
        name = self.pick(sorted(UNARY))
        graphflow, jax = UNARY[name]
        x = self.value()
        shape = self.shapes[x]
        self.steps.append(Step(name, (x,), graphflow, jax, shape))
        self.shapes.append(shape)

    def binary(self) -> None:
        name, x, y = self.pick(sorted(BINARY)), self.value(), self.value()
        if x == y and name in ("maximum", "minimum"):
            return  # a tie
        try:
            shape = np.broadcast_shapes(self.shapes[x], self.shapes[y])
        except ValueError:
            return
        if int(np.prod(shape, dtype=int)) <= MOST:
            self.steps.append(Step(name, (x, y), *BINARY[name], shape))
            self.shapes.append(shape)

    def reduction(self) -> None:
        x = self.value(1)
        if x is None:
            return
        name, rank = self.pick(sorted(REDUCTIONS)), len(self.shapes[x])
        axes = tuple(int(a) for a in self.rng.permutation(rank)[: self.rng.integers(1, rank + 1)])
        keep = bool(self.rng.integers(2))
        ours, theirs = REDUCTIONS[name]
        self.steps.append(
            Step(
                name, (x,),
                lambda tf, v: ours(tf)(v, axis=list(axes), keepdims=keep),
                lambda j, v: theirs(j)(v, axis=axes, keepdims=keep),
                np.sum(np.zeros(self.shapes[x]), axis=axes, keepdims=keep).shape,
            )
        )  # fmt: skip
        self.shapes.append(self.steps[-1].shape)

    def product(self) -> None:
        x, y = self.value(2), self.value(2)
        if x is None or y is None:
            return
        a, b = self.shapes[x], self.shapes[y]
        flip = a[-1] != b[-2] and a[-1] == b[-1]
        if len(a) != len(b) or a[:-2] != b[:-2] or (not flip and a[-1] != b[-2]):
            return
        self.add(
            "matmul", (x, y),
            lambda tf, v, w: tf.matmul(v, w, transpose_b=flip),
            lambda j, v, w: j.numpy.matmul(v, j.numpy.swapaxes(w, -1, -2) if flip else w),
        )  # fmt: skip

    def array(self) -> None:
        x = self.value(1)
        if x is None:
            return
        shape = self.shapes[x]
        axis = int(self.rng.integers(len(shape)))
        perm = [int(a) for a in self.rng.permutation(len(shape))]
        start = int(self.rng.integers(shape[axis]))
        rows = [int(i) for i in self.rng.integers(0, shape[axis], 3)]
        edges = [(1, 2) if a == axis else (0, 0) for a in range(len(shape))]
        many = [2 if a == axis else 1 for a in range(len(shape))]
        begin = [start if a == axis else 0 for a in range(len(shape))]
        cut = tuple(slice(b, None) for b in begin)
        choices: dict[str, tuple[Any, Any]] = {
            "transpose": (
                lambda tf, v: tf.transpose(v, perm),
                lambda j, v: j.numpy.transpose(v, perm),
            ),
            "reshape": (lambda tf, v: tf.reshape(v, [-1]), lambda j, v: j.numpy.reshape(v, (-1,))),
            "expand_dims": (
                lambda tf, v: tf.expand_dims(v, axis),
                lambda j, v: j.numpy.expand_dims(v, axis),
            ),
            "concat": (
                lambda tf, v: tf.concat([v, tf.sin(v)], axis),
                lambda j, v: j.numpy.concatenate([v, j.numpy.sin(v)], axis),
            ),
            "stack": (
                lambda tf, v: tf.stack([v, tf.tanh(v)], axis),
                lambda j, v: j.numpy.stack([v, j.numpy.tanh(v)], axis),
            ),
            "reverse": (
                lambda tf, v: tf.reverse(v, [axis]) * 1.5,
                lambda j, v: j.numpy.flip(v, axis) * 1.5,
            ),
            "slice": (
                lambda tf, v: tf.slice(v, begin, [-1] * len(begin)),
                lambda j, v: v[cut],
            ),
            "strided_slice": (lambda tf, v: v[::2], lambda j, v: v[::2]),
            "gather": (
                lambda tf, v: tf.gather(v, rows, axis=axis) * 0.7,
                lambda j, v: j.numpy.take(v, np.asarray(rows), axis=axis) * 0.7,
            ),
            "pad": (lambda tf, v: tf.pad(v, edges), lambda j, v: j.numpy.pad(v, edges)),
            "tile": (lambda tf, v: tf.tile(v, many), lambda j, v: j.numpy.tile(v, many)),
            "cumsum": (
                lambda tf, v: tf.cumsum(v, axis),
                lambda j, v: j.numpy.cumsum(v, axis),
            ),
            "softmax": (
                lambda tf, v: tf.nn.softmax(v, axis),
                lambda j, v: j.nn.softmax(v, axis),
            ),
            "log_softmax": (
                lambda tf, v: tf.nn.log_softmax(v, axis),
                lambda j, v: j.nn.log_softmax(v, axis),
            ),
        }
        name = self.pick(sorted(choices))
        self.add(name, (x,), *choices[name])


class Shapes:
    """NumPy in the place of jax: it tells the shapes of results."""

    numpy = np

    class nn:
        softmax = log_softmax = staticmethod(lambda x, axis: x)


def program(seed: int, count: int = 12) -> Program:
    """The graph of a seed."""
    builder = Builder(seed)
    while len(builder.steps) < count:
        builder.step()
    used = {i for step in builder.steps for i in step.inputs}
    ends = [i for i in range(3, len(builder.shapes)) if i not in used]
    return Program(tuple(builder.inputs), tuple(builder.steps), tuple(ends))
