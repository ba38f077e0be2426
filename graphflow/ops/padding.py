"""Padding at the borders of a tensor: with a constant or with its mirror image."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Index, Specs, T
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.known import constant_value
from graphflow.ops.shape_ops import shape
from graphflow.ops.slicing import slice_


def _pad_spec(x: Tensor, paddings: Tensor, *_: Tensor, mode: str = "") -> Specs:
    rows = None if paddings.dims is None else paddings.dims[0] if paddings.dims else 0
    if paddings.dims is not None and (len(paddings.dims) != 2 or paddings.dims[1] not in (2, None)):
        raise ShapeError(f"paddings must have shape [rank, 2], not {format_dims(paddings.dims)}")
    if x.dims is None:
        return [(None if rows is None else (None,) * rows, x.dtype)]
    if rows is not None and rows != len(x.dims):
        raise ShapeError(f"{rows} rows of paddings do not fit shape {format_dims(x.dims)}")
    known = constant_value(paddings)
    if known is None:
        return [((None,) * len(x.dims), x.dtype)]
    pairs = known.tolist()
    for n, pair in zip(x.dims, pairs, strict=True):
        _check(n, pair, mode, ShapeError)
    sizes = zip(x.dims, pairs, strict=True)
    return [(tuple([None if n is None else n + sum(pair) for n, pair in sizes]), x.dtype)]


def _mirror_spec(x: Tensor, paddings: Tensor, *, mode: str) -> Specs:
    if mode not in ("REFLECT", "SYMMETRIC"):
        raise GraphError(f'mode must be "REFLECT" or "SYMMETRIC", not {mode!r}')
    return _pad_spec(x, paddings, mode=mode)


def _check(n: int | None, pair: Any, mode: str, error: Any) -> None:
    most = None if n is None or not mode else n - (mode == "REFLECT")
    if min(pair) < 0 or (most is not None and max(pair) > most):
        message = (
            f"an axis of size {n} cannot be padded by {tuple(pair)} in mode {mode or 'CONSTANT'}"
        )
        raise error(message) if error is ShapeError else error(None, None, message)


def _pairs(x: Array, paddings: Array, mode: str = "") -> list[list[int]]:
    pairs = paddings.tolist()
    if len(pairs) != x.ndim:
        raise InvalidArgumentError(None, None, f"paddings {pairs} do not fit shape {x.shape}")
    for n, pair in zip(x.shape, pairs, strict=True):
        _check(n, pair, mode, InvalidArgumentError)
    return pairs


def _pad_grad(g: Tensor, y: Tensor, x: Tensor, paddings: Tensor) -> Any:
    known = constant_value(paddings)
    begin = paddings[:, 0] if known is None else as_tensor(np.ascontiguousarray(known[:, 0]))
    return slice_(g, begin, shape(x, out_type=paddings.dtype)), None


def _pad_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.uniform(*dims), np.array(paddings, np.int32).reshape(-1, 2)))
        for dims, paddings in [
            ((2, 3), [[1, 0], [0, 2]]),
            ((2,), [[0, 0]]),
            ((), []),
            ((0, 2), [[1, 1], [0, 0]]),
        ]
    ]


@op("Pad", infer=_pad_spec, grad=_pad_grad, host=("paddings",), cases=_pad_cases)
def _pad(xp: Any, x: T, paddings: Index) -> Array:
    """x with zeros before and after each axis, as many as its row of `paddings` says."""
    return _padded(xp, x, _pairs(x, paddings), b"" if x.dtype == object else 0)


def _padded(xp: Any, x: Array, pairs: list[list[int]], value: Any) -> Array:
    sizes = [n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True)]
    result = xp.full(sizes, value, x.dtype)
    spans = [slice(a, a + n) for n, (a, _) in zip(x.shape, pairs, strict=True)]
    result[(*spans, ...)] = x
    return result


def _pad_value_grad(g: Tensor, y: Tensor, x: Tensor, paddings: Tensor, value: Tensor) -> Any:
    inner, _ = _pad_grad(g, y, x, paddings)
    return inner, None, OPS["Sum"](g, axis=None) - OPS["Sum"](inner, axis=None)


@op(
    "PadV2",
    infer=_pad_spec,
    grad=_pad_value_grad,
    host=("paddings",),
    cases=lambda s: [Case((*case.inputs, s.uniform())) for case in _pad_cases(s)],
)
def _pad_value(xp: Any, x: T, paddings: Index, value: T) -> Array:
    """x with copies of a scalar before and after each axis."""
    return _padded(xp, x, _pairs(x, paddings), value)


# ---- mirror


def _mirror_grad(g: Tensor, y: Tensor, x: Tensor, paddings: Tensor, *, mode: str) -> Any:
    return _mirror_back(g, paddings, mode=mode), None


def _mirror_cases(s: Sampler) -> list[Case]:
    return [
        Case((s.uniform(3, 4), np.array([[1, 2], [0, 3]], np.int32)), {"mode": mode})
        for mode in ("REFLECT", "SYMMETRIC")
    ]


@op("MirrorPad", infer=_mirror_spec, grad=_mirror_grad, host=("paddings",), cases=_mirror_cases)
def _mirror(xp: Any, x: T, paddings: Index, *, mode: Any) -> Array:
    """x with its mirror image around it; REFLECT leaves the border out, SYMMETRIC repeats it."""
    pairs = _pairs(x, paddings, mode)
    return xp.pad(x, pairs, mode=mode.lower()) if x.ndim else x


def _mirror_back_spec(g: Tensor, paddings: Tensor, *, mode: str) -> Specs:
    known = constant_value(paddings)
    if g.dims is None or known is None:
        return [(g.dims and (None,) * len(g.dims), g.dtype)]
    sizes = zip(g.dims, known.tolist(), strict=True)
    return [(tuple([None if n is None else n - sum(pair) for n, pair in sizes]), g.dtype)]


@op(
    "MirrorPadGrad",
    infer=_mirror_back_spec,
    grad=lambda h, y, g, paddings, mode: (_mirror(h, paddings, mode=mode), None),
    host=("paddings",),
    cases=lambda s: [
        Case((s.uniform(6, 5), np.array([[1, 2], [0, 2]], np.int32)), {"mode": mode})
        for mode in ("REFLECT", "SYMMETRIC")
    ],
)
def _mirror_back(xp: Any, g: T, paddings: Index, *, mode: Any) -> Array:
    """g with the mirror image around it folded back onto what it mirrors."""
    skip = int(mode == "REFLECT")
    for axis, (a, b) in enumerate(paddings.tolist()):
        if not a and not b:
            continue
        g = xp.moveaxis(g, axis, 0)
        n = g.shape[0] - a - b
        inner = g[a : a + n].copy()
        inner[skip : skip + a] += g[:a][::-1]
        inner[n - skip - b : n - skip] += g[a + n :][::-1]
        g = xp.moveaxis(inner, 0, axis)
    return g


def pad(
    tensor: Any,
    paddings: Any,
    mode: str = "CONSTANT",
    name: str | None = None,
    constant_values: Any = 0,
) -> Tensor:
    """A tensor with more entries before and after each axis.

    Args:
      tensor: a tensor.
      paddings: integers [rank, 2]: how many before and how many after.
      mode: "CONSTANT", "REFLECT" (mirror without the border) or "SYMMETRIC" (with it).
      name: its name.
      constant_values: the scalar of mode CONSTANT.

    Raises:
      ValueError: the mode is unknown, or the paddings do not fit.
    """
    mode = str(mode).upper()
    rows = as_tensor(paddings)
    if mode == "CONSTANT":
        if isinstance(constant_values, Tensor) or constant_values != 0:
            return _pad_value(tensor, rows, constant_values, name=name)
        return _pad(tensor, rows, name=name)
    if mode not in ("REFLECT", "SYMMETRIC"):
        raise GraphError(f"unknown padding mode {mode!r}: CONSTANT, REFLECT or SYMMETRIC")
    return _mirror(tensor, rows, mode=mode, name=name)
