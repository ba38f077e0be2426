"""TensorFlow 1's test functions: Jacobians by `gradients` and by differences, in a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.base.errors import GraphError
from graphflow.build import OPS, Tensor, as_tensor
from graphflow.build.defaults import session_for
from graphflow.differentiate.gradients import gradients

Evaluate = Callable[[Tensor, Mapping[Any, Any]], Any]
Values = np.ndarray[Any, Any]


def compute_gradient(
    x: Any,
    x_shape: Any,
    y: Tensor,
    y_shape: Any,
    x_init_value: Any = None,
    delta: float = 1e-3,
    init_targets: Any = None,
    extra_feed_dict: Mapping[Any, Any] | None = None,
    evaluate: Evaluate | None = None,
) -> Any:
    """Jacobian of y by x, twice: by `gradients` and by central differences.

    Args:
      x: a tensor, or a list of them; it is fed.
      x_shape: its shape, a list or tuple of int; a list of shapes for a list.
      y: a tensor.
      y_shape: its shape.
      x_init_value: where to differentiate; by default uniformly random in [0, 1).
      delta: the step of the differences.
      init_targets: operations to run first.
      extra_feed_dict: fed in all runs.
      evaluate: (tensor, feeds) -> value; by default the default session's `run`.

    Returns:
      Two matrices, of a row per element of x and a column per element of y (complex elements
      count as two, real and imaginary part); a list of such pairs for a list of xs.

    Raises:
      ValueError: y does not depend on x, or there is no session.
    """
    run = evaluate or session_for(None, y.graph).run
    if init_targets is not None:
        session_for(None, y.graph).run(init_targets)
    listed = isinstance(x, list)
    xs = x if listed else [x]
    shapes = x_shape if listed else [x_shape]
    values = x_init_value if listed and x_init_value is not None else [x_init_value] * len(xs)
    starts = [_start(t, s, v) for t, s, v in zip(xs, shapes, values, strict=True)]
    feeds = dict(extra_feed_dict or {})
    feeds |= dict(zip(xs, starts, strict=True))
    pairs = []
    for tensor, start in zip(xs, starts, strict=True):
        theory = _by_gradients(run, feeds, tensor, start, y, tuple(y_shape))
        pairs.append((theory, _by_differences(run, feeds, tensor, start, y, delta)))
    return pairs if listed else pairs[0]


def compute_gradient_error(
    x: Any,
    x_shape: Any,
    y: Tensor,
    y_shape: Any,
    x_init_value: Any = None,
    delta: float = 1e-3,
    init_targets: Any = None,
    extra_feed_dict: Mapping[Any, Any] | None = None,
    evaluate: Evaluate | None = None,
) -> float:
    """Largest difference between the Jacobians of `compute_gradient`; arguments as there."""
    pairs = compute_gradient(
        x, x_shape, y, y_shape, x_init_value, delta, init_targets, extra_feed_dict, evaluate
    )
    pairs = pairs if isinstance(pairs, list) else [pairs]
    return max((float(np.abs(a - b).max()) for a, b in pairs if a.size), default=0.0)


def _start(x: Tensor, shape: Sequence[int], value: Any) -> Values:
    if value is None:
        value = np.random.default_rng(0).random(tuple(shape))
    value = np.asarray(value, x.dtype.np)
    if value.shape != tuple(shape):
        raise GraphError(f"the initial value has shape {value.shape}, not {tuple(shape)}")
    return value


def _by_gradients(
    run: Evaluate, feeds: Mapping[Any, Any], x: Tensor, start: Values, y: Tensor, shape: Any
) -> Values:
    cotangent = OPS["Placeholder"](dims=shape, dtype=y.dtype)
    (found,) = gradients(y, x, grad_ys=cotangent)
    if found is None:
        raise GraphError(f"{y!r} does not depend on {x!r}")
    found = as_tensor(found)
    columns = []
    for unit in _units(np.zeros(shape, y.dtype.np)):
        columns.append(_reals(run(found, {**feeds, cotangent: unit})))
    return np.stack(columns, 1) if columns else np.zeros((_reals(start).size, 0))


def _by_differences(
    run: Evaluate, feeds: Mapping[Any, Any], x: Tensor, start: Values, y: Tensor, delta: float
) -> Values:
    rows = []
    for unit in _units(start):
        ahead = run(y, {**feeds, x: start + (delta * unit).astype(start.dtype)})
        behind = run(y, {**feeds, x: start - (delta * unit).astype(start.dtype)})
        rows.append((_reals(ahead) - _reals(behind)) / (2 * delta))
    return np.stack(rows) if rows else np.zeros((0, _reals(run(y, feeds)).size))


def _units(like: Values) -> list[Values]:
    """Unit arrays, for complex ones also the imaginary units."""
    result = []
    for i in range(like.size):
        for one in (1.0, 1j) if like.dtype.kind == "c" else (1.0,):
            unit = np.zeros(like.size, like.dtype)
            unit[i] = one
            result.append(unit.reshape(like.shape))
    return result


def _reals(value: Any) -> Values:
    """The elements in a row; complex ones as real and imaginary part."""
    flat = np.asarray(value).ravel()
    if flat.dtype.kind == "c":
        flat = np.stack([flat.real, flat.imag], 1).ravel()
    return flat
