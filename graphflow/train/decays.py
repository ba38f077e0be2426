"""Learning rates that change with the step, as TensorFlow 1 spells them.

Each takes the step as a tensor or variable and returns a tensor in the dtype of the first rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from graphflow import ops
from graphflow.base.errors import GraphError
from graphflow.build import Tensor, as_tensor
from graphflow.ops.public import composite


def _decayed(
    name: str | None, default: str, rate: Any, step: Any, rule: Callable[[Tensor, Tensor], Any]
) -> Tensor:
    """A rule of the first rate and the step, both in the rate's dtype.

    Raises:
      ValueError: there is no step.
    """
    if step is None:
        raise GraphError(f"{default} needs the global_step")
    with composite(name, default, rate, step) as scope:
        first = as_tensor(rate, name="learning_rate")
        return ops.identity(rule(first, ops.cast(as_tensor(step), first.dtype)), name=scope)


def _part(step: Tensor, decay_steps: Any, staircase: bool) -> Tensor:
    """How many periods have passed."""
    part: Tensor = step / ops.cast(as_tensor(decay_steps), step.dtype)
    return ops.floor(part) if staircase else part


def exponential_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: Any,
    staircase: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """learning_rate * decay_rate ** (step / decay_steps); whole powers where `staircase`."""

    def rule(rate: Tensor, step: Tensor) -> Tensor:
        base = ops.cast(as_tensor(decay_rate), rate.dtype)
        return rate * ops.pow(base, _part(step, decay_steps, staircase))

    return _decayed(name, "ExponentialDecay", learning_rate, global_step, rule)


def natural_exp_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: Any,
    staircase: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """learning_rate * exp(-decay_rate * step / decay_steps)."""

    def rule(rate: Tensor, step: Tensor) -> Tensor:
        speed = ops.cast(as_tensor(decay_rate), rate.dtype)
        return rate * ops.exp(-speed * _part(step, decay_steps, staircase))

    return _decayed(name, "NaturalExpDecay", learning_rate, global_step, rule)


def inverse_time_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: Any,
    staircase: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """learning_rate / (1 + decay_rate * step / decay_steps)."""

    def rule(rate: Tensor, step: Tensor) -> Tensor:
        speed = ops.cast(as_tensor(decay_rate), rate.dtype)
        return rate / (1.0 + speed * _part(step, decay_steps, staircase))

    return _decayed(name, "InverseTimeDecay", learning_rate, global_step, rule)


def polynomial_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, end_learning_rate: Any = 0.0001,
    power: Any = 1.0, cycle: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """From learning_rate to end_learning_rate as (1 - step / decay_steps) ** power.

    Args:
      cycle: where the end is reached, go on with the next multiple of decay_steps.
    """

    def rule(rate: Tensor, step: Tensor) -> Tensor:
        last, exponent, total = [
            ops.cast(as_tensor(v), rate.dtype) for v in (end_learning_rate, power, decay_steps)
        ]
        if cycle:
            passed = ops.ceil(step / total)
            total = total * ops.where(ops.equal(step, 0), ops.ones_like(passed), passed)
        else:
            step = ops.minimum(step, total)
        return (rate - last) * ops.pow(1.0 - step / total, exponent) + last

    return _decayed(name, "PolynomialDecay", learning_rate, global_step, rule)


def cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, alpha: float = 0.0,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Half a cosine from learning_rate to alpha * learning_rate within decay_steps."""

    def rule(rate: Tensor, step: Tensor) -> Tensor:
        total = ops.cast(as_tensor(decay_steps), rate.dtype)
        passed = ops.minimum(step, total) / total
        wave = 0.5 * (1.0 + ops.cos(math.pi * passed))
        return rate * ((1.0 - alpha) * wave + alpha)

    return _decayed(name, "CosineDecay", learning_rate, global_step, rule)


