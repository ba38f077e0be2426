"""Gradients against numeric derivatives, of first and second order.

`check_gradients` builds a function into a graph of its own and compares, for a cotangent v and
a direction u, v . (J u) by differences with (v . J) . u by `gradients`.  Small functions are
checked entry by entry, larger ones along random directions.

The derivative along u is the five-point rule (error h^4) at several steps; the step where two
neighbouring estimates agree best is taken, and their disagreement, together with rounding, is the
noise that is granted.  At a kink the slopes to both sides differ however small the step is: such
directions are counted and left out, and a check that left out all of them fails.

Complex values count as pairs of reals, with TensorFlow's convention: the gradient of f is
conj(df/dx), so that the change of Re(conj(v) y) is Re(conj(g) u).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphflow.base.dtypes import as_dtype
from graphflow.build import OPS, Graph, Tensor, as_tensor
from graphflow.differentiate.gradients import gradients
from graphflow.ops.evaluate import PureContext, ordered, run

Values = np.ndarray[Any, Any]
Function = Callable[..., Any]

STEPS = (4e-3, 1e-3, 2.5e-4, 3e-5)  # times the size of each input
SIDE_STEP = 1e-6  # of the one-sided slopes
SMALL = 8  # so many elements: every entry of the Jacobian
TOLERANCE = 1e-6
HUGE = 1e100  # outputs beyond it that do not move are bounds, such as the maximum of nothing
EPSILON = float(np.finfo(np.float64).eps)


class GradientError(AssertionError):
    """A gradient disagrees with the numeric derivative."""


@dataclass(frozen=True)
class Report:
    """What a check saw.

    Attributes:
      checked: derivatives compared.
      nonzero: those of them that were not zero.
      kinks: derivatives left out, since the function has a kink there.
      worst: largest error, relative to the sum of the absolute terms.
      where: the derivative it belongs to.
    """

    checked: int = 0
    nonzero: int = 0
    kinks: int = 0
    worst: float = 0.0
    where: str = ""

    def merged(self, other: Report) -> Report:
        worse = max(self, other, key=lambda r: r.worst)
        return Report(
            self.checked + other.checked,
            self.nonzero + other.nonzero,
            self.kinks + other.kinks,
            worse.worst,
            worse.where,
        )


def check_gradients(
    function: Function,
    inputs: Sequence[Any],
    which: Sequence[int] | None = None,
    order: int = 2,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    directions: int = 3,
) -> Report:
    """Compare the gradients of a function with numeric derivatives.

    Args:
      function: takes a tensor per input; returns a tensor or a sequence of tensors.
      inputs: arrays; the floating ones must be float64 or complex128.
      which: indices of the inputs to differentiate by; by default all floating ones.
      order: 1, or 2 to check the gradients of the gradients, too.
      tolerance: largest relative error.
      seed: of the random directions.
      directions: how many of them, for each input that is not small.

    Raises:
      GradientError: a gradient is wrong, or there is a kink in every direction.
    """
    arrays = [np.asarray(x) for x in inputs]
    chosen = [i for i, x in enumerate(arrays) if x.dtype.kind in "fc"] if which is None else which
    check = _Check(np.random.default_rng(seed), tolerance, directions)
    report = check.first(function, arrays, chosen, "first order")
    if order > 1:
        report = report.merged(_second(check, function, arrays, chosen))
    if report.kinks and not report.nonzero:
        raise GradientError(f"nothing was checked: {report.kinks} kinks, and zeros")
    return report


def _second(
    check: _Check, function: Function, arrays: Sequence[Values], which: Sequence[int]
) -> Report:
    """Check the gradients of (x, v) -> v . J(x)."""
    before = Traced(function, arrays, which).values(arrays)
    if not all(np.isfinite(y).all() for y in before if y.dtype.kind in "fc"):
        return Report()  # the mean of nothing: no value, no derivative
    count = len(arrays)
    cotangents = [check.random(y) for y in before]
    floating = [i for i, v in enumerate(cotangents) if v.dtype.kind in "fc"]
    given = [cotangents[i] for i in floating]

    def backward(*tensors: Tensor) -> list[Tensor]:
        outputs = as_list(function(*tensors[:count]))
        chosen = [outputs[i] for i in floating]
        found = gradients(chosen, [tensors[i] for i in which], grad_ys=list(tensors[count:]))
        return [as_tensor(g) for g in found if g is not None]

    positions = [*which, *range(count, count + len(given))]
    return check.first(backward, [*arrays, *given], positions, "second order")


class Traced:
    """A function built into a graph, to be evaluated many times.

    Attributes:
      graph: where it was built.
      inputs: a placeholder for each input.
      outputs: the tensors it returned.
    """

    def __init__(
        self,
        function: Function,
        arrays: Sequence[Values],
        which: Sequence[int] | None = None,
        dims: Callable[[Values], Any] = np.shape,
    ):
        self.graph = Graph()
        with self.graph.as_default():
            varying = range(len(arrays)) if which is None else which
            self.inputs = [
                placeholder(x, dims(x)) if i in varying else as_tensor(x)
                for i, x in enumerate(arrays)
            ]
            self.outputs: list[Tensor] = as_list(function(*self.inputs))
        self.cotangents: list[Tensor] = []
        self._order: dict[tuple[Tensor, ...], Any] = {}

    def values(self, arrays: Sequence[Values]) -> list[Values]:
        """The outputs."""
        return self._evaluate(self.outputs, dict(zip(self.inputs, arrays, strict=True)))

    def differentiate(self, which: Sequence[int]) -> None:
        """Add the gradients with respect to some inputs."""
        with self.graph.as_default():
            ys = [y for y in self.outputs if y.dtype.is_differentiable]
            self.cotangents = [OPS["Placeholder"](dims=y.dims, dtype=y.dtype) for y in ys]
            xs = [self.inputs[i] for i in which]
            found = gradients(ys, xs, grad_ys=self.cotangents)
            self.found = [None if g is None else as_tensor(g) for g in found]

    def gradients(
        self, arrays: Sequence[Values], cotangents: Sequence[Values]
    ) -> list[Values | None]:
        """Their values; None for an input that has no gradient."""
        feeds = dict(zip(self.inputs, arrays, strict=True))
        feeds |= dict(zip(self.cotangents, cotangents, strict=True))
        given = iter(self._evaluate([g for g in self.found if g is not None], feeds))
        return [None if g is None else next(given) for g in self.found]

    def _evaluate(self, fetches: Sequence[Tensor], feeds: dict[Tensor, Any]) -> list[Values]:
        key = tuple(fetches)
        if key not in self._order:
            self._order[key] = ordered([t.op for t in fetches if t not in feeds], feeds)
        values, context = dict(feeds), PureContext()
        for operation in self._order[key]:
            if operation.outputs and all(t in values for t in operation.outputs):
                continue
            results = run(operation, values, context)
            for tensor, value in zip(operation.outputs, results, strict=True):
                values.setdefault(tensor, value)
        return [np.asarray(values[t]) for t in fetches]


@dataclass(frozen=True)
class _Slope:
    """The numeric derivative of the outputs along a direction."""

    values: list[Values]
    noise: list[Values]
    kink: list[Values]


@dataclass(frozen=True)
class _Check:
    rng: np.random.Generator
    tolerance: float
    directions: int

    def random(self, like: Values) -> Values:
        """Numbers of either sign and of size 0.5 to 1.5."""
        if like.dtype.kind not in "fc":
            return np.zeros_like(like)
        result = self._signed(like.shape)
        if like.dtype.kind == "c":
            result = result + 1j * self._signed(like.shape)
        return np.asarray(result, like.dtype)

    def _signed(self, shape: tuple[int, ...]) -> Values:
        sizes = self.rng.uniform(0.5, 1.5, shape)
        return np.asarray(sizes * self.rng.choice([-1.0, 1.0], shape))

    def first(
        self, function: Function, arrays: Sequence[Values], which: Sequence[int], what: str
    ) -> Report:
        for i in which:
            if arrays[i].dtype not in (np.float64, np.complex128):
                raise TypeError(f"input {i} must be float64 or complex128, not {arrays[i].dtype}")
        traced = Traced(function, arrays, which)
        if not traced.outputs:  # no gradient depends on anything
            return Report()
        traced.differentiate(which)
        before = traced.values(arrays)
        real = [i for i, y in enumerate(before) if y.dtype.kind in "fc"]
        if not real:
            return Report()
        backward = []
        for v in self._cotangents([before[i] for i in real]):
            backward.append((v, traced.gradients(arrays, v)))
        report = Report()
        for k, i in enumerate(which):
            for label, u in self._directions(arrays[i]):
                slope = slopes(traced, arrays, i, u, before, real)
                for n, (v, found) in enumerate(backward):
                    name = f"{what}, input {i}, direction {label}, cotangent {n}"
                    report = report.merged(self._compare(v, u, found[k], slope, name))
        return report

    def _cotangents(self, ys: Sequence[Values]) -> Iterator[list[Values]]:
        yield [self.random(y) for y in ys]
        if sum(y.size for y in ys) > SMALL:
            yield [self.random(y) for y in ys]
            return
        for i, y in enumerate(ys):
            for unit in units(y):
                yield [unit if j == i else np.zeros_like(z) for j, z in enumerate(ys)]

    def _directions(self, x: Values) -> Iterator[tuple[str, Values]]:
        scale = np.maximum(np.abs(x), 0.1)
        if x.size <= SMALL:
            for n, unit in enumerate(units(x)):
                yield f"unit {n}", unit * scale
            return
        for n in range(self.directions):
            yield f"random {n}", self.random(x) * scale

    def _compare(
        self, v: Sequence[Values], u: Values, g: Values | None, slope: _Slope, name: str
    ) -> Report:
        if any((k & (c != 0)).any() for k, c in zip(slope.kink, v, strict=True)):
            return Report(kinks=1)
        numeric = sum(inner(c, d) for c, d in zip(v, slope.values, strict=True))
        noise = sum(float((np.abs(c) * n).sum()) for c, n in zip(v, slope.noise, strict=True))
        with np.errstate(all="ignore"):
            analytic = 0.0 if g is None else inner(g, u)
            size = 0.0 if g is None else float((np.abs(g) * np.abs(u)).sum())
        size = max(size, abs(numeric))
        error = abs(analytic - numeric)
        if not error <= self.tolerance * size + 4 * noise:  # also where it is NaN
            missing = " (there is none)" if g is None else ""
            raise GradientError(
                f"{name}: the gradient gives {analytic:.9g}{missing}, differences give "
                f"{numeric:.9g} (noise {noise:.1g})"
            )
        worst = error / size if size > 1e3 * noise else 0.0
        return Report(checked=1, nonzero=int(size > 0), worst=worst, where=name)


def slopes(
    traced: Traced,
    arrays: Sequence[Values],
    which: int,
    u: Values,
    before: Sequence[Values],
    real: Sequence[int],
) -> _Slope:
    """Derivative of the floating outputs when input `which` moves along u, with its noise."""

    def at(step: float) -> list[Values]:
        moved = list(arrays)
        moved[which] = arrays[which] + step * u
        values = traced.values(moved)
        return [values[i] for i in real]

    start = [before[i] for i in real]
    with np.errstate(all="ignore"):  # at the limits of floats only what moves counts
        wide = [_five_points(at, start, h) for h in STEPS]
        near = [at(k * SIDE_STEP) for k in (-2, -1, 1, 2)]
        columns = [
            _settle(y, [e[j] for e in wide], [n[j] - y for n in near]) for j, y in enumerate(start)
        ]
    return _Slope(*[list(part) for part in zip(*columns, strict=True)])


def _five_points(
    at: Callable[[float], list[Values]], start: Sequence[Values], h: float
) -> list[Values]:
    stencil = zip(start, at(2 * h), at(h), at(-h), at(-2 * h), strict=True)
    return [
        (-(c - y) + 8 * (b - y) - 8 * (a - y) + (d - y)) / (12 * h) for y, c, b, a, d in stencil
    ]


def _settle(
    y: Values, estimates: Sequence[Values], near: Sequence[Values]
) -> tuple[Values, Values, Values]:
    """The best of the estimates for one output, its noise, and where there is a kink."""
    size = np.abs(y)
    still = np.logical_and.reduce([e == 0 for e in estimates]) & (size > HUGE)
    size = np.where(still, 0.0, size)
    best, error = estimates[0], np.full(y.shape, np.inf)
    for h, wide, narrow in zip(STEPS[1:], estimates, estimates[1:], strict=False):
        doubt = np.abs(wide - narrow) + 4 * EPSILON * size / h
        better = doubt < error
        best = np.where(better, narrow, best)
        error = np.where(better, doubt, error)
    behind2, behind, ahead, ahead2 = near
    right = (4 * ahead - ahead2) / (2 * SIDE_STEP)
    left = (behind2 - 4 * behind) / (2 * SIDE_STEP)
    slack = 1e-4 * np.maximum(np.maximum(np.abs(right), np.abs(left)), 1e-3)
    slack = slack + 16 * EPSILON * size / SIDE_STEP
    return best, error, np.asarray(np.abs(right - left) > slack)


def units(x: Values) -> Iterator[Values]:
    """The unit arrays of a shape; for complex ones also the imaginary units."""
    for i in range(x.size):
        for one in (1.0, 1j) if x.dtype.kind == "c" else (1.0,):
            unit = np.zeros(x.size, x.dtype)
            unit[i] = one
            yield unit.reshape(x.shape)


def inner(a: Values, b: Values) -> float:
    """Re(conj(a) . b)."""
    return float(np.real(np.vdot(a, b)))


def placeholder(x: Values, dims: Any) -> Tensor:
    """A placeholder for an array, with the static shape `dims`."""
    tensor: Tensor = OPS["Placeholder"](dims=dims, dtype=as_dtype(x.dtype))
    return tensor


def as_list(result: Any) -> list[Any]:
    """One tensor or several, as a list."""
    return list(result) if isinstance(result, (list, tuple)) else [result]