def cosine_decay_restarts(
    learning_rate: Any, global_step: Any, first_decay_steps: Any, t_mul: float = 2.0,
    m_mul: float = 1.0, alpha: float = 0.0, name: str | None = None,
) -> Tensor:  # fmt: skip
    """`cosine_decay` again and again, each time t_mul as long and from m_mul times the rate.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017.
    """

    def rule(rate: Tensor, step: Tensor) -> Tensor:
        passed = step / ops.cast(as_tensor(first_decay_steps), rate.dtype)
        if t_mul == 1.0:
            restarts = ops.floor(passed)
            within = passed - restarts
        else:
            restarts = ops.floor(ops.log(1.0 - passed * (1.0 - t_mul)) / math.log(t_mul))
            power = ops.pow(as_tensor(t_mul, rate.dtype), restarts)
            within = (passed - (1.0 - power) / (1.0 - t_mul)) / power
        height = ops.pow(as_tensor(m_mul, rate.dtype), restarts)
        wave = 0.5 * height * (1.0 + ops.cos(math.pi * within))
        return rate * ((1.0 - alpha) * wave + alpha)

    return _decayed(name, "SGDRDecay", learning_rate, global_step, rule)


def linear_cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, num_periods: float = 0.5,
    alpha: float = 0.0, beta: float = 0.001, name: str | None = None,
) -> Tensor:  # fmt: skip
    """(alpha + linear) * cosine + beta times the rate, with `num_periods` of the cosine."""
    return _linear_cosine(
        learning_rate, global_step, decay_steps, num_periods, alpha, beta, None,
        name, "LinearCosineDecay",
    )  # fmt: skip


def noisy_linear_cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, initial_variance: float = 1.0,
    variance_decay: float = 0.55, num_periods: float = 0.5, alpha: float = 0.0,
    beta: float = 0.001, name: str | None = None,
) -> Tensor:  # fmt: skip
    """`linear_cosine_decay` with noise of variance initial_variance / (1 + step) **
    variance_decay on the linear part."""
    return _linear_cosine(
        learning_rate, global_step, decay_steps, num_periods, alpha, beta,
        (initial_variance, variance_decay), name, "NoisyLinearCosineDecay",
    )  # fmt: skip


def _linear_cosine(
    learning_rate: Any, global_step: Any, decay_steps: Any, periods: float, alpha: float,
    beta: float, noise: tuple[float, float] | None, name: str | None, default: str,
) -> Tensor:  # fmt: skip
    def rule(rate: Tensor, step: Tensor) -> Tensor:
        total = ops.cast(as_tensor(decay_steps), rate.dtype)
        step = ops.minimum(step, total)
        linear = (total - step) / total
        if noise is not None:
            variance = noise[0] / ops.pow(1.0 + step, as_tensor(noise[1], rate.dtype))
            linear = linear + ops.sqrt(variance) * ops.random_normal([], dtype=rate.dtype)
        wave = 0.5 * (1.0 + ops.cos(math.pi * 2.0 * periods * (step / total)))
        return rate * ((alpha + linear) * wave + beta)

    return _decayed(name, default, learning_rate, global_step, rule)


def piecewise_constant(
    x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None
) -> Tensor:
    """values[i] where x is at most boundaries[i], and above the one before; else the last value.

    Raises:
      ValueError: there is not one value more than boundaries, or values differ in dtype.
    """
    if len(boundaries) != len(values) - 1:
        raise GraphError(f"{len(values)} values need one boundary less, not {len(boundaries)}")
    with composite(name, "PiecewiseConstant", x) as scope:
        at = as_tensor(x)
        steps = [as_tensor(v) for v in values]
        if len({v.dtype for v in steps}) > 1:
            raise GraphError(f"values have the dtypes {[v.dtype.name for v in steps]}: give one")
        found = steps[-1]
        for boundary, value in reversed(list(zip(boundaries, steps[:-1], strict=True))):
            limit = as_tensor(boundary)
            limit = limit if limit.dtype is at.dtype else ops.cast(limit, at.dtype)
            found = ops.where(ops.less_equal(at, limit), value, found)
        return ops.identity(found, name=scope)
